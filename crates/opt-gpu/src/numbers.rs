//! The types of numbers in the memory of a device.

use half::{bf16, f16};
use opt_core::Scalar;
use opt_core::state::DType;

/// A type of numbers that are stored on devices.
pub trait Number: bytemuck::Pod {
    /// Its name.
    const STORED: DType;
}

/// A number type in which optimizers compute: `f32` and `f64`.
pub trait Element: Scalar + Number {}

impl<T: Scalar + Number> Element for T {}

impl Number for f32 {
    const STORED: DType = DType::F32;
}

impl Number for f64 {
    const STORED: DType = DType::F64;
}

impl Number for bf16 {
    const STORED: DType = DType::Bf16;
}

impl Number for f16 {
    const STORED: DType = DType::F16;
}

impl Number for i8 {
    const STORED: DType = DType::I8;
}

/// Numbers as they are stored; they are numbers of that type.
pub(crate) fn to_bytes<T: Element>(numbers: &[T], dtype: DType) -> Vec<u8> {
    fn all<T: Scalar, N: Number>(numbers: &[T], to: impl Fn(f32) -> N) -> Vec<u8> {
        let numbers: Vec<N> = numbers.iter().map(|number| to(number.to_f32())).collect();
        bytemuck::cast_slice(&numbers).to_vec()
    }
    match dtype {
        DType::Bf16 => all(numbers, bf16::from_f32),
        DType::F16 => all(numbers, f16::from_f32),
        DType::I8 => all(numbers, |number| number as i8),
        _ => bytemuck::cast_slice(numbers).to_vec(),
    }
}

/// Stored numbers.
pub(crate) fn from_bytes<T: Element>(bytes: &[u8], dtype: DType) -> Vec<T> {
    fn all<T: Scalar, N: Number>(bytes: &[u8], from: impl Fn(N) -> f32) -> Vec<T> {
        bytemuck::pod_collect_to_vec::<u8, N>(bytes).into_iter().map(|number| T::from_f32(from(number))).collect()
    }
    match dtype {
        DType::Bf16 => all(bytes, bf16::to_f32),
        DType::F16 => all(bytes, f16::to_f32),
        DType::I8 => all(bytes, |number: i8| f32::from(number)),
        _ => bytemuck::pod_collect_to_vec(bytes),
    }
}
