//! An optimizer's settings in a few words: the fields of its configuration that differ from the defaults.

use optimizers::DynOptimizer;
use serde_json::Value;

/// Such as `learning_rate 0.1, momentum 0.9`: the rule's own hyperparameters, then the options of every optimizer.
pub(crate) fn in_short(optimizer: &DynOptimizer) -> String {
    let Ok(Value::Object(mut config)) = optimizer.to_config().map(|mut config| config["config"].take()) else {
        return String::new();
    };
    config.remove("name");
    if config.get("use_ema") != Some(&Value::Bool(true)) {
        config.remove("ema_momentum");
    }
    let mut own = Vec::new();
    for spec in optimizers::registry::<f32>().hyperparameters(optimizer.rule().class_name()) {
        let value = config.remove(spec.name).unwrap_or_default();
        if spec.default.as_ref() != Some(&value) {
            own.extend(words(spec.name, &value));
        }
    }
    let options = config.iter().filter_map(|(key, value)| words(key, value));
    own.into_iter().chain(options).collect::<Vec<_>>().join(", ")
}

/// A key with its value; empty for an option that is off.
fn words(key: &str, value: &Value) -> Option<String> {
    match value {
        Value::Null | Value::Bool(false) => None,
        Value::Bool(true) => Some(key.to_owned()),
        _ => Some(format!("{key} {}", word(value)).trim_end().to_owned()),
    }
}

/// A number or a text as it is, an object by its class name, element type or bits; other values are left out.
fn word(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Object(object) => {
            object.get("class_name").or(object.get("dtype")).or(object.get("bits")).map_or_else(String::new, word)
        }
        Value::Array(_) | Value::Null => String::new(),
        number_or_bool => number_or_bool.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use optimizers::schedules::CosineDecay;
    use optimizers::{Ema, Exclude, MomentStorage, Optimizer, Sgd, UpdateRule};

    use super::*;

    fn boxed(sgd: Sgd) -> Box<dyn UpdateRule<f32>> {
        Box::new(sgd)
    }

    #[test]
    fn defaults_are_left_out() {
        let plain = Optimizer::new(boxed(Sgd::new(0.5))).unwrap();
        assert_eq!(in_short(&plain), "learning_rate 0.5");
        let legacy = Optimizer::new(boxed(Sgd::new(0.5).legacy().decay(0.25))).unwrap();
        assert_eq!(in_short(&legacy), "learning_rate 0.5, decay 0.25");
        let narrow = Optimizer::builder(boxed(Sgd::new(0.5))).moments(MomentStorage::Bf16 { seed: 1 }).build().unwrap();
        assert_eq!(in_short(&narrow), "learning_rate 0.5, moments bfloat16");
    }

    #[test]
    fn everything_else_is_there() {
        let rule = boxed(Sgd::new(CosineDecay::new(0.5, 10)).momentum(0.25).nesterov(true));
        let builder = Optimizer::builder(rule).ema(Ema::new(0.75)).clipnorm(2.0);
        let builder = builder.weight_decay(0.125).exclude_from_weight_decay(Exclude::names(["a"]));
        let expected = "learning_rate CosineDecay, momentum 0.25, nesterov, weight_decay 0.125, clipnorm 2.0, ema_momentum 0.75, \
                        exclude_from_weight_decay, use_ema";
        assert_eq!(in_short(&builder.build().unwrap()), expected);
    }
}
