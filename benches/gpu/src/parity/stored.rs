//! Variables and gradients in the type in which they are stored.

use anyhow::anyhow;
use half::{bf16, f16};
use opt_core::model::{AnySlice, AnySliceMut};
use opt_core::state::DType;
use opt_gpu::DeviceError;
use opt_gpu::device::{Device, Element};
use optimizers::{View, ViewMut};

/// Numbers.
#[derive(Debug, Clone)]
pub(super) enum Stored<T> {
    /// In the type in which the optimizer computes.
    Full(Vec<T>),
    Bf16(Vec<bf16>),
    F16(Vec<f16>),
}

impl<T: Element> Stored<T> {
    /// These numbers, rounded to this type.
    pub(super) fn new(dtype: DType, numbers: Vec<T>) -> Self {
        let single = numbers.iter().map(|number| number.to_f32());
        match dtype {
            DType::Bf16 => Self::Bf16(single.map(bf16::from_f32).collect()),
            DType::F16 => Self::F16(single.map(f16::from_f32).collect()),
            _ => Self::Full(numbers),
        }
    }

    pub(super) fn dtype(&self) -> DType {
        match self {
            Self::Full(_) => T::DTYPE,
            Self::Bf16(_) => DType::Bf16,
            Self::F16(_) => DType::F16,
        }
    }

    pub(super) fn upload<D: Device>(&self, device: &D) -> Result<D::Buffer, DeviceError> {
        match self {
            Self::Full(numbers) => device.upload(numbers),
            Self::Bf16(numbers) => device.upload(numbers),
            Self::F16(numbers) => device.upload(numbers),
        }
    }

    pub(super) fn download<D: Device>(device: &D, from: &D::Buffer, dtype: DType) -> Result<Self, DeviceError> {
        Ok(match dtype {
            DType::Bf16 => Self::Bf16(device.download(from, 0)?),
            DType::F16 => Self::F16(device.download(from, 0)?),
            _ => Self::Full(device.download(from, 0)?),
        })
    }

    pub(super) fn to_f64(&self) -> Vec<f64> {
        match self {
            Self::Full(numbers) => numbers.iter().map(|number| number.as_()).collect(),
            Self::Bf16(numbers) => numbers.iter().map(|number| number.to_f64()).collect(),
            Self::F16(numbers) => numbers.iter().map(|number| number.to_f64()).collect(),
        }
    }

    /// A view. Only optimizers in 32 bits have variables in 16 bits.
    pub(super) fn view<'a>(&'a self, shape: &'a [usize]) -> anyhow::Result<View<'a, T>> {
        let halves = match self {
            Self::Full(numbers) => return Ok((&numbers[..], shape).into()),
            Self::Bf16(numbers) => AnySlice::Bf16(numbers),
            Self::F16(numbers) => AnySlice::F16(numbers),
        };
        View::from_any(halves, shape).map_err(|dtype| anyhow!("{dtype:?} beside {:?}", T::DTYPE))
    }

    pub(super) fn view_mut<'a>(&'a mut self, shape: &'a [usize]) -> anyhow::Result<ViewMut<'a, T>> {
        let halves = match self {
            Self::Full(numbers) => return Ok((&mut numbers[..], shape).into()),
            Self::Bf16(numbers) => AnySliceMut::Bf16(numbers),
            Self::F16(numbers) => AnySliceMut::F16(numbers),
        };
        ViewMut::from_any(halves, shape).map_err(|dtype| anyhow!("{dtype:?} beside {:?}", T::DTYPE))
    }
}
