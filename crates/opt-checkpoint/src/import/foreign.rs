//! Arrays of another system, and their conversion.

use half::{bf16, f16};
use ndarray::{ArrayD, IxDyn};
use opt_core::model::Any;
use opt_core::state::{DType, StateKind, StateValue};
use safetensors::Dtype;

use crate::element::{Element, Number, file_dtype};
use crate::error::Mismatch;

/// An array, little-endian and row by row.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Foreign {
    pub(super) dtype: Dtype,
    pub(super) shape: Vec<usize>,
    pub(super) bytes: Vec<u8>,
}

/// An array with its name in the file.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Named {
    pub(super) name: String,
    pub(super) array: Foreign,
}

/// An array of a file that can be imported.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct ArraySummary {
    /// The name in the file.
    pub name: String,
    /// The element type, as safetensors calls it: `F32`.
    pub dtype: String,
    /// The shape; empty for a number.
    pub shape: Vec<usize>,
    /// The number, if it is a single one.
    pub number: Option<f64>,
}

/// Converted numbers.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Converted<V> {
    pub(super) value: V,
    /// Whether a number has changed.
    pub(super) is_rounded: bool,
}

/// Numbers of one of the types that a variable may have.
pub(super) type AnyNumbers<T> = Any<ArrayD<T>, ArrayD<bf16>, ArrayD<f16>>;

impl Named {
    pub(super) fn summary(&self) -> ArraySummary {
        let Foreign { dtype, shape, .. } = &self.array;
        let single = (self.array.bytes.len() * 8 == dtype.bitsize()).then(|| self.array.number(&self.name).ok());
        let number = single.flatten().or_else(|| self.array.count(&self.name).ok().map(|count| count as f64));
        ArraySummary { name: self.name.clone(), dtype: dtype.to_string(), shape: shape.clone(), number }
    }
}

impl Foreign {
    /// Takes over an array in memory.
    pub(super) fn of<N: Number>(array: &ArrayD<N>) -> Self {
        let numbers: Vec<N> = array.iter().copied().collect();
        let mut bytes = vec![0; size_of_val(&numbers[..])];
        N::write_bytes(&numbers, &mut bytes);
        Self { dtype: N::FILE_DTYPE, shape: array.shape().to_vec(), bytes }
    }

    /// Converts to an entry of the state. Numbers of another type are converted only if `converts`.
    pub(super) fn weight<T: Element>(
        &self,
        name: &str,
        kind: &StateKind,
        converts: bool,
    ) -> Result<Converted<StateValue<'static, T>>, Mismatch> {
        let value = match kind {
            // Rounded to nearest by the optimizer, where it keeps 16 bits.
            StateKind::Array(shape) | StateKind::Bf16(shape) => {
                let Converted { value, is_rounded } = self.array::<T>(name, shape, converts)?;
                return Ok(Converted { value: value.into(), is_rounded });
            }
            // Counters of variables may be whole numbers.
            StateKind::Scalar => {
                let count = |other| self.count(name).map(|count| count as f64).map_err(|_| other);
                StateValue::Scalar(self.number(name).or_else(count)?)
            }
            StateKind::Iterations => StateValue::Iterations(self.count(name)?),
        };
        Ok(Converted { value, is_rounded: false })
    }

    /// Converts to the numbers of a variable.
    pub(super) fn values<T: Element>(
        &self,
        name: &str,
        dtype: DType,
        shape: &[usize],
        converts: bool,
    ) -> Result<Converted<AnyNumbers<T>>, Mismatch> {
        fn any<N, A>(converted: Converted<N>, any: impl FnOnce(N) -> A) -> Converted<A> {
            Converted { value: any(converted.value), is_rounded: converted.is_rounded }
        }
        Ok(match file_dtype::<T>(dtype) {
            Dtype::BF16 => any(self.array(name, shape, converts)?, Any::Bf16),
            Dtype::F16 => any(self.array(name, shape, converts)?, Any::F16),
            _ => any(self.array(name, shape, converts)?, Any::Full),
        })
    }

    /// Converts to an array of this shape.
    fn array<N: Number>(&self, name: &str, shape: &[usize], converts: bool) -> Result<Converted<ArrayD<N>>, Mismatch> {
        if self.shape != shape {
            return Err(self.other_shape(name, shape));
        }
        let mut numbers: Vec<N> = Vec::with_capacity(self.bytes.len() / size_of::<N>());
        let mut is_rounded = false;
        if self.dtype == N::FILE_DTYPE {
            N::read_bytes(&self.bytes, &mut numbers);
        } else {
            let other_type = || self.other_type(name, N::FILE_DTYPE);
            for number in self.floats().filter(|_| converts).ok_or_else(other_type)? {
                let nearest = N::nearest(number);
                if number.is_finite() && !nearest.widened().is_finite() {
                    let dtype = N::FILE_DTYPE.to_string();
                    return Err(Mismatch::Overflow { name: name.to_owned(), number, dtype });
                }
                is_rounded |= number.is_finite() && nearest.widened() != number;
                numbers.push(nearest);
            }
        }
        let value = ArrayD::from_shape_vec(IxDyn(shape), numbers).map_err(|_| self.other_shape(name, shape))?;
        Ok(Converted { value, is_rounded })
    }

    /// Converts to one number. Addons keeps some numbers as arrays of the variable's shape, with equal entries.
    pub(super) fn number(&self, name: &str) -> Result<f64, Mismatch> {
        let numbers = self.floats().ok_or_else(|| self.other_type(name, Dtype::F64))?;
        match &numbers[..] {
            [first, rest @ ..] if rest.iter().all(|number| number.to_bits() == first.to_bits()) => Ok(*first),
            _ => Err(self.other_shape(name, &[])),
        }
    }

    /// Converts to a step counter: a whole number of any type.
    pub(super) fn count(&self, name: &str) -> Result<u64, Mismatch> {
        let wrong = || self.other_type(name, Dtype::U64);
        if self.shape.iter().any(|&axis| axis != 1) {
            return Err(self.other_shape(name, &[]));
        }
        if let Some(floats) = self.floats() {
            let count = floats.first().copied().filter(|count| count.fract() == 0.0 && (0.0..9e15).contains(count));
            return count.map(|count| count as u64).ok_or_else(wrong);
        }
        let eight = || self.bytes[..].try_into().ok();
        let four = || self.bytes[..].try_into().ok();
        let count = match self.dtype {
            Dtype::U64 => eight().map(u64::from_le_bytes),
            Dtype::I64 => eight().map(i64::from_le_bytes).and_then(|count| count.try_into().ok()),
            Dtype::I32 => four().map(i32::from_le_bytes).and_then(|count| count.try_into().ok()),
            _ => None,
        };
        count.ok_or_else(wrong)
    }

    /// All numbers in 64 bits, which is exact; none if they are whole numbers.
    fn floats(&self) -> Option<Vec<f64>> {
        fn widened<N: Number>(bytes: &[u8]) -> Vec<f64> {
            let mut numbers = Vec::<N>::new();
            N::read_bytes(bytes, &mut numbers);
            numbers.into_iter().map(N::widened).collect()
        }
        match self.dtype {
            Dtype::F16 => Some(widened::<f16>(&self.bytes)),
            Dtype::BF16 => Some(widened::<bf16>(&self.bytes)),
            Dtype::F32 => Some(widened::<f32>(&self.bytes)),
            Dtype::F64 => Some(widened::<f64>(&self.bytes)),
            _ => None,
        }
    }

    fn other_type(&self, name: &str, expected: Dtype) -> Mismatch {
        Mismatch::DType { name: name.to_owned(), expected: expected.to_string(), found: self.dtype.to_string() }
    }

    fn other_shape(&self, name: &str, expected: &[usize]) -> Mismatch {
        Mismatch::Shape { name: name.to_owned(), expected: expected.to_vec(), found: self.shape.clone() }
    }
}
