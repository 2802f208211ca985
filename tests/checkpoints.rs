//! A training that is stopped at any step and resumed, in the same process or another, ends with the same bytes.

use std::path::{Path, PathBuf};
use std::process::Command;

use optimizers::MomentStorage;
use optimizers::checkpoint::{Checkpoint, CheckpointDir};
use tests::kills::{self, Failure, Plan};
use tests::trainee::{SKIPPED, Trainee, positions};

const STEPS: u64 = 30;

/// Enough elements for two threads to share a step.
const SHARED: usize = 300_000;

/// The numbers of threads before a stop and after it.
const THREADS: [(usize, usize); 4] = [(1, 1), (1, 2), (2, 1), (2, 2)];

/// All ways to store moments.
const STORAGES: [MomentStorage; 3] =
    [MomentStorage::Full, MomentStorage::Bf16 { seed: 5 }, MomentStorage::Float8 { seed: 5 }];

fn ran(size: usize, threads: usize, moments: MomentStorage, steps: u64) -> Trainee {
    let mut trainee = Trainee::new(size, threads, moments).unwrap();
    trainee.run_to(steps).unwrap();
    trainee
}

#[test]
fn the_training_has_what_it_is_for() {
    let mut trainee = ran(100, 1, MomentStorage::Full, SKIPPED);
    let before = trainee.to_bytes().unwrap();
    assert_eq!(trainee.optimizer.iterations(), SKIPPED);
    trainee.run_to(SKIPPED + 1).unwrap();
    assert_eq!((trainee.optimizer.iterations(), trainee.position), (SKIPPED, SKIPPED + 1));
    assert_ne!(trainee.to_bytes().unwrap(), before, "the position is part of the file");
    let mut names = trainee.optimizer.slot_names();
    names.sort_unstable();
    assert_eq!(names, ["average", "m", "slow", "v"]);
}

#[test]
fn in_the_same_process_from_every_step() {
    for moments in STORAGES {
        let want = ran(SHARED, 1, moments, STEPS).to_bytes().unwrap();
        assert!(ran(SHARED, 2, moments, STEPS).to_bytes().unwrap() == want);
        for (first, second) in THREADS {
            let mut trainee = Trainee::new(SHARED, first, moments).unwrap();
            for stop in positions(STEPS) {
                trainee.run_to(stop).unwrap();
                let checkpoint = Checkpoint::from_bytes(trainee.to_bytes().unwrap()).unwrap();
                let mut resumed = Trainee::new(SHARED, second, moments).unwrap();
                resumed.load(&checkpoint).unwrap();
                assert_eq!(resumed.position, stop);
                resumed.run_to(STEPS).unwrap();
                let same = resumed.to_bytes().unwrap() == want;
                assert!(same, "{moments:?}: stopped at {stop} of {first} threads, on with {second}");
            }
        }
    }
}

fn start(directory: &Path, threads: usize, moments: MomentStorage, more: &[&str]) {
    let program = env!("CARGO_BIN_EXE_trainee");
    let mut command = Command::new(program);
    let (size, threads, steps) = (SHARED.to_string(), threads.to_string(), STEPS.to_string());
    command.arg(directory).args(["--size", &size, "--threads", &threads, "--steps", &steps, "--keep", "99"]);
    match moments {
        MomentStorage::Bf16 { seed } => drop(command.args(["--bf16", &seed.to_string()])),
        MomentStorage::Float8 { seed } => drop(command.args(["--float8", &seed.to_string()])),
        _ => {}
    }
    let output = command.args(more).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn in_a_new_process_from_every_step() {
    let folder = tempfile::tempdir().unwrap();
    for (moments, first) in STORAGES.into_iter().flat_map(|storage| [(storage, 1), (storage, 2)]) {
        let want = ran(SHARED, 1, moments, STEPS).to_bytes().unwrap();
        let whole = folder.path().join("whole");
        start(&whole, first, moments, &["--every", "1"]);
        let mut stored = CheckpointDir::open(&whole).list().unwrap();
        assert_eq!(stored.len() as u64, STEPS + 1);
        stored.reverse();
        for (stop, stored) in stored.iter().enumerate() {
            for (_, second) in THREADS.into_iter().filter(|threads| threads.0 == first) {
                let directory = folder.path().join("resumed");
                start(&directory, second, moments, &["--every", "99", "--from", stored.path.to_str().unwrap()]);
                let last = CheckpointDir::open(&directory).list().unwrap()[0].path.clone();
                let same = std::fs::read(last).unwrap() == want;
                assert!(same, "{moments:?}: stopped at {stop} of {first} threads, on with {second}");
                std::fs::remove_dir_all(directory).unwrap();
            }
        }
        std::fs::remove_dir_all(whole).unwrap();
    }
}

/// The file has half of the bytes, too.
#[test]
fn moments_in_16_bits_are_saved_in_16_bits() {
    let mut trainee = ran(1_000, 1, STORAGES[1], 3);
    let checkpoint = Checkpoint::from_bytes(trainee.to_bytes().unwrap()).unwrap();
    let dtype = |name: &str| checkpoint.tensors().find(|tensor| tensor.name == name).unwrap().dtype;
    assert_eq!(["kernel", "kernel/m", "kernel/v", "kernel/slow"].map(dtype), ["F32", "BF16", "BF16", "F32"]);
    let mut full = Trainee::new(1_000, 1, MomentStorage::Full).unwrap();
    let error = full.load(&checkpoint).unwrap_err().to_string();
    assert!(error.contains(r#""kernel/m" has type BF16, expected F32"#), "{error}");
}

fn killing(options: &[&str]) -> Plan {
    let options = options.iter().map(|&option| option.to_owned()).collect();
    Plan { trainee: PathBuf::from(env!("CARGO_BIN_EXE_trainee")), options, kills: 12, seed: 7 }
}

/// A few of the 200 kills of `cargo xtask kills`.
#[test]
fn after_kills_at_random_moments() {
    for options in [&[][..], &["--float8", "5"]] {
        let outcome = kills::run(&killing(options), |_| ()).unwrap_or_else(|failure| panic!("{failure}"));
        assert_eq!(outcome.kills, 12);
        assert!(outcome.trainings > 0);
    }
}

/// Also between the shards of a checkpoint and its manifest.
#[test]
fn after_kills_of_several_ranks() {
    let outcome = kills::run(&killing(&["--ranks", "3"]), |_| ()).unwrap_or_else(|failure| panic!("{failure}"));
    assert_eq!(outcome.kills, 12);
    assert!(outcome.trainings > 0);
}

#[test]
fn a_program_that_cannot_be_started_is_an_error() {
    let trainee = PathBuf::from("no-such-program");
    let failure = kills::run(&Plan { trainee, ..killing(&[]) }, |_| ()).unwrap_err();
    assert!(failure.to_string().starts_with("cannot start no-such-program: "), "{failure}");
}

/// Checks the check: otherwise kills would have no effect that it could notice.
#[test]
fn a_training_that_does_not_keep_its_promises_is_found() {
    let forgets = kills::run(&killing(&["--forget-state"]), |_| ()).unwrap_err();
    assert!(matches!(forgets, Failure::Differs { .. }), "{forgets}");
    let tears = kills::run(&killing(&["--write-in-place"]), |_| ()).unwrap_err();
    assert!(matches!(tears, Failure::NoneValid { .. }), "{tears}");
}
