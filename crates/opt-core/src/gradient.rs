//! Gradients: dense, or some rows of a variable.

use ndarray::{ArrayBase, ArrayD, ArrayView, Data, Dimension};
use num_traits::ToPrimitive;

use crate::real::Scalar;
use crate::view::View;

/// A gradient of a variable.
///
/// Made from whatever makes a [`View`], from [`IndexedSlices`], or by [`Gradient::sparse`].
#[derive(Debug, Clone)]
pub enum Gradient<'a, T> {
    /// One number for each element of the variable.
    Dense(View<'a, T>),
    /// Numbers for some rows (entries of axis 0) of the variable. Rows of the same index are summed, after clipping.
    Sparse {
        /// Which rows.
        indices: Indices<'a>,
        /// Their gradients, of shape `[indices.len()] + shape[1..]`.
        values: View<'a, T>,
    },
}

impl<'a, T> Gradient<'a, T> {
    /// A sparse gradient from row indices and the gradients of these rows.
    pub fn sparse(indices: impl Into<Indices<'a>>, values: impl Into<View<'a, T>>) -> Self {
        Self::Sparse { indices: indices.into(), values: values.into() }
    }
}

/// Row indices, of whichever integer type the data comes with. Negative ones are refused, not wrapped.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub enum Indices<'a> {
    /// Rust's own.
    Usize(&'a [usize]),
    /// As PyTorch and TensorFlow have them.
    I64(&'a [i64]),
    /// As TensorFlow and JAX have them.
    I32(&'a [i32]),
    /// As graphics processors have them.
    U32(&'a [u32]),
}

impl Indices<'_> {
    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::Usize(indices) => indices.len(),
            Self::I64(indices) => indices.len(),
            Self::I32(indices) => indices.len(),
            Self::U32(indices) => indices.len(),
        }
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The indices as row numbers below `rows`, or the position and value of the first that is none.
    pub(crate) fn rows(&self, rows: usize) -> Result<Vec<usize>, (usize, i128)> {
        fn convert<I: Copy + ToPrimitive>(indices: &[I], rows: usize) -> Result<Vec<usize>, (usize, i128)> {
            let convert = |(position, index): (usize, &I)| match index.to_usize() {
                Some(row) if row < rows => Ok(row),
                _ => Err((position, index.to_i128().unwrap_or(i128::MAX))),
            };
            indices.iter().enumerate().map(convert).collect()
        }
        match self {
            Self::Usize(indices) => convert(indices, rows),
            Self::I64(indices) => convert(indices, rows),
            Self::I32(indices) => convert(indices, rows),
            Self::U32(indices) => convert(indices, rows),
        }
    }
}

macro_rules! indices {
    ($type:ty, $variant:ident) => {
        impl<'a> From<&'a [$type]> for Indices<'a> {
            fn from(indices: &'a [$type]) -> Self {
                Self::$variant(indices)
            }
        }
        impl<'a> From<&'a Vec<$type>> for Indices<'a> {
            fn from(indices: &'a Vec<$type>) -> Self {
                Self::$variant(indices)
            }
        }
        impl<'a, const N: usize> From<&'a [$type; N]> for Indices<'a> {
            fn from(indices: &'a [$type; N]) -> Self {
                Self::$variant(indices)
            }
        }
    };
}

indices!(usize, Usize);
indices!(i64, I64);
indices!(i32, I32);
indices!(u32, U32);

/// An owned sparse gradient, as a field of a gradient structure.
///
/// # Examples
///
/// ```
/// use ndarray::array;
/// use opt_core::IndexedSlices;
///
/// // Rows 4 and 1 of an embedding of width 2.
/// let gradient = IndexedSlices::new(vec![4, 1], array![[0.5, 0.0], [0.0, 0.5]]);
/// assert_eq!(gradient.indices().len(), 2);
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct IndexedSlices<T> {
    indices: Vec<usize>,
    values: ArrayD<T>,
}

impl<T> IndexedSlices<T> {
    /// Rows and their gradients, of shape `[indices.len()] + shape[1..]`; checked when a step uses them.
    pub fn new<D: Dimension>(indices: Vec<usize>, values: ndarray::Array<T, D>) -> Self {
        Self { indices, values: values.into_dyn() }
    }

    /// Which rows.
    #[must_use]
    pub fn indices(&self) -> &[usize] {
        &self.indices
    }

    /// Their gradients.
    #[must_use]
    pub fn values(&self) -> &ArrayD<T> {
        &self.values
    }
}

impl<'a, T> From<&'a IndexedSlices<T>> for Gradient<'a, T> {
    fn from(slices: &'a IndexedSlices<T>) -> Self {
        Self::sparse(&slices.indices, &slices.values)
    }
}

impl<'a, T> From<View<'a, T>> for Gradient<'a, T> {
    fn from(view: View<'a, T>) -> Self {
        Self::Dense(view)
    }
}

macro_rules! dense {
    ($([$($generics:tt)*] $type:ty),+ $(,)?) => {$(
        impl<'a, T, $($generics)*> From<$type> for Gradient<'a, T> {
            fn from(values: $type) -> Self {
                Self::Dense(values.into())
            }
        }
    )+};
}

impl<'a, T: Scalar> From<&'a T> for Gradient<'a, T> {
    fn from(number: &'a T) -> Self {
        Self::Dense(number.into())
    }
}

dense!(
    [D: Dimension] ArrayView<'a, T, D>,
    [S: Data<Elem = T>, D: Dimension] &'a ArrayBase<S, D>,
    [] &'a [T],
    [] &'a Vec<T>,
    [const N: usize] &'a [T; N],
    [Axes: AsRef<[usize]> + ?Sized] (&'a [T], &Axes),
    [Axes: AsRef<[usize]> + ?Sized] (&'a Vec<T>, &Axes),
    [Axes: AsRef<[usize]> + ?Sized, const N: usize] (&'a [T; N], &Axes),
);
