//! burn on flex, the CPU backend that burn recommends, with its own optimizers, and with ours through `opt-burn`.
//! (`ndarray` is deprecated in its favour; `cpu` downloads a build of LLVM while it is compiled.)
//!
//! burn has neither Nadam nor RAdam: AdamW, which moves as many bytes, replaces both. Tensors are passed by value and
//! returned, so that burn may work in place. Gradients are borrowed, as ours are.

use std::array;

use anyhow::{Context, bail};
use benches::contestants::{Contestant, contestants};
use benches::protocol::{Hello, StepFn};
use benches::random::Random;
use burn_core::module::{Param, ParamId};
use burn_core::tensor::{Device, Tensor, TensorData};
use burn_optim::momentum::MomentumConfig;
use burn_optim::{AdamConfig, AdamWConfig, GradientsParams, Optimizer, SgdConfig};
use opt_burn::BurnOptimizer;

use crate::{LEARNING_RATE, all_of, offers};

pub(crate) fn hello() -> Hello {
    let contestants = offers(&[
        ("sgd", "sgd", "Sgd"),
        ("momentum", "momentum", "Sgd, momentum"),
        ("nesterov", "nesterov", "Sgd, Nesterov"),
        ("adam", "adam", "Adam"),
        ("adamw-decay", "adamw", "AdamW"),
        ("adamw", "nadam", "AdamW"),
        ("adamw", "radam", "AdamW"),
    ]);
    Hello { name: "burn 0.22 (flex)".to_owned(), contestants }
}

pub(crate) fn open(contestant: &str, tensors: &[Vec<usize>], _threads: usize) -> anyhow::Result<StepFn> {
    let momentum = || MomentumConfig::new().with_momentum(0.9).with_dampening(0.0);
    let sgd = |momentum: Option<MomentumConfig>| SgdConfig::new().with_momentum(momentum).build();
    Ok(match contestant {
        "sgd" => stepper(sgd(None), tensors),
        "momentum" => stepper(sgd(Some(momentum())), tensors),
        "nesterov" => stepper(sgd(Some(momentum().with_nesterov(true))), tensors),
        "adam" => stepper(AdamConfig::new().build(), tensors),
        "adamw-decay" => stepper(AdamWConfig::new().with_weight_decay(0.004).build(), tensors),
        "adamw" => stepper(AdamWConfig::new().with_weight_decay(0.0).build(), tensors),
        other => bail!("no contestant {other:?}"),
    })
}

/// Every contestant of ours.
pub(crate) fn our_hello() -> Hello {
    Hello { name: "opt-burn 0.22 (flex)".to_owned(), contestants: all_of() }
}

/// A module of parameters, and a step over all of them.
pub(crate) fn open_ours(contestant: &str, tensors: &[Vec<usize>], threads: usize) -> anyhow::Result<StepFn> {
    let known = contestants::<f32>();
    let ours: &Contestant<f32> = known.iter().find(|ours| ours.name == contestant).context("no such contestant")?;
    let mut optimizer = BurnOptimizer::new(ours.builder().threads(threads))?;
    let (device, mut random) = (Device::flex(), Random::new(0x5eed));
    let (mut module, mut gradients) = (Vec::new(), Vec::new());
    for shape in tensors {
        let [value, gradient] = array::from_fn(|_| tensor(shape.iter().product(), &mut random, &device));
        let parameter = Param::initialized(ParamId::new(), value);
        gradients.push((parameter.id, gradient));
        module.push(parameter);
    }
    let mut model = Some(module);
    Ok(Box::new(move || {
        let mut given = GradientsParams::new();
        gradients.iter().for_each(|(id, gradient)| given.register(*id, gradient.clone()));
        let before = model.take().context("a step has failed before")?;
        model = Some(optimizer.step(None, before, given)?.module);
        Ok(())
    }))
}

fn tensor(size: usize, random: &mut Random, device: &Device) -> Tensor<1> {
    let values: Vec<f32> = (0..size).map(|_| random.signed() as f32).collect();
    Tensor::from_data(TensorData::new(values, [size]), device)
}

/// A tensor, its gradient, and the state of its optimizer. The tensor is absent only while a step runs.
struct Parameter<O: Optimizer> {
    value: Option<Tensor<1>>,
    gradient: Tensor<1>,
    state: Option<O::State<1>>,
}

fn stepper<O: Optimizer + 'static>(optimizer: O, tensors: &[Vec<usize>]) -> StepFn {
    let (device, mut random) = (Device::flex(), Random::new(0x5eed));
    let mut parameters: Vec<Parameter<O>> = tensors
        .iter()
        .map(|shape| {
            let [value, gradient] = array::from_fn(|_| tensor(shape.iter().product(), &mut random, &device));
            Parameter { value: Some(value), gradient, state: None }
        })
        .collect();
    Box::new(move || {
        for Parameter { value, gradient, state } in &mut parameters {
            let Some(before) = value.take() else { bail!("a step has failed before") };
            let (after, next) = optimizer.step(LEARNING_RATE, before, gradient.clone(), state.take());
            (*value, *state) = (Some(after), next);
        }
        Ok(())
    })
}
