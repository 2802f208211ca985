//! The numbers of a file, next to what will be replaced by them.

use std::collections::HashMap;

use half::bf16;
use ndarray::{ArrayD, IxDyn};
use opt_core::{StateKind, WeightValue};

use super::select::{Selection, Target};
use crate::checkpoint::Checkpoint;
use crate::checksum::Checksum;
use crate::element::{Element, Number};
use crate::error::Error;
use crate::format::Tensor;
use crate::progress::{Meter, Progress};
use crate::source::Reader;

/// Numbers by their names in the model.
pub(super) type Staged<T> = HashMap<String, WeightValue<T>>;

/// Reads the whole file once: every checksum is compared, and what has a target is kept, unless it is known already
/// that nothing will be loaded.
pub(super) fn read<T: Element>(
    checkpoint: &Checkpoint,
    selection: &mut Selection<'_>,
    mut observer: Option<Box<dyn FnMut(Progress) + '_>>,
) -> Result<Staged<T>, Error> {
    let observer = observer.as_mut().map(|observer| &mut **observer as &mut dyn FnMut(Progress));
    let (mut reader, mut meter) = (checkpoint.source.open()?, Meter::new(checkpoint.data_len(), observer));
    let (mut staged, keeps) = (Staged::new(), selection.fits());
    for (tensor, target) in checkpoint.header.tensors.iter().zip(&selection.targets) {
        let found = match target {
            Some(Target { name, kind }) if keeps => {
                let (value, found) = value(&mut reader, tensor, kind, &mut meter)?;
                staged.insert(name.clone(), value);
                found
            }
            _ => reader.tensor(tensor, &mut meter, |_| ())?,
        };
        selection.mismatches.extend(Checkpoint::damage(tensor, found));
    }
    Ok(staged)
}

/// A tensor whose type and shape are those of its target.
fn value<T: Element>(
    reader: &mut Reader<'_>,
    tensor: &Tensor,
    kind: &StateKind,
    meter: &mut Meter<'_>,
) -> Result<(WeightValue<T>, Checksum), Error> {
    match kind {
        StateKind::Array(shape) => {
            let (array, found) = array::<T>(reader, tensor, shape, meter)?;
            return Ok((WeightValue::Array(array), found));
        }
        StateKind::Bf16(shape) => {
            // Exact: what is rounded to 16 bits again is what was read.
            let (array, found) = array::<bf16>(reader, tensor, shape, meter)?;
            return Ok((WeightValue::Array(array.mapv(|number| T::from_f32(number.to_f32()))), found));
        }
        StateKind::Iterations | StateKind::Scalar => {}
    }
    let mut number = [0; 8];
    let found = reader.tensor(tensor, meter, |bytes| number.copy_from_slice(bytes))?;
    let value = match kind {
        StateKind::Iterations => WeightValue::Iterations(u64::from_le_bytes(number)),
        _ => WeightValue::Scalar(f64::from_le_bytes(number)),
    };
    Ok((value, found))
}

fn array<N: Number>(
    reader: &mut Reader<'_>,
    tensor: &Tensor,
    shape: &[usize],
    meter: &mut Meter<'_>,
) -> Result<(ArrayD<N>, Checksum), Error> {
    let mut numbers = Vec::with_capacity((tensor.len() / size_of::<N>() as u64) as usize);
    let found = reader.tensor(tensor, meter, |bytes| N::read_bytes(bytes, &mut numbers))?;
    let array = ArrayD::from_shape_vec(IxDyn(shape), numbers).expect("the header fits its file and the model");
    Ok((array, found))
}
