//! The table of the round trips, as docs/migrating.md has it.

use std::fmt;

use super::case::Case;

/// All round trips.
#[derive(Debug, Default)]
pub(super) struct Table {
    pub(super) rows: Vec<Row>,
    /// Systems that no environment has.
    pub(super) missing: Vec<String>,
}

/// One round trip.
#[derive(Debug)]
pub(super) struct Row {
    versions: String,
    rule: String,
    tolerance: f64,
    /// The largest error after the transfer to here, and five steps on both sides.
    pub(super) here: Option<f64>,
    /// The largest error after the transfer back, and five more steps on both sides.
    pub(super) back: Option<f64>,
    pub(super) problem: Option<String>,
}

impl Row {
    pub(super) fn new(versions: String, case: &Case) -> Self {
        let Case { name, tolerance, .. } = case;
        Self { versions, rule: name.clone(), tolerance: *tolerance, here: None, back: None, problem: None }
    }

    fn passed(&self) -> bool {
        let close = |error: Option<f64>| error.is_some_and(|error| error <= self.tolerance);
        self.problem.is_none() && close(self.here) && close(self.back)
    }
}

impl Table {
    /// Whether every number was close; with `all`, also whether every system was there.
    pub(super) fn passed(&self, all: bool) -> bool {
        let complete = !self.rows.is_empty() && (self.missing.is_empty() || !all);
        complete && self.rows.iter().all(Row::passed)
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "| there | rule | error here | error back | limit |\n|---|---|---|---|---|")?;
        for row in &self.rows {
            let Row { versions, rule, tolerance, .. } = row;
            let error = |error: Option<f64>| error.map_or_else(|| "-".to_owned(), |error| format!("{error:.1e}"));
            let (here, back) = (error(row.here), error(row.back));
            writeln!(f, "| {versions} | {rule} | {here} | {back} | {tolerance:.0e} |")?;
        }
        for row in self.rows.iter().filter(|row| !row.passed()) {
            let problem = row.problem.as_deref().unwrap_or("the numbers differ");
            writeln!(f, "FAILED  {}, {}: {problem}", row.versions, row.rule)?;
        }
        for package in &self.missing {
            writeln!(f, "not run: no environment has {package}")?;
        }
        let failed = self.rows.iter().filter(|row| !row.passed()).count();
        writeln!(f, "{} passed, {failed} failed", self.rows.len() - failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(here: Option<f64>, back: Option<f64>) -> Row {
        Row { versions: "keras 3".to_owned(), rule: "SGD".to_owned(), tolerance: 1e-9, here, back, problem: None }
    }

    #[test]
    fn every_number_and_every_system_counts() {
        let table = |rows: Vec<Row>, missing: &[&str]| Table {
            rows,
            missing: missing.iter().map(|&package| package.to_owned()).collect(),
        };
        assert!(table(vec![row(Some(0.0), Some(1e-9))], &[]).passed(true));
        assert!(table(vec![row(Some(0.0), Some(0.0))], &["PyTorch"]).passed(false));
        assert!(!table(vec![row(Some(0.0), Some(0.0))], &["PyTorch"]).passed(true));
        assert!(!table(Vec::new(), &[]).passed(false), "nothing was run");
        let bad = [(Some(2e-9), Some(0.0)), (Some(0.0), Some(f64::NAN)), (Some(0.0), None), (None, None)];
        for (here, back) in bad {
            assert!(!table(vec![row(here, back)], &[]).passed(false), "{here:?} {back:?}");
        }
    }

    #[test]
    fn the_table_is_markdown_with_a_sum() {
        let table = Table { rows: vec![row(Some(0.0), Some(2.5e-9))], missing: vec!["PyTorch".to_owned()] };
        let text = table.to_string();
        assert!(text.contains("| keras 3 | SGD | 0.0e0 | 2.5e-9 | 1e-9 |\n"), "{text}");
        assert!(text.ends_with("not run: no environment has PyTorch\n0 passed, 1 failed\n"), "{text}");
    }
}
