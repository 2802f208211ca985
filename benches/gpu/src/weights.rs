//! Weights and gradients on a device.

use benches::random::Random;
use benches::shapes::Shape;
use half::bf16;
use opt_core::state::DType;
use opt_gpu::{Device, DeviceError, GpuVariable};

/// Named tensors with gradients, which stay the same from step to step.
#[derive(Debug)]
pub(crate) struct Weights<D: Device> {
    pub(crate) dtype: DType,
    tensors: Vec<Tensor<D::Buffer>>,
}

#[derive(Debug)]
struct Tensor<B> {
    name: String,
    shape: Vec<usize>,
    value: B,
    gradient: B,
}

impl<D: Device> Weights<D> {
    /// Tensors of zeros, in 32 bits or in bfloat16.
    pub(crate) fn zeros(device: &D, shape: &Shape, dtype: DType) -> Result<Self, DeviceError> {
        let tensor = |(number, (shape, size)): (usize, (&Vec<usize>, usize))| {
            let [value, gradient] = [device.allocate(&[dtype], size)?, device.allocate(&[dtype], size)?];
            Ok(Tensor { name: format!("layers.{number}.weight"), shape: shape.clone(), value, gradient })
        };
        let tensors = shape.tensors.iter().zip(shape.sizes()).enumerate().map(tensor);
        Ok(Self { dtype, tensors: tensors.collect::<Result<_, _>>()? })
    }

    /// Tensors of random numbers, the same in every run: none comes near the denormal ones.
    pub(crate) fn random(device: &D, shape: &Shape, dtype: DType) -> Result<Self, DeviceError> {
        let weights = Self::zeros(device, shape, dtype)?;
        let mut random = Random::new(0x5eed);
        for Tensor { value, gradient, .. } in &weights.tensors {
            for buffer in [value, gradient] {
                let mut number = || random.signed() as f32;
                let count = 0..device.len(buffer);
                let numbers: Vec<u8> = match dtype {
                    DType::Bf16 => count.flat_map(|_| bf16::from_f32(number()).to_ne_bytes()).collect(),
                    _ => count.flat_map(|_| number().to_ne_bytes()).collect(),
                };
                device.write(buffer, 0, &numbers)?;
            }
        }
        Ok(weights)
    }

    /// The tensors in the form that a step takes.
    pub(crate) fn variables(&self) -> impl Iterator<Item = GpuVariable<'_, D>> {
        self.tensors.iter().map(|Tensor { name, shape, value, gradient }| {
            GpuVariable::new(name.as_str(), value).shape(shape.as_slice()).gradient(gradient)
        })
    }
}
