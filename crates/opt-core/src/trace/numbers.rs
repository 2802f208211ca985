//! Numbers that record what is done to them.

use std::cmp::Ordering;
use std::fmt;
use std::ops::{Add, Div, Mul, Sub};

use num_traits::{AsPrimitive, Zero};

use super::graph::{Constant, Operation};
use super::{Untraceable, tape};
use crate::dtype::{AnySlice, AnySliceMut, DType};
use crate::real::{Real, Scalar, sealed};

/// A number of a recorded step: a place on the tape of its thread.
///
/// It stands for an `f32` or an `f64`, depending on the optimizer that is recorded. Numbers that are the same for all
/// elements can be looked at; looking at the number of an element makes the recording fail. Outside of a recording,
/// numbers are nothing.
#[derive(Clone, Copy)]
pub struct Traced {
    /// The number of the tape: 0 for constants, which every tape has at the same places.
    pub(super) tape: u32,
    pub(super) place: u32,
}

impl Traced {
    /// The result of an operation outside of a recording.
    pub(super) const NOWHERE: Self = Self { tape: u32::MAX, place: 0 };

    const fn constant(constant: Constant) -> Self {
        Self { tape: 0, place: constant as u32 }
    }

    pub(super) fn is_constant(self) -> bool {
        self.tape == 0
    }

    /// Whether this is the same place of the same tape.
    pub(super) fn is_same(self, other: Self) -> bool {
        (self.tape, self.place) == (other.tape, other.place)
    }
}

macro_rules! operator {
    ($Operator:ident, $operator:ident) => {
        impl $Operator for Traced {
            type Output = Self;

            fn $operator(self, other: Self) -> Self {
                tape::operation(Operation::$Operator, self, other)
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
        tape::literal(value)
    }

    fn sqrt(self) -> Self {
        tape::root(self)
    }

    fn max(self, other: Self) -> Self {
        tape::operation(Operation::Max, self, other)
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
        tape::value_of(self, Untraceable::Converted).unwrap_or(f64::NAN)
    }
}

impl PartialEq for Traced {
    fn eq(&self, other: &Self) -> bool {
        self.partial_cmp(other) == Some(Ordering::Equal)
    }
}

impl PartialOrd for Traced {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        let [a, b] = [self, other].map(|x| tape::value_of(*x, Untraceable::Compared));
        a?.partial_cmp(&b?)
    }
}

impl fmt::Debug for Traced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}", self.place)
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
        tape::value_of(self, Untraceable::Compared).is_some_and(f64::is_finite)
    }

    fn to_f32(self) -> f32 {
        tape::value_of(self, Untraceable::Converted).map_or(f32::NAN, |value| value as f32)
    }

    fn from_f32(value: f32) -> Self {
        Self::literal(f64::from(value))
    }

    fn flushed(self, limit: Self) -> Self {
        // No magnitude is below 0. A limit that is a parameter stays: the graph must not depend on its value.
        if limit.is_same(Self::zero()) { self } else { tape::operation(Operation::Flush, self, limit) }
    }

    fn clamped(self, limit: Self) -> Self {
        tape::operation(Operation::Clamp, self, limit)
    }
}
