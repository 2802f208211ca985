//! From the arrays of a file to the state of an optimizer, or to variables: first all is compared, then all is
//! assigned.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use opt_core::model::{Any, AnyArray};
use opt_core::rule::{SlotInit, SlotSpec};
use opt_core::state::{GOOD_STEPS, LOSS_SCALE, MICRO_STEP, StateKind, StateValue};
use opt_core::{Ema, Master, Optimizer, UpdateRule, Variable};

use super::foreign::{Converted, Named};
use super::options::{ImportOptions, Imported};
use crate::element::Element;
use crate::error::{Error, Mismatch};
use crate::load::assign;
use crate::load::stage::Value;

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

impl Wanted {
    /// Whether the slot is what the optimizer remembers of a variable in 16 bits, which other systems do not save.
    pub(super) fn is_master(&self) -> bool {
        Master::SLOTS.contains(&self.slot.as_str())
    }
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

/// Numbers of accumulation and loss scaling, which other libraries do not keep with the state: they start anew.
const OF_ENGINE: [&str; 3] = [MICRO_STEP, LOSS_SCALE, GOOD_STEPS];

/// The initial values of these numbers, where the optimizer has them. In its list they follow the step counter.
fn of_engine<R: UpdateRule<T>, T: Element>(optimizer: &Optimizer<R, T>) -> Vec<StateValue<'static, T>> {
    let entries = optimizer.state_of([], false).into_iter().filter(|entry| OF_ENGINE.contains(&entry.name.as_str()));
    let scale = optimizer.loss_scale();
    entries.map(|entry| StateValue::Scalar(if entry.name == LOSS_SCALE { scale } else { 0.0 })).collect()
}

/// The entries that the optimizer would have with these variables.
pub(super) fn wanted<R: UpdateRule<T>, T: Element>(
    optimizer: &Optimizer<R, T>,
    variables: &[Variable<'_, T>],
) -> Result<Vec<Wanted>, Error> {
    let shapes: Vec<Vec<usize>> = variables.iter().map(shape).collect::<Result<_, _>>()?;
    let named = variables.iter().zip(&shapes);
    let named = named.map(|(variable, shape)| (variable.name(), shape.as_slice(), variable.dtype()));
    let entries =
        optimizer.state_of(named, false).into_iter().filter(|entry| !OF_ENGINE.contains(&entry.name.as_str()));
    let entries = entries.map(|entry| Wanted {
        slot: entry.name.rsplit('/').next().unwrap_or_default().to_owned(),
        name: entry.name,
        kind: entry.value,
        variable: entry.variable,
    });
    Ok(entries.collect())
}

impl<'f> Import<'f> {
    /// Replaces the state of an optimizer by what was found for each entry. `used` are further arrays of the file that
    /// are accounted for.
    pub(super) fn state<R: UpdateRule<T>, T: Element>(
        &self,
        optimizer: &mut Optimizer<R, T>,
        variables: &mut [Variable<'_, T>],
        found: &[(Wanted, Found<'f>)],
        used: &[&'f Named],
    ) -> Result<Imported, Error> {
        let specs = optimizer.rule().slots();
        let mut gathered = Gathered::new(self, used);
        for (wanted, found) in found {
            let Wanted { name, slot, kind, variable } = wanted;
            match found {
                _ if !self.options.names.select(name) => gathered.keep(name),
                Found::Array(named) => {
                    gathered.take(name, named, named.array.weight(name, kind, self.options.convert_types));
                }
                Found::Number(number) => gathered.put(name, StateValue::Scalar(*number)),
                Found::Iterations(count) => gathered.put(name, StateValue::Iterations(*count)),
                Found::New => {
                    let variable = variable.map(|variable| &variables[variable]);
                    gathered.start(name, Some(new_slot(slot, &specs, variable)?));
                }
                Found::Missing => gathered.miss(name),
            }
        }
        let (report, values) = gathered.finish()?;
        if self.options.names.are_partial() {
            let entries = found.iter().map(|(wanted, _)| wanted);
            let replaced: Vec<_> = entries.zip(values).filter_map(|(wanted, value)| Some((wanted, value?))).collect();
            replace_some(optimizer, variables, replaced)?;
        } else {
            // A variable of which the file has nothing has no state yet, here as there.
            let in_file =
                |(wanted, found): &(Wanted, Found<'f>)| wanted.variable.filter(|_| matches!(found, Found::Array(_)));
            let with_state: HashSet<usize> = found.iter().filter_map(in_file).collect();
            let is_new = |wanted: &Wanted| wanted.variable.is_some_and(|variable| !with_state.contains(&variable));
            let restored = found.iter().zip(values).filter(|((wanted, _), _)| !is_new(wanted));
            let mut model = chosen(variables, |place, _| with_state.contains(&place));
            let mut values: Vec<StateValue<'_, T>> = restored.filter_map(|(_, value)| value).collect();
            let behind_counter = 1.min(values.len());
            drop(values.splice(behind_counter..behind_counter, of_engine(optimizer)));
            optimizer.restore(&mut model, values)?;
        }
        Ok(report)
    }

    /// Replaces the values of variables by the arrays that `find` names by their places in the file.
    pub(super) fn variables<T: Element>(
        &self,
        variables: &mut [Variable<'_, T>],
        find: impl Fn(usize, &str) -> Option<usize>,
        is_bookkeeping: impl Fn(&str) -> bool,
    ) -> Result<Imported, Error> {
        let used: Vec<&Named> = self.arrays.iter().filter(|named| is_bookkeeping(&named.name)).collect();
        let mut gathered = Gathered::new(self, &used);
        for (place, variable) in variables.iter().enumerate() {
            let name = variable.name();
            match find(place, name).map(|found| &self.arrays[found]) {
                _ if !self.options.names.select(name) => gathered.keep(name),
                Some(named) => {
                    let shape = shape(variable)?;
                    let values = named.array.values(name, variable.dtype(), &shape, self.options.convert_types);
                    gathered.take(name, named, values);
                }
                None if self.options.allow_missing => gathered.start(name, None),
                None => gathered.miss(name),
            }
        }
        let (report, values) = gathered.finish()?;
        if report.loaded.is_empty() && !report.missing.is_empty() {
            return Err(self.problem("no array has the name of a variable"));
        }
        assign::values(variables, values.into_iter().map(|value| value.map(Value::Array)).collect())?;
        Ok(report)
    }

    pub(super) fn problem(&self, problem: impl Into<String>) -> Error {
        Error::Import { path: self.path.to_owned(), problem: problem.into() }
    }
}

/// What an import has so far, entry by entry. Nothing is assigned yet.
struct Gathered<'f, V> {
    import: Import<'f>,
    report: Imported,
    mismatches: Vec<Mismatch>,
    /// None for an entry that stays unchanged.
    values: Vec<Option<V>>,
    /// The names of the arrays that are accounted for.
    used: HashSet<&'f str>,
}

impl<'f, V> Gathered<'f, V> {
    fn new(import: &Import<'f>, used: &[&'f Named]) -> Self {
        let used = used.iter().map(|named| named.name.as_str()).collect();
        Self { import: *import, report: Imported::default(), mismatches: Vec::new(), values: Vec::new(), used }
    }

    /// An entry with the numbers of an array.
    fn take(&mut self, name: &str, from: &'f Named, converted: Result<Converted<V>, Mismatch>) {
        self.used.insert(&from.name);
        match converted {
            Ok(Converted { value, is_rounded }) => {
                self.report.rounded.extend(is_rounded.then(|| name.to_owned()));
                self.put(name, value);
            }
            Err(mismatch) => self.mismatches.push(mismatch),
        }
    }

    fn put(&mut self, name: &str, value: V) {
        self.report.loaded.push(name.to_owned());
        self.values.push(Some(value));
    }

    /// An entry of which the file may have nothing.
    fn start(&mut self, name: &str, value: Option<V>) {
        self.report.missing.push(name.to_owned());
        self.values.push(value);
    }

    fn miss(&mut self, name: &str) {
        self.mismatches.push(Mismatch::Missing { name: name.to_owned() });
    }

    /// An entry that is not to be loaded.
    fn keep(&mut self, name: &str) {
        self.report.kept.push(name.to_owned());
        self.values.push(None);
    }

    /// All values, if everything fits and nothing is left over.
    fn finish(mut self) -> Result<(Imported, Vec<Option<V>>), Error> {
        let Import { path, arrays, options } = self.import;
        let others = arrays.iter().map(|named| &named.name).filter(|name| !self.used.contains(name.as_str()));
        if options.allow_unexpected || options.names.are_partial() {
            self.report.skipped.extend(others.cloned());
        } else {
            self.mismatches.extend(others.map(|name| Mismatch::Unexpected { name: name.clone() }));
        }
        if self.report.loaded.is_empty() && options.names.are_partial() && self.mismatches.is_empty() {
            return Err(Error::NothingSelected { path: path.to_owned() });
        }
        if self.mismatches.is_empty() {
            return Ok((self.report, self.values));
        }
        Err(Error::Mismatch { path: path.to_owned(), mismatches: self.mismatches })
    }
}

/// Replaces entries of the state by name; the others stay unchanged.
fn replace_some<R: UpdateRule<T>, T: Element>(
    optimizer: &mut Optimizer<R, T>,
    variables: &mut [Variable<'_, T>],
    replaced: Vec<(&Wanted, StateValue<'static, T>)>,
) -> Result<(), Error> {
    // State that cannot be read must not be completed.
    drop(optimizer.state()?);
    let known: HashSet<String> = optimizer.variables().map(|(name, _)| name.to_owned()).collect();
    let of_file: HashSet<usize> = replaced.iter().filter_map(|(wanted, _)| wanted.variable).collect();
    let mut new = chosen(variables, |place, name| of_file.contains(&place) && !known.contains(name));
    optimizer.add_variables(&mut new)?;
    let mut replaced: HashMap<&str, _> = replaced.into_iter().map(|(wanted, v)| (wanted.name.as_str(), v)).collect();
    let weights = optimizer.weights().into_iter();
    let weights: Vec<_> = weights.map(|entry| replaced.remove(entry.name.as_str()).unwrap_or(entry.value)).collect();
    assign::set_weights(optimizer, &mut new, weights)
}

/// Some of the variables, by place and name.
fn chosen<'v, T: Element>(
    variables: &'v mut [Variable<'_, T>],
    is_chosen: impl Fn(usize, &str) -> bool,
) -> Vec<Variable<'v, T>> {
    let all = variables.iter_mut().enumerate();
    let chosen = all.filter(|(place, variable)| is_chosen(*place, variable.name()));
    chosen.map(|(_, variable)| variable.reborrow()).collect()
}

/// The shape of a variable in any type.
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
    let copies = slot == Ema::SLOT || slot == Master::SLOTS[0] || spec == Some(SlotInit::Copy);
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
