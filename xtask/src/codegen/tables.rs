//! Markdown tables.

use std::fmt::Write;

use anyhow::bail;
use opt_core::config::{HyperparameterKind, HyperparameterSpec, Interval};

use super::features::Feature;
use crate::workspace::Package;

/// Packages with their links and descriptions.
pub(super) fn crates<'a>(packages: impl Iterator<Item = (&'a Package, String)>) -> String {
    let rows = packages.map(|(package, link)| {
        let description = package.description.clone().unwrap_or_default();
        [format!("[`{}`]({link})", package.name), description]
    });
    table(["crate", "what it is for"], rows)
}

/// Features, and whether they are on by default.
pub(super) fn features(features: &[Feature], is_default: impl Fn(&Feature) -> bool) -> String {
    let rows = features.iter().map(|feature| {
        let default = if is_default(feature) { "yes" } else { "no" };
        [format!("`{}`", feature.name), default.to_owned(), feature.what.clone()]
    });
    table(["feature", "default", "what it adds"], rows)
}

/// The fields of a class.
pub(super) fn hyperparameters(specs: &[HyperparameterSpec]) -> anyhow::Result<String> {
    if specs.is_empty() {
        return Ok("Not described yet.\n".to_owned());
    }
    let rows = specs.iter().map(|spec| {
        let default = spec.default.as_ref().map_or("required".to_owned(), |value| format!("`{value}`"));
        Ok([format!("`{}`", spec.name), values(&spec.kind)?, default, spec.meaning.to_owned()])
    });
    Ok(table(["key", "values", "default", "meaning"], rows.collect::<anyhow::Result<Vec<_>>>()?))
}

fn table<const N: usize>(header: [&str; N], rows: impl IntoIterator<Item = [String; N]>) -> String {
    let mut table = format!("| {} |\n|{}\n", header.join(" | "), "---|".repeat(N));
    for row in rows {
        let cells = row.map(|cell| cell.replace('|', r"\|"));
        writeln!(table, "| {} |", cells.join(" | ")).expect("a string takes all text");
    }
    table
}

/// The values of a hyperparameter in words.
fn values(kind: &HyperparameterKind) -> anyhow::Result<String> {
    Ok(match kind {
        HyperparameterKind::Number(interval) => format!("number{}", suffix(*interval)),
        HyperparameterKind::OptionalNumber(interval) => format!("number{}; or `null`", suffix(*interval)),
        HyperparameterKind::NumberOrSchedule(interval) => format!("number or schedule{}", suffix(*interval)),
        HyperparameterKind::Integer(least) => format!("whole number, at least {least}"),
        HyperparameterKind::Bool => "`true`, `false`".to_owned(),
        HyperparameterKind::Choice(names) => {
            names.iter().map(|name| format!("`\"{name}\"`")).collect::<Vec<_>>().join(", ")
        }
        HyperparameterKind::Numbers(interval) => format!("list of numbers{}", suffix(*interval)),
        HyperparameterKind::Integers => "list of whole numbers".to_owned(),
        HyperparameterKind::Schedules => "list of schedules and numbers".to_owned(),
        HyperparameterKind::Rule => "optimizer".to_owned(),
        other => bail!("no words for {other:?}"),
    })
}

/// The range of a hyperparameter in words; nothing if there is none.
pub(super) fn range(kind: &HyperparameterKind) -> String {
    match kind {
        HyperparameterKind::Number(interval)
        | HyperparameterKind::OptionalNumber(interval)
        | HyperparameterKind::NumberOrSchedule(interval)
        | HyperparameterKind::Numbers(interval) => {
            suffix(*interval).trim_start_matches([',', ' ', 'i', 'n']).to_owned()
        }
        HyperparameterKind::Integer(least) if *least > 0 => format!("at least {least}"),
        _ => String::new(),
    }
}

/// An interval as the end of a phrase.
fn suffix(interval: Interval) -> String {
    let Interval { low, low_open, high, high_open } = interval;
    match (low, high) {
        (None, None) => String::new(),
        (Some(low), None) if low_open => format!(", above {low}"),
        (Some(low), None) => format!(", at least {low}"),
        (None, Some(high)) if high_open => format!(", below {high}"),
        (None, Some(high)) => format!(", at most {high}"),
        (Some(low), Some(high)) => {
            let (open, close) = (if low_open { '(' } else { '[' }, if high_open { ')' } else { ']' });
            format!(" in `{open}{low}, {high}{close}`")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_read_well() {
        let at_most = Interval { high: Some(1.5), high_open: false, ..Interval::FINITE };
        let below = Interval { high_open: true, ..at_most };
        for (interval, expected) in [
            (Interval::FINITE, ""),
            (Interval::NOT_NEGATIVE, ", at least 0"),
            (Interval::POSITIVE, ", above 0"),
            (at_most, ", at most 1.5"),
            (below, ", below 1.5"),
            (Interval::UNIT, " in `[0, 1]`"),
            (Interval::UNIT_BELOW_ONE, " in `[0, 1)`"),
            (Interval::UNIT_ABOVE_ZERO, " in `(0, 1]`"),
        ] {
            assert_eq!(suffix(interval), expected);
        }
    }

    #[test]
    fn hyperparameters_are_rows() {
        let spec = |name, kind, default| HyperparameterSpec { name, kind, default, meaning: "a|b" };
        let choice = HyperparameterKind::Choice(vec!["c", "d"]);
        let specs = [spec("x", HyperparameterKind::Integer(1), None), spec("y", choice, Some("c".into()))];
        let expected = "| key | values | default | meaning |\n|---|---|---|---|\n\
                        | `x` | whole number, at least 1 | required | a\\|b |\n\
                        | `y` | `\"c\"`, `\"d\"` | `\"c\"` | a\\|b |\n";
        assert_eq!(hyperparameters(&specs).unwrap(), expected);
    }
}
