//! The report in its order: trainings, a copy, contestants, PyTorch.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context;
use benches::shapes::Shape;
use opt_gpu::Device;

use crate::parity::{Promise, compare};
use crate::results::Results;
use crate::speed::{self, FULL, Plan, QUICK};
use crate::{table, torch};

/// Until when contestants are timed, from the beginning of the report.
const CONTESTANTS_END: Duration = Duration::from_secs(230);

/// How long PyTorch's optimizers are timed.
const TORCH: Duration = Duration::from_secs(60);

/// How to make a report.
#[derive(Debug, Clone, Copy)]
pub struct Options<'a> {
    /// The folder for the JSON.
    pub out: &'a Path,
    /// Small tensors and few samples: for tests.
    pub is_quick: bool,
    /// Whether the device is one of CUDA. Then steps must have the bits of the CPU, as on lavapipe, and PyTorch is
    /// timed, too. Otherwise they may differ by a few units in the last place.
    pub is_cuda: bool,
}

/// Prints a report about a device and writes `gpu.json`; returns whether all trainings are as promised. It takes less
/// than six minutes.
///
/// # Errors
///
/// If the device fails, or the file cannot be written.
pub fn run<D: Device>(name: &str, device: &D, options: Options<'_>) -> anyhow::Result<bool> {
    let start = Instant::now();
    let effort = if options.is_quick { QUICK } else { FULL };
    let shapes = shapes(options.is_quick);

    // lavapipe computes on the CPU.
    let promise = if options.is_cuda || name.contains("llvmpipe") { Promise::Bits } else { Promise::Units };
    let parity = compare(device, promise)?;
    print!("{}", table::parity(name, &parity));

    let largest = shapes.iter().map(Shape::params).max().unwrap_or(1);
    let copy = speed::copy(device, largest, &effort)?;
    let plan = Plan { shapes: &shapes, effort, until: start + CONTESTANTS_END };
    let (rows, left_out) = speed::rows(device, &plan, &copy)?;
    let torch = options.is_cuda.then(|| torch::times(&shapes, "cuda", TORCH, effort.sample));

    let (device, seconds) = (name.to_owned(), start.elapsed().as_secs_f64());
    let results = Results { device, parity, copy, rows, left_out, torch, seconds };
    print!("{}", table::times(&results));
    write(&results, options.out)?;
    Ok(results.parity.iter().all(|compared| compared.is_kept))
}

/// Small ones first: they have a result even if the time is short.
fn shapes(is_quick: bool) -> Vec<Shape> {
    if is_quick {
        return vec![Shape::many(100, 1_000), Shape::single(1_000_000)];
    }
    vec![Shape::many(1_000, 1_000), Shape::single(10_000_000), Shape::resnet50(), Shape::single(100_000_000)]
}

fn write(results: &Results, out: &Path) -> anyhow::Result<()> {
    let path = out.join("gpu.json");
    fs::create_dir_all(out).with_context(|| format!("cannot make {}", out.display()))?;
    let json = serde_json::to_string_pretty(results)? + "\n";
    fs::write(&path, json).with_context(|| format!("cannot write {}", path.display()))
}
