//! `cargo xtask miri`: interprets the engine's tests, and checks every rule about memory and threads.

use anyhow::bail;

use crate::cargo::Call;

/// The flags, and the reason for each:
///
/// * Tree borrows: crossbeam, in rayon's work queues, breaks the stricter stacked borrows.
/// * Ignored leaks: threads of rayon's pools wait for work until the process ends.
/// * Permissive provenance: crossbeam stores tags in pointers by way of integers.
/// * No isolation: tests print, and the pool reads the clock.
const FLAGS: &str = "-Zmiri-tree-borrows -Zmiri-ignore-leaks -Zmiri-permissive-provenance -Zmiri-disable-isolation";

/// Seeds for Miri's scheduler: each gives another order of threads.
const SEEDS: [&str; 2] = ["0", "1"];

/// Runs the tests; fails if a test fails or Miri reports an error.
pub(crate) fn run() -> anyhow::Result<()> {
    if !Call::nightly("miri --version").succeeds() {
        bail!("Miri is missing: rustup toolchain install nightly --component miri,rust-src");
    }
    calls().iter().try_for_each(Call::run)
}

fn calls() -> Vec<Call> {
    let call = |args: &str, flags: String| Call::nightly(args).env("MIRIFLAGS", flags);
    // Roundings are pure arithmetic, and there are many of them.
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
