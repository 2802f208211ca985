//! Views of slices whose element type is known only at run time.

use super::{View, ViewMut, filled};
use crate::dtype::{AnySlice, AnySliceMut};
use crate::precision::Any;
use crate::real::{DType, Scalar};

impl<'a, T: Scalar> View<'a, T> {
    /// Row-major numbers of a type that is known at run time.
    ///
    /// # Errors
    ///
    /// The element type, if numbers of this type are no gradients of an optimizer in `T`.
    pub fn from_any(slice: AnySlice<'a>, shape: &[usize]) -> Result<Self, DType> {
        let dtype = slice.dtype();
        Ok(Self(match slice {
            AnySlice::Bf16(data) if T::DTYPE == DType::F32 => Any::Bf16(Box::new(filled(data.len(), shape, data))),
            AnySlice::F16(data) if T::DTYPE == DType::F32 => Any::F16(Box::new(filled(data.len(), shape, data))),
            full => {
                let data = T::of_any(full).ok_or(dtype)?;
                Any::Full(filled(data.len(), shape, data))
            }
        }))
    }
}

impl<'a, T: Scalar> ViewMut<'a, T> {
    /// Row-major numbers of a type that is known at run time. Numbers in 16 bits are variables as
    /// [`Variable::half`](crate::Variable::half) makes them.
    ///
    /// # Errors
    ///
    /// The element type, if numbers of this type are no variables of an optimizer in `T`.
    pub fn from_any(slice: AnySliceMut<'a>, shape: &[usize]) -> Result<Self, DType> {
        let dtype = slice.dtype();
        Ok(Self(match slice {
            AnySliceMut::Bf16(data) if T::DTYPE == DType::F32 => Any::Bf16(Box::new(filled(data.len(), shape, data))),
            AnySliceMut::F16(data) if T::DTYPE == DType::F32 => Any::F16(Box::new(filled(data.len(), shape, data))),
            full => {
                let data = T::of_any_mut(full).ok_or(dtype)?;
                Any::Full(filled(data.len(), shape, data))
            }
        }))
    }
}
