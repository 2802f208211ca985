//! Numbers of tensors in the memory of the CPU.
//!
//! A tensor of the backend `flex` is a counted pointer to its bytes. If nothing else holds the bytes, they are changed
//! in place. Tensors of other backends are copied into a tensor of `flex` first, and back after the update.

use std::borrow::Cow;

use burn_core::backend::flex::{FlexTensor, Layout};
use burn_core::backend::{DType, Element, ExecutionError, Flex};
use burn_core::tensor::{Device, Tensor};
use half::{bf16, f16};
use ndarray::{ArrayViewD, IxDyn, ShapeBuilder};
use opt_core::model::AnySliceMut;
use opt_core::{View, ViewMut};

use crate::stepped::Copies;

/// Whether a tensor of this device is updated in place.
pub(crate) fn is_host(device: &Device) -> bool {
    *device == Device::flex()
}

/// The element type in the engine's words; `None` for types that are not trained.
pub(crate) fn trained(dtype: DType) -> Option<opt_core::state::DType> {
    match dtype {
        DType::F32 => Some(opt_core::state::DType::F32),
        DType::BF16 => Some(opt_core::state::DType::Bf16),
        DType::F16 => Some(opt_core::state::DType::F16),
        _ => None,
    }
}

/// A tensor of another device that could not be read, without autodiff.
#[derive(Debug)]
pub(crate) struct Unread<const D: usize> {
    pub(crate) tensor: Tensor<D>,
    pub(crate) reason: ExecutionError,
}

/// The numbers of a tensor, without autodiff.
#[derive(Debug, Clone)]
pub(crate) struct Host {
    numbers: FlexTensor,
    /// The device to which the numbers are copied back; `None` for tensors of `flex`.
    away: Option<Device>,
}

impl Host {
    /// The numbers of a tensor; copied, if the tensor is on another device.
    pub(crate) fn of<const D: usize>(tensor: Tensor<D>) -> Result<Self, Box<Unread<D>>> {
        let tensor = tensor.inner();
        let device = tensor.device();
        if is_host(&device) {
            let numbers = tensor.try_into_primitive::<Flex>().expect("a float tensor of this backend");
            return Ok(Self { numbers, away: None });
        }
        match tensor.clone().try_into_data() {
            Ok(data) => Ok(Self { numbers: FlexTensor::from_data(data), away: Some(device) }),
            Err(reason) => Err(Box::new(Unread { tensor, reason })),
        }
    }

    /// As [`of`](Self::of), for numbers that are only read.
    pub(crate) fn to_read<const D: usize>(tensor: Tensor<D>, copies: &mut Copies) -> Result<Self, Box<Unread<D>>> {
        let mut host = Self::of(tensor)?;
        if host.away.is_some() {
            copies.offloaded += 1;
            copies.bytes += host.bytes();
        }
        if !host.numbers.layout().is_contiguous() {
            // The engine reads such numbers where they are, but one by one; burn copies them in tiles.
            copies.gradients += 1;
            copies.bytes += host.bytes();
            host.numbers = host.numbers.to_contiguous();
        }
        Ok(host)
    }

    /// As [`of`](Self::of), for numbers that will be changed: row-major, and held by nothing else.
    pub(crate) fn to_change<const D: usize>(tensor: Tensor<D>, copies: &mut Copies) -> Result<Self, Box<Unread<D>>> {
        let mut host = Self::of(tensor)?;
        if host.away.is_some() {
            copies.offloaded += 2;
            copies.bytes += 2 * host.bytes();
        }
        if !host.is_filled() {
            copies.scattered += 1;
            copies.bytes += host.bytes();
            host.numbers = host.numbers.to_contiguous();
        } else if !host.numbers.is_unique() {
            // The copy is made where the numbers are changed.
            copies.shared += 1;
            copies.bytes += host.bytes();
        }
        Ok(host)
    }

    /// Row-major numbers that another tensor of the same shape held.
    pub(crate) fn like(&self, numbers: impl Iterator<Item = f32>) -> Self {
        let shape = self.numbers.layout().shape().clone();
        let dtype = self.numbers.dtype();
        let bytes = match dtype {
            DType::BF16 => burn_core::tensor::Bytes::from_elems(numbers.map(bf16::from_f32).collect()),
            DType::F16 => burn_core::tensor::Bytes::from_elems(numbers.map(f16::from_f32).collect()),
            _ => burn_core::tensor::Bytes::from_elems(numbers.collect::<Vec<f32>>()),
        };
        Self { numbers: FlexTensor::new(bytes, Layout::contiguous(shape), dtype), away: self.away.clone() }
    }

    /// The device, if it is not the CPU.
    pub(crate) fn away(&self) -> Option<&Device> {
        self.away.as_ref()
    }

    pub(crate) fn dtype(&self) -> DType {
        self.numbers.dtype()
    }

    /// Whether the numbers have 16 bits.
    pub(crate) fn is_half(&self) -> bool {
        matches!(self.dtype(), DType::BF16 | DType::F16)
    }

    pub(crate) fn shape(&self) -> &[usize] {
        self.numbers.layout().shape()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.numbers.layout().num_elements() * self.numbers.dtype().size()
    }

    /// Whether the numbers are row-major, and all that the memory holds.
    fn is_filled(&self) -> bool {
        let layout = self.numbers.layout();
        layout.is_contiguous() && layout.start_offset() == 0 && self.numbers.bytes().len() == self.bytes()
    }

    /// The numbers to read, as the engine takes them.
    ///
    /// # Errors
    ///
    /// The element type, if it is not trained.
    pub(crate) fn view(&self) -> Result<View<'_, f32>, DType> {
        match self.numbers.dtype() {
            DType::F32 => Ok(self.row_major::<f32>().unwrap_or_else(|| self.array::<f32>().into())),
            DType::BF16 => Ok(View::half::<bf16>(self.row_major().unwrap_or_else(|| self.array::<bf16>().into()))),
            DType::F16 => Ok(View::half::<f16>(self.row_major().unwrap_or_else(|| self.array::<f16>().into()))),
            other => Err(other),
        }
    }

    /// The numbers to read, if they are in row-major order.
    fn row_major<E: Element + Number>(&self) -> Option<View<'_, E>> {
        let (start, end) = self.numbers.layout().contiguous_offsets()?;
        let numbers = E::numbers(&self.numbers).get(start..end)?;
        Some((numbers, self.shape()).into())
    }

    fn array<E: Element + Number>(&self) -> ArrayViewD<'_, E> {
        let layout = self.numbers.layout();
        let strides: Vec<usize> = layout.strides().iter().map(|&stride| stride.unsigned_abs()).collect();
        let shape = IxDyn(layout.shape()).strides(IxDyn(&strides));
        let numbers = E::numbers(&self.numbers).get(layout.start_offset()..).unwrap_or_default();
        ArrayViewD::from_shape(shape, numbers).expect("a layout is inside its memory")
    }

    /// The numbers to change, as the engine takes them. They are copied first, if something else holds them.
    ///
    /// # Errors
    ///
    /// The element type, if it is not trained.
    pub(crate) fn view_mut(&mut self) -> Result<ViewMut<'_, f32>, DType> {
        let shape = self.numbers.layout().shape().clone();
        let dtype = self.dtype();
        let view = self.slice_mut().map(|slice| ViewMut::from_any(slice, &shape));
        view.and_then(Result::ok).ok_or(dtype)
    }

    /// The numbers to change, in row-major order; `None` if the element type is not trained. They are copied first, if
    /// something else holds them.
    pub(crate) fn slice_mut(&mut self) -> Option<AnySliceMut<'_>> {
        if !self.is_filled() {
            self.numbers = self.numbers.to_contiguous();
        }
        match self.numbers.dtype() {
            DType::F32 => Some(AnySliceMut::F32(self.numbers.storage_mut())),
            DType::BF16 => Some(AnySliceMut::Bf16(self.numbers.storage_mut())),
            DType::F16 => Some(AnySliceMut::F16(self.numbers.storage_mut())),
            _ => None,
        }
    }

    /// The numbers in 32 bits, in row-major order; `None` if the element type is not trained. Only other types and
    /// other orders are copied.
    pub(crate) fn widened(&self) -> Option<Cow<'_, [f32]>> {
        let is_filled = self.is_filled();
        match self.numbers.dtype() {
            DType::F32 if is_filled => Some(Cow::Borrowed(self.numbers.storage())),
            DType::F32 => Some(self.array::<f32>().iter().copied().collect()),
            DType::BF16 => Some(self.array::<bf16>().iter().map(|number| number.to_f32()).collect()),
            DType::F16 => Some(self.array::<f16>().iter().map(|number| number.to_f32()).collect()),
            _ => None,
        }
    }

    /// A tensor without autodiff, on the device from which the numbers came.
    pub(crate) fn into_tensor<const D: usize>(self) -> Tensor<D> {
        let Some(device) = self.away else { return Tensor::from_primitive::<Flex>(self.numbers) };
        let dtype = self.numbers.dtype();
        Tensor::from_data(self.numbers.into_data(), (&device, dtype))
    }
}

/// Element types that are trained.
trait Number: Sized {
    fn numbers(tensor: &FlexTensor) -> &[Self];
}

macro_rules! number {
    ($($number:ty),+) => {$(
        impl Number for $number {
            fn numbers(tensor: &FlexTensor) -> &[Self] {
                tensor.storage::<Self>()
            }
        }
    )+};
}

number!(f32, bf16, f16);
