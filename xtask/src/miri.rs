//! `cargo xtask miri`: the engine's tests, interpreted, with every rule about memory and threads checked.

use anyhow::bail;

use crate::cargo::Call;

/// Why each flag is needed.
///
/// * Tree borrows: crossbeam, under rayon's queues of work, breaks the stricter stacked borrows.
/// * Ignored leaks: threads of rayon's pools wait for work until the process ends.
/// * Permissive provenance: crossbeam keeps tags in pointers, by way of integers.
/// * No isolation: tests that print, and the clock of the pool.
const FLAGS: &str = "-Zmiri-tree-borrows -Zmiri-ignore-leaks -Zmiri-permissive-provenance -Zmiri-disable-isolation";

/// Different orders of threads: Miri has a scheduler of its own, which follows a seed.
const SEEDS: [&str; 2] = ["0", "1"];

/// Runs the tests; fails if one does, or Miri objects.
pub(crate) fn run() -> anyhow::Result<()> {
    if !Call::nightly("miri --version").succeeds() {
        bail!("Miri is missing: rustup toolchain install nightly --component miri,rust-src");
    }
    calls().iter().try_for_each(Call::run)
}

fn calls() -> Vec<Call> {
    let call = |args: &str, flags: String| Call::nightly(args).env("MIRIFLAGS", flags);
    // Roundings are arithmetic alone, and there are many of them.
    let units = call("miri test -p opt-core --lib -- --skip moments", FLAGS.into());
    let calls = call(
        "miri test -p opt-core --test suite -- contract:: halves:: kernels:: lists:: models:: refusals:: restore:: views::",
        FLAGS.into(),
    );
    let threads = SEEDS
        .map(|seed| call("miri test -p opt-core --test suite -- threads::", format!("{FLAGS} -Zmiri-seed={seed}")));
    [units, calls].into_iter().chain(threads).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_are_tried_in_several_orders() {
        let calls: Vec<String> = calls().iter().map(ToString::to_string).collect();
        let threads = calls.iter().filter(|call| call.ends_with("-p opt-core --test suite -- threads::"));
        let seeds: Vec<bool> =
            threads.zip(SEEDS).map(|(call, seed)| call.contains(&format!("-Zmiri-seed={seed}\""))).collect();
        assert_eq!(seeds, [true; 2], "{calls:?}");
    }
}
