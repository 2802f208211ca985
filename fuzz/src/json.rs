//! Mutations of JSON that are JSON again: most mutations of single bytes are not, and would only test the parser.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use libfuzzer_sys::fuzzer_mutate;
use opt_conformance::problem::Rng;
use optimizers::config::{HyperparameterKind, HyperparameterSpec};
use serde_json::{Number, Value};

use crate::REGISTRIES;

/// Numbers at the limits of ranges.
const NUMBERS: [f64; 18] = [
    0.0,
    -0.0,
    0.5,
    0.9,
    0.999,
    1.0,
    -1.0,
    2.0,
    5.0,
    1e-7,
    5e-324,
    2.3e-308,
    1e25,
    1e300,
    f64::MAX,
    f64::EPSILON,
    0.6,
    -1e300,
];

/// Whole numbers at the limits of ranges, and the bits of masters.
const WHOLE: [u64; 10] = [0, 1, 2, 16, 24, 1 << 32, (1 << 53) + 1, i64::MAX as u64, u64::MAX - 1, u64::MAX];

/// Keys and texts of the engine; those of rules and schedules come from the registry.
const TEXTS: [&str; 51] = [
    "class_name",
    "config",
    "module",
    "registered_name",
    "name",
    "jit_compile",
    "is_legacy_optimizer",
    "clipnorm",
    "clipvalue",
    "global_clipnorm",
    "weight_decay",
    "decoupled_weight_decay",
    "exclude_from_weight_decay",
    "var_names",
    "var_list",
    "use_ema",
    "ema_momentum",
    "ema_overwrite_frequency",
    "non_finite",
    "skip_step",
    "error",
    "propagate",
    "moments",
    "master",
    "bits",
    "dtype",
    "bfloat16",
    "seed",
    "flush_denormals",
    "groups",
    "pattern",
    "learning_rate_scale",
    "average",
    "frozen",
    "rule",
    "default",
    "accumulate",
    "steps",
    "reduction",
    "mean",
    "sum",
    "keras3",
    "loss_scale",
    "dynamic",
    "initial_scale",
    "dynamic_growth_steps",
    "loss_scale_factor",
    "gradient_accumulation_steps",
    "LossScaleOptimizer",
    "LossScaleOptimizerV3",
    "inner_optimizer",
];

/// Keys, class names and choices.
static VOCABULARY: LazyLock<Vec<String>> = LazyLock::new(|| {
    let registry = &REGISTRIES.float64;
    let rules = registry.class_names().map(|class| (class, registry.hyperparameters(class)));
    let schedules = registry.schedules().class_names();
    let schedules = schedules.map(|class| (class, registry.schedules().hyperparameters(class)));
    let mut words: BTreeSet<&str> = TEXTS.into_iter().chain(["", "w", "^w$", "Addons>"]).collect();
    for (class, specs) in rules.chain(schedules) {
        words.insert(class);
        for HyperparameterSpec { name, kind, .. } in specs {
            words.insert(name);
            if let HyperparameterKind::Choice(choices) = kind {
                words.extend(choices);
            }
        }
    }
    words.into_iter().map(str::to_owned).collect()
});

/// Mutates JSON as JSON. Sometimes, and if it is not JSON, it mutates single bytes. Returns the new length.
pub fn mutate(data: &mut [u8], size: usize, max_size: usize, seed: u32) -> usize {
    let mut rng = Rng(seed.into());
    let parsed = serde_json::from_slice::<Value>(&data[..size]).ok().filter(|_| rng.below(8) > 0);
    let text = parsed.map(|mut value| {
        (0..=rng.below(3)).for_each(|_| change(&mut value, &mut rng));
        value.to_string()
    });
    match text.filter(|text| text.len() <= max_size.min(data.len())) {
        Some(text) => {
            data[..text.len()].copy_from_slice(text.as_bytes());
            text.len()
        }
        None => fuzzer_mutate(data, size, max_size),
    }
}

/// Mutates one node.
pub fn change(value: &mut Value, rng: &mut Rng) {
    let nodes = count(value);
    let graft = node(value, rng.below(nodes)).clone();
    let place = node_mut(value, rng.below(nodes));
    match (rng.below(4), place) {
        (0, Value::Object(fields)) => {
            let key = fields.keys().nth(rng.below(fields.len().max(1))).cloned();
            key.and_then(|key| fields.remove(&key));
        }
        (1, Value::Object(fields)) => {
            let value = if rng.below(2) == 0 { graft } else { leaf(rng) };
            fields.insert(word(rng), value);
        }
        (2, Value::Object(fields)) => {
            let key = fields.keys().nth(rng.below(fields.len().max(1))).cloned();
            if let Some(value) = key.and_then(|key| fields.remove(&key)) {
                fields.insert(word(rng), value);
            }
        }
        (0, Value::Array(items)) if !items.is_empty() => {
            items.swap_remove(rng.below(items.len()));
        }
        (1, Value::Array(items)) => items.insert(rng.below(items.len() + 1), graft),
        (2, Value::Array(items)) => items.push(leaf(rng)),
        (0 | 1, Value::Number(number)) => {
            let nudged = number.as_f64().map(|number| number * (1.0 + rng.number()) + rng.below(3) as f64 - 1.0);
            let nudged = nudged.map(|number| if rng.below(2) == 0 { number.round() } else { number });
            *number = nudged.and_then(Number::from_f64).unwrap_or(0.into());
        }
        (2, place) => *place = graft,
        (_, place) => *place = leaf(rng),
    }
}

fn word(rng: &mut Rng) -> String {
    VOCABULARY[rng.below(VOCABULARY.len())].clone()
}

fn leaf(rng: &mut Rng) -> Value {
    match rng.below(9) {
        0 => Value::Null,
        1 => rng.bits().is_multiple_of(2).into(),
        2 => word(rng).into(),
        3 => Value::Array(Vec::new()),
        4 => Value::Object(serde_json::Map::new()),
        5 => WHOLE[rng.below(WHOLE.len())].into(),
        6 => rng.number().into(),
        _ => NUMBERS[rng.below(NUMBERS.len())].into(),
    }
}

fn children(value: &Value) -> Vec<&Value> {
    match value {
        Value::Array(items) => items.iter().collect(),
        Value::Object(fields) => fields.values().collect(),
        _ => Vec::new(),
    }
}

fn count(value: &Value) -> usize {
    1 + children(value).into_iter().map(count).sum::<usize>()
}

/// The node with this index in the order of the text; 0 is the whole.
fn node(value: &Value, mut place: usize) -> &Value {
    if place == 0 {
        return value;
    }
    place -= 1;
    for child in children(value) {
        match count(child) {
            nodes if place < nodes => return node(child, place),
            nodes => place -= nodes,
        }
    }
    value
}

fn node_mut(value: &mut Value, mut place: usize) -> &mut Value {
    if place == 0 {
        return value;
    }
    place -= 1;
    let nodes = children(value).into_iter().map(count);
    let child = nodes.take_while(|nodes| {
        let before = place >= *nodes;
        place -= if before { *nodes } else { 0 };
        before
    });
    let child = child.count();
    let child = match value {
        Value::Array(items) => items.get_mut(child),
        Value::Object(fields) => fields.values_mut().nth(child),
        _ => None,
    };
    node_mut(child.expect("places are below the count"), place)
}

/// All whole numbers, each with its neighbours: schedules change at these steps.
pub fn whole_numbers(value: &Value) -> Vec<u64> {
    let mut found = vec![0, 1, 2, 1_000, 1 << 53, u64::MAX - 1, u64::MAX];
    for place in 0..count(value) {
        if let Some(number) = node(value, place).as_f64().map(|number| number as u64) {
            found.extend([number.saturating_sub(1), number, number.saturating_add(1)]);
        }
    }
    found
}
