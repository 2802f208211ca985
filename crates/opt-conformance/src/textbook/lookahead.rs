//! Lookahead as a naive loop.
