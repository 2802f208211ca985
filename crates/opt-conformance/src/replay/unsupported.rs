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
    match optimizer["class_name"].as_str()? {
        "Adam" | "AdamW" => Some("there is no Adam yet"),
        "Lookahead" | "Addons>Lookahead" => used(&optimizer["config"]["optimizer"]),
        _ => None,
    }
}
