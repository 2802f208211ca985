//! The storage of variables and gradients: contiguous or scattered, in one of three element types. Axes are in stored
//! order.

use std::borrow::Cow;

use half::{bf16, f16};
use ndarray::{ArrayViewD, ArrayViewMutD, Axis};

use crate::loops;
use crate::precision::extended::Extended;
use crate::precision::master::MasterSlot;
use crate::precision::{Any, HalfFloat, each, map, split};
use crate::real::Scalar;

/// The numbers of a variable, in any of the three element types.
pub(crate) type AnyValue<'a, T> = Any<Value<'a, T>, Value<'a, bf16>, Value<'a, f16>>;

/// Numbers to read, in any of the three element types.
pub(crate) type AnyValues<'a, T> = Any<Values<'a, T>, Values<'a, bf16>, Values<'a, f16>>;

/// The numbers of a variable, of one element type.
#[derive(Debug)]
pub(crate) enum Value<'a, T> {
    Slice(&'a mut [T]),
    Strided(Box<ArrayViewMutD<'a, T>>),
    /// Numbers that a step in phases is lent later, and the position of the variable in the list of descriptions.
    Later {
        len: usize,
        position: usize,
    },
}

/// Numbers to read, of one element type.
#[derive(Debug)]
pub(crate) enum Values<'a, T> {
    Slice(&'a [T]),
    Strided(Box<ArrayViewD<'a, T>>),
    /// Only in the element type of the optimizer.
    Sum(Box<SumOf<'a, T>>),
}

/// The sum of accumulated gradients and a multiple of those of the last micro-step. It is computed block by block where
/// it is read.
#[derive(Debug)]
pub(crate) struct SumOf<'a, T> {
    /// The sum of earlier micro-steps, in the order of `last`; `None` is 0.
    pub(crate) sum: Option<&'a [T]>,
    pub(crate) last: AnyValues<'a, T>,
    pub(crate) factor: f64,
}

impl<'a, T> From<ArrayViewMutD<'a, T>> for Value<'a, T> {
    fn from(view: ArrayViewMutD<'a, T>) -> Self {
        if view.is_standard_layout() {
            Self::Slice(view.into_slice().expect("standard layout is a slice"))
        } else {
            Self::Strided(Box::new(view))
        }
    }
}

impl<'a, T> From<ArrayViewD<'a, T>> for Values<'a, T> {
    fn from(view: ArrayViewD<'a, T>) -> Self {
        match view.to_slice() {
            Some(slice) => Self::Slice(slice),
            None => Self::Strided(Box::new(view)),
        }
    }
}

/// Only the first phases of a step, which look at no value, run before the numbers are lent.
pub(crate) const NOT_LENT: &str = "the numbers have not been lent yet";

/// The number of elements of a view that must stay together: a view can be cut only along axis 0.
fn row_width(len: usize, shape: &[usize]) -> usize {
    len / shape.first().copied().unwrap_or(1).max(1)
}

impl<'a, T> Value<'a, T> {
    #[inline(always)]
    fn len(&self) -> usize {
        match self {
            Self::Slice(slice) => slice.len(),
            Self::Strided(view) => view.len(),
            Self::Later { len, .. } => *len,
        }
    }

    /// The same numbers, borrowed for a shorter time.
    pub(crate) fn reborrow(&mut self) -> Value<'_, T> {
        match self {
            Self::Slice(slice) => Value::Slice(slice),
            Self::Strided(view) => Value::Strided(Box::new(view.view_mut())),
            Self::Later { len, position } => Value::Later { len: *len, position: *position },
        }
    }

    /// Calls `visit` with each element, in stored order.
    pub(crate) fn for_each(&mut self, visit: impl FnMut(&mut T)) {
        match self {
            Self::Slice(slice) => slice.iter_mut().for_each(visit),
            Self::Strided(view) => view.iter_mut().for_each(visit),
            Self::Later { .. } => unreachable!("{NOT_LENT}"),
        }
    }

    fn width(&self) -> usize {
        match self {
            Self::Slice(_) | Self::Later { .. } => 1,
            Self::Strided(view) => row_width(view.len(), view.shape()),
        }
    }

    /// Splits before an element, the first of a row.
    fn split_at(self, at: usize, row: usize) -> (Self, Self) {
        match self {
            Self::Slice(slice) => {
                let (front, back) = slice.split_at_mut(at);
                (Self::Slice(front), Self::Slice(back))
            }
            Self::Strided(view) => {
                let (front, back) = view.split_at(Axis(0), row);
                (Self::Strided(Box::new(front)), Self::Strided(Box::new(back)))
            }
            Self::Later { .. } => unreachable!("{NOT_LENT}"),
        }
    }

    /// The same numbers, to read; none if they are lent later.
    fn read(&self) -> Values<'_, T> {
        match self {
            Self::Slice(slice) => Values::Slice(slice),
            Self::Strided(view) => Values::Strided(Box::new(view.view())),
            Self::Later { .. } => Values::Slice(&[]),
        }
    }
}

impl<H: Extended> Value<'_, H> {
    /// Lends the master of the variable in full, then rounds it into the variable.
    pub(crate) fn with_master<T: Scalar>(&mut self, slot: &mut MasterSlot<T>, change: impl FnOnce(&mut [T])) {
        self.with_rows(|half| {
            let mut master = slot.open(half);
            change(&mut master);
            slot.close(master, half);
        });
    }

    /// Lends the numbers row by row.
    pub(crate) fn with_rows(&mut self, change: impl FnOnce(&mut [H])) {
        match self {
            Self::Slice(slice) => change(slice),
            strided => {
                let mut rows = strided.read().to_rows().into_owned();
                change(&mut rows);
                let mut rows = rows.into_iter();
                strided.for_each(|number| rows.next().into_iter().for_each(|new| *number = new));
            }
        }
    }
}

impl<'a, T> AnyValue<'a, T> {
    /// The numbers in the element type of the optimizer; 16-bit numbers have been refused before.
    pub(crate) fn into_full(self) -> Value<'a, T> {
        match self {
            Self::Full(value) => value,
            Self::Bf16(_) | Self::F16(_) => unreachable!("variables of 16 bits have been refused"),
        }
    }

    #[inline(always)]
    pub(crate) fn len(&self) -> usize {
        each!(self, value => value.len())
    }

    /// The same numbers, borrowed for a shorter time.
    pub(crate) fn reborrow(&mut self) -> AnyValue<'_, T> {
        map!(self, value => value.reborrow())
    }

    /// The position of numbers that are lent later in the list of descriptions.
    pub(crate) fn position(&self) -> Option<usize> {
        each!(self, value => if let Value::Later { position, .. } = value { Some(*position) } else { None })
    }

    /// The number of elements that must stay together.
    pub(crate) fn width(&self) -> usize {
        each!(self, value => value.width())
    }

    /// Splits before an element, the first of a row.
    pub(crate) fn split_at(self, at: usize, row: usize) -> (Self, Self) {
        split!(self, value => value.split_at(at, row))
    }
}

impl<T: Scalar> AnyValue<'_, T> {
    /// A copy, in stored order; empty if the numbers are lent later.
    pub(crate) fn to_vec(&self) -> Vec<T> {
        map!(self, value => value.read()).to_rows().into_owned()
    }
}

impl<'a, T> SumOf<'a, T> {
    fn reborrow(&self) -> SumOf<'_, T> {
        SumOf { sum: self.sum, last: self.last.reborrow(), factor: self.factor }
    }

    fn split_at(self, at: usize, row: usize) -> (Self, Self) {
        let Self { sum, last, factor } = self;
        let (sum, sum_back) = sum.map(|sum| sum.split_at(at)).unzip();
        let (last, last_back) = last.split_at(at, row);
        (Self { sum, last, factor }, Self { sum: sum_back, last: last_back, factor })
    }
}

impl<'a, T> Values<'a, T> {
    fn len(&self) -> usize {
        match self {
            Self::Slice(slice) => slice.len(),
            Self::Strided(view) => view.len(),
            Self::Sum(sum) => sum.last.len(),
        }
    }

    /// The same numbers, borrowed for a shorter time.
    fn reborrow(&self) -> Values<'_, T> {
        match self {
            Self::Slice(slice) => Values::Slice(slice),
            Self::Strided(view) => Values::Strided(Box::new(view.view())),
            Self::Sum(sum) => Values::Sum(Box::new(sum.reborrow())),
        }
    }

    fn is_slice(&self) -> bool {
        match self {
            Self::Slice(_) => true,
            Self::Strided(_) => false,
            Self::Sum(sum) => sum.last.is_slice(),
        }
    }

    fn width(&self) -> usize {
        match self {
            Self::Slice(_) => 1,
            Self::Strided(view) => row_width(view.len(), view.shape()),
            Self::Sum(sum) => sum.last.width(),
        }
    }

    /// Splits before an element, the first of a row.
    fn split_at(self, at: usize, row: usize) -> (Self, Self) {
        match self {
            Self::Slice(slice) => {
                let (front, back) = slice.split_at(at);
                (Self::Slice(front), Self::Slice(back))
            }
            Self::Strided(view) => {
                let (front, back) = view.split_at(Axis(0), row);
                (Self::Strided(Box::new(front)), Self::Strided(Box::new(back)))
            }
            Self::Sum(sum) => {
                let (front, back) = sum.split_at(at, row);
                (Self::Sum(Box::new(front)), Self::Sum(Box::new(back)))
            }
        }
    }
}

impl<T: Copy> Values<'_, T> {
    /// The elements in row-major order.
    fn to_rows(&self) -> Cow<'_, [T]> {
        match self {
            Self::Slice(slice) => Cow::Borrowed(slice),
            Self::Strided(view) => Cow::Owned(view.iter().copied().collect()),
            Self::Sum(_) => unreachable!("sums are read in the element type of the optimizer"),
        }
    }
}

impl<'a, T> AnyValues<'a, T> {
    /// The numbers in the element type of the optimizer; 16-bit numbers have been refused before.
    pub(crate) fn into_full(self) -> Values<'a, T> {
        match self {
            Self::Full(values) => values,
            Self::Bf16(_) | Self::F16(_) => unreachable!("gradients of 16 bits have been refused"),
        }
    }

    pub(crate) fn len(&self) -> usize {
        each!(self, values => values.len())
    }

    /// The same numbers, borrowed for a shorter time.
    pub(crate) fn reborrow(&self) -> AnyValues<'_, T> {
        map!(self, values => values.reborrow())
    }

    /// Whether the numbers are contiguous and can be cut anywhere.
    pub(crate) fn is_slice(&self) -> bool {
        each!(self, values => values.is_slice())
    }

    /// The number of elements that must stay together.
    pub(crate) fn width(&self) -> usize {
        each!(self, values => values.width())
    }

    /// Splits before an element, the first of a row.
    pub(crate) fn split_at(self, at: usize, row: usize) -> (Self, Self) {
        split!(self, values => values.split_at(at, row))
    }
}

impl<T: Scalar> SumOf<'_, T> {
    /// Writes the sum, given the numbers of the last micro-step.
    fn write(&self, to: &mut [T], last: &[T]) {
        write_sum(to, self.sum, last, self.factor);
    }
}

/// Writes `sum + factor * last`.
pub(super) fn write_sum<T: Scalar>(to: &mut [T], sum: Option<&[T]>, last: &[T], factor: f64) {
    match sum {
        Some(sum) => loops::sum(to, sum, last, T::literal(factor)),
        None => loops::scale(to, last, [factor, 1.0].map(T::literal)),
    }
}

impl<T: Scalar> AnyValues<'_, T> {
    /// The elements in row-major order, in the element type of the optimizer.
    pub(crate) fn to_rows(&self) -> Cow<'_, [T]> {
        fn widened<T: Scalar, H: HalfFloat>(values: &Values<'_, H>) -> Vec<T> {
            let mut wide = vec![T::zero(); values.len()];
            H::widen(&mut wide, &values.to_rows());
            wide
        }
        match self {
            Self::Full(Values::Sum(sum)) => {
                let mut total = vec![T::zero(); sum.last.len()];
                sum.write(&mut total, &sum.last.to_rows());
                Cow::Owned(total)
            }
            Self::Full(values) => values.to_rows(),
            Self::Bf16(values) => Cow::Owned(widened(values)),
            Self::F16(values) => Cow::Owned(widened(values)),
        }
    }
}
