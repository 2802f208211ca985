//! Numbers in messages between ranks.

use std::any::Any;

use crate::real::{DType, Scalar};

/// Numbers to be summed over ranks, in one of the types that every collective can sum.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Numbers {
    /// 32-bit floating point.
    F32(Vec<f32>),
    /// 64-bit floating point.
    F64(Vec<f64>),
}

impl Numbers {
    /// The number of numbers.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::F32(numbers) => numbers.len(),
            Self::F64(numbers) => numbers.len(),
        }
    }

    /// Whether there are no numbers.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Their size in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        match self {
            Self::F32(numbers) => size_of_val(&numbers[..]),
            Self::F64(numbers) => size_of_val(&numbers[..]),
        }
    }

    /// Converts elements of a variable; no copy if the types are the same.
    pub(crate) fn from_elements<T: Scalar>(elements: Vec<T>) -> Self {
        match T::DTYPE {
            DType::F64 => Self::F64(converted(elements, T::as_)),
            _ => Self::F32(converted(elements, |x| x.as_() as f32)),
        }
    }

    /// Converts back to elements of a variable.
    pub(crate) fn into_elements<T: Scalar>(self) -> Vec<T> {
        match self {
            Self::F64(numbers) => converted(numbers, T::literal),
            Self::F32(numbers) => converted(numbers, |x| T::literal(f64::from(x))),
        }
    }
}

/// The same vector if both types are the same, else a converted copy.
fn converted<A: 'static, B: 'static>(elements: Vec<A>, convert: impl Fn(A) -> B) -> Vec<B> {
    let mut elements = Some(elements);
    match (&mut elements as &mut dyn Any).downcast_mut::<Option<Vec<B>>>().and_then(Option::take) {
        Some(same) => same,
        None => elements.into_iter().flatten().map(convert).collect(),
    }
}

/// The number of bytes that an element takes in a message.
pub(crate) fn width<T: Scalar>() -> usize {
    match T::DTYPE {
        DType::F64 => 8,
        _ => 4,
    }
}

/// Appends elements as bytes. The bytes are the same on every machine.
pub(crate) fn append_bytes<'e, T: Scalar>(bytes: &mut Vec<u8>, elements: impl ExactSizeIterator<Item = &'e T>) {
    let start = bytes.len();
    bytes.resize(start + elements.len() * width::<T>(), 0);
    let to = &mut bytes[start..];
    match T::DTYPE {
        DType::F64 => to.as_chunks_mut().0.iter_mut().zip(elements).for_each(|(to, x)| *to = x.as_().to_le_bytes()),
        _ => to.as_chunks_mut().0.iter_mut().zip(elements).for_each(|(to, x)| *to = (x.as_() as f32).to_le_bytes()),
    }
}

/// Elements as bytes.
pub(crate) fn to_bytes<'e, T: Scalar>(elements: impl ExactSizeIterator<Item = &'e T>) -> Vec<u8> {
    let mut bytes = Vec::new();
    append_bytes(&mut bytes, elements);
    bytes
}

/// Fills elements from bytes. Surplus elements keep their values, surplus bytes are ignored.
pub(crate) fn read_bytes<'e, T: Scalar>(elements: impl Iterator<Item = &'e mut T>, bytes: &[u8]) {
    match T::DTYPE {
        DType::F64 => {
            let bytes = bytes.as_chunks().0;
            elements.zip(bytes).for_each(|(to, &x)| *to = T::literal(f64::from_le_bytes(x)));
        }
        _ => {
            let bytes = bytes.as_chunks().0;
            elements.zip(bytes).for_each(|(to, &x)| *to = T::literal(f64::from(f32::from_le_bytes(x))));
        }
    }
}

/// Elements from bytes. Surplus bytes that do not fill an element are ignored.
pub(crate) fn from_bytes<T: Scalar>(bytes: &[u8]) -> Vec<T> {
    let mut elements = vec![T::zero(); bytes.len() / width::<T>()];
    read_bytes(elements.iter_mut(), bytes);
    elements
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_come_back_to_the_bit_and_in_the_same_memory() {
        let elements = vec![0.1_f32, -0.0, f32::MIN_POSITIVE / 4.0, f32::INFINITY];
        assert_eq!(from_bytes::<f32>(&to_bytes(elements.iter())), elements);
        let address = elements.as_ptr();
        let back: Vec<f32> = Numbers::from_elements(elements.clone()).into_elements();
        assert_eq!(back, elements);
        let moved: Vec<f32> = Numbers::from_elements(elements).into_elements();
        assert_eq!(moved.as_ptr(), address);
    }

    #[test]
    fn doubles_stay_doubles() {
        let elements = vec![0.1_f64, f64::MAX];
        assert_eq!(from_bytes::<f64>(&to_bytes(elements.iter())), elements);
        assert_eq!(Numbers::from_elements(elements.clone()), Numbers::F64(elements));
    }

    #[test]
    fn there_are_some_or_none() {
        let (none, two) = (Numbers::F32(Vec::new()), Numbers::F64(vec![1.0, 2.0]));
        assert_eq!((none.len(), none.is_empty(), none.bytes()), (0, true, 0));
        assert_eq!((two.len(), two.is_empty(), two.bytes()), (2, false, 16));
    }
}
