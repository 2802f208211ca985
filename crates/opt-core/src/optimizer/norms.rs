//! Sums over gradients: in 64 bits, over fixed chunks, in a fixed order.

use ndarray::ArrayViewD;

use super::resolve::Input;
use super::threads::{CHUNK, Threads};
use crate::real::Scalar;
use crate::report::NonFiniteGradient;
use crate::rule::BLOCK;
use crate::stage;

/// What is known about the gradient of one input.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Norm {
    /// The sum of squares, after the clip by value.
    pub(crate) square_sum: f64,
    /// Its root, right also where the sum of squares is too large for 64 bits.
    pub(crate) norm: f64,
    /// Whether no element is infinite or NaN, before the clip by value; true if that was not asked.
    pub(crate) finite: bool,
}

impl Norm {
    pub(crate) const NONE: Self = Self { square_sum: 0.0, norm: 0.0, finite: true };
}

/// A part of one gradient.
struct Part<'a, T> {
    input: usize,
    values: Values<'a, T>,
    square_sum: f64,
    finite: bool,
}

enum Values<'a, T> {
    /// At most [`CHUNK`] elements.
    Slice(&'a [T]),
    /// A whole gradient that is scattered in memory.
    Strided(&'a ArrayViewD<'a, T>),
}

/// Computes a [`Norm`] for each input; 0 and finite where there is no gradient.
pub(crate) fn norms<T: Scalar>(
    inputs: &[Input<'_, T>],
    limit: Option<f64>,
    check_finite: bool,
    threads: &Threads,
) -> Vec<Norm> {
    let mut parts = Vec::new();
    for (input, gradient) in inputs.iter().enumerate().filter_map(|(i, input)| Some((i, input.gradient.as_ref()?))) {
        let mut push = |values| parts.push(Part { input, values, square_sum: 0.0, finite: true });
        let values = gradient.values();
        match values.as_slice() {
            Some(slice) => slice.chunks(CHUNK).for_each(|chunk| push(Values::Slice(chunk))),
            None => push(Values::Strided(values)),
        }
    }
    threads.run(&mut parts, Part::len, |parts| parts.iter_mut().for_each(|part| part.reduce(limit, check_finite)));

    let mut norms = vec![Norm::NONE; inputs.len()];
    for part in parts {
        let norm = &mut norms[part.input];
        norm.square_sum += part.square_sum;
        norm.finite &= part.finite;
    }
    for (norm, input) in norms.iter_mut().zip(inputs) {
        norm.norm = match (&input.gradient, norm.square_sum.is_infinite()) {
            (Some(gradient), true) => {
                let limit = limit.unwrap_or(f64::INFINITY);
                scaled_norm(gradient.values().iter().map(|&g| g.as_().abs().min(limit)))
            }
            _ => norm.square_sum.sqrt(),
        };
    }
    norms
}

/// The norm of numbers whose squares may be too large for 64 bits: infinite only if the norm itself is.
pub(crate) fn scaled_norm(magnitudes: impl Iterator<Item = f64> + Clone) -> f64 {
    let largest = magnitudes.clone().fold(0.0, f64::max);
    if largest.is_finite() && largest > 0.0 {
        largest * magnitudes.map(|g| (g / largest) * (g / largest)).sum::<f64>().sqrt()
    } else {
        largest
    }
}

impl<T: Scalar> Part<'_, T> {
    fn len(&self) -> usize {
        match self.values {
            Values::Slice(slice) => slice.len(),
            Values::Strided(view) => view.len(),
        }
    }

    fn reduce(&mut self, limit: Option<f64>, check_finite: bool) {
        match self.values {
            Values::Slice(slice) => {
                self.square_sum = square_sum(slice, limit);
                self.finite = !check_finite || stage::all_finite(slice);
            }
            Values::Strided(view) => {
                let mut elements = view.iter().copied();
                let mut chunk = Vec::with_capacity(view.len().min(CHUNK));
                loop {
                    chunk.clear();
                    chunk.extend(elements.by_ref().take(CHUNK));
                    if chunk.is_empty() {
                        break;
                    }
                    self.square_sum += square_sum(&chunk, limit);
                    self.finite &= !check_finite || stage::all_finite(&chunk);
                }
            }
        }
    }
}

/// The sum of squares of a chunk, block by block.
pub(crate) fn square_sum<T: Scalar>(chunk: &[T], limit: Option<f64>) -> f64 {
    chunk.chunks(BLOCK).map(|block| stage::square_sum(block, limit)).sum()
}

/// The first element that is infinite or NaN.
pub(crate) fn first_non_finite<T: Scalar>(input: &Input<'_, T>) -> Option<NonFiniteGradient> {
    let values = input.gradient.as_ref()?.values();
    let (index, &value) = values.indexed_iter().find(|(_, value)| !value.is_finite())?;
    let mut index_in_variable = vec![0; values.ndim()];
    for stored in 0..values.ndim() {
        index_in_variable[input.axes.as_ref().map_or(stored, |axes| axes[stored])] = index[stored];
    }
    Some(NonFiniteGradient { variable: input.name.to_string(), index: index_in_variable, value: value.as_() })
}
