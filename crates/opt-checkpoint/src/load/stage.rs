//! Staging: the numbers of a file in memory, beside the state that they will replace.

use half::{bf16, f16};
use ndarray::{ArrayD, IxDyn};
use opt_core::collective::Distribution;
use opt_core::model::Any;
use opt_core::state::StateValue;
use safetensors::Dtype;

use super::select::{Kind, Selection, Target};
use crate::checkpoint::Checkpoint;
use crate::checksum::Checksum;
use crate::element::{Element, Number};
use crate::error::Error;
use crate::progress::{Meter, Progress};
use crate::region::{Region, Way};
use crate::source::Reader;
use crate::tensors::Piece;

/// Numbers for the model's entries, in their order; none for entries that stay unchanged.
pub(crate) type Staged<T> = Vec<Option<Value<T>>>;

/// An entry of the state, or a variable.
#[derive(Debug)]
pub(crate) enum Value<T> {
    Count(u64),
    Scalar(f64),
    Array(Any<ArrayD<T>, ArrayD<bf16>, ArrayD<f16>>),
}

impl<T: Element> Value<T> {
    /// Converts to an entry of the state. Numbers that are rounded to 16 bits again stay the same.
    pub(super) fn into_weight(self) -> StateValue<'static, T> {
        match self {
            Self::Count(count) => StateValue::Iterations(count),
            Self::Scalar(number) => StateValue::Scalar(number),
            Self::Array(Any::Full(array)) => array.into(),
            Self::Array(Any::Bf16(array)) => StateValue::Bf16(array.into()),
            Self::Array(Any::F16(array)) => array.mapv(|number| T::from_f32(number.to_f32())).into(),
        }
    }
}

/// Reads the file, or the shards that are needed here, once. Every checksum is compared. Numbers with a target are
/// kept, unless it is already known that nothing will be loaded.
pub(super) fn read<T: Element>(
    checkpoint: &Checkpoint,
    selection: &mut Selection<'_>,
    ranks: Option<&dyn Distribution>,
    mut observer: Option<Box<dyn FnMut(Progress) + '_>>,
) -> Result<Staged<T>, Error> {
    let observer = observer.as_mut().map(|observer| &mut **observer as &mut dyn FnMut(Progress));
    let keeps = selection.fits();
    let target = |piece: &Piece| selection.targets[piece.tensor].as_ref();
    let is_needed = |(number, piece): (usize, &Piece)| match (ranks, target(piece)) {
        (None, _) => true,
        (Some(_), Some(target)) => target.region.overlaps(&piece.region),
        // One of the ranks checks the tensors that no rank loads.
        (Some(ranks), None) => number % ranks.world().ranks() == ranks.world().rank(),
    };
    let all = checkpoint.tensors.pieces.iter().enumerate();
    let pieces: Vec<&Piece> = all.filter(|&piece| is_needed(piece)).map(|(_, piece)| piece).collect();
    let mut raw: Vec<Option<Raw<T>>> = selection.targets.iter().map(|_| None).collect();
    let mut damaged = Vec::new();
    checkpoint.read_pieces(&pieces, observer, |reader, place, meter| {
        let piece = pieces[place];
        let found = match target(piece) {
            Some(target) if keeps => {
                let raw = raw[piece.tensor].get_or_insert_with(|| Raw::new(target.kind));
                raw.read(reader, piece, &target.region, meter)?
            }
            _ => reader.tensor(&piece.bytes, meter, |_| ())?,
        };
        damaged.extend(checkpoint.damage(piece, found));
        Ok(())
    })?;
    selection.mismatches.extend(damaged);
    let mut staged: Staged<T> = Vec::new();
    staged.resize_with(selection.wanted, || None);
    let targets = selection.targets.iter().zip(raw).filter(|_| keeps);
    for (Target { wanted, kind, region, .. }, raw) in targets.filter_map(|(target, raw)| Some((target.as_ref()?, raw)))
    {
        staged[*wanted] = Some(raw.unwrap_or_else(|| Raw::new(*kind)).finish(*kind, &region.shape));
    }
    Ok(staged)
}

/// Numbers that are being read.
enum Raw<T> {
    One([u8; 8]),
    Many(Any<Vec<T>, Vec<bf16>, Vec<f16>>),
}

impl<T: Element> Raw<T> {
    fn new(kind: Kind) -> Self {
        match kind {
            Kind::Count | Kind::Scalar => Self::One([0; 8]),
            Kind::Array(Dtype::BF16) => Self::Many(Any::Bf16(Vec::new())),
            Kind::Array(Dtype::F16) => Self::Many(Any::F16(Vec::new())),
            Kind::Array(_) => Self::Many(Any::Full(Vec::new())),
        }
    }

    /// Reads the region of a target that is in a piece of the file.
    fn read(
        &mut self,
        reader: &mut Reader<'_>,
        piece: &Piece,
        region: &Region,
        meter: &mut Meter<'_>,
    ) -> Result<Checksum, Error> {
        match self {
            Self::One(number) => reader.tensor(&piece.bytes, meter, |bytes| number.copy_from_slice(bytes)),
            Self::Many(Any::Full(numbers)) => read_piece(reader, piece, region, meter, numbers),
            Self::Many(Any::Bf16(numbers)) => read_piece(reader, piece, region, meter, numbers),
            Self::Many(Any::F16(numbers)) => read_piece(reader, piece, region, meter, numbers),
        }
    }

    fn finish(self, kind: Kind, shape: &[usize]) -> Value<T> {
        match (self, kind) {
            (Self::One(number), Kind::Count) => Value::Count(u64::from_le_bytes(number)),
            (Self::One(number), _) => Value::Scalar(f64::from_le_bytes(number)),
            (Self::Many(Any::Full(numbers)), _) => Value::Array(Any::Full(array(numbers, shape))),
            (Self::Many(Any::Bf16(numbers)), _) => Value::Array(Any::Bf16(array(numbers, shape))),
            (Self::Many(Any::F16(numbers)), _) => Value::Array(Any::F16(array(numbers, shape))),
        }
    }
}

fn array<N>(numbers: Vec<N>, shape: &[usize]) -> ArrayD<N> {
    ArrayD::from_shape_vec(IxDyn(shape), numbers).expect("the pieces of a tensor have all of it")
}

fn read_piece<N: Number>(
    reader: &mut Reader<'_>,
    piece: &Piece,
    region: &Region,
    meter: &mut Meter<'_>,
    numbers: &mut Vec<N>,
) -> Result<Checksum, Error> {
    let len = region.len().expect("the model has it in memory");
    if piece.region == *region {
        numbers.reserve_exact(len);
        return reader.tensor(&piece.bytes, meter, |bytes| N::read_bytes(bytes, numbers));
    }
    numbers.resize(len, N::NOTHING);
    let (way, mut start, mut buffer) = (Way::new(&piece.region, region), 0, Vec::new());
    reader.tensor(&piece.bytes, meter, |bytes| {
        buffer.clear();
        N::read_bytes(bytes, &mut buffer);
        way.copy(start, &buffer, numbers);
        start += buffer.len();
    })
}
