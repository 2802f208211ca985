//! Replays recorded runs with our optimizers: variables, slots, state and configuration must agree.

mod mesh;
mod restore;

use mesh::Place;
use ndarray::{ArrayD, IxDyn};
use opt_checkpoint::Element;
use opt_core::config::FromConfig;
use opt_core::state::StateValue;
use opt_core::{DynOptimizer, Exclude, OptimizerBuilder, Registry, Scalar, Variable};
use opt_mesh::Mesh;
use serde_json::Value;

use crate::golden::{Case, File, OptimizerCase, RecordedGradient, RecordedStep, RecordedVariable, ScheduleCase};
use crate::golden_folder;

/// The result of a replay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Every number agrees.
    Passed,
    /// The first difference.
    Failed(String),
    /// The reason why the case is not replayed here.
    Skipped(String),
}

/// Rules and schedules for both element types.
#[derive(Debug, Clone)]
pub struct Registries {
    /// For `float32` cases.
    pub float32: Registry<f32>,
    /// For `float64` cases, and for schedules.
    pub float64: Registry<f64>,
}

/// Replays one recorded run; on threads, if the run was recorded on a device mesh.
#[must_use]
pub fn replay(case: &Case, registries: &Registries) -> Verdict {
    let case = match case {
        Case::Schedule(case) => return verdict(replay_schedule(case, &registries.float64)),
        Case::Optimizer(case) => case,
    };
    verdict(match &case.mesh {
        None => replay_at(case, registries, Place::Here),
        Some(dimensions) => mesh::on_threads(dimensions, |mesh| replay_at(case, registries, Place::On(mesh))),
    })
}

/// Replays one run that was recorded on a device mesh, as one of its ranks. Every rank must call this function.
#[must_use]
pub fn replay_on(mesh: &Mesh, case: &Case, registries: &Registries) -> Verdict {
    match case {
        Case::Optimizer(case) => verdict(replay_at(case, registries, Place::On(mesh))),
        Case::Schedule(_) => Verdict::Skipped("a schedule needs no mesh".to_owned()),
    }
}

fn replay_at(case: &OptimizerCase, registries: &Registries, place: Place<'_>) -> Result<(), String> {
    match case.dtype.as_str() {
        "float64" => Replay::run(case, &registries.float64, place),
        "float32" => Replay::run(case, &registries.float32, place),
        other => Err(format!("dtype {other:?} is neither float64 nor float32")),
    }
}

fn verdict(result: Result<(), String>) -> Verdict {
    match result {
        Ok(()) => Verdict::Passed,
        Err(reason) => Verdict::Failed(reason),
    }
}

/// Replays every case of a file of the workspace with one class of rule. Other classes, such as a wrapper around it,
/// are those of the workspace.
///
/// # Panics
///
/// When a case does not pass.
pub fn all_pass<R: FromConfig<f32> + FromConfig<f64>>(file: &str) {
    let mut registries = crate::registries();
    registries.float32.register::<R>();
    registries.float64.register::<R>();
    let cases = File::read(&golden_folder().join(file)).unwrap_or_else(|error| panic!("{error}")).cases;
    assert!(!cases.is_empty(), "{file} has no cases");
    for case in cases {
        let verdict = replay(&case, &registries);
        assert!(verdict == Verdict::Passed, "{file}: {}: {verdict:?}", case.name());
    }
}

fn replay_schedule(case: &ScheduleCase, registry: &Registry<f64>) -> Result<(), String> {
    let tolerance = Tolerance { rtol: case.rtol, atol: case.atol };
    let schedule = registry.schedules().hyper(&case.schedule).map_err(|error| error.to_string())?;
    for &(step, want) in &case.points {
        tolerance.check(&format!("step {step}"), &[schedule.at(step)], &[want])?;
    }
    same_config(&schedule.to_json().map_err(|error| error.to_string())?, &case.schedule)
}

/// A run in progress.
struct Replay<'c, T: Scalar> {
    case: &'c OptimizerCase,
    tolerance: Tolerance,
    optimizer: DynOptimizer<T>,
    place: Place<'c>,
    /// This rank's shards of the variables.
    variables: Vec<ArrayD<T>>,
}

impl<'c, T: Element> Replay<'c, T> {
    fn run(case: &'c OptimizerCase, registry: &Registry<T>, place: Place<'c>) -> Result<(), String> {
        let text = |error: opt_core::Error| error.to_string();
        let mut builder =
            OptimizerBuilder::from_config(&case.optimizer, registry).map_err(|error| error.to_string())?;
        if let Some(excluded) = &case.exclude_from_weight_decay {
            builder = builder.exclude_from_weight_decay(Exclude::patterns(&excluded.var_names));
        }
        if let Some(distributed) = place.distributed(&case.variables)? {
            builder = builder.distributed(distributed);
        }
        let variables =
            case.variables.iter().map(|variable| place.shard(variable, array(&variable.shape, &variable.value)?));
        let mut replay = Self {
            case,
            tolerance: Tolerance { rtol: case.rtol, atol: case.atol },
            optimizer: builder.build().map_err(text)?,
            place,
            variables: variables.collect::<Result<_, _>>()?,
        };
        if let Some(state) = &case.restore {
            restore::load(
                state,
                &case.optimizer,
                place,
                &mut replay.optimizer,
                &mut named(case, &mut replay.variables),
            )?;
        }
        replay.config()?;
        for (number, step) in (1..).zip(&case.steps) {
            replay.step(step).map_err(|reason| format!("step {number}: {reason}"))?;
        }
        replay.finalized()?;
        replay.weights()?;
        replay.shards()
    }

    fn step(&mut self, step: &RecordedStep) -> Result<(), String> {
        let text = |error: opt_core::Error| error.to_string();
        if let Some(learning_rate) = step.set_learning_rate {
            self.optimizer.set_learning_rate(learning_rate).map_err(text)?;
        }
        for (group, learning_rate) in &step.set_group_learning_rate {
            self.optimizer.set_group_learning_rate(group, *learning_rate).map_err(text)?;
        }
        step.freeze.iter().try_for_each(|group| self.optimizer.freeze(group)).map_err(text)?;
        step.unfreeze.iter().try_for_each(|group| self.optimizer.unfreeze(group)).map_err(text)?;
        if step.gradients.len() != self.variables.len() {
            return Err(format!("{} gradients for {} variables", step.gradients.len(), self.variables.len()));
        }
        let gradients = self.case.variables.iter().zip(&step.gradients);
        let gradients =
            gradients.map(|(variable, gradient)| gradient.as_ref().map(|g| self.given(g, variable)).transpose());
        let gradients: Vec<Option<Given<T>>> = gradients.collect::<Result<_, _>>()?;
        let variables = named(self.case, &mut self.variables).into_iter().zip(&gradients);
        let variables = variables.map(|(variable, gradient)| match gradient {
            None => variable,
            Some(Given { indices: None, values }) => variable.gradient(values),
            Some(Given { indices: Some(indices), values }) => variable.sparse_gradient(indices, values),
        });
        self.optimizer.apply_gradients(variables).map_err(text)?;
        self.after(step)
    }

    /// Compares variables, slots and the step counter with the recorded ones.
    fn after(&self, step: &RecordedStep) -> Result<(), String> {
        let expect = &step.expect;
        for ((variable, got), want) in self.case.variables.iter().zip(&self.variables).zip(&expect.variables) {
            let got = self.place.whole(variable, &got.view())?;
            self.tolerance.check(&format!("variable {:?}", variable.name), &numbers(&got), want)?;
        }
        for (variable, slots) in &expect.slots {
            for (name, want) in slots {
                let slot = self.optimizer.slot(variable, name).map_err(|error| error.to_string())?;
                let what = format!("slot {name:?} of variable {variable:?}");
                self.check_slot(&what, variable, &slot, want.elements())?;
            }
        }
        if let Some(want) = expect.loss_scale {
            self.tolerance.check("loss scale", &[self.optimizer.loss_scale()], &[want])?;
        }
        let iterations = self.optimizer.iterations();
        match expect.iterations {
            Some(want) if iterations != want => Err(format!("iterations: got {iterations}, want {want}")),
            _ => Ok(()),
        }
    }

    fn finalized(&mut self) -> Result<(), String> {
        let Some(finalized) = &self.case.finalized else { return Ok(()) };
        let mut values = self.variables.clone();
        self.optimizer
            .finalize_variable_values(&mut named(self.case, &mut values))
            .map_err(|error| error.to_string())?;
        for ((variable, got), want) in self.case.variables.iter().zip(&values).zip(finalized) {
            let got = self.place.whole(variable, &got.view())?;
            self.tolerance.check(&format!("finalized variable {:?}", variable.name), &numbers(&got), want)?;
        }
        Ok(())
    }

    fn weights(&self) -> Result<(), String> {
        let Some(want) = &self.case.weights else { return Ok(()) };
        let got = self.optimizer.weights();
        if got.len() != want.len() {
            return Err(format!("weights: got {}, want {}", got.len(), want.len()));
        }
        for (index, (got, want)) in got.iter().zip(want).enumerate() {
            let what = format!("weight {index} ({})", got.name);
            let variable = got.name.rsplit_once('/').map_or("", |(variable, _)| variable);
            let slot = match &got.value {
                StateValue::Iterations(count) => StateValue::Scalar(*count as f64),
                StateValue::Scalar(number) => StateValue::Scalar(*number),
                StateValue::Array(array) => {
                    let shape = self.variable(variable)?.shape.as_slice();
                    if shape != want.shape {
                        return Err(format!("{what}: got shape {shape:?}, want {:?}", want.shape));
                    }
                    array.view().into()
                }
                StateValue::Bf16(_) => return Err(format!("{what}: weights are widened")),
            };
            self.check_slot(&what, variable, &slot, want.value.elements())?;
        }
        Ok(())
    }

    /// Compares a whole slot, gathered from its shards.
    fn check_slot(&self, what: &str, variable: &str, got: &StateValue<'_, T>, want: &[f64]) -> Result<(), String> {
        match got {
            StateValue::Iterations(_) | StateValue::Scalar(_) => self.tolerance.check_slot(what, got, want),
            StateValue::Bf16(shard) => {
                let shard = shard.mapv(|x| T::from_f32(x.to_f32()));
                self.check_slot(what, variable, &shard.into(), want)
            }
            StateValue::Array(shard) => {
                let whole = self.place.whole(self.variable(variable)?, &shard.view())?;
                self.tolerance.check_slot(what, &whole.view().into(), want)
            }
        }
    }

    fn variable(&self, name: &str) -> Result<&'c RecordedVariable, String> {
        let mut variables = self.case.variables.iter();
        variables.find(|variable| variable.name == name).ok_or_else(|| format!("no variable {name:?} was recorded"))
    }

    /// The gradient of this rank's shard of a variable.
    fn given(&self, gradient: &RecordedGradient, variable: &RecordedVariable) -> Result<Given<T>, String> {
        let Given { indices, values } = Given::new(gradient, &variable.shape)?;
        match indices {
            None => Ok(Given { indices, values: self.place.shard(variable, values)? }),
            Some(indices) => self.place.rows(variable, indices, values),
        }
    }

    /// Compares this rank's shards after the last step with those recorded for the same rank.
    fn shards(&self) -> Result<(), String> {
        let Some(rank) = self.place.rank() else { return Ok(()) };
        for (name, shards) in self.case.shards.iter().flatten() {
            let place = self.case.variables.iter().position(|variable| variable.name == *name);
            let got = &self.variables[place.ok_or_else(|| format!("no variable {name:?} was recorded"))?];
            self.tolerance.check(&format!("shard {rank} of {name:?}"), &numbers(got), mesh::of_rank(shards, rank)?)?;
        }
        for (name, slots) in self.case.slot_shards.iter().flatten() {
            for (slot, shards) in slots {
                let got = self.optimizer.slot(name, slot).map_err(|error| error.to_string())?;
                let what = format!("shard {rank} of slot {slot:?} of {name:?}");
                self.tolerance.check_slot(&what, &got, mesh::of_rank(shards, rank)?)?;
            }
        }
        Ok(())
    }

    /// Checks that the configuration is written back.
    fn config(&self) -> Result<(), String> {
        let mut written = self.optimizer.to_config().map_err(|error| error.to_string())?;
        if self.case.exclude_from_weight_decay.is_some()
            && let Some(config) = written["config"].as_object_mut()
        {
            config.remove("exclude_from_weight_decay").ok_or("exclude_from_weight_decay is not written")?;
        }
        same_config(&written, &self.case.optimizer)
    }
}

/// The variables of a case, without gradients.
fn named<'a, T: Scalar>(case: &'a OptimizerCase, values: &'a mut [ArrayD<T>]) -> Vec<Variable<'a, T>> {
    let named = |(variable, value): (&'a RecordedVariable, &'a mut ArrayD<T>)| Variable::new(&variable.name, value);
    case.variables.iter().zip(values).map(named).collect()
}

/// A gradient in the element type.
struct Given<T> {
    indices: Option<Vec<i64>>,
    values: ArrayD<T>,
}

impl<T: Scalar> Given<T> {
    fn new(gradient: &RecordedGradient, shape: &[usize]) -> Result<Self, String> {
        match gradient {
            RecordedGradient::Dense { dense } => Ok(Self { indices: None, values: array(shape, dense)? }),
            RecordedGradient::Sparse { indices, values } => {
                let mut rows = shape.to_vec();
                *rows.first_mut().ok_or("a sparse gradient of a 0-dimensional variable")? = indices.len();
                Ok(Self { indices: Some(indices.clone()), values: array(&rows, values)? })
            }
        }
    }
}

fn array<T: Scalar>(shape: &[usize], elements: &[f64]) -> Result<ArrayD<T>, String> {
    let elements = elements.iter().map(|&element| T::literal(element)).collect();
    ArrayD::from_shape_vec(IxDyn(shape), elements).map_err(|error| format!("shape {shape:?}: {error}"))
}

fn numbers<'a, T: Scalar>(values: impl IntoIterator<Item = &'a T>) -> Vec<f64> {
    values.into_iter().map(|value| value.as_()).collect()
}

/// The tolerance within which two numbers agree.
#[derive(Debug, Clone, Copy)]
struct Tolerance {
    rtol: f64,
    atol: f64,
}

impl Tolerance {
    fn check(&self, what: &str, got: &[f64], want: &[f64]) -> Result<(), String> {
        if got.len() != want.len() {
            return Err(format!("{what}: got {} elements, want {}", got.len(), want.len()));
        }
        for (index, (got, want)) in got.iter().zip(want).enumerate() {
            let close = (got - want).abs() <= self.atol + self.rtol * want.abs();
            if !close {
                return Err(format!("{what}: element {index}: got {got:?}, want {want:?}"));
            }
        }
        Ok(())
    }

    /// Compares a slot. A scalar slot agrees with an array if it agrees with all of its elements.
    fn check_slot<T: Scalar>(&self, what: &str, got: &StateValue<'_, T>, want: &[f64]) -> Result<(), String> {
        match got {
            StateValue::Array(array) => self.check(what, &numbers(array), want),
            StateValue::Bf16(array) => self.check(what, &array.iter().map(|x| x.to_f64()).collect::<Vec<_>>(), want),
            StateValue::Scalar(number) => self.check(what, &vec![*number; want.len().max(1)], want),
            StateValue::Iterations(count) => self.check(what, &[*count as f64], want),
        }
    }
}

/// Compares two configurations key for key, and numbers by value.
fn same_config(got: &Value, want: &Value) -> Result<(), String> {
    if same_json(got, want) { Ok(()) } else { Err(format!("configuration: got {got}, want {want}")) }
}

/// Whether two values are the same key for key. Numbers are compared by value, whatever their notation.
#[must_use]
pub fn same_json(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a.as_f64() == b.as_f64(),
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same_json(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(key, a)| b.get(key).is_some_and(|b| same_json(a, b)))
        }
        _ => a == b,
    }
}
