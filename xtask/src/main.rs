//! Tasks of this repository: `cargo xtask --help`.

mod bench;
mod cargo;
mod ci;
mod codegen;
mod fuzz;
mod gpu;
mod instructions;
mod interop;
mod kills;
mod miri;
mod mutants;
mod parity;
mod release;
#[cfg(test)]
mod samples;
mod tidy;
mod workspace;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use workspace::Workspace;

/// Tasks of this repository.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Writes the generated tables and the JSON Schema.
    Codegen {
        /// Changes nothing; prints what differs and fails if anything does.
        #[arg(long)]
        check: bool,
    },
    /// Checks the laws of the repository.
    Tidy,
    /// Runs everything that CI runs, in order, up to the first failure.
    Ci {
        /// Prints the steps instead.
        #[arg(long)]
        list: bool,
        /// Runs only this step.
        #[arg(long, value_name = "NAME", conflicts_with = "list")]
        step: Option<String>,
        /// Leaves this step out; may be given several times.
        #[arg(long, value_name = "NAME", conflicts_with_all = ["list", "step"])]
        skip: Vec<String>,
    },
    /// Replays recorded runs from their configurations; fails if any differs.
    Parity {
        /// Recorded runs, in the format of tests/golden.
        #[arg(required = true)]
        files: Vec<PathBuf>,
        /// Prints every case.
        #[arg(long)]
        verbose: bool,
        /// Replays the cases that were recorded on a device mesh under `mpirun`, one process a rank.
        #[arg(long)]
        mpi: bool,
    },
    /// Moves state from Keras and PyTorch to here and back, with five steps on both sides each time; fails if any
    /// number differs.
    Interop(interop::Options),
    /// Times every rule and the usual compositions against bare loops.
    Bench(bench::Options),
    /// Compares trainings on a GPU with the CPU and times their steps; fails if bits differ on CUDA, or more than a few
    /// units in the last place elsewhere.
    Gpu(gpu::Options),
    /// Counts the instructions of steps with valgrind; fails if there are more than in the record.
    Instructions {
        /// Updates the record instead.
        #[arg(long)]
        write: bool,
    },
    /// Kills a training at random moments, resumes it, and compares the end with that of an uninterrupted one.
    Kills {
        /// How often to kill.
        #[arg(long, value_name = "N", default_value_t = 200)]
        times: usize,
        /// How many ranks train: more than one write sharded checkpoints.
        #[arg(long, value_name = "N", default_value_t = 1)]
        ranks: usize,
        /// Seed of the random moments.
        #[arg(long, value_name = "N", default_value_t = 1)]
        seed: u64,
    },
    /// Fuzzes everything that reads files, and sequences of calls, with cargo-fuzz; fails on any crash.
    Fuzz(fuzz::Options),
    /// Interprets the engine's tests with Miri, which checks memory and threads.
    Miri,
    /// Runs mutation tests, which change the code in one place at a time; fails on unlisted survivors. Takes hours.
    Mutants(mutants::Options),
    /// Prepares a release; never publishes.
    Release {
        #[command(subcommand)]
        command: Release,
    },
}

#[derive(Debug, Subcommand)]
enum Release {
    /// Checks that everything could be published, and prints the order.
    Check,
}

fn main() -> ExitCode {
    match run(Cli::parse().task) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(task: Task) -> anyhow::Result<ExitCode> {
    match task {
        Task::Codegen { check } => codegen::run(&Workspace::load()?, check)?,
        Task::Tidy => tidy::run(Workspace::load()?)?,
        Task::Ci { list: true, .. } => ci::list(&Workspace::load()?)?,
        Task::Ci { step: Some(step), .. } => ci::run_one(&Workspace::load()?, &step)?,
        Task::Ci { skip, .. } => ci::run(&Workspace::load()?, &skip)?,
        Task::Parity { files, verbose, mpi: true } => {
            return parity::run_mpi(&Workspace::load()?.root, &files, verbose);
        }
        Task::Parity { files, verbose, mpi: false } => return Ok(parity::run(&files, verbose)),
        Task::Interop(options) => return interop::run(&Workspace::load()?.root, &options),
        Task::Bench(options) => bench::run(&Workspace::load()?, &options)?,
        Task::Gpu(options) => return gpu::run(&options),
        Task::Instructions { write } => instructions::run(&Workspace::load()?, write)?,
        Task::Kills { times, ranks, seed } => kills::run(times, ranks, seed)?,
        Task::Fuzz(options) => fuzz::run(&Workspace::load()?, &options)?,
        Task::Miri => miri::run()?,
        Task::Mutants(options) => mutants::run(&Workspace::load()?, &options)?,
        Task::Release { command: Release::Check } => release::check(&Workspace::load()?)?,
    }
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn wrong_command_lines_are_refused() {
        for line in [
            "",
            "parity",
            "ci --list --step fmt",
            "ci --step fmt --skip doc",
            "release",
            "release publish",
            "codegen --chek",
            "fuzz --seconds 0",
            "gpu --device metal",
            "mutants --package opt-mesh",
            "interop",
        ] {
            let words = ["cargo xtask"].into_iter().chain(line.split_whitespace());
            assert!(Cli::try_parse_from(words).is_err(), "{line:?}");
        }
    }
}
