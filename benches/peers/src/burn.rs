//! burn on flex, the CPU backend that burn recommends. (`ndarray` is deprecated in its favour; `cpu` downloads a
//! build of LLVM while it is compiled.)
//!
//! burn has neither Nadam nor RAdam: AdamW, which moves as many bytes, replaces both. Tensors are passed by value and
//! returned, so that burn may work in place. Gradients are borrowed, as ours are.

use std::array;

use anyhow::bail;
use burn_core::tensor::{Device, Tensor, TensorData};
use burn_optim::momentum::MomentumConfig;
use burn_optim::{AdamConfig, AdamWConfig, Optimizer, SgdConfig};

use crate::offers;
use crate::protocol::{Hello, StepFn};
use crate::random::Random;

/// As small as that of our contestants.
const LEARNING_RATE: f64 = 1e-5;

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

/// A tensor, its gradient, and the state of its optimizer. The tensor is absent only while a step runs.
struct Parameter<O: Optimizer> {
    value: Option<Tensor<1>>,
    gradient: Tensor<1>,
    state: Option<O::State<1>>,
}

fn stepper<O: Optimizer + 'static>(optimizer: O, tensors: &[Vec<usize>]) -> StepFn {
    let (device, mut random) = (Device::flex(), Random::new(0x5eed));
    let mut tensor = |size: usize| {
        let values: Vec<f32> = (0..size).map(|_| random.signed() as f32).collect();
        Tensor::from_data(TensorData::new(values, [size]), &device)
    };
    let mut parameters: Vec<Parameter<O>> = tensors
        .iter()
        .map(|shape| {
            let [value, gradient] = array::from_fn(|_| tensor(shape.iter().product()));
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
