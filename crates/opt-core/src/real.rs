//! The numbers that rules compute with.

use std::fmt::{Debug, Display};
use std::ops::{Add, Div, Mul, Sub};

use num_traits::{AsPrimitive, Zero};

pub use crate::dtype::DType;
use crate::dtype::{AnySlice, AnySliceMut};

/// The few operations that an update rule needs.
///
/// A rule's element function is written once, for every `E: Real`. The trait is kept small on purpose, so that a type
/// can implement it that records operations instead of computing them.
///
/// # Examples
///
/// ```
/// use opt_core::rule::Real;
///
/// fn descend<E: Real>(w: E, g: E, learning_rate: E) -> E {
///     w - learning_rate * g
/// }
/// assert_eq!(descend(1.0_f64, 2.0, 0.25), 0.5);
/// assert_eq!(descend(1.0_f32, 2.0, 0.25), 0.5);
/// ```
pub trait Real: Copy + Add<Output = Self> + Sub<Output = Self> + Mul<Output = Self> + Div<Output = Self> {
    /// The number nearest to `value`.
    fn literal(value: f64) -> Self;

    /// The square root.
    #[must_use]
    fn sqrt(self) -> Self;

    /// The larger of two numbers; NaN if either is NaN, so that a NaN is never hidden.
    #[must_use]
    fn max(self, other: Self) -> Self;
}

/// The element types that variables, gradients and slots may have: `f32` and `f64`. (And
/// [`Traced`](crate::trace::Traced), which stands for one of them in a recording.)
///
/// The trait is sealed.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not the element type of an optimizer",
    label = "not `f32` or `f64`",
    note = "variables in `half::bf16` and `half::f16` belong to optimizers in `f32`: `Variable::half`, `Variable::half_gradient`"
)]
pub trait Scalar:
    Real + Zero + AsPrimitive<f64> + PartialOrd + Default + Debug + Display + Send + Sync + sealed::Sealed
{
    /// The name of the type.
    const DTYPE: DType;

    /// The smallest normal number above 0.
    const SMALLEST: Self;

    /// The largest finite number.
    const LARGEST: Self;

    /// Whether the number is neither infinite nor NaN.
    fn is_finite(self) -> bool;

    /// The number in 32 bits, rounded.
    fn to_f32(self) -> f32;

    /// The number from 32 bits, exactly.
    fn from_f32(value: f32) -> Self;

    /// The number itself, or 0 if its magnitude is below `limit`; NaN stays NaN.
    #[must_use]
    fn flushed(self, limit: Self) -> Self;

    /// The number itself, or the nearest one in `-limit..=limit`; NaN stays NaN.
    #[must_use]
    fn clamped(self, limit: Self) -> Self;
}

pub(crate) mod sealed {
    use crate::dtype::{AnySlice, AnySliceMut};

    pub trait Sealed: Sized {
        /// The slice, if it has this element type.
        fn of_any(slice: AnySlice<'_>) -> Option<&[Self]>;

        /// As `of_any`, to change.
        fn of_any_mut(slice: AnySliceMut<'_>) -> Option<&mut [Self]>;
    }
}

macro_rules! scalar {
    ($type:ty, $variant:ident) => {
        impl sealed::Sealed for $type {
            fn of_any(slice: AnySlice<'_>) -> Option<&[Self]> {
                if let AnySlice::$variant(slice) = slice { Some(slice) } else { None }
            }

            fn of_any_mut(slice: AnySliceMut<'_>) -> Option<&mut [Self]> {
                if let AnySliceMut::$variant(slice) = slice { Some(slice) } else { None }
            }
        }

        impl Real for $type {
            #[inline(always)]
            fn literal(value: f64) -> Self {
                value as $type
            }

            #[inline(always)]
            fn sqrt(self) -> Self {
                self.sqrt()
            }

            #[inline(always)]
            fn max(self, other: Self) -> Self {
                if self > other || self.is_nan() { self } else { other }
            }
        }

        impl Scalar for $type {
            const DTYPE: DType = DType::$variant;
            const SMALLEST: Self = <$type>::MIN_POSITIVE;
            const LARGEST: Self = <$type>::MAX;

            #[inline(always)]
            fn is_finite(self) -> bool {
                self.is_finite()
            }

            #[inline(always)]
            fn to_f32(self) -> f32 {
                self as f32
            }

            #[inline(always)]
            fn from_f32(value: f32) -> Self {
                <$type>::from(value)
            }

            #[inline(always)]
            fn flushed(self, limit: Self) -> Self {
                if self.abs() < limit { 0.0 } else { self }
            }

            #[inline(always)]
            fn clamped(self, limit: Self) -> Self {
                if self > limit {
                    limit
                } else if self < 0.0 - limit {
                    0.0 - limit
                } else {
                    self
                }
            }
        }
    };
}

scalar!(f32, F32);
scalar!(f64, F64);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn max_shows_every_nan() {
        assert!(Real::max(f64::NAN, 1.0).is_nan());
        assert!(Real::max(1.0, f64::NAN).is_nan());
        assert_eq!(Real::max(-1.0_f32, 2.0), 2.0);
        assert_eq!(Real::max(2.0_f32, -1.0), 2.0);
    }
}
