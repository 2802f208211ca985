//! Views of the caller's numbers: conversions from arrays, slices and single numbers.

mod any;
mod stored;

use std::slice;

use half::{bf16, f16};
use ndarray::{ArrayBase, ArrayView, ArrayViewD, ArrayViewMut, ArrayViewMutD, Data, DataMut, Dimension};
use smallvec::{SmallVec, smallvec};

pub(crate) use stored::sealed;
pub use stored::{Half, Stored};

use crate::precision::{Any, AnyArray};
use crate::real::Scalar;

/// Numbers that do not fill their shape.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ShapeMismatch {
    pub(crate) elements: usize,
    pub(crate) shape: Vec<usize>,
}

/// Numbers of any shape and layout, to read. Made from references to ndarray arrays and views, slices, vectors, single
/// numbers, and `(slice, shape)` pairs in row-major order.
#[derive(Debug, Clone)]
pub struct View<'a, T>(pub(crate) AnyMemory<'a, T>);

impl<T> View<'_, T> {
    /// The numbers as an array. `None` if they do not fill the shape, or are in 16 bits.
    #[must_use]
    pub fn array(&self) -> Option<ArrayViewD<'_, T>> {
        match &self.0 {
            Any::Full(Memory::Filled { data, shape }) => ArrayViewD::from_shape(shape.as_slice(), data).ok(),
            Any::Full(Memory::Strided(view)) => Some(view.view()),
            _ => None,
        }
    }
}

impl<'a, T> View<'a, T> {
    /// The numbers as an array, in whichever element type they have.
    pub(crate) fn into_any_array(self) -> Result<AnyArray<'a, T>, ShapeMismatch> {
        Ok(match self.0 {
            Any::Full(layout) => Any::Full(layout.into_array()?),
            Any::Bf16(layout) => Any::Bf16(layout.into_array()?),
            Any::F16(layout) => Any::F16(layout.into_array()?),
        })
    }
}

impl<'a, T> Memory<&'a [T], ArrayViewD<'a, T>> {
    fn into_array(self) -> Result<ArrayViewD<'a, T>, ShapeMismatch> {
        match self {
            Self::Filled { data, shape } => Ok(ArrayView::from_shape(&shape[..], data).expect("the data fills it")),
            Self::Strided(view) => Ok(*view),
            Self::Described(_) => unreachable!("{NO_VIEW}"),
            Self::Mismatch(mismatch) => Err(*mismatch),
        }
    }
}

/// Numbers of any shape and layout, to change. Made from mutable references to ndarray arrays and views, slices,
/// vectors, single numbers, and `(slice, shape)` pairs in row-major order.
#[derive(Debug)]
pub struct ViewMut<'a, T>(pub(crate) AnyMemoryMut<'a, T>);

/// Numbers to read, in `T` or in 16 bits. The 16-bit variants are boxed: they are rarer, and lists of variables are
/// long.
pub(crate) type AnyMemory<'a, T> = Any<Read<'a, T>, Box<Read<'a, bf16>>, Box<Read<'a, f16>>>;

/// Numbers to change, in `T` or in 16 bits.
pub(crate) type AnyMemoryMut<'a, T> = Any<Change<'a, T>, Box<Change<'a, bf16>>, Box<Change<'a, f16>>>;

/// Numbers to read, in `T`.
pub(crate) type Read<'a, T> = Memory<&'a [T], ArrayViewD<'a, T>>;

/// Numbers to change, in `T`.
pub(crate) type Change<'a, T> = Memory<&'a mut [T], ArrayViewMutD<'a, T>>;

/// The length of each axis.
pub(crate) type Shape = SmallVec<[usize; 4]>;

/// How numbers lie in memory. Rare variants are boxed: lists of variables are long.
#[derive(Debug, Clone)]
pub(crate) enum Memory<S, V> {
    /// Row-major, without gaps.
    Filled { data: S, shape: Shape },
    /// With gaps, or in another order of axes.
    Strided(Box<V>),
    /// Only known by their shape.
    Described(Box<Described>),
    /// The data does not fill the shape.
    Mismatch(Box<ShapeMismatch>),
}

/// Descriptions are no views: nobody outside this crate can ask for their numbers.
const NO_VIEW: &str = "a description has no numbers";

/// The shape of numbers that are lent later.
#[derive(Debug, Clone)]
pub(crate) struct Described {
    pub(crate) shape: Shape,
    /// The axes in memory order, slowest first; `None` is row-major.
    pub(crate) axes: Option<Vec<usize>>,
    /// The position in the list of descriptions.
    pub(crate) position: usize,
}

impl<T> Memory<&mut [T], ArrayViewMutD<'_, T>> {
    /// The numbers as an array to read.
    pub(crate) fn view(&self) -> Result<ArrayViewD<'_, T>, &ShapeMismatch> {
        match self {
            Self::Filled { data, shape } => Ok(ArrayView::from_shape(&shape[..], data).expect("the data fills it")),
            Self::Strided(view) => Ok(view.view()),
            Self::Described(_) => unreachable!("{NO_VIEW}"),
            Self::Mismatch(mismatch) => Err(mismatch),
        }
    }

    /// The numbers as an array to change.
    pub(crate) fn view_mut(&mut self) -> Result<ArrayViewMutD<'_, T>, &ShapeMismatch> {
        match self {
            Self::Filled { data, shape } => Ok(ArrayViewMut::from_shape(&shape[..], data).expect("the data fills it")),
            Self::Strided(view) => Ok(view.view_mut()),
            Self::Described(_) => unreachable!("{NO_VIEW}"),
            Self::Mismatch(mismatch) => Err(mismatch),
        }
    }

    /// The same numbers, to read only.
    fn as_read(&self) -> Read<'_, T> {
        match self {
            Self::Filled { data, shape } => Memory::Filled { data, shape: shape.clone() },
            Self::Strided(view) => Memory::Strided(Box::new(view.view())),
            Self::Described(described) => Memory::Described(described.clone()),
            Self::Mismatch(mismatch) => Memory::Mismatch(mismatch.clone()),
        }
    }

    /// The same numbers, borrowed for a shorter time.
    fn reborrow(&mut self) -> Change<'_, T> {
        match self {
            Self::Filled { data, shape } => Memory::Filled { data, shape: shape.clone() },
            Self::Strided(view) => Memory::Strided(Box::new(view.view_mut())),
            Self::Described(described) => Memory::Described(described.clone()),
            Self::Mismatch(mismatch) => Memory::Mismatch(mismatch.clone()),
        }
    }
}

impl<T> ViewMut<'_, T> {
    /// The same numbers to read only, borrowed for a shorter time.
    pub(crate) fn as_view(&self) -> View<'_, T> {
        View(match &self.0 {
            Any::Full(layout) => Any::Full(layout.as_read()),
            Any::Bf16(layout) => Any::Bf16(Box::new(layout.as_read())),
            Any::F16(layout) => Any::F16(Box::new(layout.as_read())),
        })
    }

    /// The same numbers, borrowed for a shorter time.
    pub(crate) fn reborrow(&mut self) -> ViewMut<'_, T> {
        ViewMut(match &mut self.0 {
            Any::Full(layout) => Any::Full(layout.reborrow()),
            Any::Bf16(layout) => Any::Bf16(Box::new(layout.reborrow())),
            Any::F16(layout) => Any::F16(Box::new(layout.reborrow())),
        })
    }
}

impl<'a, T, D: Dimension> From<ArrayView<'a, T, D>> for View<'a, T> {
    fn from(view: ArrayView<'a, T, D>) -> Self {
        Self(Any::Full(match view.to_slice() {
            Some(data) => Memory::Filled { data, shape: short(view.shape()) },
            None => Memory::Strided(Box::new(view.into_dyn())),
        }))
    }
}

impl<'a, T, D: Dimension> From<ArrayViewMut<'a, T, D>> for ViewMut<'a, T> {
    fn from(view: ArrayViewMut<'a, T, D>) -> Self {
        if !view.is_standard_layout() {
            return Self(Any::Full(Memory::Strided(Box::new(view.into_dyn()))));
        }
        let shape = short(view.shape());
        let data = view.into_slice().expect("standard layout is a slice");
        Self(Any::Full(Memory::Filled { data, shape }))
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

/// Slices, vectors and arrays have one axis, or the shape that they are paired with.
macro_rules! slices {
    ($([$($generics:tt)*] $type:ty),+ $(,)?) => {$(
        impl<'a, T, $($generics)*> From<&'a $type> for View<'a, T> {
            #[inline]
            fn from(data: &'a $type) -> Self {
                Self(Any::Full(Memory::Filled { shape: smallvec![data.len()], data }))
            }
        }

        impl<'a, T, $($generics)*> From<&'a mut $type> for ViewMut<'a, T> {
            #[inline]
            fn from(data: &'a mut $type) -> Self {
                Self(Any::Full(Memory::Filled { shape: smallvec![data.len()], data }))
            }
        }

        impl<'a, T, Axes: AsRef<[usize]> + ?Sized, $($generics)*> From<(&'a $type, &Axes)> for View<'a, T> {
            #[inline]
            fn from((data, shape): (&'a $type, &Axes)) -> Self {
                Self(Any::Full(filled(data.len(), shape.as_ref(), data)))
            }
        }

        impl<'a, T, Axes: AsRef<[usize]> + ?Sized, $($generics)*> From<(&'a mut $type, &Axes)> for ViewMut<'a, T> {
            #[inline]
            fn from((data, shape): (&'a mut $type, &Axes)) -> Self {
                Self(Any::Full(filled(data.len(), shape.as_ref(), data)))
            }
        }
    )+};
}

slices!([] [T], [] Vec<T>, [const N: usize] [T; N]);

/// A single number is a view without axes.
impl<'a, T: Scalar> From<&'a T> for View<'a, T> {
    fn from(number: &'a T) -> Self {
        (slice::from_ref(number), &[0; 0]).into()
    }
}

/// A single number is a view without axes.
impl<'a, T: Scalar> From<&'a mut T> for ViewMut<'a, T> {
    fn from(number: &'a mut T) -> Self {
        (slice::from_mut(number), &[0; 0]).into()
    }
}

/// Row-major data, or a mismatch if the number of elements is not that of the shape.
#[inline]
fn filled<S, V>(elements: usize, shape: &[usize], data: S) -> Memory<S, V> {
    let wanted = shape.iter().try_fold(1_usize, |product, &axis| product.checked_mul(axis));
    if wanted == Some(elements) {
        Memory::Filled { data, shape: short(shape) }
    } else {
        Memory::Mismatch(Box::new(ShapeMismatch { elements, shape: shape.to_vec() }))
    }
}

/// A copy of a shape. Shapes are short: a call to copy memory would take longer.
#[inline]
fn short(shape: &[usize]) -> Shape {
    if shape.len() > 4 {
        return Shape::from_slice(shape);
    }
    let axes = [0, 1, 2, 3].map(|axis| shape.get(axis).copied().unwrap_or(0));
    Shape::from_buf_and_len(axes, shape.len())
}
