//! The benchmarks of the whole workspace: contestants, shapes, lower limits, and timing.
//!
//! `cargo xtask bench` runs the program of this package, `bench-suite`. A step of an optimizer does almost no
//! arithmetic: it moves memory. So every contestant takes turns with a *bare loop* that only adds over as many arrays
//! of the same sizes, cut into the same tasks on as many threads.
//!
//! * `contestants.rs`: every rule alone, and the usual compositions; one entry each
//! * `traffic.rs`: the fewest bytes that a step must move, by contestant
//! * `shapes.rs`: the lists of tensors
//! * `model.rs`: weights and gradients of a shape
//! * `random.rs`: random numbers for weights and gradients
//! * `bare.rs`: the bare loops
//! * `by_hand.rs`: a rule without an engine
//! * `sampling.rs`: the order of timing, and medians
//! * `protocol.rs`: the protocol with peers in other processes
//! * `record.rs`: one line of results
//! * `instructions.rs`: the program for instruction counts

#![forbid(unsafe_code)]

#[cfg(test)]
use opt_conformance as _;

use half::bf16;
use optimizers::Variable;

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

/// An element type with its name in results.
pub trait Element: optimizers::Scalar + bare::Add {
    /// `f32` or `f64`.
    const NAME: &'static str;

    /// A variable with a gradient, both in bfloat16.
    ///
    /// # Panics
    ///
    /// For `f64`, whose optimizers have no such variables.
    fn half<'a>(name: &'a str, shape: &[usize], value: &'a mut [bf16], gradient: &'a [bf16]) -> Variable<'a, Self>;
}

impl Element for f32 {
    const NAME: &'static str = "f32";

    fn half<'a>(name: &'a str, shape: &[usize], value: &'a mut [bf16], gradient: &'a [bf16]) -> Variable<'a, Self> {
        Variable::half(name, (value, shape)).half_gradient((gradient, shape))
    }
}

impl Element for f64 {
    const NAME: &'static str = "f64";

    fn half<'a>(name: &'a str, _: &[usize], _: &'a mut [bf16], _: &'a [bf16]) -> Variable<'a, Self> {
        panic!("{name}: optimizers in 64 bits have no variables in 16")
    }
}
