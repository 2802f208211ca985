//! Half a cosine: once, with or without a warmup, or repeated.

mod decay;
mod restarts;

pub use decay::CosineDecay;
pub use restarts::CosineDecayRestarts;

use crate::numbers::{blend, saturate};

/// `rate ((1 - alpha) height + alpha)`: the rate at height 1, the fraction `alpha` of it at height 0.
fn above_floor(rate: f64, alpha: f64, height: f64) -> f64 {
    saturate(rate * blend(alpha, 1.0, height))
}
