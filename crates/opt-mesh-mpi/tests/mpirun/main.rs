//! Ranks as processes. `mpirun` runs this program again for each scenario, and the result is judged from outside.

use std::env;
use std::process::{Command, ExitCode, Output};
use std::time::{Duration, Instant};

mod scenarios;

/// Far longer than any scenario takes. A job that hangs is killed, and counts as a failure.
const PATIENCE: &str = "60";

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    if let [flag, name] = &arguments[..]
        && flag == "--rank"
    {
        return scenarios::run(name);
    }
    let wanted = |name: &str| {
        let mut filters = arguments.iter().filter(|argument| !argument.starts_with('-')).peekable();
        filters.peek().is_none() || filters.any(|filter| name.contains(filter.as_str()))
    };
    let mut failed = 0;
    for (name, test) in TESTS.iter().filter(|(name, _)| wanted(name)) {
        let start = Instant::now();
        let end = test(name);
        let time = start.elapsed();
        match end {
            Ok(()) => println!("test {name} ... ok ({time:.1?})"),
            Err(reason) => {
                failed += 1;
                println!("test {name} ... FAILED ({time:.1?})\n{reason}");
            }
        }
    }
    println!("{failed} of {} failed", TESTS.len());
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

type Test = fn(&str) -> Result<(), String>;

const TESTS: &[(&str, Test)] = &[
    ("calls", |name| succeeds(name, 4)),
    ("calls_of_one_rank", |name| succeeds(name, 1)),
    ("alone", without_mpirun),
    ("pieces", |name| succeeds(name, 3)),
    ("same_bits", |name| succeeds(name, 3)),
    ("other_lengths", |name| succeeds(name, 3)),
    ("groups", |name| succeeds(name, 4)),
    ("from_any_thread", |name| succeeds(name, 2)),
    ("meanwhile", |name| succeeds(name, 2)),
    ("twice", |name| succeeds(name, 1)),
    ("step", |name| succeeds(name, 4)),
    ("disagreement", |name| succeeds(name, 4)),
    ("refusal", |name| succeeds(name, 3)),
    ("parity", |name| succeeds(name, 4)),
    ("checkpoints", |name| succeeds(name, 4)),
    ("overlap_and_parts", |name| succeeds(name, 4)),
    ("panic", |name| ends(name, 3, 101, &["out of luck"])),
    ("exit", |name| ends(name, 3, 3, &["exit code"])),
    ("late", |name| {
        ends(
            name,
            3,
            102,
            &[
                "rank 0: announcement: no answer from some rank within 1s, nothing changed",
                "rank 1: announcement: no answer from some rank within 1s, nothing changed",
                "rank 0: the ranks are out of step",
            ],
        )
    }),
    ("early", |name| {
        ends(name, 2, 102, &["rank 1: announcement: no answer from some rank within 1s, nothing changed"])
    }),
];

/// All ranks succeed.
fn succeeds(scenario: &str, ranks: usize) -> Result<(), String> {
    let output = mpirun(scenario, ranks)?;
    let told = told(&output);
    let done = told.matches("done: ").count();
    if output.status.success() && done == ranks {
        return Ok(());
    }
    Err(format!("{}, {done} of {ranks} ranks are done\n{told}", output.status))
}

/// The job ends with this code, in time, and prints all of these texts.
fn ends(scenario: &str, ranks: usize, code: i32, texts: &[&str]) -> Result<(), String> {
    let start = Instant::now();
    let output = mpirun(scenario, ranks)?;
    let told = told(&output);
    let missing = texts.iter().find(|text| !told.contains(**text));
    match (output.status.code() == Some(code), missing) {
        (true, None) if start.elapsed() < Duration::from_secs(30) => Ok(()),
        _ => Err(format!("{} instead of {code}, {missing:?} is missing\n{told}", output.status)),
    }
}

fn without_mpirun(scenario: &str) -> Result<(), String> {
    let program = env::current_exe().map_err(|error| error.to_string())?;
    let output = Command::new(program).args(["--rank", scenario]).output().map_err(|error| error.to_string())?;
    if output.status.success() { Ok(()) } else { Err(told(&output)) }
}

fn mpirun(scenario: &str, ranks: usize) -> Result<Output, String> {
    let program = env::current_exe().map_err(|error| error.to_string())?;
    let mut command = Command::new("timeout");
    command.args([PATIENCE, "mpirun", "-n", &ranks.to_string()]).arg(program).args(["--rank", scenario]);
    // Containers run as root, and have fewer cores than we have ranks. (Other MPI libraries ignore these variables.)
    command.env("OMPI_ALLOW_RUN_AS_ROOT", "1").env("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1");
    command.env("OMPI_MCA_rmaps_base_oversubscribe", "1").env("RUST_BACKTRACE", "0");
    command.output().map_err(|error| format!("mpirun: {error}"))
}

fn told(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}
