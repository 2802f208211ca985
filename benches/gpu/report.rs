//! The program behind `cargo xtask gpu`: a report about optimizers on a GPU.

#![forbid(unsafe_code)]

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, ValueEnum};
use gpu_benches::report::Options;

/// Compares trainings on a GPU with the CPU, and times steps.
#[derive(Debug, Parser)]
struct Args {
    /// The kind of device; the program must have been built with the feature of this name.
    #[arg(long, value_enum, default_value = "cuda")]
    device: Kind,
    /// Small tensors and few samples: for tests.
    #[arg(long)]
    quick: bool,
    /// The folder for `gpu.json`.
    #[arg(long, value_name = "FOLDER", default_value = "target/gpu")]
    out: PathBuf,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kind {
    Cuda,
    Wgpu,
}

fn main() -> ExitCode {
    match report(&Args::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn report(args: &Args) -> anyhow::Result<bool> {
    let options = Options { out: &args.out, is_quick: args.quick, is_cuda: args.device == Kind::Cuda };
    match args.device {
        Kind::Cuda => on_cuda(options),
        Kind::Wgpu => on_wgpu(options),
    }
}

#[cfg(feature = "cuda")]
fn on_cuda(options: Options<'_>) -> anyhow::Result<bool> {
    gpu_benches::report::run("The first GPU of CUDA", &opt_gpu::CudaDevice::new(0)?, options)
}

#[cfg(not(feature = "cuda"))]
fn on_cuda(_options: Options<'_>) -> anyhow::Result<bool> {
    anyhow::bail!("this program was built without the feature `cuda`")
}

#[cfg(feature = "wgpu")]
fn on_wgpu(options: Options<'_>) -> anyhow::Result<bool> {
    let device = opt_gpu::WgpuDevice::new()?;
    gpu_benches::report::run(&device.adapter_name(), &device, options)
}

#[cfg(not(feature = "wgpu"))]
fn on_wgpu(_options: Options<'_>) -> anyhow::Result<bool> {
    anyhow::bail!("this program was built without the feature `wgpu`")
}
