//! Nadam as a naive loop.
