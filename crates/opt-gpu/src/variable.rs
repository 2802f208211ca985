//! Variables as a step on a device gets them.

use std::borrow::Cow;

use opt_core::device::DeviceGradient;
use opt_core::state::DType;
use opt_core::{Description, Indices};

use crate::device::{Device, DeviceError, Element};
use crate::error::Error;

/// A variable on a device: a name, the buffer to update, and a gradient if there is one.
///
/// As [`opt_core::Variable`], the optimizer recognises it by its name from step to step. Of an optimizer in 32 bits,
/// buffers of variables and of gradients may also be in 16 bits, of either type: see
/// [`Variable::half`](opt_core::Variable::half).
#[derive(Debug)]
pub struct GpuVariable<'a, D: Device> {
    pub(crate) name: Cow<'a, str>,
    pub(crate) value: &'a D::Buffer,
    shape: Option<Cow<'a, [usize]>>,
    pub(crate) gradient: Option<GpuGradient<'a, D>>,
}

/// A gradient on a device.
#[derive(Debug)]
pub(crate) struct GpuGradient<'a, D: Device> {
    pub(crate) numbers: &'a D::Buffer,
    /// The rows of a sparse gradient.
    rows: Option<Indices<'a>>,
}

impl<'a, D: Device> GpuVariable<'a, D> {
    /// A variable of one axis, without a gradient: a step does not change it.
    pub fn new(name: impl Into<Cow<'a, str>>, value: &'a D::Buffer) -> Self {
        Self { name: name.into(), value, shape: None, gradient: None }
    }

    /// Sets the length of each axis; the numbers are in row-major order. Groups choose variables by their shapes,
    /// checkpoints have them, and the rows of sparse gradients are entries of axis 0. By default one axis.
    #[must_use]
    pub fn shape(self, shape: impl Into<Cow<'a, [usize]>>) -> Self {
        Self { shape: Some(shape.into()), ..self }
    }

    /// Sets the gradient, which has a number for each element of the variable.
    #[must_use]
    pub fn gradient(self, gradient: &'a D::Buffer) -> Self {
        Self { gradient: Some(GpuGradient { numbers: gradient, rows: None }), ..self }
    }

    /// Sets a sparse gradient: the indices of rows of the variable, on the host and all different, and the numbers of
    /// these rows, one row after the other, on the device.
    #[must_use]
    pub fn sparse_gradient(self, rows: impl Into<Indices<'a>>, values: &'a D::Buffer) -> Self {
        Self { gradient: Some(GpuGradient { numbers: values, rows: Some(rows.into()) }), ..self }
    }

    /// The rows that a sparse gradient names; they have been checked.
    pub(crate) fn rows(&self) -> Vec<u32> {
        match self.gradient.as_ref().and_then(|gradient| gradient.rows) {
            None => Vec::new(),
            Some(Indices::Usize(rows)) => rows.iter().map(|&row| row as u32).collect(),
            Some(Indices::I64(rows)) => rows.iter().map(|&row| row as u32).collect(),
            Some(Indices::I32(rows)) => rows.iter().map(|&row| row as u32).collect(),
            Some(Indices::U32(rows)) => rows.to_vec(),
            Some(_) => unreachable!("no other type of indices is accepted"),
        }
    }

    /// The number of rows, and the number of elements of a row.
    pub(crate) fn row_shape(&self, device: &D) -> (usize, usize) {
        let len = device.len(self.value);
        let rows = self.shape.as_ref().and_then(|shape| shape.first().copied()).unwrap_or(len);
        (rows, len / rows.max(1))
    }

    /// What the engine must know, after a comparison of the buffers with the shape.
    pub(crate) fn described<T: Element>(
        &self,
        device: &D,
    ) -> Result<(Description<'_, T>, Option<DeviceGradient<'_>>), Error> {
        let elements = device.len(self.value);
        let shape = self.shape.clone().unwrap_or_else(|| vec![elements].into());
        if shape.iter().try_fold(1_usize, |len, &axis| len.checked_mul(axis)) != Some(elements) {
            let (variable, shape) = (self.name.to_string(), shape.into_owned());
            return Err(opt_core::Error::VariableData { variable, elements, shape }.into());
        }
        let buffers = [Some(self.value), self.gradient.as_ref().map(|gradient| gradient.numbers)];
        buffers.into_iter().flatten().try_for_each(|buffer| device.address(buffer).map(drop))?;
        let types = buffers.into_iter().flatten().map(|buffer| device.dtype(buffer, 0));
        let is_right = |dtype| dtype == T::DTYPE || T::DTYPE == DType::F32 && matches!(dtype, DType::Bf16 | DType::F16);
        if let Some(found) = types.into_iter().find(|&found| !is_right(found)) {
            return Err(DeviceError::Type { expected: T::DTYPE, found }.into());
        }
        let gradient = match &self.gradient {
            None => None,
            Some(GpuGradient { numbers, rows }) => {
                let found = device.len(numbers);
                let width: usize = shape.iter().skip(1).product();
                let expected = rows.map_or(elements, |rows| rows.len() * width);
                let variable = self.name.to_string();
                let is_too_long = rows.is_some() && u32::try_from(shape.first().copied().unwrap_or(0)).is_err();
                if is_too_long {
                    let what = "a sparse gradient of more than 4,294,967,295 rows".to_owned();
                    return Err(opt_core::Error::OnDevice { variable, what }.into());
                }
                if found != expected {
                    let gradient = vec![found];
                    return Err(match rows {
                        None => opt_core::Error::GradientShape { variable, gradient, shape: shape.to_vec() },
                        Some(rows) => {
                            let indices = rows.len();
                            let expected = [indices].into_iter().chain(shape.iter().skip(1).copied()).collect();
                            opt_core::Error::SparseShape { variable, indices, values: gradient, expected }
                        }
                    }
                    .into());
                }
                Some(rows.map_or(DeviceGradient::Dense, DeviceGradient::Rows))
            }
        };
        Ok((Description::new(&*self.name, shape).dtype(device.dtype(self.value, 0)), gradient))
    }
}
