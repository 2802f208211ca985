//! Variables without their numbers.

use std::borrow::Cow;

use half::{bf16, f16};

use crate::error::Error;
use crate::gradient::Gradient;
use crate::precision::Any;
use crate::real::{DType, Scalar};
use crate::variable::Variable;
use crate::view::{Change, Described, Memory, ViewMut};

/// A variable as [`Optimizer::begin`](crate::Optimizer::begin) gets it: everything but its numbers, which
/// [`PendingStep::update`](crate::PendingStep::update) borrows later. The gradient is borrowed for the whole step.
///
/// # Examples
///
/// ```
/// use opt_core::Description;
/// use opt_core::state::DType;
///
/// let gradient = vec![0.5_f32; 12];
/// let shape = [3, 4];
/// let kernel = Description::new("dense/kernel", &shape).gradient((&gradient, &shape));
/// let half = Description::<f32>::new("embedding", &[100, 8]).dtype(DType::Bf16);
/// assert_eq!((kernel.name(), half.shape()), ("dense/kernel", &[100, 8][..]));
/// ```
#[derive(Debug)]
pub struct Description<'a, T> {
    name: Cow<'a, str>,
    described: Described,
    dtype: DType,
    gradient: Option<Gradient<'a, T>>,
}

impl<'a, T: Scalar> Description<'a, T> {
    /// A variable in the element type of the optimizer, row-major, without a gradient.
    pub fn new(name: impl Into<Cow<'a, str>>, shape: impl AsRef<[usize]>) -> Self {
        let described = Described { shape: shape.as_ref().into(), axes: None, position: 0 };
        Self { name: name.into(), described, dtype: T::DTYPE, gradient: None }
    }

    /// Sets the element type: [`DType::Bf16`] and [`DType::F16`] are variables as
    /// [`Variable::half`](crate::Variable::half) makes them.
    #[must_use]
    pub fn dtype(mut self, dtype: DType) -> Self {
        self.dtype = dtype;
        self
    }

    /// Sets the order of axes in memory, slowest first: `[1, 0]` for a column-major matrix. A new variable's slots are
    /// stored in this order. By default row-major; numbers in any order may be lent in both cases.
    ///
    /// # Panics
    ///
    /// If `axes` does not have each axis once.
    #[must_use]
    pub fn memory_order(mut self, axes: &[usize]) -> Self {
        let is_order = (0..self.described.shape.len()).all(|axis| axes.contains(&axis));
        assert!(is_order && axes.len() == self.described.shape.len(), "{axes:?} is no order of the axes");
        self.described.axes = (!axes.is_sorted()).then(|| axes.to_vec());
        self
    }

    /// Sets the gradient; its shape must be the shape of the variable.
    #[must_use]
    pub fn gradient(mut self, gradient: impl Into<Gradient<'a, T>>) -> Self {
        self.gradient = Some(gradient.into());
        self
    }

    /// Sets the gradient, if there is one.
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

    /// The length of each axis.
    #[must_use]
    pub fn shape(&self) -> &[usize] {
        &self.described.shape
    }

    /// The element type.
    pub(crate) fn element_type(&self) -> DType {
        self.dtype
    }

    /// The variable, as far as it is known; `position` is its position in the list.
    pub(crate) fn into_variable(self, position: usize) -> Result<Variable<'a, T>, Error> {
        let Self { name, described, dtype, gradient } = self;
        let described = Described { position, ..described };
        let value = match dtype {
            _ if dtype == T::DTYPE => Any::Full(Memory::Described(Box::new(described))),
            DType::Bf16 if T::DTYPE == DType::F32 => Any::Bf16(Box::<Change<'a, bf16>>::new(described.row_major())),
            DType::F16 if T::DTYPE == DType::F32 => Any::F16(Box::<Change<'a, f16>>::new(described.row_major())),
            found => return Err(Error::VariableType { variable: name.into_owned(), expected: T::DTYPE, found }),
        };
        Ok(Variable { name, value: ViewMut(value), gradient })
    }
}

impl Described {
    /// Slots of variables in 16 bits are stored row by row.
    fn row_major<S, V>(self) -> Memory<S, V> {
        Memory::Described(Box::new(Self { axes: None, ..self }))
    }
}
