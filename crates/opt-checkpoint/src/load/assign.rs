//! The part of loading that writes. Everything was checked before.

use std::collections::{HashMap, HashSet};

use ndarray::{ArrayD, ArrayViewMutD, Zip};
use opt_core::model::Any;
use opt_core::state::{StateEntry, StateValue};
use opt_core::{Optimizer, UpdateRule, Variable};

use super::compare;
use super::select::Tracked;
use super::stage::{Staged, Value};
use crate::element::Element;
use crate::error::Error;

/// Replaces all state of the optimizer. If the optimizer refuses, it does so before any change.
pub(super) fn all_state<R: UpdateRule<T>, T: Element>(
    optimizer: &mut Optimizer<R, T>,
    variables: &mut [Variable<'_, T>],
    tracked: &[Tracked],
    staged: Staged<T>,
) -> Result<(), Error> {
    Ok(optimizer.restore(&mut in_order(variables, tracked), staged.into_iter().flatten().map(Value::into_weight))?)
}

/// The variables that will have slots, in the order of their records.
fn in_order<'v, T: Element>(variables: &'v mut [Variable<'_, T>], tracked: &[Tracked]) -> Vec<Variable<'v, T>> {
    let places: HashMap<&str, usize> =
        tracked.iter().enumerate().map(|(i, tracked)| (tracked.name.as_str(), i)).collect();
    let placed = |variable: &'v mut Variable<'_, T>| Some((*places.get(variable.name())?, variable.reborrow()));
    let mut placed: Vec<_> = variables.iter_mut().filter_map(placed).collect();
    placed.sort_by_key(|(place, _)| *place);
    placed.into_iter().map(|(_, variable)| variable).collect()
}

/// Replaces some entries. The others, also those of new variables, stay unchanged.
pub(super) fn some_state<R: UpdateRule<T>, T: Element>(
    optimizer: &mut Optimizer<R, T>,
    variables: &mut [Variable<'_, T>],
    tracked: &[Tracked],
    staged: Staged<T>,
) -> Result<(), Error> {
    // State that cannot be read must not be completed.
    drop(optimizer.state()?);
    // Known variables come first in the list.
    let mut new = in_order(variables, &tracked[optimizer.variables().count()..]);
    optimizer.add_variables(&mut new)?;
    let replaced = |(weight, staged): (StateEntry<StateValue<'static, T>>, Option<Value<T>>)| {
        staged.map_or(weight.value, Value::into_weight)
    };
    let weights: Vec<StateValue<'static, T>> = optimizer.weights().into_iter().zip(staged).map(replaced).collect();
    set_weights(optimizer, &mut new, weights)
}

/// Replaces all state, or forgets the variables that were added for it.
pub(crate) fn set_weights<R: UpdateRule<T>, T: Element>(
    optimizer: &mut Optimizer<R, T>,
    added: &mut [Variable<'_, T>],
    weights: Vec<StateValue<'static, T>>,
) -> Result<(), Error> {
    let refused = optimizer.set_weights(weights);
    if refused.is_err() && !added.is_empty() {
        optimizer.reset(added)?;
    }
    Ok(refused?)
}

/// A slot of a variable.
pub(super) type SlotOf = (String, String);

/// The slots that are not loaded, of variables that are.
pub(super) fn outdated<R: UpdateRule<T>, T: Element>(
    optimizer: &Optimizer<R, T>,
    variables: &[Variable<'_, T>],
    tracked: &[Tracked],
    values: &Staged<T>,
    state: &Staged<T>,
) -> Vec<SlotOf> {
    let accumulated = optimizer.micro_step() > 0;
    let with_values = variables.iter().zip(values).filter(|(_, value)| value.is_some());
    let loaded: HashSet<&str> = with_values.map(|(variable, _)| variable.name()).collect();
    let entries = optimizer.state_of(compare::parts(tracked), accumulated).into_iter().zip(state);
    let kept = entries.filter(|(_, staged)| staged.is_none()).filter_map(|(entry, _)| {
        let variable = &tracked[entry.variable?].name;
        let slot = entry.name.strip_prefix(variable)?.strip_prefix('/')?;
        Some((variable.clone(), slot.to_owned()))
    });
    kept.filter(|(variable, _)| loaded.contains(variable.as_str())).collect()
}

/// Starts those of the slots anew that are copies of their variables. Returns their names.
pub(super) fn restart_copies<R: UpdateRule<T>, T: Element>(
    optimizer: &mut Optimizer<R, T>,
    variables: &mut [Variable<'_, T>],
    outdated: Vec<SlotOf>,
) -> Result<Vec<String>, Error> {
    let copies: HashSet<String> = optimizer.copy_slots().into_iter().map(str::to_owned).collect();
    let mut by_variable: HashMap<String, Vec<String>> = HashMap::new();
    for (variable, slot) in outdated.into_iter().filter(|(_, slot)| copies.contains(slot)) {
        by_variable.entry(variable).or_default().push(slot);
    }
    let mut restarted = Vec::new();
    for variable in variables {
        let Some(slots) = by_variable.get(variable.name()) else { continue };
        let names: Vec<&str> = slots.iter().map(String::as_str).collect();
        optimizer.reset_slots(std::slice::from_mut(variable), &names)?;
        restarted.extend(slots.iter().map(|slot| format!("{}/{slot}", variable.name())));
    }
    Ok(restarted)
}

/// Writes the variables.
pub(crate) fn values<T: Element>(variables: &mut [Variable<'_, T>], staged: Staged<T>) -> Result<(), Error> {
    for (variable, staged) in variables.iter_mut().zip(staged) {
        let Some(Value::Array(value)) = staged else { continue };
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
