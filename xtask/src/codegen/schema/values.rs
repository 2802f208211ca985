//! The values of a hyperparameter, as a schema.

use anyhow::bail;
use opt_core::config::{HyperparameterKind, HyperparameterSpec, Interval};
use serde_json::{Value, json};

/// The schema of one hyperparameter, with its meaning and default.
pub(super) fn property(spec: &HyperparameterSpec) -> anyhow::Result<Value> {
    let mut schema = values(&spec.kind)?;
    schema["description"] = spec.meaning.into();
    if let Some(default) = &spec.default {
        schema["default"] = default.clone();
    }
    Ok(schema)
}

fn values(kind: &HyperparameterKind) -> anyhow::Result<Value> {
    Ok(match kind {
        HyperparameterKind::Number(interval) => number(*interval),
        HyperparameterKind::OptionalNumber(interval) => limited(json!({"type": ["number", "null"]}), *interval),
        HyperparameterKind::NumberOrSchedule(interval) => number_or_schedule(*interval),
        HyperparameterKind::Integer(least) => json!({"type": "integer", "minimum": least}),
        HyperparameterKind::Bool => json!({"type": "boolean"}),
        HyperparameterKind::Choice(names) => json!({"enum": names}),
        HyperparameterKind::Numbers(interval) => list(&number(*interval)),
        HyperparameterKind::Integers => list(&json!({"type": "integer", "minimum": 0})),
        HyperparameterKind::Schedules => list(&number_or_schedule(Interval::FINITE)),
        HyperparameterKind::Rule => json!({"$ref": "#/$defs/optimizer"}),
        other => bail!("no schema for {other:?}"),
    })
}

fn number_or_schedule(interval: Interval) -> Value {
    or_schedule(&number(interval))
}

/// Only objects are checked as schedules, so that a validator reports errors of the number or of the schedule.
pub(super) fn or_schedule(other: &Value) -> Value {
    json!({"if": {"type": "object"}, "then": {"$ref": "#/$defs/schedule"}, "else": other})
}

fn list(items: &Value) -> Value {
    json!({"type": "array", "items": items})
}

fn number(interval: Interval) -> Value {
    limited(json!({"type": "number"}), interval)
}

/// Adds the ends of an interval. Values that are not numbers, such as `null`, are not compared with them.
fn limited(mut schema: Value, interval: Interval) -> Value {
    let low_key = if interval.low_open { "exclusiveMinimum" } else { "minimum" };
    let high_key = if interval.high_open { "exclusiveMaximum" } else { "maximum" };
    for (key, limit) in [(low_key, interval.low), (high_key, interval.high)] {
        if let Some(limit) = limit {
            schema[key] = plain(limit);
        }
    }
    schema
}

/// Whole numbers without a decimal point.
fn plain(limit: f64) -> Value {
    let whole = limit as i64;
    if whole as f64 == limit { whole.into() } else { limit.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_become_limits() {
        assert_eq!(number(Interval::FINITE), json!({"type": "number"}));
        assert_eq!(number(Interval::UNIT), json!({"type": "number", "minimum": 0, "maximum": 1}));
        let half = Interval { high: Some(0.5), ..Interval::POSITIVE };
        assert_eq!(number(half), json!({"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 0.5}));
    }

    #[test]
    fn a_default_is_what_the_class_would_write() {
        let required = HyperparameterSpec::required::<bool>("a", (), "b");
        assert_eq!(property(&required).unwrap(), json!({"type": "boolean", "description": "b"}));
        let optional = HyperparameterSpec::optional::<bool>("a", true, (), "b");
        assert_eq!(property(&optional).unwrap(), json!({"type": "boolean", "description": "b", "default": true}));
    }
}
