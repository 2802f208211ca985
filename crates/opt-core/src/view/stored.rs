//! Views of numbers in 16 bits: variables and gradients of an optimizer in 32 bits.

use half::{bf16, f16};

use super::{View, ViewMut};
use crate::real::Scalar;

/// The 16-bit element types that variables and gradients of an `f32` optimizer may have: [`half::bf16`] and
/// [`half::f16`].
///
/// The trait is sealed. See [`Variable::half`](crate::Variable::half).
pub trait Half: Stored<f32> {}

impl Half for bf16 {}
impl Half for f16 {}

/// The element types that the arrays of a model may have where the optimizer computes in `T`: `T` itself, and the
/// [16-bit types](Half) for `f32`.
///
/// The trait is sealed.
#[diagnostic::on_unimplemented(
    message = "numbers in `{Self}` are no variables or gradients of an optimizer in `{T}`",
    note = "the element type is the second parameter of an optimizer, `f32` by default: `Optimizer<Sgd, f64>`"
)]
pub trait Stored<T>: sealed::Sealed<T> + 'static {}

impl<T: Scalar> Stored<T> for T {}
impl Stored<f32> for bf16 {}
impl Stored<f32> for f16 {}

impl<'a> View<'a, f32> {
    /// Numbers in 16 bits, for gradients of an optimizer in 32 bits. They are widened block by block.
    ///
    /// A [`Gradient`](crate::Gradient) is made in the same way: `View::half(&g).into()`.
    pub fn half<H: Half>(numbers: impl Into<View<'a, H>>) -> Self {
        H::view(numbers.into())
    }
}

impl<'a> ViewMut<'a, f32> {
    /// Numbers in 16 bits, for a variable of an optimizer in 32 bits: see [`Variable::half`](crate::Variable::half).
    pub fn half<H: Half>(numbers: impl Into<ViewMut<'a, H>>) -> Self {
        H::view_mut(numbers.into())
    }
}

pub(crate) mod sealed {
    use half::{bf16, f16};

    use super::super::{View, ViewMut};
    use crate::precision::Any;
    use crate::real::Scalar;

    pub trait Sealed<T>: Sized {
        fn view(numbers: View<'_, Self>) -> View<'_, T>;
        fn view_mut(numbers: ViewMut<'_, Self>) -> ViewMut<'_, T>;
    }

    impl<T: Scalar> Sealed<T> for T {
        fn view(numbers: View<'_, T>) -> View<'_, T> {
            numbers
        }

        fn view_mut(numbers: ViewMut<'_, T>) -> ViewMut<'_, T> {
            numbers
        }
    }

    macro_rules! half {
        ($type:ty, $variant:ident) => {
            impl Sealed<f32> for $type {
                fn view(numbers: View<'_, Self>) -> View<'_, f32> {
                    View(match numbers.0 {
                        Any::Full(layout) => Any::$variant(Box::new(layout)),
                        Any::Bf16(layout) => Any::Bf16(layout),
                        Any::F16(layout) => Any::F16(layout),
                    })
                }

                fn view_mut(numbers: ViewMut<'_, Self>) -> ViewMut<'_, f32> {
                    ViewMut(match numbers.0 {
                        Any::Full(layout) => Any::$variant(Box::new(layout)),
                        Any::Bf16(layout) => Any::Bf16(layout),
                        Any::F16(layout) => Any::F16(layout),
                    })
                }
            }
        };
    }

    half!(bf16, Bf16);
    half!(f16, F16);
}
