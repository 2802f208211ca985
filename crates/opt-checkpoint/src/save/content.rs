//! What goes into a file: names and borrowed numbers.

use std::collections::{HashMap, HashSet};

use half::bf16;
use ndarray::ArrayViewD;
use opt_core::{Optimizer, Slot, StateValue, UpdateRule, Variable};
use safetensors::Dtype;

use crate::element::{Element, Number};
use crate::error::Error;
use crate::format::{Contents, ITERATIONS};

/// The metadata of safetensors has this name in the header.
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
    pub(super) numbers: Numbers<'s, T>,
}

/// Numbers where they are.
#[derive(Debug)]
pub(super) enum Numbers<'s, T> {
    Whole(u64),
    Scalar(f64),
    Array(ArrayViewD<'s, T>),
    Bf16(ArrayViewD<'s, bf16>),
}

impl<T: Element> Numbers<'_, T> {
    pub(super) fn dtype(&self) -> Dtype {
        match self {
            Self::Whole(_) => Dtype::U64,
            Self::Scalar(_) => Dtype::F64,
            Self::Array(_) => T::FILE_DTYPE,
            Self::Bf16(_) => bf16::FILE_DTYPE,
        }
    }

    pub(super) fn shape(&self) -> &[usize] {
        match self {
            Self::Whole(_) | Self::Scalar(_) => &[],
            Self::Array(array) => array.shape(),
            Self::Bf16(array) => array.shape(),
        }
    }
}

impl<'s, T: Element> Content<'s, T> {
    pub(super) fn collect<R: UpdateRule<T>>(
        optimizer: &'s Optimizer<R, T>,
        variables: &'s [Variable<'_, T>],
        contents: Contents,
    ) -> Result<Self, Error> {
        let shapes = optimizer.variables().collect::<HashMap<_, _>>();
        check(variables, &shapes)?;
        let state: Vec<_> = optimizer.state()?.collect();
        let tracked = optimizer.variables().map(|(name, _)| name.to_owned()).collect();
        let mut tensors = Vec::new();
        for variable in variables {
            let array = match contents.slot() {
                Some(slot) => average(optimizer, variable.name(), slot)?,
                None => variable.view()?,
            };
            tensors.push(Entry { name: variable.name().to_owned(), numbers: Numbers::Array(array) });
        }
        let of_state = state.into_iter().filter(|entry| contents == Contents::Raw || entry.name == ITERATIONS);
        tensors.extend(of_state.map(|entry| {
            let numbers = match entry.value {
                StateValue::Iterations(count) => Numbers::Whole(count),
                StateValue::Scalar(number) => Numbers::Scalar(number),
                StateValue::Array(array) => Numbers::Array(array),
                StateValue::Bf16(array) => Numbers::Bf16(array),
            };
            Entry { name: entry.name, numbers }
        }));
        // As the library of safetensors does, so that numbers are aligned.
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

/// All variables of the optimizer are given, in the shapes of their slots.
fn check<T: Element>(variables: &[Variable<'_, T>], known: &HashMap<&str, &[usize]>) -> Result<(), Error> {
    let mut missing: HashSet<&str> = known.keys().copied().collect();
    for variable in variables {
        let (name, found) = (variable.name(), variable.view()?.shape().to_vec());
        missing.remove(name);
        if let Some(expected) = known.get(name).filter(|&&expected| expected != found) {
            let (variable, expected) = (name.to_owned(), expected.to_vec());
            return Err(opt_core::Error::VariableShape { variable, expected, found }.into());
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    let mut names: Vec<String> = missing.into_iter().map(str::to_owned).collect();
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
