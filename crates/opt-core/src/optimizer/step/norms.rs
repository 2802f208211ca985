//! Sums over gradients: in 64 bits, over fixed chunks, in a fixed order.

use std::ops::Add;

use super::super::form::Form;
use super::input::{Input, InputGradient};
use super::storage::{AnyValues, Values};
use super::threads::{CHUNK, Threads};
use crate::loops::{self, BLOCK, Buffer};
use crate::precision::Any;
use crate::real::Scalar;
use crate::report::NonFiniteGradient;

/// The measurements of the gradient of one input.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Norm {
    /// The sum of squares, after the clip by value.
    pub(crate) square_sum: f64,
    /// The root of the sum of squares; correct also if the sum is too large for 64 bits.
    pub(crate) norm: f64,
    /// Whether no element is infinite or NaN, before the clip by value; true if the step does not check this.
    pub(crate) finite: bool,
}

impl Norm {
    pub(crate) const NONE: Self = Self { square_sum: 0.0, norm: 0.0, finite: true };

    /// The sum of squares after a clip by a factor; infinite only if it is too large itself.
    pub(crate) fn scaled_square_sum(&self, scale: f64) -> f64 {
        if self.square_sum.is_finite() {
            return self.square_sum * scale * scale;
        }
        let norm = self.norm * scale;
        norm * norm
    }
}

/// The question that a step asks about gradients.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Question {
    /// The limit of a clip by value.
    pub(crate) limit: Option<f64>,
    pub(crate) check_finite: bool,
    /// The factor by which a stage multiplies the gradients; norms are those of the products. The limit is one of the
    /// gradients as they are.
    pub(crate) factor: f64,
}

/// Measures each input that `wanted` names, by the question for its group; the norms of other inputs are 0 and finite.
pub(crate) fn norms<T: Scalar>(
    inputs: &[Input<'_, T>],
    questions: &[Question],
    wanted: impl Fn(&Input<'_, T>) -> bool,
    threads: &Threads,
) -> Vec<Norm> {
    let wanted = |input: &&Input<'_, T>| wanted(input);
    let total = inputs.iter().filter(wanted).filter_map(|input| Some(input.gradient.as_ref()?.values().len())).sum();
    let share = threads.shares(total).least;
    let mut branches = Vec::with_capacity(inputs.len());
    for input in inputs.iter().filter(wanted) {
        if let Some(gradient) = &input.gradient {
            Branch::cut(gradient.values().reborrow(), input.group, share, &mut branches);
        }
    }
    threads.run(
        &mut branches,
        |branch| branch.values.len(),
        |branches| {
            branches.iter_mut().for_each(|branch| branch.sum = questions[branch.group].over(&branch.values));
        },
    );

    let mut sums = branches.into_iter().map(|branch| branch.sum);
    let norm = |input: &Input<'_, T>| match &input.gradient {
        Some(gradient) if wanted(&input) => {
            let values = gradient.values();
            questions[input.group].norm(values, Branch::<T>::sum(values, share, &mut sums))
        }
        _ => Norm::NONE,
    };
    inputs.iter().map(norm).collect()
}

/// A branch of the tree in which the chunks of one gradient are added.
struct Branch<'a, T> {
    values: AnyValues<'a, T>,
    /// The group of the input, for the question.
    group: usize,
    sum: Sum,
}

impl<'a, T: Scalar> Branch<'a, T> {
    /// Cuts a gradient where the tree of its chunks branches, into pieces of at most a share. Scattered gradients are
    /// not cut.
    fn cut(values: AnyValues<'a, T>, group: usize, share: usize, branches: &mut Vec<Self>) {
        if values.len() <= share || !values.is_slice() {
            return branches.push(Self { values, group, sum: Sum::NONE });
        }
        let left = left_of(values.len());
        let (left, right) = values.split_at(left, left);
        Self::cut(left, group, share, branches);
        Self::cut(right, group, share, branches);
    }

    /// Adds the sums of the branches of a gradient.
    fn sum(values: &AnyValues<'_, T>, share: usize, sums: &mut impl Iterator<Item = Sum>) -> Sum {
        let mut next = || sums.next().expect("each branch has a sum");
        if values.is_slice() { in_tree(values.len(), share, &mut |_| next()) } else { next() }
    }
}

impl Question {
    /// Measures one gradient.
    pub(crate) fn answer<T: Scalar>(self, values: &AnyValues<'_, T>) -> Norm {
        self.norm(values, self.over(values))
    }

    /// Sums over one gradient, chunk by chunk.
    fn over<T: Scalar>(self, values: &AnyValues<'_, T>) -> Sum {
        match values {
            Any::Full(Values::Slice(slice)) => {
                let mut rest = *slice;
                in_tree(slice.len(), CHUNK, &mut |len| {
                    let (chunk, behind) = rest.split_at(len);
                    rest = behind;
                    self.over_chunk(chunk)
                })
            }
            Any::Full(Values::Strided(view)) => {
                let mut elements = view.iter().copied();
                let mut chunk = Vec::with_capacity(view.len().min(CHUNK));
                in_tree(view.len(), CHUNK, &mut |len| {
                    chunk.clear();
                    chunk.extend(elements.by_ref().take(len));
                    self.over_chunk(&chunk)
                })
            }
            Any::Full(Values::Sum(_)) | Any::Bf16(_) | Any::F16(_) => {
                let mut reader = values.reader();
                let mut buffer = Buffer::default();
                in_tree(values.len(), CHUNK, &mut |len| {
                    let blocks = (0..len).step_by(BLOCK).map(|at| BLOCK.min(len - at));
                    blocks.fold(Sum::NONE, |sum, n| sum + self.over_chunk(reader.block(n, None, &mut buffer)))
                })
            }
        }
    }

    /// The norm from the sum over a gradient.
    fn norm<T: Scalar>(self, values: &AnyValues<'_, T>, Sum { square_sum, finite }: Sum) -> Norm {
        let norm = if square_sum.is_infinite() {
            let limit = self.limit.unwrap_or(f64::INFINITY);
            scaled_norm(values.to_rows().iter().map(|&g| g.as_().abs().min(limit)))
        } else {
            square_sum.sqrt()
        };
        Norm { square_sum: square_sum * self.factor * self.factor, norm: norm * self.factor, finite }
    }

    fn over_chunk<T: Scalar>(self, chunk: &[T]) -> Sum {
        let square_sum = square_sum(chunk, self.limit);
        // The square of a 32-bit number never overflows 64 bits, and a sum that is finite has only finite terms; but a
        // clip by value may hide an infinity.
        let shown = square_sum.is_finite() && self.limit.is_none();
        Sum { square_sum, finite: !self.check_finite || shown || loops::all_finite(chunk) }
    }
}

/// The sum of squares of a branch, and whether its elements are finite.
#[derive(Debug, Clone, Copy)]
struct Sum {
    square_sum: f64,
    finite: bool,
}

impl Add for Sum {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self { square_sum: self.square_sum + other.square_sum, finite: self.finite & other.finite }
    }
}

impl Sum {
    const NONE: Self = Self { square_sum: 0.0, finite: true };
}

/// The number of elements in the left branch of a tree over `len` elements: whole chunks.
fn left_of(len: usize) -> usize {
    len.div_ceil(CHUNK).div_ceil(2) * CHUNK
}

/// Adds up a tree over `len` elements, whose leaves are single chunks: the order of additions depends on the length
/// alone. `next` returns the sums of branches of at most `known` elements, in order; its argument is the number of
/// elements of the branch.
fn in_tree(len: usize, known: usize, next: &mut impl FnMut(usize) -> Sum) -> Sum {
    if len <= known.max(CHUNK) {
        return next(len);
    }
    let left = left_of(len);
    let sum = in_tree(left, known, next);
    sum + in_tree(len - left, known, next)
}

/// The norm of numbers whose squares may be too large for 64 bits; infinite only if the norm itself is too large.
pub(crate) fn scaled_norm(magnitudes: impl Iterator<Item = f64> + Clone) -> f64 {
    let largest = magnitudes.clone().fold(0.0, f64::max);
    if largest.is_finite() && largest > 0.0 {
        largest * magnitudes.map(|g| (g / largest) * (g / largest)).sum::<f64>().sqrt()
    } else {
        largest
    }
}

/// The sum of squares, chunk by chunk.
pub(crate) fn square_sum<T: Scalar>(values: &[T], limit: Option<f64>) -> f64 {
    values.chunks(CHUNK).map(|chunk| loops::square_sum(chunk, limit)).sum()
}

/// The first element of a gradient that is refused; `is_refused` gets its place in row-major order and its value.
pub(crate) fn first_refused<T: Scalar>(
    input: &Input<'_, T>,
    form: &Form,
    is_refused: impl Fn(usize, T) -> bool,
) -> Option<NonFiniteGradient> {
    let gradient = input.gradient.as_ref()?;
    let whole = form.whole();
    let form = if input.is_whole() { &whole } else { form };
    let values = gradient.values().to_rows();
    let (place, &value) = values.iter().enumerate().find(|(place, value)| is_refused(*place, **value))?;
    let index = match gradient {
        InputGradient::Sparse(sparse) => {
            let mut shape = form.shape.to_vec();
            shape[0] = sparse.rows.len();
            index_of(place, &shape)
        }
        InputGradient::Dense(_) => {
            let stored = index_of(place, &form.stored_shape());
            let mut index = stored.clone();
            for (&axis, stored) in form.axes.iter().flatten().zip(stored) {
                index[axis] = stored;
            }
            index
        }
    };
    Some(NonFiniteGradient { variable: input.name.to_string(), index, value: value.as_() })
}

/// The index along each axis of the element at a place in row-major order.
fn index_of(mut place: usize, shape: &[usize]) -> Vec<usize> {
    let mut index = vec![0; shape.len()];
    for (index, axis) in index.iter_mut().zip(shape).rev() {
        (*index, place) = (place % axis, place / axis);
    }
    index
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(limit: Option<f64>, check_finite: bool, gradient: &[f64]) -> Norm {
        Question { limit, check_finite, factor: 1.0 }.answer(&Any::Full(Values::Slice(gradient)))
    }

    /// Whole numbers give the same sum in any order.
    #[test]
    fn every_element_counts_once_however_many_there_are() {
        for len in [0, 1, 7, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK + 5, 4 * CHUNK] {
            let gradient: Vec<f64> = (0..len).map(|i| (i % 7) as f64 - 3.0).collect();
            // Not `powi`: Miri varies its last bit.
            let square = |g: f64| g * g;
            let sum = |limit: f64| gradient.iter().map(|g| square(g.abs().min(limit))).sum::<f64>();
            for limit in [None, Some(2.0)] {
                let norm = ask(limit, true, &gradient);
                assert_eq!(norm.square_sum, sum(limit.unwrap_or(9.0)), "{len}");
                assert_eq!(norm.norm, norm.square_sum.sqrt(), "{len}");
                assert!(norm.finite, "{len}");
            }
        }
    }

    #[test]
    fn what_is_not_finite_is_found_in_every_chunk() {
        let mut gradient = vec![1.0; 3 * CHUNK + 5];
        for place in [0, CHUNK, 3 * CHUNK + 4] {
            for bad in [f64::NAN, f64::INFINITY] {
                gradient[place] = bad;
                assert!(!ask(None, true, &gradient).finite && !ask(Some(2.0), true, &gradient).finite, "{place}");
                assert!(ask(None, false, &gradient).finite, "nobody asked");
            }
            gradient[place] = 1.0;
        }
        // Finite, but its square is too large for 64 bits.
        gradient[5] = 1e200;
        assert!(ask(None, true, &gradient).finite);
    }

    #[test]
    fn norms_do_not_overflow() {
        let close = |got: f64, want: f64| (got - want).abs() <= 4.0 * f64::EPSILON * want;
        assert!(close(ask(None, true, &[3e200, -4e200]).norm, 5e200));
        assert_eq!(ask(Some(1e160), true, &[3e200, 0.0]).norm, 1e160);
        assert_eq!(ask(None, true, &[f64::INFINITY, 1.0]).norm, f64::INFINITY);
        assert_eq!(scaled_norm([0.0, 0.0].into_iter()), 0.0);
        assert_eq!(scaled_norm([3.0, 4.0].into_iter()), 5.0);
    }
}
