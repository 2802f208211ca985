//! Storage types, and slices whose type is known only at run time.

use half::{bf16, f16};

/// The name of a storage type, as in safetensors and NumPy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum DType {
    /// 32-bit floating point.
    F32,
    /// 64-bit floating point.
    F64,
    /// bfloat16; for variables only: see [`Variable::half`](crate::Variable::half).
    Bf16,
    /// 16-bit floating point; for variables only: see [`Variable::half`](crate::Variable::half).
    F16,
    /// 8-bit whole number; for corrections on a device only: see [`Master::Bits24`](crate::Master::Bits24).
    I8,
}

impl DType {
    /// The bytes of a number.
    #[must_use]
    pub fn bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F64 => 8,
            Self::Bf16 | Self::F16 => 2,
            Self::I8 => 1,
        }
    }
}

/// A slice of one of the element types, chosen at run time: the memory of a framework with typed tensors.
///
/// # Examples
///
/// ```
/// use opt_core::model::{AnySlice, AnySliceMut};
/// use opt_core::state::DType;
/// use opt_core::{Optimizer, Variable, View, ViewMut};
/// use opt_sgd::Sgd;
///
/// let mut w = vec![half::bf16::ONE; 6];
/// let g = vec![0.5_f32; 6];
/// let value = ViewMut::<f32>::from_any(AnySliceMut::Bf16(&mut w), &[2, 3]).unwrap();
/// let gradient = View::from_any(AnySlice::F32(&g), &[2, 3]).unwrap();
/// let mut opt = Optimizer::new(Sgd::new(0.5))?;
/// opt.apply_gradients([Variable::new("w", value).gradient(gradient)])?;
/// assert_eq!(w[5].to_f32(), 0.75);
///
/// // Variables in 64 bits belong to an optimizer in 64 bits.
/// assert_eq!(View::<f32>::from_any(AnySlice::F64(&[0.5]), &[1]).unwrap_err(), DType::F64);
/// # Ok::<(), opt_core::Error>(())
/// ```
#[derive(Debug, Clone, Copy)]
pub enum AnySlice<'a> {
    /// 32-bit floating point.
    F32(&'a [f32]),
    /// 64-bit floating point.
    F64(&'a [f64]),
    /// bfloat16.
    Bf16(&'a [bf16]),
    /// 16-bit floating point.
    F16(&'a [f16]),
}

/// As [`AnySlice`], to change.
#[derive(Debug)]
pub enum AnySliceMut<'a> {
    /// 32-bit floating point.
    F32(&'a mut [f32]),
    /// 64-bit floating point.
    F64(&'a mut [f64]),
    /// bfloat16.
    Bf16(&'a mut [bf16]),
    /// 16-bit floating point.
    F16(&'a mut [f16]),
}

impl AnySlice<'_> {
    /// The element type.
    #[must_use]
    pub fn dtype(&self) -> DType {
        match self {
            Self::F32(_) => DType::F32,
            Self::F64(_) => DType::F64,
            Self::Bf16(_) => DType::Bf16,
            Self::F16(_) => DType::F16,
        }
    }
}

impl AnySliceMut<'_> {
    /// The element type.
    #[must_use]
    pub fn dtype(&self) -> DType {
        match self {
            Self::F32(_) => DType::F32,
            Self::F64(_) => DType::F64,
            Self::Bf16(_) => DType::Bf16,
            Self::F16(_) => DType::F16,
        }
    }
}
