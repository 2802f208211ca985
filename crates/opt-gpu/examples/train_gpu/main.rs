//! Trains a small network on images of handwritten digits, on a graphics processor and on the CPU, and compares the
//! two: images, weights, gradients and the optimizer's state stay on the device.
//!
//! ```text
//! cargo run --release -p opt-gpu --features wgpu --example train_gpu
//! ```
//!
//! It needs a driver for Vulkan, Metal or DirectX 12; Mesa's lavapipe, which runs on the CPU, will do (Debian:
//! `apt-get install libvulkan1 mesa-vulkan-drivers`).
//!
//! * `contestants.rs`: the optimizers, one line each
//! * `network.rs` and `network.wgsl`: the network and its gradients on the device, written by hand
//! * `training.rs`: the training loop
//! * the digits, the network on the CPU and the random numbers are those of the example `train` of the crate
//!   `optimizers`

mod contestants;
#[path = "../../../optimizers/examples/train/digits.rs"]
mod digits;
#[path = "../../../optimizers/examples/train/model.rs"]
mod model;
mod network;
#[expect(dead_code, reason = "the state of the generator is for checkpoints")]
#[path = "../../../optimizers/examples/train/random.rs"]
mod random;
mod training;

use std::error::Error;
use std::process::ExitCode;

use clap::{Parser, value_parser};
use indicatif::ProgressBar;
use opt_gpu::WgpuDevice;

use contestants::contestants;
use digits::Digits;
use training::{Plan, train_on_cpu, train_on_device};

/// Five seeds move the accuracy of a training by this much. The sums of the two networks are rounded in different
/// orders, and that may move it by no more.
const ACCURACY: f64 = 0.011;

/// Trains a small network on handwritten digits on a graphics processor, and compares it with the CPU.
#[derive(Debug, Parser)]
struct Args {
    /// How often each optimizer sees the training images
    #[arg(long, value_name = "N", default_value_t = 30, value_parser = value_parser!(u32).range(1..))]
    epochs: u32,

    /// Seed of the first weights and the order of the images
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => {
            eprintln!("error: the accuracies differ by more than {ACCURACY}");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Whether the device is as good as the CPU.
fn run(args: &Args) -> Result<bool, Box<dyn Error>> {
    let device = WgpuDevice::new()?;
    let digits = Digits::load();
    let plan = Plan { epochs: args.epochs, seed: args.seed };
    println!("device: {}", device.adapter_name());
    println!("{:14} {:>11} {:>11} {:>11} {:>11}", "optimizer", "loss", "right", "CPU loss", "CPU right");
    let bar = ProgressBar::new(2 * u64::from(args.epochs) * contestants().len() as u64);
    let mut is_as_good = true;
    for contestant in contestants() {
        let on_device = train_on_device(&contestant, &device, &digits, plan, || bar.inc(1))?;
        let on_cpu = train_on_cpu(&contestant, &digits, plan, || bar.inc(1))?;
        is_as_good &= (on_device.accuracy - on_cpu.accuracy).abs() <= ACCURACY;
        bar.suspend(|| {
            let columns = [on_device, on_cpu].map(|end| format!("{:11.5} {:9.2} %", end.loss, 100.0 * end.accuracy));
            println!("{:14} {}", contestant.name, columns.join(" "));
        });
    }
    bar.finish_and_clear();
    Ok(is_as_good)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Without an adapter it says so and passes, unless `OPT_GPU_REQUIRED` is set.
    #[test]
    fn a_training_on_the_device_goes_as_on_the_cpu() {
        let device = match WgpuDevice::new() {
            Ok(device) => device,
            Err(error) if std::env::var_os("OPT_GPU_REQUIRED").is_some() => panic!("{error}"),
            Err(error) => return println!("not tested: {error}"),
        };
        let (digits, plan) = (Digits::load(), Plan { epochs: 2, seed: 1 });
        for contestant in contestants() {
            let on_device = train_on_device(&contestant, &device, &digits, plan, || ()).unwrap();
            let on_cpu = train_on_cpu(&contestant, &digits, plan, || ()).unwrap();
            let name = contestant.name;
            assert!((on_device.loss / on_cpu.loss - 1.0).abs() < 1e-3, "{name}: {on_device:?}, {on_cpu:?}");
            assert!(on_device.loss < 2.0, "{name} learns: {on_device:?}");
        }
    }
}
