//! What no single crate can test: each file beside this one is a test.
