//! The engine: what it asks of rules and promises to them, what it refuses, and what comes back.

#[macro_use]
mod rules;

mod contract;
mod distributions;
mod groups;
mod halves;
mod kernels;
mod lists;
mod loops;
mod micro_steps;
mod models;
mod options;
mod phases;
mod recording;
mod refusals;
mod restore;
mod spellings;
mod threads;
mod views;
