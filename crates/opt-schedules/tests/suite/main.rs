//! Every schedule: its values, its configuration, what it refuses, and what holds for all of them.

mod composed;
mod configuration;
mod cosine;
mod cyclical;
mod decay;
mod one_cycle;
mod piecewise;
mod polynomial;
mod properties;
mod validation;
