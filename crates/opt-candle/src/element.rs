//! The element types of optimizers, and the numbers of candle that belong to them.

use candle_core::{CpuStorage, DType, Layout};
use ndarray::{ArrayView, ArrayViewD, IxDyn, ShapeBuilder};
use opt_core::View;
use opt_core::model::{AnySlice, AnySliceMut};

use self::sealed::Strided;

/// The element types of optimizers: `f32`, for variables in `f32`, `bf16` and `f16`, and `f64`.
///
/// The trait is sealed.
pub trait Element: opt_checkpoint::Element + Strided {
    /// The element types of the variables and gradients of such an optimizer.
    const TAKEN: &'static [DType];
}

impl Element for f32 {
    const TAKEN: &'static [DType] = &[DType::F32, DType::BF16, DType::F16];
}

impl Element for f64 {
    const TAKEN: &'static [DType] = &[DType::F64];
}

mod sealed {
    use super::{CpuStorage, Layout, View};

    /// Numbers with gaps or in another order: transposed and broadcast gradients.
    pub trait Strided: Sized {
        /// `None` if the numbers have another type, or do not lie in this storage.
        fn strided<'a>(storage: &'a CpuStorage, layout: &Layout) -> Option<View<'a, Self>>;
    }
}

impl Strided for f32 {
    fn strided<'a>(storage: &'a CpuStorage, layout: &Layout) -> Option<View<'a, Self>> {
        match storage {
            CpuStorage::F32(data) => Some(array(data, layout)?.into()),
            CpuStorage::BF16(data) => Some(View::half(array(data, layout)?)),
            CpuStorage::F16(data) => Some(View::half(array(data, layout)?)),
            _ => None,
        }
    }
}

impl Strided for f64 {
    fn strided<'a>(storage: &'a CpuStorage, layout: &Layout) -> Option<View<'a, Self>> {
        match storage {
            CpuStorage::F64(data) => Some(array(data, layout)?.into()),
            _ => None,
        }
    }
}

fn array<'a, N>(data: &'a [N], layout: &Layout) -> Option<ArrayViewD<'a, N>> {
    let shape = IxDyn(layout.dims()).strides(IxDyn(layout.stride()));
    ArrayView::from_shape(shape, data.get(layout.start_offset()..)?).ok()
}

/// Numbers to read: `None` if they have another type, or do not lie in this storage.
pub(crate) fn view<'a, T: Element>(storage: &'a CpuStorage, layout: &Layout) -> Option<View<'a, T>> {
    let Some((start, end)) = layout.contiguous_offsets() else { return T::strided(storage, layout) };
    let slice = match storage {
        CpuStorage::F32(data) => AnySlice::F32(data.get(start..end)?),
        CpuStorage::F64(data) => AnySlice::F64(data.get(start..end)?),
        CpuStorage::BF16(data) => AnySlice::Bf16(data.get(start..end)?),
        CpuStorage::F16(data) => AnySlice::F16(data.get(start..end)?),
        _ => return None,
    };
    View::from_any(slice, layout.dims()).ok()
}

/// All numbers of a variable: `None` if they are not floating-point numbers.
pub(crate) fn slice_mut(storage: &mut CpuStorage) -> Option<AnySliceMut<'_>> {
    match storage {
        CpuStorage::F32(data) => Some(AnySliceMut::F32(data)),
        CpuStorage::F64(data) => Some(AnySliceMut::F64(data)),
        CpuStorage::BF16(data) => Some(AnySliceMut::Bf16(data)),
        CpuStorage::F16(data) => Some(AnySliceMut::F16(data)),
        _ => None,
    }
}

/// The engine's name of an element type.
pub(crate) fn engine_dtype(dtype: DType) -> Option<opt_core::state::DType> {
    match dtype {
        DType::F32 => Some(opt_core::state::DType::F32),
        DType::F64 => Some(opt_core::state::DType::F64),
        DType::BF16 => Some(opt_core::state::DType::Bf16),
        DType::F16 => Some(opt_core::state::DType::F16),
        _ => None,
    }
}
