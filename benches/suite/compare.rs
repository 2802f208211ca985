//! Results of another run.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use anyhow::Context;
use benches::record::{Key, Record};

/// Results to compare with.
#[derive(Debug)]
pub(crate) struct Baseline(HashMap<Key, Record>);

/// The difference between a record and that of another run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Change {
    /// The new time over the old one.
    pub(crate) time: f64,
    /// The new fraction of the bare loop's bandwidth over the old one. It is more reliable than the time if the
    /// machine was another one, or not as busy.
    pub(crate) fraction: f64,
    /// Whether the ranges of fractions, over rounds, do not overlap.
    pub(crate) is_clear: bool,
}

impl Baseline {
    /// Reads a file that `--json` wrote.
    pub(crate) fn read(path: &Path) -> anyhow::Result<Self> {
        let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        let records = serde_json::from_str(&text).with_context(|| format!("{} holds no results", path.display()))?;
        Ok(Self::new(records))
    }

    pub(crate) fn new(records: Vec<Record>) -> Self {
        Self(records.into_iter().map(|record| (record.key(), record)).collect())
    }

    /// The difference between this record and the same one of the other run; none if there was none.
    pub(crate) fn change(&self, new: &Record) -> Option<Change> {
        let old = self.0.get(&new.key())?;
        let ([new_low, new_high], [old_low, old_high]) = (new.fraction_range, old.fraction_range);
        Some(Change {
            time: new.ns_per_param / old.ns_per_param,
            fraction: new.fraction_of_bare_loop / old.fraction_of_bare_loop,
            is_clear: new_low > old_high || old_low > new_high,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::samples::record;

    #[test]
    fn records_are_compared_with_their_like() {
        let old = Record { ns_per_param: 0.5, ..record("nadam", None) };
        let baseline = Baseline::new(vec![old.clone(), Record { threads: 7, ..old.clone() }]);
        let new = Record { ns_per_param: 0.25, fraction_of_bare_loop: 1.0, fraction_range: [0.95, 1.1], ..old.clone() };
        let expected = Change { time: 0.5, fraction: 1.25, is_clear: true };
        assert_eq!(baseline.change(&new), Some(expected));
        let vague = Record { fraction_range: [0.8, 1.1], ..new };
        assert!(!baseline.change(&vague).unwrap().is_clear);
        let other = Record { dtype: "f64".to_owned(), ..old };
        assert_eq!(baseline.change(&other), None);
    }

    #[test]
    fn other_files_are_refused() {
        let error = Baseline::read(Path::new("Cargo.toml")).unwrap_err();
        assert_eq!(error.to_string(), "Cargo.toml holds no results");
        assert!(Baseline::read(Path::new("no/such/file")).is_err());
    }
}
