//! Numbers of another system, and their conversion.

use std::path::Path;

use ndarray::{ArrayD, IxDyn};
use opt_core::state::{StateKind, StateValue};
use opt_core::{Optimizer, UpdateRule, Variable};
use safetensors::Dtype;

use crate::element::{Element, Number};
use crate::error::{Error, Mismatch};

/// An array, little-endian and row by row.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Foreign {
    pub(super) dtype: Dtype,
    pub(super) shape: Vec<usize>,
    pub(super) bytes: Vec<u8>,
}

/// Entries of the state by name, one after the other, with all entries that do not fit.
#[derive(Debug)]
pub(super) struct Weights<T: 'static> {
    pub(super) values: Vec<StateValue<'static, T>>,
    pub(super) mismatches: Vec<Mismatch>,
}

impl<T: Element> Weights<T> {
    pub(super) fn new() -> Self {
        Self { values: Vec::new(), mismatches: Vec::new() }
    }

    /// The next entry. One that does not fit is recorded.
    pub(super) fn push(&mut self, value: Result<StateValue<'static, T>, Mismatch>) {
        match value {
            Ok(value) => self.values.push(value),
            Err(mismatch) => self.mismatches.push(mismatch),
        }
    }

    /// All entries, if all fit.
    pub(super) fn finish(self, path: &Path) -> Result<Vec<StateValue<'static, T>>, Error> {
        let Self { values, mismatches } = self;
        if mismatches.is_empty() { Ok(values) } else { Err(Error::Mismatch { path: path.to_owned(), mismatches }) }
    }
}

impl Foreign {
    /// Converts to an entry of the state.
    pub(super) fn weight<T: Element>(&self, name: &str, kind: &StateKind) -> Result<StateValue<'static, T>, Mismatch> {
        match kind {
            // Rounded to nearest where the optimizer keeps 16 bits.
            StateKind::Array(shape) | StateKind::Bf16(shape) => self.array(name, shape).map(StateValue::from),
            StateKind::Scalar => self.number(name).map(StateValue::Scalar),
            StateKind::Iterations => self.count(name).map(StateValue::Iterations),
        }
    }

    /// Converts to an array of this shape.
    pub(super) fn array<T: Element>(&self, name: &str, shape: &[usize]) -> Result<ArrayD<T>, Mismatch> {
        if self.dtype != T::FILE_DTYPE {
            return Err(self.other_type(name, T::FILE_DTYPE));
        }
        if self.shape != shape {
            return Err(self.other_shape(name, shape));
        }
        let mut numbers = Vec::with_capacity(self.bytes.len() / size_of::<T>());
        T::read_bytes(&self.bytes, &mut numbers);
        ArrayD::from_shape_vec(IxDyn(shape), numbers).map_err(|_| self.other_shape(name, shape))
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

    fn floats(&self) -> Option<Vec<f64>> {
        let (mut single, mut double) = (Vec::<f32>::new(), Vec::new());
        match self.dtype {
            Dtype::F32 => {
                f32::read_bytes(&self.bytes, &mut single);
                Some(single.into_iter().map(f64::from).collect())
            }
            Dtype::F64 => {
                f64::read_bytes(&self.bytes, &mut double);
                Some(double)
            }
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

/// The state that an optimizer would have with these variables.
pub(super) fn expected<R: UpdateRule<T>, T: Element>(
    optimizer: &Optimizer<R, T>,
    variables: &[Variable<'_, T>],
) -> Result<Vec<(String, StateKind)>, Error> {
    let shapes = variables.iter().map(|variable| variable.view().map(|view| view.shape().to_vec()));
    let shapes: Vec<Vec<usize>> = shapes.collect::<Result<_, _>>()?;
    let named = variables.iter().zip(&shapes);
    let named = named.map(|(variable, shape)| (variable.name(), shape.as_slice(), variable.dtype()));
    Ok(optimizer.state_of(named).into_iter().map(|spec| (spec.name, spec.value)).collect())
}
