//! RectifiedAdam as a naive loop.
