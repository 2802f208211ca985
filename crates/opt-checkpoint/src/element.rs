//! Numbers as bytes: little-endian, as safetensors has them.

use half::{bf16, f16};
use opt_core::Scalar;
use opt_core::state::DType;
use safetensors::Dtype;

/// The element types of optimizers whose state checkpoints can hold: `f32` and `f64`. (Their variables may have 16
/// bits: [`Variable::half`](opt_core::Variable::half).)
///
/// The trait is sealed, as [`Scalar`] is.
pub trait Element: Scalar + Number {}

impl<T: Scalar + Number> Element for T {}

/// The type in the file of a variable.
pub(crate) fn file_dtype<T: Element>(dtype: DType) -> Dtype {
    match dtype {
        DType::Bf16 => Dtype::BF16,
        DType::F16 => Dtype::F16,
        _ => T::FILE_DTYPE,
    }
}

/// An element type of arrays in a file, one line each at the end of this module.
pub trait Number: Copy {
    /// The type in the file.
    const FILE_DTYPE: Dtype;
    /// Zero.
    const NOTHING: Self;

    /// Writes numbers as bytes: `bytes` has exactly the room for them.
    fn write_bytes(numbers: &[Self], bytes: &mut [u8]);

    /// Reads as many numbers as there are bytes for.
    fn read_bytes(bytes: &[u8], numbers: &mut Vec<Self>);

    /// The nearest number to this one; ties to even.
    fn nearest(number: f64) -> Self;

    /// The same number in 64 bits.
    fn widened(self) -> f64;
}

macro_rules! number {
    ($($type:ty: $dtype:ident, $nothing:expr, $nearest:expr);+ $(;)?) => {$(
        impl Number for $type {
            const FILE_DTYPE: Dtype = Dtype::$dtype;
            const NOTHING: Self = $nothing;

            fn write_bytes(numbers: &[Self], bytes: &mut [u8]) {
                let (places, _) = bytes.as_chunks_mut();
                places.iter_mut().zip(numbers).for_each(|(place, number)| *place = number.to_le_bytes());
            }

            fn read_bytes(bytes: &[u8], numbers: &mut Vec<Self>) {
                let (places, _) = bytes.as_chunks();
                numbers.extend(places.iter().map(|place| Self::from_le_bytes(*place)));
            }

            fn nearest(number: f64) -> Self {
                $nearest(number)
            }

            fn widened(self) -> f64 {
                self.into()
            }
        }
    )+};
}

number! {
    f32: F32, 0.0, |number| number as f32;
    f64: F64, 0.0, |number| number;
    bf16: BF16, bf16::ZERO, bf16::from_f64;
    f16: F16, f16::ZERO, f16::from_f64;
}
