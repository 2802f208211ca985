//! The first phase of a step: every check that does not need the values of the numbers. Writes nothing.

use std::collections::HashSet;
use std::sync::Arc;

use ndarray::{ArrayView, ArrayViewMut, IxDyn};

use super::super::Optimizer;
use super::super::distributed::shards;
use super::super::form::{Form, in_order, in_order_mut, memory_order};
use super::super::groups::{Groups, PerGroup};
use super::super::names::NewName;
use super::super::records::{Record, Records};
use super::input::{Input, InputGradient, SparseGradient};
use super::storage::{AnyValue, Value, Values};
use crate::config::{Dialect, HyperparameterError, require};
use crate::error::Error;
use crate::gradient::{Gradient, Indices};
use crate::precision::{Any, each, unbox};
use crate::real::{DType, Scalar};
use crate::report::{Outcome, StepReport};
use crate::rule::UpdateRule;
use crate::step_options::StepOptions;
use crate::variable::Variable;
use crate::view::{Change, Memory, Read, Shape, ShapeMismatch, View, ViewMut};

/// The last step that is allowed. Restored state may hold any count, and rules compute with the numbers of the next two
/// steps, which must not wrap around.
const LAST_ITERATION: u64 = u64::MAX - 2;

/// The checked parts of a step that do not depend on its variables.
#[derive(Debug, Clone)]
pub(crate) struct Start {
    /// The rates of each group.
    pub(crate) rates: PerGroup<Rates>,
    /// The factor of all gradients: they are of the scaled loss, or a sum of several micro-steps.
    pub(crate) factor: f64,
    /// The report of a step in which nothing happens.
    pub(crate) report: StepReport,
}

/// The rates of a group in one step.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rates {
    pub(crate) learning_rate: f64,
    /// Weight decay times learning rate.
    pub(crate) decay: Option<f64>,
}

impl<R: UpdateRule<T>, T: Scalar> Optimizer<R, T> {
    /// Every check that a rank makes before it communicates with the others.
    pub(in crate::optimizer) fn check<'a>(
        &mut self,
        variables: impl Iterator<Item = Variable<'a, T>>,
        needs_gradients: bool,
        options: &StepOptions,
    ) -> Result<(Start, Vec<Input<'a, T>>), Error> {
        let start = self.before_variables(options)?;
        let mut given = 0;
        let inputs = self.trained(variables.inspect(|_| given += 1))?;
        if inputs.is_empty() && given > 0 {
            return Err(Error::AllFrozen { variables: given });
        }
        if needs_gradients && !inputs.is_empty() && inputs.iter().all(|input| input.gradient.is_none()) {
            return Err(Error::NoGradients { variables: inputs.len() });
        }
        self.check_exclusions(&inputs)?;
        self.check_groups(&inputs)?;
        Ok((Start { factor: options.factor()? / self.scaling.scale, ..start }, inputs))
    }

    /// The rates of a step, if there can be one. The factor of the gradients is still 1.
    pub(super) fn before_variables(&self, options: &StepOptions) -> Result<Start, Error> {
        self.ready()?;
        if self.iterations >= LAST_ITERATION {
            let error = HyperparameterError {
                name: "iterations".to_owned(),
                value: self.iterations as f64,
                expected: "a count that can go on".to_owned(),
            };
            return Err(error.into());
        }
        let mut rates = PerGroup::new();
        for group in 0..self.groups.len() {
            rates.push(self.rates(group, options)?);
        }
        let names = self.groups.own().iter().map(|group| Arc::clone(&group.name));
        let report = StepReport {
            outcome: Outcome::NoVariables,
            iterations: self.iterations,
            learning_rate: rates[0].learning_rate,
            group_learning_rates: names.zip(rates[1..].iter().map(|rates| rates.learning_rate)).collect(),
            global_norm: None,
            clip_factor: None,
            non_finite: None,
        };
        Ok(Start { rates, factor: 1.0, report })
    }

    /// Leaves out the variables that have never had a gradient: they get no slots.
    pub(in crate::optimizer) fn leave_out_frozen(&self, inputs: &mut Vec<Input<'_, T>>) {
        let known = inputs.partition_point(|input| input.place < self.records.len());
        if inputs[known..].iter().all(|input| input.gradient.is_some()) {
            return;
        }
        inputs.retain(|input| input.new.is_none() || input.gradient.is_some());
        for (number, input) in inputs[known..].iter_mut().enumerate() {
            input.place = self.records.len() + number;
        }
    }

    /// Checks once that the variables that are excluded from weight decay by name exist.
    fn check_exclusions(&mut self, inputs: &[Input<'_, T>]) -> Result<(), Error> {
        let (records, groups) = (&self.records, &self.groups);
        let is_new = |name: &str| inputs.iter().any(|input| input.new.is_some() && input.name == name);
        self.options
            .weight_decay
            .check_names(|name| records.get(name).is_some() || groups.has_frozen(name) || is_new(name))
    }

    /// The rates of a group, checked.
    fn rates(&self, group: usize, options: &StepOptions) -> Result<Rates, Error> {
        let rates = |group| {
            let learning_rate = self.learning_rate_in(group, options);
            require_in::<T>("learning_rate", learning_rate)?;
            let default = self.options.weight_decay.rate.as_ref();
            let weight_decay = self.groups.weight_decay_at(group, default, self.schedule_step());
            let Some(rate) = weight_decay else { return Ok(Rates { learning_rate, decay: None }) };
            let dialect = self.groups.ruling_of(group).rule(&self.rule).dialect();
            Ok(Rates { learning_rate, decay: Some(decay::<T>(rate, learning_rate, dialect)?) })
        };
        rates(group).map_err(|error: Error| match group {
            0 => error,
            _ => Error::in_group(&self.groups.get(group).name, error),
        })
    }

    /// The variables, checked against their records; on ranks, with their placements.
    pub(in crate::optimizer) fn resolved<'a>(
        &mut self,
        variables: impl Iterator<Item = Variable<'a, T>>,
    ) -> Result<Vec<Input<'a, T>>, Error> {
        let inputs = resolve(variables, &mut self.records, &self.groups)?;
        self.located(inputs)
    }

    /// As [`resolved`](Self::resolved), without the variables of frozen groups.
    pub(in crate::optimizer) fn trained<'a>(
        &mut self,
        variables: impl Iterator<Item = Variable<'a, T>>,
    ) -> Result<Vec<Input<'a, T>>, Error> {
        self.groups.forget_unsure();
        if !self.groups.are_any_frozen() {
            return self.resolved(variables);
        }
        let mut trained = Vec::with_capacity(variables.size_hint().0);
        for (position, variable) in variables.enumerate() {
            let Variable { name, value, .. } = &variable;
            let record = self.records.place(name, position).map(|place| self.records.at(place).group);
            if !self.groups.is_frozen(name, record, || each!(&value.0, value => shape_of(name, value)).ok()) {
                trained.push(variable);
            }
        }
        self.resolved(trained.into_iter())
    }

    fn located<'a>(&mut self, mut inputs: Vec<Input<'a, T>>) -> Result<Vec<Input<'a, T>>, Error> {
        self.check_new(&inputs)?;
        if let Some(ranks) = &self.options.ranks {
            shards::locate(&**ranks, &self.records, &mut inputs)?;
        }
        Ok(inputs)
    }

    /// Checks the names of new variables, which are the last inputs.
    fn check_new(&self, inputs: &[Input<'_, T>]) -> Result<(), Error> {
        let new = inputs.iter().rev().take_while(|input| input.new.is_some());
        let is_half = |input: &Input<'_, T>| input.value.dtype(T::DTYPE) != T::DTYPE;
        let new: Vec<_> = new.map(|input| NewName { name: &input.name, is_half: is_half(input) }).collect();
        if new.is_empty() { Ok(()) } else { self.check_new_names(&new) }
    }
}

/// Weight decay times learning rate, checked.
pub(in crate::optimizer) fn decay<T: Scalar>(
    rate: f64,
    learning_rate: f64,
    dialect: Dialect,
) -> Result<f64, HyperparameterError> {
    require("weight_decay", rate, 0.0..)?;
    // Keras passes the number through 32 bits, also for variables of 64 bits.
    let is_rounded = T::DTYPE == DType::F64 && dialect == Dialect::Keras;
    let rate = if is_rounded { f64::from(rate as f32) } else { rate };
    require_in::<T>("weight_decay * learning_rate", rate * learning_rate)?;
    Ok(rate * learning_rate)
}

/// Accepts a number of at least 0 that is finite also in the element type.
pub(in crate::optimizer) fn require_in<T: Scalar>(name: &str, value: f64) -> Result<(), HyperparameterError> {
    require(name, value, 0.0..)?;
    if value <= T::LARGEST.as_() {
        return Ok(());
    }
    let expected = format!("at most {:e}, the largest number of {:?}", T::LARGEST.as_(), T::DTYPE);
    Err(HyperparameterError::new(name, value, expected))
}

/// Checks names, shapes and indices of a list of variables.
///
/// The inputs returned are in the order of the records.
pub(crate) fn resolve<'a, T: Scalar>(
    variables: impl Iterator<Item = Variable<'a, T>>,
    records: &mut Records<T>,
    groups: &Groups<T>,
) -> Result<Vec<Input<'a, T>>, Error> {
    let call = records.next_call();
    let mut inputs: Vec<Input<'a, T>> = Vec::with_capacity(variables.size_hint().0);
    let mut new_names = HashSet::new();
    // The place after that of the variable before: the right one, unless the order has changed.
    let mut guess = 0;
    for variable in variables {
        if !is_usual(&variable, (guess, call), records) {
            let input = resolve_one(variable, (guess, call), records, groups, &mut new_names)?;
            // A variable without a record yet stands between others.
            guess = if input.new.is_none() { input.place + 1 } else { guess };
            inputs.push(input);
            continue;
        }
        // Only what is needed is moved: the processor waits for copies of what was just written.
        if let Variable { name, value: ViewMut(Any::Full(Memory::Filled { data, .. })), gradient } = variable
            && let Some(Gradient::Dense(View(Any::Full(Memory::Filled { data: numbers, .. })))) = gradient
        {
            let group = records.at_mut(guess).see(call);
            let value = Any::Full(Value::Slice(data));
            let gradient = Some(InputGradient::Dense(Any::Full(Values::Slice(numbers))));
            inputs.push(Input { place: guess, name, group, value, gradient, new: None, placed: None });
            guess += 1;
        }
    }
    if !inputs.is_sorted_by_key(|input| input.place) {
        inputs.sort_by_key(|input| input.place);
    }
    Ok(inputs)
}

/// Whether a variable is as in the list before, and of the usual kind: contiguous numbers with a dense gradient.
#[inline(always)]
fn is_usual<T: Scalar>(variable: &Variable<'_, T>, (guess, call): (usize, u64), records: &Records<T>) -> bool {
    if let Variable { name, value: ViewMut(Any::Full(Memory::Filled { shape, .. })), gradient } = variable
        && let Some(Gradient::Dense(View(Any::Full(Memory::Filled { shape: of_gradient, .. })))) = gradient
    {
        return records.is_usual(guess, call, name, [shape, of_gradient]);
    }
    false
}

/// Checks one variable of the list of this call; tries the place `guess` first.
#[inline(never)]
fn resolve_one<'a, T: Scalar>(
    Variable { name, value, gradient }: Variable<'a, T>,
    (guess, call): (usize, u64),
    records: &mut Records<T>,
    groups: &Groups<T>,
    new_names: &mut HashSet<String>,
) -> Result<Input<'a, T>, Error> {
    let is_sparse = matches!(gradient, Some(Gradient::Sparse { .. }));
    let (place, group, new) = match records.place(&name, guess) {
        Some(place) => {
            let record = records.at_mut(place);
            check_known(record, call, &name, &value)?;
            (place, record.see(call), None)
        }
        None if new_names.insert(name.to_string()) => {
            let shape: Shape = each!(&value.0, value => shape_of(&name, value))?.into();
            let group = groups.choose(&name, &shape);
            let axes = memory_order(&value).filter(|_| !is_sparse && !records.are_row_major());
            (records.len() + new_names.len() - 1, group, Some(Box::new(Form { shape, axes, whole: None })))
        }
        None => return Err(Error::DuplicateVariable { name: name.into_owned() }),
    };
    let form = new.as_deref().unwrap_or_else(|| &records.at(place).form);
    // Sparse gradients need row-major order: a row must be contiguous.
    let axes = form.axes.as_deref().filter(|_| !is_sparse);
    let gradient = match gradient {
        None => None,
        Some(Gradient::Dense(view)) => Some(dense(&name, form.given(), view, axes)?),
        Some(Gradient::Sparse { indices, values }) => Some(sparse(&name, form, indices, values)?),
    };
    let value = unbox!(value.0, value => stored(value, axes));
    Ok(Input { place, name, group, value, gradient, new, placed: None })
}

/// Checks a variable against its record, and that the list has it only once.
fn check_known<T: Scalar>(record: &Record<T>, call: u64, name: &str, value: &ViewMut<'_, T>) -> Result<(), Error> {
    let shape = each!(&value.0, value => shape_of(name, value))?;
    if record.seen_in == call {
        return Err(Error::DuplicateVariable { name: name.to_owned() });
    }
    check_form(name, record.form.given(), record.dtype, shape, value.0.dtype(T::DTYPE))
}

/// Compares the shape and the element type of a variable with those that it must have.
fn check_form(name: &str, expected: &[usize], dtype: DType, shape: &[usize], found: DType) -> Result<(), Error> {
    if expected != shape {
        let (expected, found) = (expected.to_vec(), shape.to_vec());
        return Err(Error::VariableShape { variable: name.to_owned(), expected, found });
    }
    if dtype != found {
        return Err(Error::VariableType { variable: name.to_owned(), expected: dtype, found });
    }
    Ok(())
}

/// The numbers of a variable that was checked without them.
pub(in crate::optimizer) fn lent_value<'v, T: Scalar>(
    input: &Input<'_, T>,
    form: &Form,
    value: ViewMut<'v, T>,
) -> Result<AnyValue<'v, T>, Error> {
    let shape = each!(&value.0, value => shape_of(&input.name, value))?;
    check_form(&input.name, form.given(), input.value.dtype(T::DTYPE), shape, value.0.dtype(T::DTYPE))?;
    let is_sparse = matches!(input.gradient, Some(InputGradient::Sparse(_)));
    let axes = form.axes.as_deref().filter(|_| !is_sparse);
    Ok(unbox!(value.0, value => stored(value, axes)))
}

fn shape_of<'v, T>(name: &str, value: &'v Change<'_, T>) -> Result<&'v [usize], Error> {
    match value {
        Memory::Filled { shape, .. } => Ok(shape),
        Memory::Strided(view) => Ok(view.shape()),
        Memory::Described(described) => Ok(&described.shape),
        Memory::Mismatch(mismatch) => {
            let ShapeMismatch { elements, shape } = mismatch.as_ref().clone();
            Err(Error::VariableData { variable: name.to_owned(), elements, shape })
        }
    }
}

/// A value with its axes in stored order.
fn stored<'a, T>(value: Change<'a, T>, axes: Option<&[usize]>) -> Value<'a, T> {
    let view = match (value, axes) {
        (Memory::Filled { data, .. }, None) => return Value::Slice(data),
        (Memory::Filled { data, shape }, _) => {
            ArrayViewMut::from_shape(IxDyn(&shape), data).expect("the shape was checked")
        }
        (Memory::Strided(view), _) => *view,
        (Memory::Described(described), _) => {
            return Value::Later { len: described.shape.iter().product(), position: described.position };
        }
        (Memory::Mismatch(_), _) => unreachable!("the shape was checked"),
    };
    in_order_mut(view, axes).into()
}

/// Numbers to read, of a given shape, with their axes in stored order.
fn stored_values<'a, T>(
    values: Read<'a, T>,
    axes: Option<&[usize]>,
    fits: impl FnOnce(&[usize]) -> Result<(), Error>,
    mismatch: impl FnOnce(ShapeMismatch) -> Error,
) -> Result<Values<'a, T>, Error> {
    let view = match (values, axes) {
        (Memory::Filled { data, shape }, None) => {
            fits(&shape)?;
            return Ok(Values::Slice(data));
        }
        (Memory::Filled { data, shape }, _) => {
            fits(&shape)?;
            ArrayView::from_shape(IxDyn(&shape), data).expect("a view's shape fits its data")
        }
        (Memory::Strided(view), _) => {
            fits(view.shape())?;
            *view
        }
        (Memory::Mismatch(found), _) => return Err(mismatch(*found)),
        (Memory::Described(_), _) => unreachable!("gradients have numbers"),
    };
    Ok(in_order(view, axes).into())
}

fn dense<'a, T>(
    name: &str,
    shape: &[usize],
    gradient: View<'a, T>,
    axes: Option<&[usize]>,
) -> Result<InputGradient<'a, T>, Error> {
    let fits = |found: &[usize]| {
        if found == shape {
            return Ok(());
        }
        Err(Error::GradientShape { variable: name.to_owned(), gradient: found.to_vec(), shape: shape.to_vec() })
    };
    let mismatch = |mismatch| gradient_data(name, mismatch);
    Ok(InputGradient::Dense(unbox!(gradient.0, gradient => stored_values(gradient, axes, fits, mismatch)?)))
}

fn sparse<'a, T>(
    name: &str,
    form: &Form,
    indices: Indices<'_>,
    values: View<'a, T>,
) -> Result<InputGradient<'a, T>, Error> {
    let Some((&row_count, row_shape)) = form.given().split_first() else {
        return Err(Error::SparseScalar { variable: name.to_owned() });
    };
    let fits = |found: &[usize]| {
        if found.split_first() == Some((&indices.len(), row_shape)) {
            return Ok(());
        }
        let (variable, indices) = (name.to_owned(), indices.len());
        let expected = [&[indices], row_shape].concat();
        Err(Error::SparseShape { variable, indices, values: found.to_vec(), expected })
    };
    let mismatch = |mismatch| gradient_data(name, mismatch);
    let values = unbox!(values.0, values => stored_values(values, None, fits, mismatch)?);
    let rows = indices.rows(row_count).map_err(|(position, index)| Error::IndexOutOfRange {
        variable: name.to_owned(),
        position,
        index,
        rows: row_count,
    })?;
    Ok(InputGradient::Sparse(Box::new(SparseGradient { rows, values })))
}

fn gradient_data(name: &str, ShapeMismatch { elements, shape }: ShapeMismatch) -> Error {
    Error::GradientData { variable: name.to_owned(), elements, shape }
}
