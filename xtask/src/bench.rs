//! `cargo xtask bench`: the benchmarks of the whole workspace.

use std::path::{Path, PathBuf};

use clap::Args;

use crate::cargo::Call;
use crate::workspace::Workspace;

/// What is measured, and where the results go.
#[derive(Debug, Default, Args)]
pub(crate) struct Options {
    /// Fewer sizes, types and samples: less than two minutes.
    #[arg(long)]
    quick: bool,
    /// Measures only what matches, as `rule/shape/dtype/threads`: `^nadam/10M/f32/2$`.
    #[arg(long, value_name = "REGEX")]
    filter: Option<String>,
    /// Compares with the results of another run.
    #[arg(long, value_name = "FILE")]
    baseline: Option<PathBuf>,
    /// Writes the results here, too.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Where table, JSON and plots go; `target/bench` by default.
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
    /// Optimizers of other Rust frameworks take part: burn, and candle with candle-optimisers. They are built first,
    /// which takes minutes.
    #[arg(long)]
    peers: bool,
    /// Optimizers in Python take part: PyTorch, pytorch-optimizer and optax, from a virtual environment with
    /// `benches/peers/requirements.txt`.
    #[arg(long, value_name = "VENV")]
    python: Option<PathBuf>,
}

/// Builds the suite, then runs it.
pub(crate) fn run(workspace: &Workspace, options: &Options) -> anyhow::Result<()> {
    Call::new(BUILD).run()?;
    let peers = options.peers.then(|| build_peers(workspace).build_program()).transpose()?;
    options.suite(peers.as_deref()).run()
}

const BUILD: &str = "build --release -p benches --bin bench-suite";
const SUITE: &str = "run --release --quiet -p benches --bin bench-suite --";

/// They are no part of the workspace, but what is built goes to the same place.
fn build_peers(workspace: &Workspace) -> Call {
    let path = |path: &str| workspace.root.join(path).display().to_string();
    let call = Call::new("build --release --locked --manifest-path").arg(path("benches/peers/Cargo.toml"));
    call.arg("--target-dir").arg(path("target/peers"))
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
}
