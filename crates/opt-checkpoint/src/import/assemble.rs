//! From the arrays of a file to the state of an optimizer, or to variables: first all is compared, then all is
//! assigned.

use std::collections::HashSet;
use std::path::Path;

use opt_core::model::{Any, AnyArray};
use opt_core::rule::{SlotInit, SlotSpec};
use opt_core::state::{StateKind, StateValue};
use opt_core::{Ema, Optimizer, UpdateRule, Variable};

use super::foreign::{Converted, Named};
use super::options::{ImportOptions, Imported};
use crate::element::Element;
use crate::error::{Error, Mismatch};
use crate::load::assign;
use crate::load::stage::Value;

/// The slot with the 32 bits of a variable in 16.
pub(super) const MASTER: &str = "master";

/// An entry that the state will have.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    pub(super) name: String,
    /// The name without the variable's.
    pub(super) slot: String,
    pub(super) kind: StateKind,
    /// The index of the variable.
    pub(super) variable: Option<usize>,
}

/// The source of an entry.
#[derive(Debug, Clone, Copy)]
pub(super) enum Found<'f> {
    Array(&'f Named),
    Number(f64),
    Iterations(u64),
    /// The variable has no state yet.
    New,
    Missing,
}

/// A file and its options.
#[derive(Debug, Clone, Copy)]
pub(super) struct Import<'f> {
    pub(super) path: &'f Path,
    pub(super) arrays: &'f [Named],
    pub(super) options: &'f ImportOptions,
}

/// The entries that the optimizer would have with these variables.
pub(super) fn wanted<R: UpdateRule<T>, T: Element>(
    optimizer: &Optimizer<R, T>,
    variables: &[Variable<'_, T>],
) -> Result<Vec<Wanted>, Error> {
    let shapes: Vec<Vec<usize>> = variables.iter().map(shape).collect::<Result<_, _>>()?;
    let named = variables.iter().zip(&shapes);
    let named = named.map(|(variable, shape)| (variable.name(), shape.as_slice(), variable.dtype()));
    let entries = optimizer.state_of(named).into_iter().map(|entry| Wanted {
        slot: entry.name.rsplit('/').next().unwrap_or_default().to_owned(),
        name: entry.name,
        kind: entry.value,
        variable: entry.variable,
    });
    Ok(entries.collect())
}

impl Import<'_> {
    /// Replaces the state of an optimizer by what was found for each entry. `used` are further arrays of the file that
    /// are accounted for.
    pub(super) fn state<R: UpdateRule<T>, T: Element>(
        &self,
        optimizer: &mut Optimizer<R, T>,
        variables: &mut [Variable<'_, T>],
        found: &[(Wanted, Found<'_>)],
        used: &[&Named],
    ) -> Result<Imported, Error> {
        let specs = optimizer.rule().slots();
        let mut report = Imported::default();
        let mut mismatches = Vec::new();
        let mut staged = Vec::new();
        for (wanted, found) in found {
            let Wanted { name, slot, kind, variable } = wanted;
            if !self.options.names.select(name) {
                report.kept.push(name.clone());
                staged.push(None);
                continue;
            }
            let converted = match found {
                Found::Array(named) => named.array.weight(name, kind, self.options.convert_types),
                Found::Number(number) => Ok(exact(StateValue::Scalar(*number))),
                Found::Iterations(count) => Ok(exact(StateValue::Iterations(*count))),
                Found::Missing => Err(Mismatch::Missing { name: name.clone() }),
                Found::New => {
                    report.missing.push(name.clone());
                    staged.push(Some(new_slot(slot, &specs, variable.map(|variable| &variables[variable]))?));
                    continue;
                }
            };
            match converted {
                Ok(Converted { value, is_rounded }) => {
                    report.loaded.push(name.clone());
                    report.rounded.extend(is_rounded.then(|| name.clone()));
                    staged.push(Some(value));
                }
                Err(mismatch) => mismatches.push(mismatch),
            }
        }
        let taken = found.iter().filter_map(|(wanted, found)| match found {
            Found::Array(named) if self.options.names.select(&wanted.name) => Some(*named),
            _ => None,
        });
        let used = used.iter().copied().chain(taken).map(|named| named.name.as_str());
        self.others(used.collect(), &mut report, &mut mismatches);
        self.finish(mismatches)?;
        if self.options.names.are_partial() {
            self.some(optimizer, variables, found, staged)?;
        } else {
            optimizer.restore(variables, staged.into_iter().flatten())?;
        }
        Ok(report)
    }

    /// Replaces some entries; the others stay unchanged.
    fn some<R: UpdateRule<T>, T: Element>(
        &self,
        optimizer: &mut Optimizer<R, T>,
        variables: &mut [Variable<'_, T>],
        found: &[(Wanted, Found<'_>)],
        staged: Vec<Option<StateValue<'static, T>>>,
    ) -> Result<(), Error> {
        // State that cannot be read must not be completed.
        drop(optimizer.state()?);
        optimizer.add_variables(variables)?;
        let mut staged: std::collections::HashMap<&str, StateValue<'static, T>> =
            found.iter().zip(staged).filter_map(|((wanted, _), value)| Some((wanted.name.as_str(), value?))).collect();
        let weights = optimizer.weights().into_iter();
        let weights: Vec<_> = weights.map(|entry| staged.remove(entry.name.as_str()).unwrap_or(entry.value)).collect();
        Ok(optimizer.set_weights(weights)?)
    }

    /// Replaces the values of variables by what was found for each of them.
    pub(super) fn variables<T: Element>(
        &self,
        variables: &mut [Variable<'_, T>],
        find: impl Fn(usize, &str) -> Option<usize>,
        is_bookkeeping: impl Fn(&str) -> bool,
    ) -> Result<Imported, Error> {
        let mut report = Imported::default();
        let mut mismatches = Vec::new();
        let mut staged = Vec::new();
        let mut used: HashSet<&str> =
            self.arrays.iter().map(|named| named.name.as_str()).filter(|name| is_bookkeeping(name)).collect();
        for (place, variable) in variables.iter().enumerate() {
            let name = variable.name();
            if !self.options.names.select(name) {
                report.kept.push(name.to_owned());
                staged.push(None);
                continue;
            }
            let Some(named) = find(place, name).map(|found| &self.arrays[found]) else {
                if self.options.allow_missing {
                    report.missing.push(name.to_owned());
                } else {
                    mismatches.push(Mismatch::Missing { name: name.to_owned() });
                }
                staged.push(None);
                continue;
            };
            used.insert(&named.name);
            match named.array.values(name, variable.dtype(), &shape(variable)?, self.options.convert_types) {
                Ok(Converted { value, is_rounded }) => {
                    report.loaded.push(name.to_owned());
                    report.rounded.extend(is_rounded.then(|| name.to_owned()));
                    staged.push(Some(Value::Array(value)));
                }
                Err(mismatch) => mismatches.push(mismatch),
            }
        }
        self.others(used, &mut report, &mut mismatches);
        if report.loaded.is_empty() && !report.missing.is_empty() {
            return Err(self.problem("no array has the name of a variable"));
        }
        self.finish(mismatches)?;
        assign::values(variables, staged)?;
        Ok(report)
    }

    /// The arrays of the file that nobody asked for.
    fn others(&self, used: HashSet<&str>, report: &mut Imported, mismatches: &mut Vec<Mismatch>) {
        let others = self.arrays.iter().map(|named| &named.name).filter(|name| !used.contains(name.as_str()));
        if self.options.allow_unexpected || self.options.names.are_partial() {
            report.skipped.extend(others.cloned());
        } else {
            mismatches.extend(others.map(|name| Mismatch::Unexpected { name: name.clone() }));
        }
    }

    fn finish(&self, mismatches: Vec<Mismatch>) -> Result<(), Error> {
        if mismatches.is_empty() { Ok(()) } else { Err(Error::Mismatch { path: self.path.to_owned(), mismatches }) }
    }

    pub(super) fn problem(&self, problem: impl Into<String>) -> Error {
        Error::Import { path: self.path.to_owned(), problem: problem.into() }
    }
}

fn exact<V>(value: V) -> Converted<V> {
    Converted { value, is_rounded: false }
}

pub(super) fn shape<T: Element>(variable: &Variable<'_, T>) -> Result<Vec<usize>, Error> {
    Ok(match variable.array()? {
        Any::Full(array) => array.shape().to_vec(),
        Any::Bf16(array) => array.shape().to_vec(),
        Any::F16(array) => array.shape().to_vec(),
    })
}

/// The value with which a slot starts.
fn new_slot<T: Element>(
    slot: &str,
    specs: &[SlotSpec],
    variable: Option<&Variable<'_, T>>,
) -> Result<StateValue<'static, T>, Error> {
    let spec = specs.iter().find(|spec| spec.name() == slot).map(SlotSpec::init);
    let copies = slot == Ema::SLOT || slot == MASTER || spec == Some(SlotInit::Copy);
    if let Some(SlotInit::Scalar(initial) | SlotInit::Shared(initial)) = spec {
        return Ok(StateValue::Scalar(initial));
    }
    let Some(variable) = variable else { return Ok(StateValue::Iterations(0)) };
    let copy = match variable.array()? {
        AnyArray::Full(array) => array.to_owned(),
        AnyArray::Bf16(array) => array.mapv(|number| T::from_f32(number.to_f32())),
        AnyArray::F16(array) => array.mapv(|number| T::from_f32(number.to_f32())),
    };
    Ok(match spec {
        _ if copies => copy.into(),
        Some(SlotInit::Ones) => copy.mapv(|_| T::literal(1.0)).into(),
        _ => copy.mapv(|_| T::literal(0.0)).into(),
    })
}
