//! The recorded counts, and the comparison of new counts.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::path::Path;

use anyhow::Context;
use serde::{Deserialize, Serialize};

use super::counts::Counts;

/// How far a count of the same compiler may be above the record. Repeated counts differ by less than a thousandth.
const MARGIN: f64 = 0.03;

/// The same for another compiler, which vectorises and schedules differently. This margin still finds loops that are
/// no longer vectorised, and work that is done twice.
const MARGIN_OF_OTHER_COMPILERS: f64 = 0.3;

/// The content of the committed file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Record {
    about: String,
    pub(super) compiler: String,
    pub(super) instruction_set: String,
    instructions_per_param: BTreeMap<String, f64>,
}

/// The comparison of one count.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Verdict {
    Same { count: f64 },
    Fewer { count: f64, recorded: f64 },
    More { count: f64, recorded: f64 },
    NotRecorded { count: f64 },
    NotCounted { recorded: f64 },
}

impl Record {
    pub(super) fn new(counts: Counts) -> Self {
        let rounded = |count: f64| (count * 1e4).round() / 1e4;
        Self {
            about: "Instructions per parameter and step. Written by `cargo xtask instructions --write`.".to_owned(),
            compiler: counts.compiler,
            instruction_set: counts.instruction_set,
            instructions_per_param: counts.per_param.into_iter().map(|(name, n)| (name, rounded(n))).collect(),
        }
    }

    pub(super) fn read(path: &Path) -> anyhow::Result<Self> {
        let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        serde_json::from_str(&text).with_context(|| format!("{} is no record of instructions", path.display()))
    }

    pub(super) fn write(&self, path: &Path) -> anyhow::Result<()> {
        let text = serde_json::to_string_pretty(self)? + "\n";
        fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
    }

    pub(super) fn margin(&self, compiler: &str) -> f64 {
        if self.compiler == compiler { MARGIN } else { MARGIN_OF_OTHER_COMPILERS }
    }

    /// A verdict for each name that is recorded or counted.
    pub(super) fn compare<'a>(&'a self, counts: &'a Counts, margin: f64) -> Vec<(&'a str, Verdict)> {
        let names: BTreeSet<&String> = self.instructions_per_param.keys().chain(counts.per_param.keys()).collect();
        let verdict = |name| match (counts.per_param.get(name), self.instructions_per_param.get(name)) {
            (Some(&count), None) => Some(Verdict::NotRecorded { count }),
            (None, Some(&recorded)) => Some(Verdict::NotCounted { recorded }),
            (Some(&count), Some(&recorded)) if count > recorded * (1.0 + margin) => {
                Some(Verdict::More { count, recorded })
            }
            (Some(&count), Some(&recorded)) if count < recorded * (1.0 - margin) => {
                Some(Verdict::Fewer { count, recorded })
            }
            (Some(&count), Some(_)) => Some(Verdict::Same { count }),
            (None, None) => None,
        };
        names.into_iter().filter_map(|name| Some((name.as_str(), verdict(name)?))).collect()
    }
}

impl Verdict {
    /// Whether the count is above the margin. Fewer instructions are welcome.
    pub(super) fn is_failure(&self) -> bool {
        !matches!(self, Self::Same { .. } | Self::Fewer { .. })
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let change = |count: f64, recorded: f64| 100.0 * (count / recorded - 1.0);
        match *self {
            Self::Same { count } => write!(f, "{count:9.3}"),
            Self::Fewer { count, recorded } => write!(f, "{count:9.3}  fewer: {:+.1} %", change(count, recorded)),
            Self::More { count, recorded } => write!(f, "{count:9.3}  FAILED: {:+.1} %", change(count, recorded)),
            Self::NotRecorded { count } => write!(f, "{count:9.3}  FAILED: not recorded"),
            Self::NotCounted { recorded } => write!(f, "{recorded:9.3}  FAILED: recorded, but not counted"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(entries: &[(&str, f64)]) -> Counts {
        let per_param = entries.iter().map(|&(name, count)| (name.to_owned(), count)).collect();
        Counts { compiler: "rustc 1.0".to_owned(), instruction_set: "avx2".to_owned(), per_param }
    }

    #[test]
    fn only_more_or_missing_counts_fail() {
        let record = Record::new(counts(&[("a", 1.0), ("b", 1.0), ("c", 1.0), ("gone", 1.0)]));
        let now = counts(&[("a", 1.02), ("b", 1.04), ("c", 0.9), ("new", 2.0)]);
        let verdicts = record.compare(&now, record.margin("rustc 1.0"));
        let expected = [
            ("a", Verdict::Same { count: 1.02 }),
            ("b", Verdict::More { count: 1.04, recorded: 1.0 }),
            ("c", Verdict::Fewer { count: 0.9, recorded: 1.0 }),
            ("gone", Verdict::NotCounted { recorded: 1.0 }),
            ("new", Verdict::NotRecorded { count: 2.0 }),
        ];
        assert_eq!(verdicts, expected);
        let failures = verdicts.iter().filter(|(_, verdict)| verdict.is_failure()).map(|(name, _)| *name);
        assert_eq!(failures.collect::<Vec<_>>(), ["b", "gone", "new"]);
    }

    #[test]
    fn other_compilers_get_a_wider_margin() {
        let record = Record::new(counts(&[("a", 1.0)]));
        let twice = counts(&[("a", 2.0)]);
        let margin = record.margin("rustc 2.0");
        assert!(margin > record.margin("rustc 1.0"));
        assert!(record.compare(&twice, margin)[0].1.is_failure());
        assert!(!record.compare(&counts(&[("a", 1.2)]), margin)[0].1.is_failure());
    }

    #[test]
    fn records_are_read_as_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("record.json");
        let record = Record::new(counts(&[("a", 1.234_567)]));
        record.write(&path).unwrap();
        assert_eq!(Record::read(&path).unwrap(), record);
        assert!(fs::read_to_string(&path).unwrap().contains("1.2346\n"));
        fs::write(&path, "{}").unwrap();
        assert!(Record::read(&path).is_err());
    }
}
