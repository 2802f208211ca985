//! The benchmarks of the whole workspace: what takes part, on which shapes, against which floor, and how it is timed.
//!
//! `cargo xtask bench` runs the program of this package, `bench-suite`. A step of an optimizer does almost no
//! arithmetic: it moves memory. So every contestant is timed in turns with a *bare loop* that only adds over as many
//! arrays of the same sizes, cut into the same tasks on as many threads.
//!
//! * `contestants.rs`: every rule alone, and the compositions that people use; one entry each
//! * `traffic.rs`: the fewest bytes that a step must move, by contestant
//! * `shapes.rs`: the lists of tensors
//! * `model.rs`: weights and gradients of a shape
//! * `random.rs`: what they are filled with
//! * `bare.rs`: the bare loops
//! * `by_hand.rs`: a rule without an engine
//! * `sampling.rs`: who is timed when, and medians
//! * `protocol.rs`: how peers in other processes take turns with us
//! * `record.rs`: one line of results
//! * `instructions.rs`: what the instruction counts are taken of

#![forbid(unsafe_code)]

#[cfg(test)]
use opt_conformance as _;

pub mod bare;
pub mod by_hand;
pub mod contestants;
pub mod model;
pub mod protocol;
pub mod random;
pub mod record;
pub mod sampling;
pub mod shapes;
pub mod traffic;

/// Element types as they are named in results.
pub trait Element: optimizers::core::Scalar + bare::Add {
    /// `f32` or `f64`.
    const NAME: &'static str;
}

impl Element for f32 {
    const NAME: &'static str = "f32";
}

impl Element for f64 {
    const NAME: &'static str = "f64";
}
