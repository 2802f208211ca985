//! How arrays, slices and single numbers come in.

use std::slice;

use ndarray::{
    ArrayBase, ArrayView, ArrayViewD, ArrayViewMut, ArrayViewMutD, Data, DataMut, Dimension, IxDyn, ShapeError,
};

use crate::real::Scalar;

/// Data and the shape that it does not fill.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ShapeMismatch {
    pub(crate) elements: usize,
    pub(crate) shape: Vec<usize>,
}

/// Numbers of any shape and layout, to read: made from references to ndarray arrays and views, slices, vectors, numbers, and
/// `(slice, shape)` pairs in row-major order.
#[derive(Debug, Clone)]
pub struct View<'a, T>(pub(crate) Result<ArrayViewD<'a, T>, ShapeMismatch>);

impl<T> View<'_, T> {
    /// The numbers as an array; nothing if there are not as many as the shape asks for.
    #[must_use]
    pub fn array(&self) -> Option<ArrayViewD<'_, T>> {
        self.0.as_ref().ok().map(|array| array.view())
    }
}

/// Numbers of any shape and layout, to change: made from mutable references to ndarray arrays and views, slices,
/// vectors, numbers, and `(slice, shape)` pairs in row-major order.
#[derive(Debug)]
pub struct ViewMut<'a, T>(pub(crate) Result<ArrayViewMutD<'a, T>, ShapeMismatch>);

impl<'a, T, D: Dimension> From<ArrayView<'a, T, D>> for View<'a, T> {
    fn from(view: ArrayView<'a, T, D>) -> Self {
        Self(Ok(view.into_dyn()))
    }
}

impl<'a, T, D: Dimension> From<ArrayViewMut<'a, T, D>> for ViewMut<'a, T> {
    fn from(view: ArrayViewMut<'a, T, D>) -> Self {
        Self(Ok(view.into_dyn()))
    }
}

impl<'a, T, S: Data<Elem = T>, D: Dimension> From<&'a ArrayBase<S, D>> for View<'a, T> {
    fn from(array: &'a ArrayBase<S, D>) -> Self {
        array.view().into()
    }
}

impl<'a, T, S: DataMut<Elem = T>, D: Dimension> From<&'a mut ArrayBase<S, D>> for ViewMut<'a, T> {
    fn from(array: &'a mut ArrayBase<S, D>) -> Self {
        array.view_mut().into()
    }
}

impl<'a, T> From<&'a [T]> for View<'a, T> {
    fn from(slice: &'a [T]) -> Self {
        ArrayView::from(slice).into()
    }
}

impl<'a, T> From<&'a mut [T]> for ViewMut<'a, T> {
    fn from(slice: &'a mut [T]) -> Self {
        ArrayViewMut::from(slice).into()
    }
}

impl<'a, T> From<&'a Vec<T>> for View<'a, T> {
    fn from(vec: &'a Vec<T>) -> Self {
        vec.as_slice().into()
    }
}

impl<'a, T> From<&'a mut Vec<T>> for ViewMut<'a, T> {
    fn from(vec: &'a mut Vec<T>) -> Self {
        vec.as_mut_slice().into()
    }
}

impl<'a, T, const N: usize> From<&'a [T; N]> for View<'a, T> {
    fn from(array: &'a [T; N]) -> Self {
        array.as_slice().into()
    }
}

impl<'a, T, const N: usize> From<&'a mut [T; N]> for ViewMut<'a, T> {
    fn from(array: &'a mut [T; N]) -> Self {
        array.as_mut_slice().into()
    }
}

/// A single number is a variable without axes.
impl<'a, T: Scalar> From<&'a T> for View<'a, T> {
    fn from(number: &'a T) -> Self {
        (slice::from_ref(number), &[][..]).into()
    }
}

/// A single number is a variable without axes.
impl<'a, T: Scalar> From<&'a mut T> for ViewMut<'a, T> {
    fn from(number: &'a mut T) -> Self {
        (slice::from_mut(number), &[][..]).into()
    }
}

impl<'a, T> From<(&'a [T], &[usize])> for View<'a, T> {
    fn from((slice, shape): (&'a [T], &[usize])) -> Self {
        Self(filled(slice.len(), shape, || ArrayView::from_shape(IxDyn(shape), slice)))
    }
}

impl<'a, T> From<(&'a mut [T], &[usize])> for ViewMut<'a, T> {
    fn from((slice, shape): (&'a mut [T], &[usize])) -> Self {
        Self(filled(slice.len(), shape, || ArrayViewMut::from_shape(IxDyn(shape), slice)))
    }
}

/// A view of exactly as many elements as there are.
fn filled<V>(
    elements: usize,
    shape: &[usize],
    view: impl FnOnce() -> Result<V, ShapeError>,
) -> Result<V, ShapeMismatch> {
    let mismatch = || ShapeMismatch { elements, shape: shape.to_vec() };
    let wanted = shape.iter().try_fold(1_usize, |product, &axis| product.checked_mul(axis));
    if wanted == Some(elements) { view().map_err(|_| mismatch()) } else { Err(mismatch()) }
}
