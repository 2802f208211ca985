//! Tests that need several crates. Most other files here are tests; the modules of this library are shared code.

pub mod kills;
pub mod trainee;

/// The examples of the README run.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
pub struct Readme;
