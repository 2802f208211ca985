//! `cargo xtask gpu`: trainings on a GPU compared with the CPU, and the times of steps.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::Context;
use clap::{Args, ValueEnum};

use crate::cargo::Call;

/// What is examined, and by which program.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// The kind of device.
    #[arg(long, value_enum, default_value = "cuda")]
    device: Device,
    /// The report's program, built before: nothing is compiled.
    #[arg(long, value_name = "FILE")]
    program: Option<PathBuf>,
    /// Small tensors and few samples: for tests.
    #[arg(long)]
    quick: bool,
    /// The folder for `gpu.json`; `target/gpu` by default.
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
}

/// The kinds of devices, named like the features of `opt-gpu`.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Device {
    Cuda,
    Wgpu,
}

impl Device {
    fn name(self) -> &'static str {
        match self {
            Self::Cuda => "cuda",
            Self::Wgpu => "wgpu",
        }
    }
}

/// Builds the report's program, unless there is one, and runs it; fails if a training is not as promised.
pub(crate) fn run(options: &Options) -> anyhow::Result<ExitCode> {
    let program = match &options.program {
        Some(program) => program.canonicalize().with_context(|| format!("no program {}", program.display()))?,
        None => build(options.device).build_program()?,
    };
    let mut report = options.report(&program);
    let status = report.status().with_context(|| format!("cannot start {}", program.display()))?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn build(device: Device) -> Call {
    Call::new("build --release -p gpu-benches --bin gpu-report --features").arg(device.name())
}

impl Options {
    fn report(&self, program: &Path) -> Command {
        let mut report = Command::new(program);
        report.args(["--device", self.device.name()]);
        report.args(self.quick.then_some("--quick"));
        if let Some(out) = &self.out {
            report.arg("--out").arg(out);
        }
        report
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(program: &str) -> Options {
        Options { device: Device::Wgpu, program: Some(program.into()), quick: true, out: Some("a b".into()) }
    }

    #[test]
    fn options_go_to_the_program() {
        let report = options("x").report(Path::new("/x"));
        let args: Vec<_> = report.get_args().collect();
        assert_eq!(args, ["--device", "wgpu", "--quick", "--out", "a b"]);
        let report = Options { device: Device::Cuda, program: None, quick: false, out: None }.report(Path::new("/x"));
        assert_eq!(report.get_args().collect::<Vec<_>>(), ["--device", "cuda"]);
        assert_eq!(
            build(Device::Cuda).to_string(),
            "cargo build --release -p gpu-benches --bin gpu-report --features cuda"
        );
    }

    #[test]
    fn a_missing_program_is_named() {
        let message = format!("{:#}", run(&options("no-such-program")).unwrap_err());
        assert!(message.starts_with("no program no-such-program"), "{message}");
    }
}
