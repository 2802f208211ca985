//! Recorded runs of the reference systems, on the CPU and on a device.

use ndarray::{ArrayD, IxDyn};
use opt_conformance::golden::{Case, File, OptimizerCase, RecordedGradient};
use opt_conformance::golden_folder;
use opt_gpu::GpuOptimizer;
use opt_gpu::device::{Device, Element};
use optimizers::state::DType;
use optimizers::{Exclude, OptimizerBuilder};

use crate::on_devices;
use crate::pair::{Gradient, Pair};

on_devices! { with [f32, f64], on lavapipe [f32]: recorded_runs }

/// Numbers on both sides may differ where a norm is a sum in another order. The CPU's agree with the recorded ones:
/// `cargo xtask parity`.
fn recorded_runs<D: Device, T: Element>(device: &D) {
    let (mut run, mut refused) = (0, Vec::new());
    for file in std::fs::read_dir(golden_folder()).unwrap() {
        let path = file.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        for case in File::read(&path).unwrap().cases {
            let Case::Optimizer(case) = case else { continue };
            // Runs in 64 bits are made in 32 bits, too: both sides start from the same rounded numbers.
            let is_too_narrow = case.dtype == "float32" && T::DTYPE == DType::F64;
            if case.mesh.is_some() || case.restore.is_some() || is_too_narrow {
                continue;
            }
            match replay::<D, T>(device, &case) {
                Ok(()) => run += 1,
                Err(what) => refused.push(format!("{}: {what}", case.name)),
            }
        }
    }
    let in_32_bits = if T::DTYPE == DType::F32 { IN_32_BITS } else { 0 };
    let counts = (run, refused.len());
    assert_eq!(counts, (RUNS + in_32_bits, REFUSED), "refused: {refused:#?}");
}

/// The runs in 64 bits, those in 32 bits, and those that a device refuses: they name a row twice.
const RUNS: usize = 216;
const IN_32_BITS: usize = 10;
const REFUSED: usize = 18;

/// Runs a case on both sides; an error is what a device refuses.
fn replay<D: Device, T: Element>(device: &D, case: &OptimizerCase) -> Result<(), String> {
    let build = || {
        let mut builder = OptimizerBuilder::from_config(&case.optimizer, &optimizers::registry::<T>()).unwrap();
        if let Some(excluded) = &case.exclude_from_weight_decay {
            builder = builder.exclude_from_weight_decay(Exclude::patterns(&excluded.var_names));
        }
        builder.build().unwrap()
    };
    let array = |shape: &[usize], numbers: &[f64]| {
        let numbers = numbers.iter().map(|&number| T::literal(number)).collect();
        ArrayD::from_shape_vec(IxDyn(shape), numbers).unwrap()
    };
    let variables =
        case.variables.iter().map(|variable| (variable.name.clone(), array(&variable.shape, &variable.value)));
    let gpu = GpuOptimizer::new(build(), device).map_err(|error| error.to_string())?;
    let mut pair = Pair::of(device, build(), gpu, variables.collect());
    // Where no norm is summed, the bits are the same.
    let configuration = case.optimizer.to_string().replace("clipnorm\":null", "");
    let has_norms = configuration.contains("clipnorm") || configuration.contains("NovoGrad");
    pair.tolerance = match T::DTYPE {
        _ if !has_norms => 0.0,
        DType::F32 => 1e-6,
        _ => 1e-12,
    };
    for step in &case.steps {
        if let Some(learning_rate) = step.set_learning_rate {
            pair.cpu.set_learning_rate(learning_rate).unwrap();
            pair.gpu.set_learning_rate(learning_rate).unwrap();
        }
        for (group, learning_rate) in &step.set_group_learning_rate {
            pair.cpu.set_group_learning_rate(group, *learning_rate).unwrap();
            pair.gpu.set_group_learning_rate(group, *learning_rate).unwrap();
        }
        for group in &step.freeze {
            pair.cpu.freeze(group).unwrap();
            pair.gpu.freeze(group).unwrap();
        }
        for group in &step.unfreeze {
            pair.cpu.unfreeze(group).unwrap();
            pair.gpu.unfreeze(group).unwrap();
        }
        let mut gradients = Vec::new();
        for (gradient, variable) in step.gradients.iter().zip(&case.variables) {
            gradients.push(match gradient {
                None => Gradient::Missing,
                Some(RecordedGradient::Dense { dense }) => {
                    Gradient::Dense(dense.iter().map(|&number| T::literal(number)).collect())
                }
                Some(RecordedGradient::Sparse { indices, values }) => {
                    let mut rows: Vec<usize> = indices.iter().map(|&row| row as usize).collect();
                    let gradient =
                        Gradient::Rows(rows.clone(), values.iter().map(|&number| T::literal(number)).collect());
                    rows.sort_unstable();
                    rows.dedup();
                    if rows.len() < indices.len() {
                        return Err(format!("{} has rows twice", variable.name));
                    }
                    gradient
                }
            });
        }
        if pair.cpu.accumulation().is_some() && gradients.iter().any(|gradient| matches!(gradient, Gradient::Rows(..)))
        {
            return Err("accumulates sparse gradients".to_owned());
        }
        pair.step(&gradients).unwrap();
    }
    Ok(())
}
