//! Numbers as bytes: little-endian, as safetensors has them.

use opt_core::Scalar;
use safetensors::Dtype;

/// The element types that checkpoints can hold, one line each at the end of this module.
///
/// The trait is sealed, as [`Scalar`] is.
pub trait Element: Scalar {
    /// The type in the file.
    #[doc(hidden)]
    const FILE_DTYPE: Dtype;

    /// Writes numbers as bytes: `bytes` has room for exactly these.
    #[doc(hidden)]
    fn write_bytes(numbers: &[Self], bytes: &mut [u8]);

    /// Reads as many numbers as there are bytes for.
    #[doc(hidden)]
    fn read_bytes(bytes: &[u8], numbers: &mut Vec<Self>);
}

macro_rules! element {
    ($($type:ty: $dtype:ident),+ $(,)?) => {$(
        impl Element for $type {
            const FILE_DTYPE: Dtype = Dtype::$dtype;

            fn write_bytes(numbers: &[Self], bytes: &mut [u8]) {
                let (places, _) = bytes.as_chunks_mut();
                places.iter_mut().zip(numbers).for_each(|(place, number)| *place = number.to_le_bytes());
            }

            fn read_bytes(bytes: &[u8], numbers: &mut Vec<Self>) {
                let (places, _) = bytes.as_chunks();
                numbers.extend(places.iter().map(|place| Self::from_le_bytes(*place)));
            }
        }
    )+};
}

element!(f32: F32, f64: F64);
