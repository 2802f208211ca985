//! Numbers that record what is done to them.

use std::cmp::Ordering;
use std::fmt;
use std::ops::{Add, Div, Mul, Sub};

use num_traits::{AsPrimitive, Zero};

use super::Untraceable;
use super::graph::{Array, Constant, Operation};
use super::tape::{self, Entry, Place, Tape};
use crate::dtype::{AnySlice, AnySliceMut, DType};
use crate::real::{Real, Scalar, sealed};

/// A number of a recorded step: a place on the tape of its thread.
///
/// It stands for an `f32` or an `f64`, depending on the optimizer that is recorded. Numbers that are the same for all
/// elements can be looked at; looking at the number of an element makes the recording fail. Outside of a recording,
/// numbers are nothing.
#[derive(Clone, Copy)]
pub struct Traced(pub(super) Place);

impl Traced {
    const fn constant(constant: Constant) -> Self {
        Self(Place::of_constant(constant))
    }

    /// Whether this is the same place of the same tape.
    pub(super) fn is_same(self, other: Self) -> bool {
        self.0 == other.0
    }
}

impl Tape {
    /// The number of an element of an array.
    pub(crate) fn load(&self, array: Array, element: usize) -> Traced {
        Traced(tape::push(Entry::Load(array, element)))
    }
}

macro_rules! operator {
    ($Operator:ident, $operator:ident) => {
        impl $Operator for Traced {
            type Output = Self;

            fn $operator(self, other: Self) -> Self {
                Self(tape::operation(Operation::$Operator, self.0, other.0))
            }
        }
    };
}

operator!(Add, add);
operator!(Sub, sub);
operator!(Mul, mul);
operator!(Div, div);

impl Real for Traced {
    fn literal(value: f64) -> Self {
        Self(tape::literal(value))
    }

    fn sqrt(self) -> Self {
        Self(tape::root(self.0))
    }

    fn max(self, other: Self) -> Self {
        Self(tape::operation(Operation::Max, self.0, other.0))
    }
}

impl Zero for Traced {
    fn zero() -> Self {
        Self::constant(Constant::Zero)
    }

    fn is_zero(&self) -> bool {
        *self == Self::zero()
    }
}

impl Default for Traced {
    fn default() -> Self {
        Self::zero()
    }
}

impl AsPrimitive<f64> for Traced {
    fn as_(self) -> f64 {
        tape::value_of(self.0, Untraceable::Converted).unwrap_or(f64::NAN)
    }
}

impl PartialEq for Traced {
    fn eq(&self, other: &Self) -> bool {
        self.partial_cmp(other) == Some(Ordering::Equal)
    }
}

impl PartialOrd for Traced {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        let [a, b] = [self, other].map(|x| tape::value_of(x.0, Untraceable::Compared));
        a?.partial_cmp(&b?)
    }
}

impl fmt::Debug for Traced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

impl fmt::Display for Traced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

impl sealed::Sealed for Traced {
    fn of_any(_slice: AnySlice<'_>) -> Option<&[Self]> {
        None
    }

    fn of_any_mut(_slice: AnySliceMut<'_>) -> Option<&mut [Self]> {
        None
    }
}

impl Scalar for Traced {
    /// The type that the tape has may be another one; a recording never asks.
    const DTYPE: DType = DType::F32;
    const SMALLEST: Self = Self::constant(Constant::Smallest);
    const LARGEST: Self = Self::constant(Constant::Largest);

    fn is_finite(self) -> bool {
        tape::value_of(self.0, Untraceable::Compared).is_some_and(f64::is_finite)
    }

    fn to_f32(self) -> f32 {
        tape::value_of(self.0, Untraceable::Converted).map_or(f32::NAN, |value| value as f32)
    }

    fn from_f32(value: f32) -> Self {
        Self::literal(f64::from(value))
    }

    fn flushed(self, limit: Self) -> Self {
        // No magnitude is below 0. A limit that is a parameter stays: the graph must not depend on its value.
        if limit.is_same(Self::zero()) { self } else { Self(tape::operation(Operation::Flush, self.0, limit.0)) }
    }

    fn clamped(self, limit: Self) -> Self {
        Self(tape::operation(Operation::Clamp, self.0, limit.0))
    }
}
