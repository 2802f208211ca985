//! What no single crate can test. Most files beside this one are tests; the others are what these share.

pub mod kills;
pub mod trainee;

/// The examples of the README run.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
pub struct Readme;
