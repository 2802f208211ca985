//! `cargo xtask ci`: everything that CI runs, in order.

use std::process::Command;
use std::{env, fs};

use anyhow::{Context, bail};

use crate::cargo::Call;
use crate::workspace::{Package, Workspace};

/// A named part of CI.
#[derive(Debug)]
struct Step {
    name: &'static str,
    calls: Vec<Call>,
}

impl Step {
    fn run(&self) -> anyhow::Result<()> {
        eprintln!("==> {}", self.name);
        self.calls.iter().try_for_each(Call::run).with_context(|| format!("step {} failed", self.name))
    }
}

/// The steps that run only when they are asked for: their dependencies take too long to compile.
const BY_HAND: [&str; 1] = ["burn"];

/// Prints the steps and their commands.
pub(crate) fn list(workspace: &Workspace) -> anyhow::Result<()> {
    for step in steps(workspace) {
        let when = if BY_HAND.contains(&step.name) { " (only with --step)" } else { "" };
        println!("{}{when}", step.name);
        for call in step.calls {
            println!("    {call}");
        }
    }
    Ok(())
}

/// Runs all steps except some and those for which one has to ask, up to the first failure.
pub(crate) fn run(workspace: &Workspace, skip: &[String]) -> anyhow::Result<()> {
    let mut steps = steps(workspace);
    for name in skip {
        take(&mut steps, name)?;
    }
    steps.retain(|step| !BY_HAND.contains(&step.name));
    steps.iter().try_for_each(Step::run)?;
    println!("ci: {} steps, all passed", steps.len());
    Ok(())
}

/// Runs one step.
pub(crate) fn run_one(workspace: &Workspace, name: &str) -> anyhow::Result<()> {
    take(&mut steps(workspace), name)?.run()
}

/// Removes a step from the list and returns it.
fn take(steps: &mut Vec<Step>, name: &str) -> anyhow::Result<Step> {
    match steps.iter().position(|step| step.name == name) {
        Some(place) => Ok(steps.remove(place)),
        None => bail!("no step {name:?}; the steps are {}", names(steps).join(", ")),
    }
}

fn names(steps: &[Step]) -> Vec<&'static str> {
    steps.iter().map(|step| step.name).collect()
}

fn steps(workspace: &Workspace) -> Vec<Step> {
    let one = |name, args| Step { name, calls: vec![Call::new(args)] };
    vec![
        one("fmt", "fmt --all --check"),
        one("clippy", "clippy --workspace --all-targets --all-features -- -D warnings"),
        Step {
            name: "doc",
            calls: vec![Call::new("doc --workspace --no-deps --all-features").env("RUSTDOCFLAGS", "-D warnings")],
        },
        one("codegen", "xtask codegen --check"),
        one("tidy", "xtask tidy"),
        Step { name: "features", calls: workspace.packages.iter().flat_map(feature_checks).collect() },
        Step { name: "test", calls: vec![test()] },
        one("doctest", "test --workspace --doc --all-features"),
        Step { name: "parity", calls: vec![parity(workspace)] },
        one("instructions", "xtask instructions"),
        Step { name: "gpu", calls: gpu() },
        Step { name: "nvrtc", calls: vec![nvrtc()] },
        Step { name: "mpi", calls: mpi(workspace) },
        Step { name: "fuzz", calls: fuzz(workspace) },
        Step { name: "candle", calls: adapter(workspace, "opt-candle") },
        Step { name: "burn", calls: adapter(workspace, "opt-burn") },
    ]
}

/// An adapter to a framework, in a package outside the workspace.
fn adapter(workspace: &Workspace, package: &str) -> Vec<Call> {
    let manifest = format!("--manifest-path crates/{package}/Cargo.toml");
    let there = |args: &str| beside(workspace, &format!("{args} --locked {manifest}"));
    vec![
        Call::new(&format!("fmt --check {manifest}")),
        there("clippy --all-targets").arg("--").arg("-D").arg("warnings"),
        there("doc --no-deps").env("RUSTDOCFLAGS", "-D warnings"),
        there("test"),
    ]
}

/// The kernels for CUDA of every fourth update are compiled, without a GPU, or of as many as the environment says. The
/// test says so if there is no NVRTC; it is found in the Python package `nvidia-cuda-nvrtc`.
fn nvrtc() -> Call {
    const EVERY: &str = "OPT_GPU_EVERY";
    let every = env::var(EVERY).unwrap_or_else(|_| "4".to_owned());
    let call = Call::new("test --workspace --all-features --test cuda_source -- --nocapture nvrtc").env(EVERY, every);
    match nvrtc_folder() {
        Some(folder) => call.env("LD_LIBRARY_PATH", folder).env("OPT_GPU_REQUIRED", "1"),
        None => call,
    }
}

/// The folder of NVRTC's library in a Python package.
fn nvrtc_folder() -> Option<String> {
    const FIND: &str = "import nvidia, pathlib
print(next(str(file.parent) for root in nvidia.__path__ for file in pathlib.Path(root).rglob('libnvrtc.so*')))";
    let output = Command::new("python3").args(["-c", FIND]).output().ok()?;
    let folder = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| folder.trim().to_owned())
}

/// Everything that needs an installed MPI, all in a package outside the workspace.
fn mpi(workspace: &Workspace) -> Vec<Call> {
    let there = |args: &str| beside(workspace, &format!("{args} --manifest-path crates/opt-mesh-mpi/Cargo.toml"));
    vec![
        Call::new("fmt --check --manifest-path crates/opt-mesh-mpi/Cargo.toml"),
        there("clippy --all-targets").arg("--").arg("-D").arg("warnings"),
        there("doc --no-deps").env("RUSTDOCFLAGS", "-D warnings"),
        there("test"),
        beside(workspace, "xtask parity --mpi tests/golden/dtensor_sgd.json"),
    ]
}

/// Recorded steps as kernels: printed C against the engine, and trainings on a driver for Vulkan, which there must be.
fn gpu() -> Vec<Call> {
    let tests = |args: &str| Call::new(&format!("test --workspace --all-features {args}"));
    let on_device = tests("--test twin --test wgpu --example train_gpu").env("OPT_GPU_REQUIRED", "1");
    vec![tests("--test suite printed_c"), on_device]
}

/// A call for a package outside the workspace that uses what has been compiled for the workspace.
fn beside(workspace: &Workspace, args: &str) -> Call {
    Call::new(args).env("CARGO_TARGET_DIR", workspace.target_directory.display().to_string())
}

/// The fuzz targets still compile, outside the workspace and without the fuzzer's instrumentation.
fn fuzz(workspace: &Workspace) -> Vec<Call> {
    vec![
        Call::new("fmt --check --manifest-path fuzz/Cargo.toml"),
        beside(workspace, "clippy --locked --all-targets --manifest-path fuzz/Cargo.toml -- -D warnings"),
    ]
}

/// Every package by itself, without features and with each feature alone: a build of all packages together hides
/// missing features.
fn feature_checks(package: &Package) -> Vec<Call> {
    let bare = Call::new("check --no-default-features -p").arg(&package.name);
    let features = package.features.keys().filter(|feature| *feature != "default");
    let each = features.map(|feature| bare.clone().arg("--features").arg(feature));
    std::iter::once(bare.clone()).chain(each).collect()
}

/// Every recorded run.
fn parity(workspace: &Workspace) -> Call {
    let folder = fs::read_dir(workspace.root.join("tests/golden")).into_iter().flatten().flatten();
    let mut files: Vec<String> = folder.map(|file| file.file_name().to_string_lossy().into_owned()).collect();
    files.retain(|file| file.ends_with(".json"));
    files.sort();
    files.iter().fold(Call::new("xtask parity"), |call, file| call.arg(format!("tests/golden/{file}")))
}

/// Uses nextest if it is installed.
fn test() -> Call {
    if Call::new("nextest --version").succeeds() {
        Call::new("nextest run --workspace --all-features")
    } else {
        Call::new("test --workspace --all-features --tests --examples")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn features_are_checked_alone() {
        let workspace = Workspace::load().unwrap();
        let calls: Vec<_> =
            feature_checks(workspace.package("optimizers").unwrap()).iter().map(ToString::to_string).collect();
        assert_eq!(calls[0], "cargo check --no-default-features -p optimizers");
        assert!(calls.contains(&"cargo check --no-default-features -p optimizers --features sgd".to_owned()));
        assert!(calls.iter().all(|call| !call.ends_with("--features default")));
    }

    #[test]
    fn steps_by_hand_are_steps() {
        let steps = steps(&Workspace::load().unwrap());
        assert!(BY_HAND.iter().all(|by_hand| names(&steps).contains(by_hand)));
    }

    #[test]
    fn one_step_is_found_by_its_name() {
        let workspace = Workspace::load().unwrap();
        let mut steps = steps(&workspace);
        assert_eq!(take(&mut steps, "tidy").unwrap().name, "tidy");
        assert!(!names(&steps).contains(&"tidy"));
        let message = take(&mut steps, "tidi").unwrap_err().to_string();
        assert!(message.starts_with("no step \"tidi\"; the steps are fmt, clippy, "), "{message}");
    }

    #[test]
    fn a_failing_call_fails_and_names_its_step() {
        let step = Step { name: "broken", calls: vec![Call::new("no-such-subcommand")] };
        let message = format!("{:#}", step.run().unwrap_err());
        assert!(message.starts_with("step broken failed: `cargo no-such-subcommand` failed"), "{message}");
    }
}
