//! `cargo xtask parity`: recorded runs of the reference systems, replayed.

mod mpi;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use opt_conformance::golden::File;
use opt_conformance::replay::Registries;
use opt_conformance::{Verdict, replay};

/// The number of cases for each outcome.
#[derive(Debug, Default, PartialEq, Eq)]
struct Counts {
    passed: usize,
    failed: usize,
    skipped: usize,
}

/// Replays every case of the files; fails if a case differs or a file cannot be read.
pub(crate) fn run(files: &[PathBuf], verbose: bool) -> ExitCode {
    let registries = Registries { float32: optimizers::registry(), float64: optimizers::registry() };
    let mut counts = Counts::default();
    for path in files {
        counts.add_file(path, &registries, verbose);
    }
    counts.finish()
}

/// Replays the cases that were recorded on a device mesh under `mpirun`, one process a rank.
pub(crate) fn run_mpi(root: &Path, files: &[PathBuf], verbose: bool) -> anyhow::Result<ExitCode> {
    let program = mpi::build(root)?;
    let mut counts = Counts::default();
    for path in files {
        for (case, verdict) in mpi::replay_file(&program, path)? {
            counts.add(&format!("{}: {case}", path.display()), verdict, verbose);
        }
    }
    Ok(counts.finish())
}

impl Counts {
    fn add_file(&mut self, path: &Path, registries: &Registries, verbose: bool) {
        let file = match File::read(path) {
            Ok(file) => file,
            Err(error) => {
                println!("FAILED  {error}");
                self.failed += 1;
                return;
            }
        };
        for case in file.cases {
            self.add(&format!("{}: {}", path.display(), case.name()), replay(&case, registries), verbose);
        }
    }

    fn add(&mut self, place: &str, verdict: Verdict, verbose: bool) {
        match verdict {
            Verdict::Passed => {
                self.passed += 1;
                if verbose {
                    println!("passed  {place}");
                }
            }
            Verdict::Failed(reason) => {
                self.failed += 1;
                println!("FAILED  {place}: {reason}");
            }
            Verdict::Skipped(reason) => {
                self.skipped += 1;
                println!("skipped {place}: {reason}");
            }
        }
    }

    fn finish(&self) -> ExitCode {
        println!("{}", self.summary());
        if self.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }

    fn summary(&self) -> String {
        let Self { passed, failed, skipped } = self;
        let skipped = if *skipped > 0 { format!(", {skipped} skipped") } else { String::new() };
        format!("{passed} passed, {failed} failed{skipped}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use opt_conformance::golden_folder;

    fn count(file: &Path) -> Counts {
        let registries = Registries { float32: optimizers::registry(), float64: optimizers::registry() };
        let mut counts = Counts::default();
        counts.add_file(file, &registries, true);
        counts
    }

    #[test]
    fn recorded_cases_pass_also_on_a_mesh() {
        let passed = Counts { passed: 14, ..Counts::default() };
        assert_eq!(count(&golden_folder().join("schedules.json")), passed);
        let on_a_mesh = Counts { passed: 9, ..Counts::default() };
        assert_eq!(count(&golden_folder().join("dtensor_sgd.json")), on_a_mesh);
        assert_eq!(on_a_mesh.summary(), "9 passed, 0 failed");
    }

    /// A file with one case of an optimizer that makes one step from 4 with the gradient 2.
    fn case(class: &str, config: &str, more: &str) -> String {
        format!(
            r#"{{"format": 1, "cases": [{{"name": "x", "dtype": "float64", "rtol": 0.0, "atol": 0.0,
            "optimizer": {{"class_name": "{class}", "config": {{"learning_rate": 0.5{config}}}}}, {more}
            "variables": [{{"name": "w", "shape": [1], "value": [4]}}],
            "steps": [{{"gradients": [{{"dense": [2]}}], "expect": {{"variables": [[4.0]]}}}}]}}]}}"#
        )
    }

    fn count_text(text: &str) -> Counts {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file.json");
        std::fs::write(&path, text).unwrap();
        count(&path)
    }

    /// The velocity 2 makes up for the gradient: 4 + (1/2) 2 - (1/2) 2.
    #[test]
    fn runs_start_from_a_state() {
        let state =
            r#""restore": {"from": "keras", "list": [{"shape": [], "value": [7]}, {"shape": [1], "value": [2]}]},"#;
        let momentum = r#", "momentum": 0.5"#;
        let passed = Counts { passed: 1, ..Counts::default() };
        let failed = Counts { failed: 1, ..Counts::default() };
        assert_eq!(count_text(&case("SGD", momentum, state)), passed);
        assert_eq!(count_text(&case("SGD", momentum, "")), failed);
        assert_eq!(
            count_text(&case("SGD", momentum, &state.replace("[1], \"value\": [2]", "[1], \"value\": [3]"))),
            failed
        );
        assert_eq!(
            count_text(&case("SGD", momentum, &state.replace("[1]", "[2]").replace("[2]}]", "[2, 2]}]"))),
            failed
        );
        assert_eq!(count_text(&case("SGD", momentum, &state.replace("keras", "nobody"))), failed);
    }

    /// Only what uses one of two features, and cannot be built.
    #[test]
    fn what_cannot_be_read_fails() {
        let failed = Counts { failed: 1, ..Counts::default() };
        for (class, config) in [
            ("Adagrad", ""),
            ("LossScaleOptimizer", ""),
            ("SGD", r#", "gradient_accumulation": 3"#),
            ("SGD", r#", "momentum": -1"#),
        ] {
            assert_eq!(count_text(&case(class, config, "")), failed, "{class} {config}");
        }
        let infinite = case("SGD", "", "").replace(r#"{"dense": [2]}"#, r#"{"dense": ["infinite"]}"#);
        assert_eq!(count_text(&infinite), failed);
    }

    #[test]
    fn unknown_classes_and_unreadable_files_fail() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let unknown = r#"{"format": 1, "cases": [{"name": "x", "dtype": "float64", "rtol": 0.0, "atol": 0.0,
            "optimizer": {"class_name": "Nobody", "config": {}}, "variables": [], "steps": []}]}"#;
        for (name, text) in [("unknown", unknown), ("later", r#"{"format": 2, "cases": []}"#), ("broken", "{")] {
            assert_eq!(count(&write(name, text)), Counts { failed: 1, ..Counts::default() }, "{name}");
        }
        assert_eq!(count(Path::new("no such file")).summary(), "0 passed, 1 failed");
    }
}
