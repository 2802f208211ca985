//! The numbers of a variable before and after a step, by the arrays of a recorded step.

use std::collections::BTreeMap;

use ndarray::{ArrayD, IxDyn};
use opt_core::state::StateValue;
use opt_core::trace::{Array, Draws, RecordedVariable};
use opt_core::{DynOptimizer, Ema, Scalar};

use crate::problem::{Gradient, Problem, Rng, Variables};

/// The elements of the arrays of a variable, but for its gradient, in row-major order.
pub type Numbers<T> = BTreeMap<Array, Vec<T>>;

/// The numbers of a recorded variable now, and the random numbers of its next step.
///
/// # Panics
///
/// If the optimizer does not have the variable.
#[must_use]
pub fn numbers<T: Scalar>(of: &RecordedVariable, optimizer: &DynOptimizer<T>, variables: &Variables<T>) -> Numbers<T> {
    let slot = |name: &str| match optimizer.slot(&of.variable, name) {
        Ok(StateValue::Array(array)) => array.iter().copied().collect(),
        Ok(StateValue::Bf16(array)) => array.iter().map(|number| T::from_f32(number.to_f32())).collect(),
        other => panic!("{name} of {} is no array: {other:?}", of.variable),
    };
    let slots = of.slots.iter().zip(0..).map(|(name, place)| (Array::Slot(place), slot(name)));
    let has_average = of.update.graph.arrays().iter().any(|(array, _)| *array == Array::Average);
    let average = has_average.then(|| (Array::Average, slot(Ema::SLOT)));
    let value: Vec<T> = variables.of(&of.variable).iter().copied().collect();
    let random = (0..=Draws::MASTER).map(|random| {
        let number = |place| T::literal(of.draws.number(random, place).into());
        (Array::Random(random), (0..value.len()).map(number).collect())
    });
    slots.chain(average).chain(random).chain([(Array::Value, value.clone())]).collect()
}

/// Whether two numbers have the same bits, or are both NaN.
#[must_use]
pub fn are_same<T: Scalar>(a: T, b: T) -> bool {
    let [a, b]: [f64; 2] = [a.as_(), b.as_()];
    a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan())
}

/// A problem with one variable of `len` elements, called `v0`: ordinary numbers next to zeros and very small ones; in
/// the variable, and unless gradients are `tame` also in them, next to infinities, NaN and very large numbers. (With
/// such a gradient, its norm and everything that is multiplied by it are NaN or 0.)
#[must_use]
pub fn wild(seed: u64, steps: usize, len: usize, tame: bool) -> Problem {
    const SMALL: [f64; 10] = [0.0, -0.0, 1.0, -1.0, 1e-45, -1e-39, 1.2e-38, -1e-30, 5e-324, -2e-308];
    const LARGE: [f64; 6] = [1e30, -3.4e38, 1e300, f64::INFINITY, f64::NEG_INFINITY, f64::NAN];
    let mut rng = Rng(seed);
    let mut array = |tame: bool| {
        let kinds = if tame { SMALL.to_vec() } else { [&SMALL[..], &LARGE].concat() };
        let mut number = || if rng.below(3) == 0 { kinds[rng.below(kinds.len())] } else { rng.number() };
        ArrayD::from_shape_simple_fn(IxDyn(&[len]), &mut number)
    };
    let variables = vec![("v0".to_owned(), array(false))];
    let steps = (0..steps).map(|_| vec![Gradient::Dense(array(tame))]).collect();
    Problem { variables, steps }
}
