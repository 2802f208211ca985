//! `cargo xtask bench`: the benchmarks of the whole workspace.

use std::path::PathBuf;

use clap::Args;

use crate::cargo::Call;

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
}

/// Builds the suite, then runs it.
pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    Call::new(BUILD).run()?;
    options.suite().run()
}

const BUILD: &str = "build --release -p benches --bin bench-suite";
const SUITE: &str = "run --release --quiet -p benches --bin bench-suite --";

impl Options {
    fn suite(&self) -> Call {
        let call = Call::new(SUITE);
        let call = if self.quick { call.arg("--quick") } else { call };
        let paths = [("--baseline", &self.baseline), ("--json", &self.json), ("--out", &self.out)];
        let paths = paths.into_iter().filter_map(|(name, path)| Some((name, path.as_ref()?.display().to_string())));
        let filter = self.filter.clone().map(|filter| ("--filter", filter));
        filter.into_iter().chain(paths).fold(call, |call, (name, value)| call.arg(name).arg(value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_go_to_the_suite() {
        assert_eq!(Options::default().suite().to_string(), format!("cargo {SUITE}"));
        let options = Options {
            quick: true,
            filter: Some("^sgd/.*".to_owned()),
            json: Some("new file.json".into()),
            baseline: Some("old.json".into()),
            out: None,
        };
        let expected = format!("cargo {SUITE} --quick --filter ^sgd/.* --baseline old.json --json new file.json");
        assert_eq!(options.suite().to_string(), expected);
    }
}
