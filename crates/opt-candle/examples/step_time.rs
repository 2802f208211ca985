//! Times the step of AdamW on candle's variables, ours and candle's own, in turns within one process.
//!
//! ```sh
//! cargo run --release --example step_time
//! ```
//!
//! Each number is a median over the rounds, in nanoseconds for each element of the variables.

use std::time::Instant;

use candle_core::backprop::GradStore;
use candle_core::{DType, Device, Result, Tensor, Var};
use candle_nn::{Optimizer as _, ParamsAdamW};
use opt_candle::CandleOptimizer;
use optimizers::{AdamW, Optimizer};

const RATE: f64 = 1e-4;

/// Variables, elements of each, rounds.
const SIZES: [(usize, usize, usize); 3] = [(4, 1 << 20, 30), (200, 1024, 150), (200, 64, 300)];

fn main() -> Result<()> {
    println!(
        "| variables | type | opt-candle, 1 thread | opt-candle, all threads | candle_nn | candle_nn / 1 thread |"
    );
    println!("|---|---|---|---|---|---|");
    for dtype in [DType::F32, DType::BF16] {
        for (count, elements, rounds) in SIZES {
            let [single, all, theirs] = contest(count, elements, rounds, dtype)?;
            let ratio = theirs / single;
            println!("| {count} of {elements} | {dtype:?} | {single:.2} | {all:.2} | {theirs:.2} | {ratio:.1} |");
        }
    }
    Ok(())
}

/// The medians of our AdamW on one thread, on all threads, and of candle's AdamW.
fn contest(count: usize, elements: usize, rounds: usize, dtype: DType) -> Result<[f64; 3]> {
    let builders = [Optimizer::builder(AdamW::pytorch(RATE)).threads(1), Optimizer::builder(AdamW::pytorch(RATE))];
    let [single, all] = builders.map(|builder| {
        let (vars, grads) = variables(count, elements, dtype)?;
        let named = vars.into_iter().enumerate().map(|(i, var)| (i.to_string(), var));
        Ok::<_, candle_core::Error>((CandleOptimizer::from_named(named, builder)?, grads))
    });
    let ((mut single, single_grads), (mut all, all_grads)) = (single?, all?);
    let (vars, grads) = variables(count, elements, dtype)?;
    let mut theirs = candle_nn::AdamW::new(vars, ParamsAdamW { lr: RATE, ..ParamsAdamW::default() })?;
    let mut times = [const { Vec::new() }; 3];
    for _ in 0..rounds {
        times[0].push(time(|| single.step(&single_grads).map(drop))?);
        times[1].push(time(|| all.step(&all_grads).map(drop))?);
        times[2].push(time(|| theirs.step(&grads))?);
    }
    Ok(times.map(|times| 1e9 * median(times) / (count * elements) as f64))
}

/// Variables with gradients.
fn variables(count: usize, elements: usize, dtype: DType) -> Result<(Vec<Var>, GradStore)> {
    let mut grads = GradStore::default();
    let vars = (0..count).map(|_| {
        let random = || Tensor::randn(0.0_f32, 1.0, elements, &Device::Cpu)?.to_dtype(dtype);
        let var = Var::from_tensor(&random()?)?;
        grads.insert(&var, random()?);
        Ok(var)
    });
    Ok((vars.collect::<Result<_>>()?, grads))
}

fn time<E>(step: impl FnOnce() -> std::result::Result<(), E>) -> std::result::Result<f64, E> {
    let start = Instant::now();
    step()?;
    Ok(start.elapsed().as_secs_f64())
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}
