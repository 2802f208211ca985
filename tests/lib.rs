//! What no single crate can test: each file beside this one is a test.

/// The examples of the README run.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
pub struct Readme;
