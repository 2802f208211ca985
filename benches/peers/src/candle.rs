//! candle with its own optimizers, and with ours through `opt-candle`.
//!
//! The gradients are those of the sum of `w * g`, computed once: they are g, and every step uses them again.

use anyhow::Context;
use benches::contestants::{Contestant, contestants};
use benches::protocol::{Hello, StepFn};
use benches::random::Random;
use candle_core::backprop::GradStore;
use candle_core::{Device, Tensor, Var};
use candle_nn::optim::{AdamW, Optimizer, ParamsAdamW, SGD};
use opt_candle::CandleOptimizer;

use crate::{LEARNING_RATE, all_of, offers, weight_name};

pub(crate) fn hello() -> Hello {
    let contestants = offers(&[
        ("sgd", "sgd", "SGD"),
        ("adam", "adam", "AdamW without decay"),
        ("adamw-decay", "adamw", "AdamW"),
        ("adamw", "nadam", "AdamW"),
        ("adamw", "radam", "AdamW"),
    ]);
    Hello { name: "candle-nn 0.11".to_owned(), contestants }
}

pub(crate) fn open(contestant: &str, tensors: &[Vec<usize>], _threads: usize) -> anyhow::Result<StepFn> {
    let (variables, gradients) = variables(tensors)?;
    let adamw = |weight_decay| ParamsAdamW { lr: LEARNING_RATE, weight_decay, ..ParamsAdamW::default() };
    Ok(match contestant {
        "sgd" => stepper(SGD::new(variables, LEARNING_RATE)?, gradients),
        "adamw-decay" => stepper(AdamW::new(variables, adamw(0.004))?, gradients),
        "adam" | "adamw" => stepper(AdamW::new(variables, adamw(0.0))?, gradients),
        other => anyhow::bail!("no contestant {other:?}"),
    })
}

/// Every contestant of ours.
pub(crate) fn our_hello() -> Hello {
    Hello { name: "opt-candle 0.11".to_owned(), contestants: all_of() }
}

pub(crate) fn open_ours(contestant: &str, tensors: &[Vec<usize>], threads: usize) -> anyhow::Result<StepFn> {
    let (variables, gradients) = variables(tensors)?;
    let named = variables.into_iter().enumerate().map(|(number, variable)| (weight_name(number), variable));
    let known = contestants::<f32>();
    let ours: &Contestant<f32> = known.iter().find(|ours| ours.name == contestant).context("no such contestant")?;
    let mut optimizer = CandleOptimizer::from_named(named, ours.builder().threads(threads))?;
    Ok(Box::new(move || {
        optimizer.step(&gradients)?;
        Ok(())
    }))
}

fn variables(tensors: &[Vec<usize>]) -> anyhow::Result<(Vec<Var>, GradStore)> {
    let mut random = Random::new(0x5eed);
    let mut tensor = |shape: &[usize]| {
        let values: Vec<f32> = (0..shape.iter().product()).map(|_| random.signed() as f32).collect();
        Tensor::from_vec(values, shape, &Device::Cpu)
    };
    let (mut variables, mut sums) = (Vec::new(), Vec::new());
    for shape in tensors {
        let variable = Var::from_tensor(&tensor(shape)?)?;
        sums.push((variable.as_tensor() * tensor(shape)?)?.sum_all()?);
        variables.push(variable);
    }
    let gradients = Tensor::stack(&sums, 0)?.sum_all()?.backward()?;
    Ok((variables, gradients))
}

fn stepper(mut optimizer: impl Optimizer + 'static, gradients: GradStore) -> StepFn {
    Box::new(move || Ok(optimizer.step(&gradients)?))
}
