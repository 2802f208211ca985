//! Named variables, with or without a gradient.

use std::borrow::Cow;

use ndarray::{ArrayViewD, ArrayViewMutD};

use crate::error::Error;
use crate::gradient::{Gradient, Indices};
use crate::view::{ShapeMismatch, View, ViewMut};

/// A variable as a step sees it: a name, the numbers to update, and a gradient if there is one.
///
/// The name is how the optimizer knows the variable from step to step; two variables may not share one, and the shape
/// of a name may not change.
///
/// # Examples
///
/// ```
/// use ndarray::{Array1, Array2};
/// use opt_core::Variable;
///
/// let (mut kernel, grad) = (Array2::<f32>::zeros((3, 4)), Array2::ones((3, 4)));
/// let dense = Variable::new("dense/kernel", &mut kernel).gradient(&grad);
///
/// let (mut embedding, values) = (Array2::<f32>::zeros((100, 2)), Array2::ones((2, 2)));
/// let sparse = Variable::new("embedding", &mut embedding).sparse_gradient(&[7, 42], &values);
///
/// // Memory of another framework: row-major numbers and their shape.
/// let (mut raw, raw_grad) = (vec![0.0_f32; 12], vec![1.0; 12]);
/// let shape = [3, 4];
/// let foreign = Variable::new("raw", (&mut raw[..], &shape[..])).gradient((&raw_grad[..], &shape[..]));
///
/// let mut temperature = 1.0_f32;
/// let number = Variable::new("temperature", &mut temperature).gradient(&0.5);
///
/// let mut frozen = Array1::<f32>::zeros(4);
/// let no_gradient = Variable::new("frozen", &mut frozen);
/// ```
#[derive(Debug)]
pub struct Variable<'a, T> {
    pub(crate) name: Cow<'a, str>,
    pub(crate) value: ViewMut<'a, T>,
    pub(crate) gradient: Option<Gradient<'a, T>>,
}

impl<'a, T> Variable<'a, T> {
    /// A variable without a gradient: a step leaves it alone.
    pub fn new(name: impl Into<Cow<'a, str>>, value: impl Into<ViewMut<'a, T>>) -> Self {
        Self { name: name.into(), value: value.into(), gradient: None }
    }

    /// Sets the gradient; its shape must be the variable's.
    #[must_use]
    pub fn gradient(mut self, gradient: impl Into<Gradient<'a, T>>) -> Self {
        self.gradient = Some(gradient.into());
        self
    }

    /// Sets the gradient of some rows; `values` has shape `[indices.len()] + shape[1..]`.
    #[must_use]
    pub fn sparse_gradient(self, indices: impl Into<Indices<'a>>, values: impl Into<View<'a, T>>) -> Self {
        self.gradient(Gradient::sparse(indices, values))
    }

    /// Sets the gradient if there is one.
    #[must_use]
    pub fn optional_gradient(mut self, gradient: Option<impl Into<Gradient<'a, T>>>) -> Self {
        self.gradient = gradient.map(Into::into);
        self
    }

    /// The name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The numbers, to read.
    ///
    /// # Errors
    ///
    /// [`Error::VariableData`] when they do not fill the shape that they were given with.
    pub fn view(&self) -> Result<ArrayViewD<'_, T>, Error> {
        self.value.view().map_err(|mismatch| data(&self.name, mismatch))
    }

    /// The numbers, to change.
    ///
    /// # Errors
    ///
    /// [`Error::VariableData`] when they do not fill the shape that they were given with.
    pub fn view_mut(&mut self) -> Result<ArrayViewMutD<'_, T>, Error> {
        self.value.view_mut().map_err(|mismatch| data(&self.name, mismatch))
    }

    /// The same variable without its gradient, for a shorter time.
    pub fn reborrow(&mut self) -> Variable<'_, T> {
        Variable { name: Cow::Borrowed(&self.name), value: self.value.reborrow(), gradient: None }
    }
}

fn data(name: &str, ShapeMismatch { elements, shape }: &ShapeMismatch) -> Error {
    Error::VariableData { variable: name.to_owned(), elements: *elements, shape: shape.clone() }
}
