//! The entries of the model and the optimizer, to compare with a file.

use std::collections::BTreeSet;
use std::rc::Rc;

use opt_core::collective::Distribution;
use opt_core::config::ConfigError;
use opt_core::state::{DType, StateEntry, StateKind};
use opt_core::{Optimizer, UpdateRule, Variable};
use safetensors::Dtype;
use serde_json::{Value, json};

use super::select::{Kind, Tracked, Wanted};
use crate::checkpoint::Checkpoint;
use crate::element::{Element, file_dtype};
use crate::error::{Error, Mismatch};
use crate::ranks::Place;
use crate::region::Region;

/// Fields of a configuration that change no number. (The legacy generation is told by other fields, too.)
const WITHOUT_MEANING: [&str; 3] = ["name", "jit_compile", "is_legacy_optimizer"];

/// The variables.
pub(super) fn values<T: Element>(
    variables: &[Variable<'_, T>],
    ranks: Option<&dyn Distribution>,
) -> Result<Vec<Wanted>, Error> {
    let mut wanted: Vec<Wanted> = Vec::with_capacity(variables.len());
    let mut names = BTreeSet::new();
    for variable in variables {
        let name = variable.name().to_owned();
        if !names.insert(variable.name()) {
            return Err(opt_core::Error::DuplicateVariable { name }.into());
        }
        let Place { whole, local: region, .. } = Place::of_variable(ranks, variable)?;
        wanted.push(Wanted { name, kind: Kind::Array(file_dtype::<T>(variable.dtype())), whole, region });
    }
    Ok(wanted)
}

/// The entries of the state for these variables; `accumulated` tells whether it has accumulated gradients.
pub(super) fn state<R: UpdateRule<T>, T: Element>(
    optimizer: &Optimizer<R, T>,
    tracked: &[Tracked],
    accumulated: bool,
) -> Vec<Wanted> {
    let number = (Rc::default(), Rc::new(Region::whole(&[])));
    let wanted = |StateEntry { name, value, variable }: StateEntry<StateKind>| {
        let (kind, shape) = match value {
            StateKind::Iterations => (Kind::Count, None),
            StateKind::Scalar => (Kind::Scalar, None),
            StateKind::Array(shape) => (Kind::Array(T::FILE_DTYPE), Some(shape)),
            StateKind::Bf16(shape) => (Kind::Array(Dtype::BF16), Some(shape)),
        };
        let place = variable.map(|variable| &tracked[variable].place);
        let (whole, region) = match (shape, place) {
            (Some(shape), Some(place)) if shape == place.part.shape => {
                (Rc::clone(&place.whole), Rc::clone(&place.part))
            }
            // The marks of rows with accumulated gradients do not have the shape of the variable.
            (Some(shape), _) => (shape.as_slice().into(), Rc::new(Region::whole(&shape))),
            (None, _) => (Rc::clone(&number.0), Rc::clone(&number.1)),
        };
        Wanted { name, kind, whole, region }
    };
    optimizer.state_of(parts(tracked), accumulated).into_iter().map(wanted).collect()
}

/// The part for which this rank has slots.
pub(super) fn parts(tracked: &[Tracked]) -> impl Iterator<Item = (&str, &[usize], DType)> {
    tracked.iter().map(|tracked| (tracked.name.as_str(), tracked.place.part.shape.as_slice(), tracked.dtype))
}

/// Compares the configurations field by field; false if one of them does not exist.
pub(super) fn configurations<R: UpdateRule<T>, T: Element>(
    checkpoint: &Checkpoint,
    optimizer: &Optimizer<R, T>,
    mismatches: &mut Vec<Mismatch>,
) -> Result<bool, Error> {
    let Some(found) = checkpoint.config() else { return Ok(false) };
    let expected = match optimizer.to_config() {
        Ok(expected) => expected,
        Err(ConfigError::NotSerializable { .. }) => return Ok(false),
        Err(error) => return Err(error.into()),
    };
    let (expected, found) = (&unwrapped(&expected), &unwrapped(found));
    // A configuration may be the name of a class.
    let class_name = |config: &Value| if config.is_string() { config.clone() } else { config["class_name"].clone() };
    mismatches.extend(difference("class_name", &class_name(expected), &class_name(found)));
    let (expected, found) = (&expected["config"], &found["config"]);
    let keys = |config: &Value| config.as_object().into_iter().flat_map(|config| config.keys().cloned()).collect();
    let mut fields: BTreeSet<String> = keys(expected);
    fields.append(&mut keys(found));
    fields.retain(|field| !WITHOUT_MEANING.contains(&field.as_str()));
    mismatches.extend(fields.iter().filter_map(|field| difference(field, &expected[field], &found[field])));
    Ok(true)
}

/// The optimizer inside Keras's `LossScaleOptimizer`, with the loss scale as a field of its own, so that it does not
/// matter how a loss scale is written. Other configurations stay as they are.
fn unwrapped(config: &Value) -> Value {
    let class_name = config["class_name"].as_str().unwrap_or_default();
    let is_wrapper = class_name.rsplit('>').next().is_some_and(|name| name.starts_with("LossScaleOptimizer"));
    let outer = &config["config"];
    if !is_wrapper || !outer["inner_optimizer"]["config"].is_object() {
        return config.clone();
    }
    let mut inner = outer["inner_optimizer"].clone();
    let LossScaleKeys { dynamic, initial, interval } = LossScaleKeys::of(outer);
    inner["config"]["loss_scale"] = match dynamic {
        true => json!({"dynamic": true, "initial_scale": initial, "dynamic_growth_steps": interval}),
        false => json!({"dynamic": false, "initial_scale": initial}),
    };
    inner
}

/// The fields of a loss scale, with Keras's defaults.
struct LossScaleKeys {
    dynamic: bool,
    initial: f64,
    interval: u64,
}

impl LossScaleKeys {
    fn of(outer: &Value) -> Self {
        Self {
            dynamic: outer["dynamic"].as_bool().unwrap_or(true),
            initial: outer["initial_scale"].as_f64().unwrap_or(32_768.0),
            interval: outer["dynamic_growth_steps"].as_u64().unwrap_or(2_000),
        }
    }
}

/// The rules of groups that have one of their own, without the options of the groups: patterns, classes, and what says
/// what the numbers of their slots mean.
fn rules_of_groups(config: &Value) -> Value {
    let groups = unwrapped(config)["config"]["groups"].as_array().cloned().unwrap_or_default();
    let rule = |group: &Value| {
        let rule = group.get("rule").filter(|rule| !rule.is_null())?;
        let meaning = MEANING.map(|field| rule["config"][field].clone());
        Some(json!({"pattern": group["pattern"], "class_name": rule["class_name"], "meaning": meaning}))
    };
    groups.iter().filter_map(rule).collect()
}

/// Fields that say what the numbers of a slot mean.
const MEANING: [&str; 2] = ["dialect", "learning_rate_outside"];

/// Compares only what says what the numbers of slots mean: class, dialect, and where the learning rate stands.
pub(super) fn meanings<R: UpdateRule<T>, T: Element>(
    checkpoint: &Checkpoint,
    optimizer: &Optimizer<R, T>,
    mismatches: &mut Vec<Mismatch>,
) -> Result<(), Error> {
    let mut all = Vec::new();
    configurations(checkpoint, optimizer, &mut all)?;
    let says_meaning = |mismatch: &Mismatch| match mismatch {
        Mismatch::Configuration { field, .. } => field == "class_name" || MEANING.contains(&field.as_str()),
        _ => false,
    };
    mismatches.extend(all.into_iter().filter(says_meaning));
    if let (Some(found), Ok(expected)) = (checkpoint.config(), optimizer.to_config()) {
        mismatches.extend(difference("groups", &rules_of_groups(&expected), &rules_of_groups(found)));
    }
    Ok(())
}

/// A missing field is `null`.
fn difference(field: &str, expected: &Value, found: &Value) -> Option<Mismatch> {
    (!is_same_entry(field, expected, found)).then(|| Mismatch::Configuration {
        field: field.to_owned(),
        expected: expected.clone(),
        found: found.clone(),
    })
}

/// Whether two values mean the same: numbers are compared by value, and class names without their package.
fn is_same(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Number(one), Value::Number(other)) => one.as_f64() == other.as_f64(),
        (Value::Array(one), Value::Array(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(one, other)| is_same(one, other))
        }
        (Value::Object(one), Value::Object(other)) => {
            // A missing field is `null`.
            let is_same_field = |key: &String| {
                is_same_entry(key, one.get(key).unwrap_or(&Value::Null), other.get(key).unwrap_or(&Value::Null))
            };
            one.keys().chain(other.keys()).all(is_same_field)
        }
        _ => one == other,
    }
}

/// Whether two values of the same key mean the same.
fn is_same_entry(key: &str, one: &Value, other: &Value) -> bool {
    let without_package = |name: &str| name.rsplit('>').next().map(str::to_lowercase);
    match (key, one.as_str(), other.as_str()) {
        ("class_name", Some(one), Some(other)) => without_package(one) == without_package(other),
        _ => is_same(one, other),
    }
}
