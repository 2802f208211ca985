//! The content of a file: names and borrowed numbers.

use std::collections::HashMap;

use half::{bf16, f16};
use ndarray::{CowArray, IxDyn};
use opt_core::model::{Any, AnyArray};
use opt_core::state::{ITERATIONS, StateEntry, StateValue};
use opt_core::{Optimizer, UpdateRule};
use safetensors::Dtype;

use crate::element::{Element, file_dtype};
use crate::error::Error;
use crate::format::Contents;
use crate::ranks::Place;

/// All tensors.
#[derive(Debug)]
pub(super) struct Content<'s, T> {
    /// In the order of the file.
    pub(super) tensors: Vec<Entry<'s, T>>,
    /// The names of all variables, in the order of the model.
    pub(super) variables: Vec<String>,
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
    Array(Any<CowArray<'s, T, IxDyn>, CowArray<'s, bf16, IxDyn>, CowArray<'s, f16, IxDyn>>),
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
        arrays: Vec<(String, AnyArray<'s, T>)>,
        contents: Contents,
    ) -> Result<Self, Error> {
        if optimizer.distribution().is_some() && optimizer.micro_step() > 0 && contents == Contents::Raw {
            return Err(Error::BetweenMicroSteps { micro_step: optimizer.micro_step() });
        }
        optimizer.check_names(arrays.iter().map(|(name, _)| name.as_str()))?;
        let places = places(optimizer, &arrays)?;
        let state: Vec<_> = optimizer.state()?.collect();
        let tracked: Vec<String> = optimizer.variables().map(|(name, _)| name.to_owned()).collect();
        let mut tensors = Vec::with_capacity(arrays.len() + state.len());
        let mut variables = Vec::with_capacity(arrays.len());
        for (name, array) in arrays {
            let place = places[&name].clone();
            let array = match contents.slot() {
                Some(slot) => Any::Full(average(optimizer, &name, slot)?),
                None => match place.part_of(array) {
                    Any::Full(array) => Any::Full(array.into()),
                    Any::Bf16(array) => Any::Bf16(array.into()),
                    Any::F16(array) => Any::F16(array.into()),
                },
            };
            variables.push(name.clone());
            tensors.push(Entry { name, numbers: Numbers::Array(array), place: Some(place) });
        }
        let of_state = state.into_iter().filter(|entry| contents == Contents::Raw || entry.name == ITERATIONS);
        tensors.extend(of_state.map(|StateEntry { name, value, variable }| {
            let place = |shape: &[usize]| {
                let place = variable.map(|variable| &places[&tracked[variable]]);
                // The marks of rows with accumulated gradients do not have the shape of the variable.
                place.filter(|place| place.part.shape == shape).cloned()
            };
            let (numbers, place) = match value {
                StateValue::Iterations(count) => (Numbers::Whole(count), None),
                StateValue::Scalar(number) => (Numbers::Scalar(number), None),
                StateValue::Array(array) => {
                    let place = place(array.shape());
                    (Numbers::Array(Any::Full(array)), place)
                }
                StateValue::Bf16(array) => {
                    let place = place(array.shape());
                    (Numbers::Array(Any::Bf16(array)), place)
                }
            };
            Entry { name, numbers, place }
        }));
        // The order of the safetensors library, so that numbers are aligned.
        tensors.sort_by(|a, b| {
            let width = |entry: &Entry<'_, T>| entry.numbers.dtype().bitsize();
            width(b).cmp(&width(a)).then_with(|| a.name.cmp(&b.name))
        });
        let tracked = if contents == Contents::Raw { tracked } else { Vec::new() };
        Ok(Self { tensors, variables, tracked })
    }
}

fn shape_of<'a, T>(array: &'a AnyArray<'_, T>) -> &'a [usize] {
    match array {
        Any::Full(array) => array.shape(),
        Any::Bf16(array) => array.shape(),
        Any::F16(array) => array.shape(),
    }
}

/// The layout of each variable. All variables of the optimizer are given, in the shapes of their slots.
fn places<R: UpdateRule<T>, T: Element>(
    optimizer: &Optimizer<R, T>,
    arrays: &[(String, AnyArray<'_, T>)],
) -> Result<HashMap<String, Place>, Error> {
    let mut known: HashMap<&str, &[usize]> = optimizer.variables().collect();
    let mut places = HashMap::with_capacity(arrays.len());
    for (name, array) in arrays {
        let place = Place::of(optimizer.distribution(), name, shape_of(array))?;
        if let Some(expected) = known.remove(name.as_str()).filter(|&expected| expected != place.part.shape) {
            let (variable, expected, found) = (name.clone(), expected.to_vec(), place.part.shape.clone());
            return Err(opt_core::Error::VariableShape { variable, expected, found }.into());
        }
        places.insert(name.clone(), place);
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
) -> Result<CowArray<'s, T, IxDyn>, Error> {
    match optimizer.slot(variable, slot)? {
        StateValue::Array(array) => Ok(array),
        _ => {
            let known = optimizer.slot_names().into_iter().map(str::to_owned).collect();
            Err(opt_core::Error::UnknownSlot { slot: slot.to_owned(), known }.into())
        }
    }
}
