//! The keys that every optimizer has, because the engine reads them.

use serde_json::{Value, json};

use super::Object;
use super::values::or_schedule;

/// The keys by name.
pub(super) fn properties() -> Object {
    [kept(), switched_off(), clipping(), weight_decay(), averaging(), scaling(), groups(), checks(), numbers()]
        .into_iter()
        .flatten()
        .collect()
}

/// Keys without meaning here, which are accepted and written back, and an old name.
fn kept() -> Object {
    opt_core::config::fields([
        ("name", json!({"type": ["string", "null"]})),
        ("jit_compile", json!({"type": ["boolean", "string", "null"]})),
        ("is_legacy_optimizer", json!({"type": "boolean"})),
        ("lr", json!({"description": "learning_rate in Keras up to 2.2", "type": ["number", "null"], "minimum": 0})),
    ])
}

/// Keys of features that do not exist here, as long as they are off.
fn switched_off() -> Object {
    let falsy = [
        "gradient_aggregator",
        "gradient_transformers",
        "amsgrad",
        "decay",
        "maximize",
        "foreach",
        "capturable",
        "fused",
        "differentiable",
    ];
    falsy.map(|key| (key.to_owned(), json!({"enum": [null, false, 0]}))).into_iter().collect()
}

/// Loss scales and accumulation: Keras 3's keys, and ours.
fn scaling() -> Object {
    let factor = json!({
        "description": "Keras 3's key for a fixed loss scale",
        "type": ["number", "null"],
        "exclusiveMinimum": 0,
    });
    let steps = json!({
        "description": "Keras 3's key for accumulation",
        "type": ["integer", "boolean", "null"],
        "minimum": 0,
    });
    opt_core::config::fields([
        ("loss_scale", json!({"$ref": "#/$defs/loss_scale"})),
        ("loss_scale_factor", factor),
        ("accumulate", json!({"$ref": "#/$defs/accumulate"})),
        ("gradient_accumulation_steps", steps),
    ])
}

/// Definitions to which the keys refer.
pub(super) fn definitions() -> Object {
    opt_core::config::fields([("group", group()), ("loss_scale", loss_scale()), ("accumulate", accumulate())])
}

fn loss_scale() -> Value {
    json!({
        "description": "the factor of the loss of which the gradients are",
        "type": ["object", "null"],
        "additionalProperties": false,
        "required": ["dynamic", "initial_scale"],
        "properties": scale_properties(),
    })
}

fn accumulate() -> Value {
    json!({
        "description": "calls that make one step, and what is applied: the sum, the mean, or the mean as in Keras 3",
        "type": ["object", "null"],
        "additionalProperties": false,
        "required": ["steps", "reduction"],
        "properties": {"steps": {"type": "integer", "minimum": 1}, "reduction": {"enum": ["mean", "sum", "keras3"]}},
    })
}

fn scale_properties() -> Value {
    json!({
        "dynamic": {"description": "whether the scale follows the gradients", "type": "boolean", "default": true},
        "initial_scale": {"description": "the first scale", "type": "number", "exclusiveMinimum": 0, "default": 32768},
        "dynamic_growth_steps": {
            "description": "good steps in a row after which a dynamic scale is doubled",
            "type": ["integer", "null"],
            "minimum": 1,
            "default": 2000,
        },
    })
}

/// Keras's optimizer around another one.
pub(super) const WRAPPERS: [&str; 2] = ["LossScaleOptimizer", "LossScaleOptimizerV3"];

/// The fields of Keras's optimizer around another one.
pub(super) fn wrapper() -> Value {
    let mut properties = scale_properties();
    properties["inner_optimizer"] = json!({"$ref": "#/$defs/optimizer"});
    properties["name"] = json!({"type": ["string", "null"]});
    json!({
        "type": "object",
        "required": ["inner_optimizer"],
        "properties": properties,
    })
}

fn groups() -> Object {
    let groups = json!({
        "description": "variables with other options; the first group that matches has a variable",
        "type": ["array", "null"],
        "items": {"$ref": "#/$defs/group"},
    });
    opt_core::config::fields([("groups", groups)])
}

/// One group of variables.
fn group() -> Value {
    let mut rate = or_schedule(&json!({"type": ["number", "null"], "minimum": 0}));
    rate["description"] = "a learning rate of its own".into();
    let mut decay = rate.clone();
    decay["description"] = "a decoupled weight decay of its own; 0 is none".into();
    let limit = |what: &str| json!({"description": what, "type": ["number", "null"], "exclusiveMinimum": 0});
    json!({
        "type": "object",
        "additionalProperties": false,
        "anyOf": [
            {"required": ["pattern"]},
            {"required": ["name", "frozen"], "properties": {"name": {"const": "default"}}},
        ],
        "properties": {
            "name": {"description": "the pattern by default", "type": ["string", "null"]},
            "pattern": {"description": "a regular expression that matches anywhere in a name", "type": "string"},
            "learning_rate": rate,
            "learning_rate_scale": {
                "description": "a factor of the optimizer's learning rate",
                "type": ["number", "null"],
                "minimum": 0,
            },
            "weight_decay": decay,
            "clipnorm": limit("largest norm of each variable's gradient"),
            "clipvalue": limit("largest size of each element of a gradient"),
            "global_clipnorm": limit("largest norm of the gradients of the group together"),
            "average": {"description": "whether the variables have averages", "type": ["boolean", "null"]},
            "frozen": {"description": "whether the variables are not trained", "type": ["boolean", "null"], "default": false},
            "rule": {
                "description": "a rule of its own, without options of the engine",
                "if": {"type": "object"},
                "then": {"$ref": "#/$defs/optimizer"},
                "else": {"type": "null"},
            },
        },
    })
}

fn clipping() -> Object {
    let off = "; 0 and below is none in newer generations";
    let limit = |what: &str| json!({"description": format!("{what}{off}"), "type": ["number", "null"]});
    opt_core::config::fields([
        ("clipnorm", limit("largest norm of each variable's gradient")),
        ("clipvalue", limit("largest size of each element of a gradient")),
        ("global_clipnorm", limit("largest norm of all gradients together")),
    ])
}

fn weight_decay() -> Object {
    let mut rate = or_schedule(&json!({"type": ["number", "null"], "minimum": 0}));
    rate["description"] = "decoupled weight decay".into();
    let names = |what| json!({"description": what, "type": ["array", "null"], "items": {"type": "string"}});
    let exclude = json!({
        "description": "variables without weight decay",
        "type": ["object", "null"],
        "additionalProperties": false,
        "properties": {
            "var_names": names("regular expressions that match anywhere in a name"),
            "var_list": names("whole names"),
        },
    });
    opt_core::config::fields([
        ("weight_decay", rate.clone()),
        ("decoupled_weight_decay", rate),
        ("exclude_from_weight_decay", exclude),
    ])
}

fn averaging() -> Object {
    opt_core::config::fields([
        ("use_ema", json!({"description": "average the variables", "type": "boolean", "default": false})),
        (
            "ema_momentum",
            json!({"description": "in [0, 1] with averages", "type": ["number", "null"], "default": 0.99}),
        ),
        (
            "ema_overwrite_frequency",
            json!({
                "description": "steps between writing averages into the variables, a whole number; 0 is never",
                "type": ["number", "null"],
            }),
        ),
    ])
}

fn checks() -> Object {
    let non_finite = json!({
        "description": "what to do about a gradient that is not finite",
        "enum": ["propagate", "skip_step", "error"],
        "default": "propagate",
    });
    opt_core::config::fields([("non_finite", non_finite)])
}

fn numbers() -> Object {
    let flush = "slots below the smallest normal number become 0";
    let moments = json!({
        "description": "moments in 16 or 8 bits, with stochastic rounding; only for variables of 32 bits",
        "type": "object",
        "additionalProperties": false,
        "required": ["dtype", "seed"],
        "properties": {
            "dtype": {"enum": ["bfloat16", "float8"]},
            "seed": {"description": "picks the sequence of roundings", "type": "integer", "minimum": 0},
        },
    });
    let master = json!({
        "description": "what is remembered of a variable in 16 bits: itself and 8 bits more, or nothing but itself; a copy in 32 bits by default",
        "type": "object",
        "additionalProperties": false,
        "required": ["bits", "seed"],
        "properties": {
            "bits": {"enum": [24, 16]},
            "seed": {"description": "picks the sequence of roundings", "type": "integer", "minimum": 0},
        },
    });
    opt_core::config::fields([
        ("flush_denormals", json!({"description": flush, "type": "boolean", "default": true})),
        ("moments", moments),
        ("master", master),
    ])
}

#[cfg(test)]
mod tests {
    use opt_core::{Accumulate, Ema, Group, LossScale, Master, MomentStorage, NonFinite, Optimizer};

    use super::*;

    /// The schema describes everything that the engine can write.
    #[test]
    fn every_key_that_the_engine_writes_is_known() {
        let builder =
            Optimizer::builder(optimizers::Sgd::new(0.1)).weight_decay(0.1).ema(Ema::new(0.9).overwrite_every(3));
        let builder = builder.global_clipnorm(1.0).non_finite(NonFinite::SkipStep);
        let builder = builder.exclude_from_weight_decay(opt_core::Exclude::names(["bias"]));
        let builder = builder.moments(MomentStorage::Bf16 { seed: 7 }).master(Master::Bits24 { seed: 7 });
        let builder = builder.flush_denormals(false);
        let builder = builder.group(Group::matching("norm").weight_decay(0.0));
        let builder = builder.accumulate(Accumulate::sum(2)).loss_scale(LossScale::dynamic());
        let optimizer: Optimizer<_, f32> = builder.build().unwrap();
        let config = optimizer.to_config().unwrap();
        let own = ["learning_rate", "momentum", "nesterov"];
        let written = config["config"].as_object().unwrap().keys().filter(|key| !own.contains(&key.as_str()));
        let known = properties();
        for key in written {
            assert!(known.contains_key(key), "{key}");
        }
        assert!(config["config"].as_object().unwrap().len() >= own.len() + 15);
    }
}
