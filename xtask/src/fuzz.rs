//! `cargo xtask fuzz`: every fuzz target for a while, each on a copy of its corpus.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use clap::Args;

use crate::cargo::Call;
use crate::workspace::Workspace;

/// Which targets run, and for how long.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// How long each target runs.
    #[arg(long, value_name = "N", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..))]
    seconds: u64,
    /// Runs only this target.
    #[arg(long, value_name = "NAME")]
    target: Option<String>,
}

/// The only `unsafe` in our code is a hint to the processor, so a sanitizer would only watch our dependencies, at half
/// the speed.
const BUILD: &str = "fuzz build --sanitizer none --target-dir";

/// The interval between lines of progress.
const PULSE: Duration = Duration::from_secs(10);

/// The number of lines that are shown when a target fails.
const LAST_LINES: usize = 40;

/// The result of a target.
#[derive(Debug, Default, PartialEq, Eq)]
struct Outcome {
    runs: u64,
    /// The number of covered places of the code.
    coverage: u64,
    finds: u64,
}

/// Runs the targets one after the other; fails if one fails.
pub(crate) fn run(workspace: &Workspace, options: &Options) -> anyhow::Result<()> {
    let targets = chosen(targets(&workspace.root)?, options.target.as_deref())?;
    is_installed()?;
    let folder = workspace.target_directory.join("fuzz");
    Call::nightly(BUILD).arg(folder.display().to_string()).run()?;
    let mut lines = Vec::new();
    for (number, target) in (1..).zip(&targets) {
        eprintln!("==> {target}, {number} of {}, {} s", targets.len(), options.seconds);
        let corpus = copy_corpus(&workspace.root, &folder, target)?;
        let outcome = fuzz(workspace, target, &corpus, options.seconds)?;
        let Outcome { runs, coverage, finds } = outcome;
        lines.push(format!(
            "{target:<16} {runs:>12} runs, {coverage:>6} places reached, {finds:>6} new inputs, no crash"
        ));
    }
    lines.iter().for_each(|line| println!("{line}"));
    println!("fuzz: new inputs are in {}", folder.join("corpus").display());
    Ok(())
}

/// The targets by the names of their files.
fn targets(root: &Path) -> anyhow::Result<Vec<String>> {
    let folder = fs::read_dir(root.join("fuzz/fuzz_targets")).context("cannot list the fuzz targets")?;
    let stem = |path: PathBuf| path.file_stem().map(|stem| stem.to_string_lossy().into_owned());
    let mut targets: Vec<String> = folder.flatten().filter_map(|entry| stem(entry.path())).collect();
    targets.sort();
    Ok(targets)
}

fn chosen(targets: Vec<String>, target: Option<&str>) -> anyhow::Result<Vec<String>> {
    match target {
        None => Ok(targets),
        Some(target) if targets.iter().any(|known| known == target) => Ok(vec![target.to_owned()]),
        Some(target) => bail!("no target {target:?}; the targets are {}", targets.join(", ")),
    }
}

/// Fails with instructions if a tool is missing.
fn is_installed() -> anyhow::Result<()> {
    if !Call::nightly("--version").succeeds() {
        bail!("the nightly toolchain is missing: rustup toolchain install nightly --profile minimal");
    }
    if !Call::nightly("fuzz --version").succeeds() {
        bail!("cargo-fuzz is missing: cargo install cargo-fuzz --locked");
    }
    Ok(())
}

/// Copies the committed corpus to a folder where libFuzzer may add inputs, so that the working tree stays unchanged.
fn copy_corpus(root: &Path, folder: &Path, target: &str) -> anyhow::Result<PathBuf> {
    let (from, to) = (root.join("fuzz/corpus").join(target), folder.join("corpus").join(target));
    fs::create_dir_all(&to).with_context(|| format!("cannot make {}", to.display()))?;
    let seeds = fs::read_dir(&from).with_context(|| format!("cannot list {}", from.display()))?;
    for seed in seeds {
        let seed = seed?;
        fs::copy(seed.path(), to.join(seed.file_name())).context("cannot copy the corpus")?;
    }
    Ok(to)
}

/// The call for one target. libFuzzer's limits: 20 s for an input, 2 GB of memory, 4 KiB of input.
fn call(target: &str, folder: &Path, corpus: &Path, seconds: u64) -> Call {
    let limits = "-max_len=4096 -timeout=20 -rss_limit_mb=2048 -print_final_stats=1";
    let call = Call::nightly("fuzz run --sanitizer none --target-dir").arg(folder.display().to_string());
    let call = call.arg(target).arg(corpus.display().to_string()).arg("--").arg(format!("-max_total_time={seconds}"));
    limits.split_whitespace().fold(call, Call::arg)
}

fn fuzz(workspace: &Workspace, target: &str, corpus: &Path, seconds: u64) -> anyhow::Result<Outcome> {
    let folder = workspace.target_directory.join("fuzz");
    let call = call(target, &folder, corpus, seconds);
    let (start, mut shown, mut last, mut outcome) = (Instant::now(), Instant::now(), Vec::new(), Outcome::default());
    let succeeded = call.watch(|line| {
        outcome.see(line);
        last.push(line.to_owned());
        if last.len() > 2 * LAST_LINES {
            last.drain(..LAST_LINES);
        }
        if shown.elapsed() >= PULSE {
            let seconds = start.elapsed().as_secs();
            eprintln!("{seconds:>6} s: {} runs, {} places reached", outcome.runs, outcome.coverage);
            shown = Instant::now();
        }
    })?;
    if !succeeded {
        last[last.len().saturating_sub(LAST_LINES)..].iter().for_each(|line| eprintln!("{line}"));
        bail!("{target} failed; the lines above say which input did it and how to run it again");
    }
    Ok(outcome)
}

impl Outcome {
    /// Reads the numbers in a line of libFuzzer: `#123 NEW cov: 45 ft: ...`, `stat::number_of_executed_units: 123`.
    fn see(&mut self, line: &str) {
        let number = |text: &str| text.split_whitespace().next().and_then(|word| word.parse().ok());
        let after = |mark: &str| line.split_once(mark).and_then(|(_, rest)| number(rest));
        if let Some(runs) = line.strip_prefix('#').and_then(number) {
            self.runs = runs;
        }
        self.coverage = after(" cov: ").unwrap_or(self.coverage);
        self.runs = after("stat::number_of_executed_units:").unwrap_or(self.runs);
        self.finds = after("stat::new_units_added:").unwrap_or(self.finds);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_target_has_a_corpus_and_a_place_in_the_manifest() {
        let root = Workspace::load().unwrap().root;
        let manifest = fs::read_to_string(root.join("fuzz/Cargo.toml")).unwrap();
        let targets = targets(&root).unwrap();
        assert!(targets.len() >= 5, "{targets:?}");
        for target in targets {
            assert!(manifest.contains(&format!("name = \"{target}\"\n")), "{target}");
            assert!(fs::read_dir(root.join("fuzz/corpus").join(&target)).unwrap().count() > 0, "{target}");
        }
    }

    #[test]
    fn one_target_can_be_chosen() {
        let targets = || vec!["a".to_owned(), "b".to_owned()];
        assert_eq!(chosen(targets(), None).unwrap(), targets());
        assert_eq!(chosen(targets(), Some("b")).unwrap(), ["b"]);
        assert_eq!(chosen(targets(), Some("c")).unwrap_err().to_string(), "no target \"c\"; the targets are a, b");
    }

    #[test]
    fn numbers_are_taken_from_what_the_fuzzer_says() {
        let mut outcome = Outcome::default();
        for line in [
            "INFO: Running with entropic power schedule (0xFF, 100).",
            "#524288\tpulse  cov: 2210 ft: 8400 corp: 900/100Kb lim: 2000 exec/s: 100 rss: 34Mb",
            "#524290\tREDUCE cov: 2213 ft: 8401 corp: 900/100Kb lim: 2000 exec/s: 100 rss: 34Mb L: 5/9 MS: 1 Custom-",
        ] {
            outcome.see(line);
        }
        assert_eq!(outcome, Outcome { runs: 524_290, coverage: 2213, finds: 0 });
        outcome.see("stat::number_of_executed_units: 524300");
        outcome.see("stat::new_units_added:          17");
        assert_eq!(outcome, Outcome { runs: 524_300, coverage: 2213, finds: 17 });
    }

    #[test]
    fn the_corpus_is_copied_and_kept() {
        let (root, folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let seeds = root.path().join("fuzz/corpus/a");
        fs::create_dir_all(&seeds).unwrap();
        fs::write(seeds.join("seed"), "1").unwrap();
        let copy = copy_corpus(root.path(), folder.path(), "a").unwrap();
        fs::write(copy.join("new"), "2").unwrap();
        assert_eq!(copy_corpus(root.path(), folder.path(), "a").unwrap(), copy);
        assert_eq!((fs::read_dir(&copy).unwrap().count(), fs::read_dir(&seeds).unwrap().count()), (2, 1));
        assert!(copy_corpus(root.path(), folder.path(), "b").is_err());
    }

    #[test]
    fn limits_are_given_to_the_fuzzer() {
        let call = call("a", Path::new("t"), Path::new("c"), 7).to_string();
        let expected = "cargo +nightly fuzz run --sanitizer none --target-dir t a c -- -max_total_time=7 -max_len=4096 \
                        -timeout=20 -rss_limit_mb=2048 -print_final_stats=1";
        assert_eq!(call, expected);
    }
}
