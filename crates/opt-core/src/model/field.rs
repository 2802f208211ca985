//! Whether a type has variables, as a constant: `Parameters::<Array1<f32>, f32>::HAS`.
//!
//! Where its bounds hold, the constant of the type itself is chosen, otherwise that of the trait.

use std::marker::PhantomData;

use crate::real::Scalar;

/// The answer for types without variables.
pub trait HasNone {
    /// Whether the type has variables.
    const HAS: bool = false;
}

/// Asks about [`Parameters`](crate::Parameters) of a type.
#[derive(Debug)]
pub struct Parameters<P: ?Sized, T>(PhantomData<(T, P)>);

impl<P: ?Sized, T> HasNone for Parameters<P, T> {}

impl<P: crate::Parameters<T> + ?Sized, T: Scalar> Parameters<P, T> {
    /// Whether the type has variables.
    pub const HAS: bool = true;
}

/// Asks about [`Gradients`](crate::Gradients) of a type.
#[derive(Debug)]
pub struct Gradients<P: ?Sized, T>(PhantomData<(T, P)>);

impl<P: ?Sized, T> HasNone for Gradients<P, T> {}

impl<P: crate::Gradients<T> + ?Sized, T: Scalar> Gradients<P, T> {
    /// Whether the type has gradients.
    pub const HAS: bool = true;
}
