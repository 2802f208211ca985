//! `cargo xtask bench`: the benchmarks of the whole workspace.

use crate::cargo::Call;

/// Runs the benchmarks whose names match, or all.
pub(crate) fn run(quick: bool, filter: Option<&str>) -> anyhow::Result<()> {
    call(quick, filter).run()
}

/// Measures checkpoints.
pub(crate) fn checkpoints() -> anyhow::Result<()> {
    Call::new("run --quiet --release -p benches --bin bench-checkpoint").run()
}

/// Only the Criterion benchmark understands what follows `--`.
fn call(quick: bool, filter: Option<&str>) -> Call {
    let call = Call::new("bench -p benches --bench step --");
    let call = if quick { call.arg("--quick") } else { call };
    match filter {
        Some(filter) => call.arg(filter),
        None => call,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_go_to_criterion() {
        assert_eq!(call(false, None).to_string(), "cargo bench -p benches --bench step --");
        let quick = call(true, Some("sgd/.*"));
        assert_eq!(quick.to_string(), "cargo bench -p benches --bench step -- --quick sgd/.*");
    }
}
