//! Numbers in the element type of the optimizer, or in one of two 16-bit types, and how they are told apart.
//! [`nearest`] and [`stochastic`] round them.

pub(crate) mod extended;
pub(crate) mod float8;
pub(crate) mod master;
pub(crate) mod nearest;
pub(crate) mod packed;
pub(crate) mod stochastic;

use half::{bf16, f16};
use ndarray::{ArrayViewD, ArrayViewMutD};

pub(crate) use nearest::HalfFloat;

use crate::real::DType;

/// A value for one of three element types: the optimizer's own, `bf16`, or `f16`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Any<T, B, F> {
    /// The element type of the optimizer.
    Full(T),
    /// [`half::bf16`].
    Bf16(B),
    /// [`half::f16`].
    F16(F),
}

/// An array to read, in any of the three element types.
pub type AnyArray<'a, T> = Any<ArrayViewD<'a, T>, ArrayViewD<'a, bf16>, ArrayViewD<'a, f16>>;

/// An array to change, in any of the three element types.
pub type AnyArrayMut<'a, T> = Any<ArrayViewMutD<'a, T>, ArrayViewMutD<'a, bf16>, ArrayViewMutD<'a, f16>>;

/// Evaluates an expression for each of the three element types.
macro_rules! each {
    ($any:expr, $inner:pat => $result:expr) => {
        match $any {
            $crate::precision::Any::Full($inner) => $result,
            $crate::precision::Any::Bf16($inner) => $result,
            $crate::precision::Any::F16($inner) => $result,
        }
    };
}

/// Evaluates an expression for each of the three element types; the result is an `Any` again.
macro_rules! map {
    ($any:expr, $inner:pat => $result:expr) => {
        match $any {
            $crate::precision::Any::Full($inner) => $crate::precision::Any::Full($result),
            $crate::precision::Any::Bf16($inner) => $crate::precision::Any::Bf16($result),
            $crate::precision::Any::F16($inner) => $crate::precision::Any::F16($result),
        }
    };
}

/// As `map`, for values whose 16-bit variants are boxed.
macro_rules! unbox {
    ($any:expr, $inner:ident => $result:expr) => {
        match $any {
            $crate::precision::Any::Full($inner) => $crate::precision::Any::Full($result),
            $crate::precision::Any::Bf16($inner) => {
                let $inner = *$inner;
                $crate::precision::Any::Bf16($result)
            }
            $crate::precision::Any::F16($inner) => {
                let $inner = *$inner;
                $crate::precision::Any::F16($result)
            }
        }
    };
}

/// As `map`, for an expression with two results.
macro_rules! split {
    ($any:expr, $inner:pat => $result:expr) => {
        match $any {
            $crate::precision::Any::Full($inner) => {
                let (front, back) = $result;
                ($crate::precision::Any::Full(front), $crate::precision::Any::Full(back))
            }
            $crate::precision::Any::Bf16($inner) => {
                let (front, back) = $result;
                ($crate::precision::Any::Bf16(front), $crate::precision::Any::Bf16(back))
            }
            $crate::precision::Any::F16($inner) => {
                let (front, back) = $result;
                ($crate::precision::Any::F16(front), $crate::precision::Any::F16(back))
            }
        }
    };
}

pub(crate) use {each, map, split, unbox};

impl<T, B, F> Any<T, B, F> {
    /// The element type of the numbers, where `full` is that of the optimizer.
    #[must_use]
    pub fn dtype(&self, full: DType) -> DType {
        match self {
            Self::Full(_) => full,
            Self::Bf16(_) => DType::Bf16,
            Self::F16(_) => DType::F16,
        }
    }
}
