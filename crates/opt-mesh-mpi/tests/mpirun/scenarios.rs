//! The code of one rank in each scenario.

mod calls;
mod checkpoints;
mod faults;
mod steps;

use std::process::ExitCode;

/// Runs a scenario on this rank, and reports its end.
pub(crate) fn run(name: &str) -> ExitCode {
    match name {
        "calls" | "calls_of_one_rank" | "alone" => calls::calls(),
        "pieces" => calls::pieces(),
        "same_bits" => calls::same_bits(),
        "other_lengths" => calls::other_lengths(),
        "groups" => calls::groups(),
        "from_any_thread" => calls::from_any_thread(),
        "meanwhile" => calls::meanwhile(),
        "twice" => faults::twice(),
        "step" => steps::step(),
        "overlap_and_parts" => steps::overlap_and_parts(),
        "parity" => steps::parity(),
        "checkpoints" => checkpoints::checkpoints(),
        "disagreement" => faults::disagreement(),
        "refusal" => faults::refusal(),
        "panic" => faults::panic(),
        "exit" => faults::exit(),
        "late" => faults::late(),
        "early" => faults::early(),
        other => {
            eprintln!("there is no scenario {other:?}");
            return ExitCode::FAILURE;
        }
    }
    println!("done: {name}");
    ExitCode::SUCCESS
}
