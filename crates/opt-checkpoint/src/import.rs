//! State that other systems have saved.
