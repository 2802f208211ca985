//! Gradients: dense, or of some rows of a variable.

use ndarray::{ArrayBase, ArrayD, ArrayView, Data, Dimension};
use num_traits::ToPrimitive;

use crate::real::Scalar;
use crate::view::View;

/// The gradient of a variable.
///
/// Made from anything that converts into a [`View`], from [`IndexedSlices`], or by [`Gradient::sparse`].
#[derive(Debug, Clone)]
pub enum Gradient<'a, T> {
    /// One number for each element of the variable, in the variable's shape.
    Dense(View<'a, T>),
    /// Numbers for some rows (entries of axis 0) of the variable. Several gradients of the same row are clipped first,
    /// then summed.
    Sparse {
        /// The row of each gradient, from 0.
        indices: Indices<'a>,
        /// The gradients of these rows, of shape `[indices.len()] + shape[1..]`.
        values: View<'a, T>,
    },
}

impl<'a, T> Gradient<'a, T> {
    /// A sparse gradient: row indices, and the gradients of these rows, of shape `[indices.len()] + shape[1..]`.
    pub fn sparse(indices: impl Into<Indices<'a>>, values: impl Into<View<'a, T>>) -> Self {
        Self::Sparse { indices: indices.into(), values: values.into() }
    }
}

/// Row indices, in any of the usual integer types. Negative indices are refused; they do not count from the end.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub enum Indices<'a> {
    /// Rust's own index type.
    Usize(&'a [usize]),
    /// The index type of PyTorch and TensorFlow.
    I64(&'a [i64]),
    /// An index type of TensorFlow and JAX.
    I32(&'a [i32]),
    /// An index type of graphics processors.
    U32(&'a [u32]),
}

impl Indices<'_> {
    /// The number of indices.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::Usize(indices) => indices.len(),
            Self::I64(indices) => indices.len(),
            Self::I32(indices) => indices.len(),
            Self::U32(indices) => indices.len(),
        }
    }

    /// Whether there are no indices.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The indices as row numbers below `rows`, or the position and value of the first that is out of range.
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

/// An owned sparse gradient, for a field of a structure of gradients.
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
    /// A sparse gradient: row indices, and the gradients of these rows, of shape `[indices.len()] + shape[1..]`. A step
    /// checks them.
    pub fn new<D: Dimension>(indices: Vec<usize>, values: ndarray::Array<T, D>) -> Self {
        Self { indices, values: values.into_dyn() }
    }

    /// The row indices.
    #[must_use]
    pub fn indices(&self) -> &[usize] {
        &self.indices
    }

    /// The gradients of the rows.
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
            #[inline]
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
