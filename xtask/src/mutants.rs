//! `cargo xtask mutants`: mutation tests. The code is changed in one place at a time; each mutant should fail a test.
//!
//! A mutant runs against the tests of its own package first, which takes seconds. A mutant of the code for ranks runs
//! against the tests of the mesh. Only mutants that survive these tests run against packages that take longer to
//! build and to run. Mutants that survive both must be listed in `.cargo/mutants-survivors.txt`, with a reason.

mod outcomes;
mod survivors;

use std::collections::BTreeSet;
use std::fs;

use anyhow::{Context, bail};
use clap::Args;
use outcomes::Outcomes;
use survivors::Survivors;

use crate::cargo::Call;
use crate::workspace::Workspace;

/// Which mutants are run.
#[derive(Debug, Default, Args)]
pub(crate) struct Options {
    /// Mutates this package only; may be given several times.
    #[arg(long, value_name = "NAME", value_parser = PACKAGES)]
    package: Vec<String>,
    /// Mutates only files that match this path from the root; may be given several times.
    #[arg(long, value_name = "GLOB")]
    file: Vec<String>,
    /// Runs every `n`th mutant, starting with number `k`: `0/5`.
    #[arg(long, value_name = "K/N")]
    shard: Option<String>,
}

/// The packages whose code is mutated.
const PACKAGES: [&str; 7] =
    ["opt-core", "opt-sgd", "opt-adam", "opt-nadam", "opt-radam", "opt-novograd", "opt-lookahead"];

/// The list of accepted survivors, below the root.
const LIST: &str = ".cargo/mutants-survivors.txt";

/// Runs the mutants; fails if one survives that is not listed.
pub(crate) fn run(workspace: &Workspace, options: &Options) -> anyhow::Result<()> {
    for (tool, package) in [("mutants", "cargo-mutants"), ("nextest", "cargo-nextest")] {
        if !Call::new(tool).arg("--version").succeeds() {
            bail!("`cargo {tool}` is missing: `cargo install {package} --locked`");
        }
    }
    let list = workspace.root.join(LIST);
    let list = fs::read_to_string(&list).with_context(|| format!("cannot read {}", list.display()))?;
    let listed = Survivors::listed(&list)?;
    let mut found = Vec::new();
    for package in PACKAGES.iter().filter(|package| options.takes(package)) {
        let outcomes = options.try_package(workspace, package)?;
        println!("{package}: {outcomes}");
        found.extend(outcomes.missed);
    }
    listed.compare(&found)
}

impl Options {
    fn takes(&self, package: &str) -> bool {
        self.package.is_empty() || self.package.iter().any(|taken| taken == package)
    }

    fn try_package(&self, workspace: &Workspace, package: &str) -> anyhow::Result<Outcomes> {
        let out = workspace.target_directory.join("mutants").join(package);
        let stage = |call: Call, name: &str| {
            let out = out.join(name);
            fs::create_dir_all(&out).with_context(|| format!("cannot create {}", out.display()))?;
            // The codes 2 and 3 mean that mutants survived or timed out.
            call.arg("--output").arg(out.display().to_string()).run_to(&[0, 2, 3])?;
            Outcomes::read(&out.join("mutants.out"))
        };
        let mut outcomes = stage(self.first(package), "own")?;
        if package == CORE && self.file.is_empty() {
            Call::new(MESH).run()?;
            outcomes.add(stage(self.sharded(on_ranks()), "ranks")?);
        }
        if !outcomes.missed.is_empty() {
            outcomes.continue_with(&stage(second(package, &outcomes.missed), "all")?);
        }
        Ok(outcomes)
    }

    /// Every mutant, with the tests of its own package.
    fn first(&self, package: &str) -> Call {
        let call = mutants(package).arg("--cargo-test-arg=-E").arg(format!("--cargo-test-arg={QUICK}"));
        let call = self.file.iter().fold(call, |call, file| call.arg("--file").arg(file));
        let apart: &[&str] = if package == CORE && self.file.is_empty() { &RANKS } else { &[] };
        self.sharded(apart.iter().fold(call, |call, file| call.arg("--exclude").arg(*file)))
    }

    fn sharded(&self, call: Call) -> Call {
        match &self.shard {
            Some(shard) => call.arg("--sharding=round-robin").arg("--shard").arg(shard),
            None => call,
        }
    }
}

const CORE: &str = "opt-core";

/// The code of `opt-core` for ranks; its tests need a mesh.
const RANKS: [&str; 4] = [
    "crates/opt-core/src/collective.rs",
    "crates/opt-core/src/collective/**",
    "crates/opt-core/src/optimizer/distributed.rs",
    "crates/opt-core/src/optimizer/distributed/**",
];

/// The tests of the mesh, run once on unchanged code: cargo-mutants would look for them in `opt-core`.
const MESH: &str = "nextest run --cargo-profile=mutants --package tests --test=suite mesh::";

/// Every mutant of the code for ranks, with the tests of the mesh.
fn on_ranks() -> Call {
    let call = mutants(CORE).arg("--test-package=tests").arg("--cargo-arg=--test=suite").arg("--cargo-test-arg=mesh::");
    let call = call.arg("--baseline=skip").arg("--timeout=180");
    RANKS.iter().fold(call, |call, file| call.arg("--file").arg(*file))
}

/// The first stage leaves out laws that take seconds.
const QUICK: &str = "not test(threads_do_not_matter)";

/// The second stage leaves out the tests that kill trainings, and those that measure the cost of steps.
const BROAD: &str = "not (binary(allocations) | test(/^(checkpoints|sparse_cost)::/))";

/// Some mutants, with every package that tests the engine.
fn second(package: &str, names: &[String]) -> Call {
    let call = mutants(package).arg("--cargo-test-arg=-E").arg(format!("--cargo-test-arg={BROAD}"));
    let wide: &[&str] = if package == CORE { &["opt-core", "tests", "opt-lookahead", "opt-mesh"] } else { &["tests"] };
    let call = wide.iter().fold(call, |call, wide| call.arg(format!("--test-package={wide}")));
    // A mutant that leaves out a field cannot be chosen by its name: the files narrow the choice.
    let files: BTreeSet<_> = names.iter().filter_map(|name| name.split(':').next()).collect();
    let call = files.into_iter().fold(call, |call, file| call.arg("--file").arg(file));
    names.iter().fold(call, |call, name| call.arg("--re").arg(format!("^{}$", regex::escape(name))))
}

fn mutants(package: &str) -> Call {
    Call::new("mutants --package").arg(package).env("PROPTEST_CASES", "16")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_stage_takes_what_was_asked_for() {
        let options = Options { file: vec!["a b.rs".into()], shard: Some("0/5".into()), ..Options::default() };
        assert_eq!(
            options.first("opt-sgd").to_string(),
            "PROPTEST_CASES=\"16\" cargo mutants --package opt-sgd --cargo-test-arg=-E \
             --cargo-test-arg=not test(threads_do_not_matter) --file a b.rs --sharding=round-robin --shard 0/5"
        );
        let core = Options { shard: Some("1/2".into()), ..Options::default() };
        assert!(core.first(CORE).to_string().ends_with("distributed/** --sharding=round-robin --shard 1/2"));
        assert!(!options.first(CORE).to_string().contains("--exclude"));
        assert!(options.takes("opt-sgd"));
        let one = Options { package: vec!["opt-nadam".into()], ..Options::default() };
        assert!(one.takes("opt-nadam") && !one.takes("opt-sgd"));
    }

    #[test]
    fn the_second_stage_takes_names_as_they_are() {
        let call = second("opt-sgd", &["a.rs:1:2: replace * with + in f".into()]).to_string();
        assert!(
            call.ends_with(r"--test-package=tests --file a.rs --re ^a\.rs:1:2: replace \* with \+ in f$"),
            "{call}"
        );
        assert!(second("opt-core", &[]).to_string().contains("--test-package=opt-mesh"));
    }

    #[test]
    fn every_package_exists() {
        let workspace = Workspace::load().unwrap();
        assert!(PACKAGES.iter().all(|package| workspace.package(package).is_some()));
        assert!(RANKS.iter().all(|path| workspace.root.join(path.trim_end_matches("/**")).exists()));
    }
}
