//! The content of a file: names and borrowed numbers.

use std::collections::{HashMap, HashSet};

use ndarray::ArrayViewD;
use opt_core::{Any, AnyArray, Optimizer, Slot, StateEntry, StateValue, UpdateRule, Variable};
use safetensors::Dtype;

use crate::element::{Element, file_dtype};
use crate::error::Error;
use crate::format::{Contents, ITERATIONS};
use crate::ranks::Place;

/// The name of the metadata in the header of safetensors.
const RESERVED: &str = "__metadata__";

/// All tensors.
#[derive(Debug)]
pub(super) struct Content<'s, T> {
    /// In the order of the file.
    pub(super) tensors: Vec<Entry<'s, T>>,
    /// The variables with slots, in the optimizer's order.
    pub(super) tracked: Vec<String>,
}

/// A tensor with its numbers.
#[derive(Debug)]
pub(super) struct Entry<'s, T> {
    pub(super) name: String,
    /// The numbers of this rank's region, if the array is on several ranks.
    pub(super) numbers: Numbers<'s, T>,
    /// The layout of the array.
    pub(super) place: Option<Place>,
}

/// Borrowed numbers.
#[derive(Debug)]
pub(super) enum Numbers<'s, T> {
    Whole(u64),
    Scalar(f64),
    Array(AnyArray<'s, T>),
}

impl<T: Element> Numbers<'_, T> {
    pub(super) fn dtype(&self) -> Dtype {
        match self {
            Self::Whole(_) => Dtype::U64,
            Self::Scalar(_) => Dtype::F64,
            Self::Array(array) => file_dtype::<T>(array.dtype(T::DTYPE)),
        }
    }

    pub(super) fn shape(&self) -> &[usize] {
        match self {
            Self::Whole(_) | Self::Scalar(_) => &[],
            Self::Array(Any::Full(array)) => array.shape(),
            Self::Array(Any::Bf16(array)) => array.shape(),
            Self::Array(Any::F16(array)) => array.shape(),
        }
    }
}

impl<'s, T: Element> Content<'s, T> {
    pub(super) fn collect<R: UpdateRule<T>>(
        optimizer: &'s Optimizer<R, T>,
        variables: &'s [Variable<'_, T>],
        contents: Contents,
    ) -> Result<Self, Error> {
        let places = places(optimizer, variables)?;
        let state: Vec<_> = optimizer.state()?.collect();
        let tracked: Vec<String> = optimizer.variables().map(|(name, _)| name.to_owned()).collect();
        let mut tensors = Vec::with_capacity(variables.len() + state.len());
        for variable in variables {
            let place = places[variable.name()].clone();
            let array = match contents.slot() {
                Some(slot) => Any::Full(average(optimizer, variable.name(), slot)?),
                None => place.part_of(variable.array()?),
            };
            let (name, numbers) = (variable.name().to_owned(), Numbers::Array(array));
            tensors.push(Entry { name, numbers, place: Some(place) });
        }
        let of_state = state.into_iter().filter(|entry| contents == Contents::Raw || entry.name == ITERATIONS);
        tensors.extend(of_state.map(|StateEntry { name, value, variable }| {
            let place = || variable.map(|variable| places[tracked[variable].as_str()].clone());
            let (numbers, place) = match value {
                StateValue::Iterations(count) => (Numbers::Whole(count), None),
                StateValue::Scalar(number) => (Numbers::Scalar(number), None),
                StateValue::Array(array) => (Numbers::Array(Any::Full(array)), place()),
                StateValue::Bf16(array) => (Numbers::Array(Any::Bf16(array)), place()),
            };
            Entry { name, numbers, place }
        }));
        // The order of the safetensors library, so that numbers are aligned.
        tensors.sort_by(|a, b| {
            let width = |entry: &Entry<'_, T>| entry.numbers.dtype().bitsize();
            width(b).cmp(&width(a)).then_with(|| a.name.cmp(&b.name))
        });
        let mut names = HashSet::from([RESERVED]);
        if let Some(entry) = tensors.iter().find(|entry| !names.insert(&entry.name)) {
            return Err(Error::NameTaken { name: entry.name.clone() });
        }
        let tracked = if contents == Contents::Raw { tracked } else { Vec::new() };
        Ok(Self { tensors, tracked })
    }
}

/// The layout of each variable. All variables of the optimizer are given, in the shapes of their slots.
fn places<'v, R: UpdateRule<T>, T: Element>(
    optimizer: &Optimizer<R, T>,
    variables: &'v [Variable<'_, T>],
) -> Result<HashMap<&'v str, Place>, Error> {
    let mut known: HashMap<&str, &[usize]> = optimizer.variables().collect();
    let mut places = HashMap::with_capacity(variables.len());
    for variable in variables {
        let (name, place) = (variable.name(), Place::of_variable(optimizer.distribution(), variable)?);
        if let Some(expected) = known.remove(name).filter(|&expected| expected != place.part.shape) {
            let (variable, expected, found) = (name.to_owned(), expected.to_vec(), place.part.shape.clone());
            return Err(opt_core::Error::VariableShape { variable, expected, found }.into());
        }
        places.insert(name, place);
    }
    if known.is_empty() {
        return Ok(places);
    }
    let mut names: Vec<String> = known.into_keys().map(str::to_owned).collect();
    names.sort();
    Err(Error::VariablesMissing { names })
}

fn average<'s, R: UpdateRule<T>, T: Element>(
    optimizer: &'s Optimizer<R, T>,
    variable: &str,
    slot: &str,
) -> Result<ArrayViewD<'s, T>, Error> {
    match optimizer.slot(variable, slot)? {
        Slot::Array(array) => Ok(array),
        Slot::Scalar(_) | Slot::Bf16(_) => {
            let known = optimizer.slot_names().into_iter().map(str::to_owned).collect();
            Err(opt_core::Error::UnknownSlot { slot: slot.to_owned(), known }.into())
        }
    }
}
