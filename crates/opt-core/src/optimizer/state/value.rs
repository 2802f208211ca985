//! The types in which the state is read and written.

use std::fmt;

use half::bf16;
use ndarray::{ArrayD, ArrayViewD, CowArray, IxDyn};

use crate::real::Scalar;

/// One entry of the state: its name, and its value ([`StateValue`]) or only its kind ([`StateKind`]).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateEntry<V> {
    /// `iterations`, the name of a shared slot, or `variable/slot`.
    pub name: String,
    /// The value, or the kind.
    pub value: V,
    /// The index of the variable in the list of variables; `None` for the step counter and for shared slots.
    pub variable: Option<usize>,
}

/// The value of one entry of the state, or of one slot; arrays are borrowed or owned.
///
/// # Examples
///
/// ```
/// use ndarray::arr1;
/// use opt_core::state::StateValue;
/// use opt_core::{Optimizer, Variable};
/// use opt_sgd::Sgd;
///
/// let mut w = [1.0, 2.0];
/// let mut opt = Optimizer::new(Sgd::new(0.5).momentum(0.5))?;
/// opt.apply_gradients([Variable::new("w", &mut w).gradient(&[1.0, 0.0])])?;
/// assert_eq!(opt.slot("w", "momentum")?, StateValue::from(arr1(&[-0.5, 0.0]).into_dyn()));
/// # Ok::<(), opt_core::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub enum StateValue<'a, T> {
    /// The step counter.
    Iterations(u64),
    /// One number in 64 bits: a shared slot, or a scalar slot of a variable.
    Scalar(f64),
    /// An array slot, in the variable's shape.
    Array(CowArray<'a, T, IxDyn>),
    /// An array slot in bfloat16, in the variable's shape: see [`MomentStorage`](crate::MomentStorage).
    Bf16(CowArray<'a, bf16, IxDyn>),
}

/// The kind of an entry of the state: its type and shape, without its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StateKind {
    /// The step counter.
    Iterations,
    /// One number in 64 bits.
    Scalar,
    /// An array of this shape, in the element type of the optimizer.
    Array(Vec<usize>),
    /// An array of this shape in bfloat16. It may also be assigned from numbers in the element type of the optimizer.
    Bf16(Vec<usize>),
}

impl fmt::Display for StateKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Iterations => write!(f, "a step counter"),
            Self::Scalar => write!(f, "one number"),
            Self::Array(shape) | Self::Bf16(shape) => write!(f, "an array of shape {shape:?}"),
        }
    }
}

impl<T> StateValue<'_, T> {
    /// The kind of the value.
    #[must_use]
    pub fn kind(&self) -> StateKind {
        match self {
            Self::Iterations(_) => StateKind::Iterations,
            Self::Scalar(_) => StateKind::Scalar,
            Self::Array(array) => StateKind::Array(array.shape().to_vec()),
            Self::Bf16(array) => StateKind::Bf16(array.shape().to_vec()),
        }
    }
}

impl<T: Scalar> StateValue<'_, T> {
    /// All numbers in 64 bits, in row-major order. Exact, except for a step counter above 2^53.
    #[must_use]
    pub fn to_f64(&self) -> Vec<f64> {
        match self {
            Self::Iterations(count) => vec![*count as f64],
            Self::Scalar(number) => vec![*number],
            Self::Array(array) => array.iter().map(|number| number.as_()).collect(),
            Self::Bf16(array) => array.iter().map(|number| number.to_f64()).collect(),
        }
    }

    /// An owned copy. Numbers in bfloat16 are widened, which is exact.
    pub(crate) fn to_widened(&self) -> StateValue<'static, T> {
        match self {
            Self::Iterations(count) => StateValue::Iterations(*count),
            Self::Scalar(number) => StateValue::Scalar(*number),
            Self::Array(array) => array.to_owned().into(),
            Self::Bf16(array) => array.mapv(|number| T::from_f32(number.to_f32())).into(),
        }
    }
}

impl<T> From<ArrayD<T>> for StateValue<'_, T> {
    fn from(array: ArrayD<T>) -> Self {
        Self::Array(array.into())
    }
}

impl<'a, T> From<ArrayViewD<'a, T>> for StateValue<'a, T> {
    fn from(view: ArrayViewD<'a, T>) -> Self {
        Self::Array(view.into())
    }
}

impl<'a, T> From<StateEntry<StateValue<'a, T>>> for StateValue<'a, T> {
    fn from(entry: StateEntry<StateValue<'a, T>>) -> Self {
        entry.value
    }
}
