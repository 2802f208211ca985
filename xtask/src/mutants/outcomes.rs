//! The outcomes that cargo-mutants reports.

use std::fmt;
use std::path::Path;

use anyhow::Context;
use serde::Deserialize;

/// The counts of mutants, and the names of those that a test caught and of those that survived.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Outcomes {
    tried: usize,
    unviable: usize,
    timeouts: usize,
    noticed: Vec<String>,
    pub(super) missed: Vec<String>,
}

/// The part of `outcomes.json` that is read here.
#[derive(Deserialize)]
struct File {
    outcomes: Vec<Outcome>,
}

#[derive(Deserialize)]
struct Outcome {
    scenario: Scenario,
    summary: Summary,
}

#[derive(Deserialize)]
enum Scenario {
    Baseline,
    Mutant { name: String },
}

#[derive(Deserialize)]
enum Summary {
    Success,
    Failure,
    CaughtMutant,
    MissedMutant,
    Timeout,
    Unviable,
}

impl Outcomes {
    /// Reads a folder of results.
    pub(super) fn read(folder: &Path) -> anyhow::Result<Self> {
        let path = folder.join("outcomes.json");
        // Without any mutant there is no file.
        if !path.exists() {
            return Ok(Self::default());
        }
        let text = std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        Self::parse(&text).with_context(|| format!("cannot read {}", path.display()))
    }

    fn parse(text: &[u8]) -> serde_json::Result<Self> {
        let mut all = Self::default();
        for outcome in serde_json::from_slice::<File>(text)?.outcomes {
            let Scenario::Mutant { name } = outcome.scenario else { continue };
            all.tried += 1;
            match outcome.summary {
                Summary::MissedMutant => all.missed.push(name),
                Summary::Timeout => all.timeouts += 1,
                Summary::CaughtMutant => all.noticed.push(name),
                Summary::Unviable => all.unviable += 1,
                Summary::Success | Summary::Failure => {}
            }
        }
        Ok(all)
    }

    /// Adds the outcomes of other mutants.
    pub(super) fn add(&mut self, others: Self) {
        let Self { tried, unviable, timeouts, noticed, missed } = others;
        (self.tried, self.unviable) = (self.tried + tried, self.unviable + unviable);
        self.timeouts += timeouts;
        self.noticed.extend(noticed);
        self.missed.extend(missed);
    }

    /// Removes the mutants that the second stage caught. One that did not build there was not caught.
    pub(super) fn continue_with(&mut self, second: &Self) {
        self.missed.retain(|name| !second.noticed.contains(name));
    }

    fn viable(&self) -> usize {
        self.tried - self.unviable
    }
}

impl fmt::Display for Outcomes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (viable, missed) = (self.viable(), self.missed.len());
        let share = 100.0 * missed as f64 / viable.max(1) as f64;
        let Self { tried, unviable, timeouts, .. } = self;
        let caught = viable - missed - timeouts;
        write!(f, "{tried} mutants, {unviable} do not compile, {caught} caught, {timeouts} timed out, ")?;
        write!(f, "{missed} survived: {share:.1} %")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"{"total_mutants": 4, "outcomes": [
        {"scenario": "Baseline", "summary": "Success"},
        {"scenario": {"Mutant": {"name": "a", "file": "f"}}, "summary": "CaughtMutant"},
        {"scenario": {"Mutant": {"name": "b", "file": "f"}}, "summary": "MissedMutant"},
        {"scenario": {"Mutant": {"name": "c", "file": "f"}}, "summary": "Timeout"},
        {"scenario": {"Mutant": {"name": "d", "file": "f"}}, "summary": "Unviable"},
        {"scenario": {"Mutant": {"name": "e", "file": "f"}}, "summary": "MissedMutant"}
    ]}"#;

    #[test]
    fn outcomes_are_counted() {
        let mut outcomes = Outcomes::parse(TEXT.as_bytes()).unwrap();
        let text = "5 mutants, 1 do not compile, 1 caught, 1 timed out, 2 survived: 50.0 %";
        assert_eq!(outcomes.to_string(), text);
        // One was caught elsewhere, the other could not be built there.
        outcomes.continue_with(&Outcomes { unviable: 1, noticed: vec!["b".into()], ..Outcomes::default() });
        assert_eq!(outcomes.missed, ["e"]);
        let text = "5 mutants, 1 do not compile, 2 caught, 1 timed out, 1 survived: 25.0 %";
        assert_eq!(outcomes.to_string(), text);
        outcomes.add(Outcomes::parse(TEXT.as_bytes()).unwrap());
        let text = "10 mutants, 2 do not compile, 3 caught, 2 timed out, 3 survived: 37.5 %";
        assert_eq!(outcomes.to_string(), text);
    }

    #[test]
    fn nothing_tried_is_nothing_found() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(Outcomes::read(folder.path()).unwrap(), Outcomes::default());
        std::fs::write(folder.path().join("outcomes.json"), "{").unwrap();
        assert!(Outcomes::read(folder.path()).is_err());
    }
}
