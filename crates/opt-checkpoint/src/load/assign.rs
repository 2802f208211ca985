//! The part of loading that writes. All of it was checked before.

use std::collections::{HashMap, HashSet};

use ndarray::{ArrayD, ArrayViewMutD, Zip};
use opt_core::{Any, Optimizer, UpdateRule, Variable, WeightValue};

use super::compare;
use super::select::Tracked;
use super::stage::{Staged, Value};
use crate::element::Element;
use crate::error::Error;

/// Replaces all that the optimizer knows. It refuses before it changes anything, if at all.
pub(super) fn all_state<R: UpdateRule<T>, T: Element>(
    optimizer: &mut Optimizer<R, T>,
    variables: &mut [Variable<'_, T>],
    tracked: &[Tracked],
    staged: &mut Staged<T>,
) -> Result<(), Error> {
    let names = optimizer.state_of(compare::parts(tracked)).into_iter().map(|spec| spec.name);
    let weights: Vec<WeightValue<T>> = names.filter_map(|name| staged.remove(&name).map(Value::into_weight)).collect();
    let mut known: Vec<Variable<'_, T>> = variables.iter_mut().map(Variable::reborrow).collect();
    let places: HashMap<&str, usize> =
        tracked.iter().enumerate().map(|(i, tracked)| (tracked.name.as_str(), i)).collect();
    let place = |variable: &Variable<'_, T>| places.get(variable.name());
    known.retain(|variable| place(variable).is_some());
    known.sort_by_key(|variable| place(variable).copied());
    Ok(optimizer.restore(known, weights)?)
}

/// Replaces some entries; the others, also those of new variables, stay as they are.
pub(super) fn some_state<R: UpdateRule<T>, T: Element>(
    optimizer: &mut Optimizer<R, T>,
    variables: &mut [Variable<'_, T>],
    tracked: &[Tracked],
    staged: &mut Staged<T>,
) -> Result<(), Error> {
    // What cannot be read must not be filled up.
    drop(optimizer.state()?);
    let known: HashSet<String> = optimizer.variables().map(|(name, _)| name.to_owned()).collect();
    let tracked: HashSet<&str> = tracked.iter().map(|tracked| tracked.name.as_str()).collect();
    let is_new =
        |variable: &&mut Variable<'_, T>| tracked.contains(variable.name()) && !known.contains(variable.name());
    let new = variables.iter_mut().filter(is_new);
    optimizer.add_variables(new.map(Variable::reborrow))?;
    let replaced = |weight: opt_core::Weight<T>| staged.remove(&weight.name).map_or(weight.value, Value::into_weight);
    let weights: Vec<WeightValue<T>> = optimizer.weights().into_iter().map(replaced).collect();
    Ok(optimizer.set_weights(weights)?)
}

/// Writes what is left: the variables.
pub(super) fn values<T: Element>(variables: &mut [Variable<'_, T>], staged: &mut Staged<T>) -> Result<(), Error> {
    for variable in variables {
        let Some(Value::Array(value)) = staged.remove(variable.name()) else { continue };
        match (variable.array_mut()?, value) {
            (Any::Full(old), Any::Full(new)) => replace(old, &new),
            (Any::Bf16(old), Any::Bf16(new)) => replace(old, &new),
            (Any::F16(old), Any::F16(new)) => replace(old, &new),
            _ => unreachable!("the types were compared"),
        }
    }
    Ok(())
}

fn replace<N: Copy>(old: ArrayViewMutD<'_, N>, new: &ArrayD<N>) {
    Zip::from(old).and(new).for_each(|old, new| *old = *new);
}
