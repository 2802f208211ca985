//! Lookahead: its laws and recorded runs, its steps by hand, its configurations.

mod configurations;
mod conformance;
mod steps;
