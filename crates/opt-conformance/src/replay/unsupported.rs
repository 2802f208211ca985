//! Features of recorded runs that are not there yet. Nothing else is ever skipped.

use opt_core::{OptimizerBuilder, Registry};
use serde_json::Value;

use crate::golden::OptimizerCase;

/// The feature for which a case has to wait: it is used, and the optimizer cannot be built.
pub(super) fn feature(case: &OptimizerCase, registry: &Registry<f64>) -> Option<&'static str> {
    let feature = used(&case.optimizer)?;
    OptimizerBuilder::from_config(&case.optimizer, registry).is_err().then_some(feature)
}

fn used(optimizer: &Value) -> Option<&'static str> {
    let is_set = |key: &str| optimizer["config"].get(key).is_some_and(|value| !value.is_null());
    match optimizer["class_name"].as_str()? {
        "Lookahead" | "Addons>Lookahead" => used(&optimizer["config"]["optimizer"]),
        "LossScaleOptimizer" => Some("there is no loss scaling yet"),
        _ if is_set("loss_scale_factor") => Some("there is no loss scaling yet"),
        _ if is_set("gradient_accumulation_steps") => Some("there is no accumulation of gradients yet"),
        _ => None,
    }
}
