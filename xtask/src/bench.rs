//! `cargo xtask bench`: the benchmarks of the whole workspace.

use std::path::{Path, PathBuf};

use clap::Args;

use crate::cargo::Call;
use crate::workspace::Workspace;

/// Which benchmarks run, and where the results go.
#[derive(Debug, Default, Args)]
pub(crate) struct Options {
    /// Fewer sizes, types and samples: less than two minutes.
    #[arg(long)]
    quick: bool,
    /// Measures only matching benchmarks, named `rule/shape/dtype/threads`: `^nadam/10M/f32/2$`.
    #[arg(long, value_name = "REGEX")]
    filter: Option<String>,
    /// Compares with the results of another run.
    #[arg(long, value_name = "FILE")]
    baseline: Option<PathBuf>,
    /// Writes the results to this file, too.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// The folder for table, JSON and plots; `target/bench` by default.
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
    /// Includes the optimizers of other Rust frameworks: burn, candle, and candle-optimisers; and ours in burn and
    /// candle, through their adapters. They are built first, which takes minutes.
    #[arg(long)]
    peers: bool,
    /// Includes optimizers in Python: PyTorch, pytorch-optimizer and optax, from a virtual environment with
    /// `benches/peers/requirements.txt`.
    #[arg(long, value_name = "VENV")]
    python: Option<PathBuf>,
    /// Measures checkpoints instead of steps: saving, verifying and loading next to `cp`.
    #[arg(long)]
    checkpoints: bool,
}

/// Builds the suite, then runs it.
pub(crate) fn run(workspace: &Workspace, options: &Options) -> anyhow::Result<()> {
    if options.checkpoints {
        return Call::new(CHECKPOINTS).run();
    }
    Call::new(BUILD).run()?;
    let peers = options.peers.then(|| build_peers(workspace).build_program()).transpose()?;
    options.suite(peers.as_deref()).run()
}

const BUILD: &str = "build --release -p benches --bin bench-suite";
const CHECKPOINTS: &str = "run --quiet --release -p benches --bin bench-checkpoint";
const SUITE: &str = "run --release --quiet -p benches --bin bench-suite --";

/// The peers are not part of the workspace, but their build goes to a folder beside it.
fn build_peers(workspace: &Workspace) -> Call {
    let text = |path: PathBuf| path.display().to_string();
    Call::new("build --release --locked")
        .arg("--manifest-path")
        .arg(text(workspace.root.join("benches/peers/Cargo.toml")))
        .arg("--target-dir")
        .arg(text(workspace.target_directory.join("peers")))
}

impl Options {
    fn suite(&self, peers: Option<&Path>) -> Call {
        let call = Call::new(SUITE);
        let call = if self.quick { call.arg("--quick") } else { call };
        let paths = [
            ("--baseline", self.baseline.as_deref()),
            ("--json", self.json.as_deref()),
            ("--out", self.out.as_deref()),
            ("--peers", peers),
            ("--python", self.python.as_deref()),
        ];
        let paths = paths.into_iter().filter_map(|(name, path)| Some((name, path?.display().to_string())));
        let filter = self.filter.clone().map(|filter| ("--filter", filter));
        filter.into_iter().chain(paths).fold(call, |call, (name, value)| call.arg(name).arg(value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_go_to_the_suite() {
        assert_eq!(Options::default().suite(None).to_string(), format!("cargo {SUITE}"));
        let options = Options {
            quick: true,
            filter: Some("^sgd/.*".to_owned()),
            json: Some("new file.json".into()),
            baseline: Some("old.json".into()),
            python: Some("venv".into()),
            ..Options::default()
        };
        let expected = "--quick --filter ^sgd/.* --baseline old.json --json new file.json --peers a/b --python venv";
        assert_eq!(options.suite(Some(Path::new("a/b"))).to_string(), format!("cargo {SUITE} {expected}"));
    }

    #[test]
    fn peers_are_built_outside_of_the_workspace() {
        let workspace = Workspace::load().unwrap();
        let call = build_peers(&workspace).to_string();
        let manifest = workspace.root.join("benches/peers/Cargo.toml");
        assert!(manifest.is_file());
        assert!(call.contains(&format!("--manifest-path {} ", manifest.display())), "{call}");
        assert!(workspace.packages.iter().all(|package| package.manifest_path != manifest));
    }
}
