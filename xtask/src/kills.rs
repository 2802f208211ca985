//! `cargo xtask kills`: a training that is killed over and over.

use crate::cargo::Call;

/// Builds the training and the program that kills it, and runs that program.
pub(crate) fn run(times: usize, ranks: usize, seed: u64) -> anyhow::Result<()> {
    calls(times, ranks, seed).iter().try_for_each(Call::run)
}

fn calls(times: usize, ranks: usize, seed: u64) -> [Call; 2] {
    let kill = Call::new("run --quiet --release -p tests --bin kills --");
    let options = [("--times", times.to_string()), ("--ranks", ranks.to_string()), ("--seed", seed.to_string())];
    let kill = options.into_iter().fold(kill, |call, (option, value)| call.arg(option).arg(value));
    // The killing program starts the training, which is another program.
    [Call::new("build --release -p tests --bins"), kill]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_go_to_the_program() {
        let [build, kill] = calls(7, 2, 3).map(|call| call.to_string());
        assert_eq!(build, "cargo build --release -p tests --bins");
        assert_eq!(kill, "cargo run --quiet --release -p tests --bin kills -- --times 7 --ranks 2 --seed 3");
    }
}
