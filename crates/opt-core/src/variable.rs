//! Named variables, with or without a gradient.

use std::borrow::Cow;

use ndarray::{ArrayViewD, ArrayViewMutD};

use crate::error::Error;
use crate::gradient::{Gradient, Indices};
use crate::precision::{Any, AnyArray, AnyArrayMut, map};
use crate::real::{DType, Scalar};
use crate::view::{Half, ShapeMismatch, View, ViewMut};

/// A variable as a step gets it: a name, the numbers to update, and a gradient if there is one.
///
/// The optimizer recognises a variable by its name from step to step. Two variables may not have the same name, and the
/// variable of a name always has the same shape.
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
/// let foreign = Variable::new("raw", (&mut raw, &shape)).gradient((&raw_grad, &shape));
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

impl<'a, T: Scalar> Variable<'a, T> {
    /// A variable without a gradient: a step does not change it. For numbers in 16 bits see [`half`](Self::half).
    #[inline]
    pub fn new(name: impl Into<Cow<'a, str>>, value: impl Into<ViewMut<'a, T>>) -> Self {
        Self { name: name.into(), value: value.into(), gradient: None }
    }

    /// Sets the gradient; its shape must be the shape of the variable.
    #[inline]
    #[must_use]
    pub fn gradient(self, gradient: impl Into<Gradient<'a, T>>) -> Self {
        Self { gradient: Some(gradient.into()), ..self }
    }

    /// Sets the gradient of some rows: `indices` are the rows, `values` has shape `[indices.len()] + shape[1..]`.
    #[must_use]
    pub fn sparse_gradient(self, indices: impl Into<Indices<'a>>, values: impl Into<View<'a, T>>) -> Self {
        self.gradient(Gradient::sparse(indices, values))
    }

    /// Sets the gradient, if there is one.
    ///
    /// # Examples
    ///
    /// ```
    /// use ndarray::{Array1, array};
    /// use opt_core::Variable;
    ///
    /// let (mut w, mut frozen) = (array![1.0, 2.0], array![3.0]);
    /// let grad: Option<Array1<f64>> = Some(array![0.5, 0.5]);
    /// let variables = [
    ///     Variable::new("w", &mut w).optional_gradient(grad.as_ref().map(Into::into)),
    ///     Variable::new("frozen", &mut frozen).optional_gradient(None),
    /// ];
    /// ```
    #[must_use]
    pub fn optional_gradient(mut self, gradient: Option<Gradient<'a, T>>) -> Self {
        self.gradient = gradient;
        self
    }

    /// The name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The same variable without its gradient, for a shorter time.
    pub fn reborrow(&mut self) -> Variable<'_, T> {
        Variable { name: Cow::Borrowed(&self.name), value: self.value.reborrow(), gradient: None }
    }
}

impl<T: Scalar> Variable<'_, T> {
    /// The numbers as an array to read, in the variable's shape.
    ///
    /// # Errors
    ///
    /// [`Error::VariableData`] when the numbers do not fill the shape that was given with them, [`Error::VariableType`]
    /// when they are in 16 bits.
    pub fn view(&self) -> Result<ArrayViewD<'_, T>, Error> {
        match &self.value.0 {
            Any::Full(layout) => layout.view().map_err(|mismatch| data(&self.name, mismatch)),
            half => Err(self.other_type(half.dtype(T::DTYPE))),
        }
    }

    /// The numbers as an array to change, in the variable's shape.
    ///
    /// # Errors
    ///
    /// As [`view`](Self::view).
    pub fn view_mut(&mut self) -> Result<ArrayViewMutD<'_, T>, Error> {
        let found = self.value.0.dtype(T::DTYPE);
        if found != T::DTYPE {
            return Err(self.other_type(found));
        }
        match &mut self.value.0 {
            Any::Full(layout) => layout.view_mut().map_err(|mismatch| data(&self.name, mismatch)),
            Any::Bf16(_) | Any::F16(_) => unreachable!("the type was checked"),
        }
    }

    /// The numbers as an array to read, in whichever element type they have.
    ///
    /// # Errors
    ///
    /// [`Error::VariableData`] when the numbers do not fill the shape that was given with them.
    pub fn array(&self) -> Result<AnyArray<'_, T>, Error> {
        let refused = |mismatch| data(&self.name, mismatch);
        Ok(map!(&self.value.0, layout => layout.view().map_err(refused)?))
    }

    /// The numbers as an array to change, in whichever element type they have.
    ///
    /// # Errors
    ///
    /// As [`array`](Self::array).
    pub fn array_mut(&mut self) -> Result<AnyArrayMut<'_, T>, Error> {
        let Self { name, value, .. } = self;
        Ok(map!(&mut value.0, layout => layout.view_mut().map_err(|mismatch| data(name, mismatch))?))
    }

    /// The element type of the numbers.
    #[must_use]
    pub fn dtype(&self) -> DType {
        self.value.0.dtype(T::DTYPE)
    }

    fn other_type(&self, found: DType) -> Error {
        Error::VariableType { variable: self.name.to_string(), expected: T::DTYPE, found }
    }
}

fn data(name: &str, ShapeMismatch { elements, shape }: &ShapeMismatch) -> Error {
    Error::VariableData { variable: name.to_owned(), elements: *elements, shape: shape.clone() }
}

impl<'a> Variable<'a, f32> {
    /// A variable in 16 bits, [`half::bf16`] or [`half::f16`], of an optimizer in 32 bits.
    ///
    /// The optimizer keeps a copy in 32 bits, the master, in a slot of its own, `master`. (This and what follows is the
    /// default; [`Master`](crate::Master) says how to keep less, and what then is different.) The rule, weight decay and
    /// averages work on the master. After each block of a step the variable gets the master rounded to nearest, ties to
    /// even. In this way many small steps add up, each of which would be rounded away on its own. A number that is too
    /// large for the type becomes infinite in the variable (above 65,519 in `f16`), while its master stays finite; NaN
    /// stays NaN.
    ///
    /// The master starts as the exact value of the variable. If an element at the next step is not its rounded master,
    /// the caller has changed it, and the master takes the new value. So a model can be loaded into the variables at
    /// any time.
    ///
    /// Row-major numbers are updated in place, others through a buffer. Gradients may be in 32 bits or in 16
    /// ([`half_gradient`](Self::half_gradient)).
    ///
    /// # Examples
    ///
    /// ```
    /// use half::bf16;
    /// use opt_core::{Optimizer, Variable};
    /// use opt_sgd::Sgd;
    ///
    /// let mut w = vec![bf16::ONE; 2];
    /// let mut opt = Optimizer::new(Sgd::new(0.001))?;
    /// for _ in 0..6 {
    ///     opt.apply_gradients([Variable::half("w", &mut w).gradient(&[1.0, -1.0])])?;
    /// }
    /// // A single step would be rounded away: the next numbers to 1 are 255/256 and 129/128.
    /// assert_eq!(w, [0.9921875, 1.0078125].map(bf16::from_f32));
    /// let master = opt.slot("w", "master")?.to_f64();
    /// assert!((master[0] - 0.994).abs() < 1e-6 && (master[1] - 1.006).abs() < 1e-6);
    /// # Ok::<(), opt_core::Error>(())
    /// ```
    pub fn half<H: Half>(name: impl Into<Cow<'a, str>>, value: impl Into<ViewMut<'a, H>>) -> Self {
        Self::new(name, ViewMut::half(value))
    }

    /// Sets a gradient in 16 bits, for a variable in 16 or 32; its shape must be the shape of the variable. The
    /// gradient is widened block by block: clips, norms and checks work on the numbers in 32 bits.
    #[must_use]
    pub fn half_gradient<H: Half>(self, gradient: impl Into<View<'a, H>>) -> Self {
        self.gradient(View::half(gradient))
    }
}
