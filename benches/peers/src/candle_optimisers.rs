//! candle-optimisers, which needs candle 0.10.
//!
//! The gradients are those of the sum of `w * g`, computed once: they are g, and every step uses them again.

use anyhow::bail;
use benches::protocol::{Hello, StepFn};
use benches::random::Random;
use candle_core_0_10::backprop::GradStore;
use candle_core_0_10::{Device, Tensor, Var};
use candle_nn_0_10::optim::Optimizer;
use candle_optimisers::Momentum;
use candle_optimisers::esgd::{ParamsSGD, SGD};
use candle_optimisers::nadam::{NAdam, ParamsNAdam};
use candle_optimisers::radam::{ParamsRAdam, RAdam};

use crate::{LEARNING_RATE, offers};

pub(crate) fn hello() -> Hello {
    let contestants = offers(&[
        ("sgd", "sgd", "SGD"),
        ("momentum", "momentum", "SGD, momentum"),
        ("nesterov", "nesterov", "SGD, Nesterov"),
        ("nadam", "nadam", "NAdam"),
        ("radam", "radam", "RAdam"),
    ]);
    Hello { name: "candle-optimisers 0.10".to_owned(), contestants }
}

pub(crate) fn open(contestant: &str, tensors: &[Vec<usize>], _threads: usize) -> anyhow::Result<StepFn> {
    let (variables, gradients) = variables(tensors)?;
    let lr = LEARNING_RATE;
    let sgd = |momentum| ParamsSGD { lr, momentum, ..ParamsSGD::default() };
    Ok(match contestant {
        "sgd" => stepper(SGD::new(variables, sgd(None))?, gradients),
        "momentum" => stepper(SGD::new(variables, sgd(Some(Momentum::Classical(0.9))))?, gradients),
        "nesterov" => stepper(SGD::new(variables, sgd(Some(Momentum::Nesterov(0.9))))?, gradients),
        "nadam" => stepper(NAdam::new(variables, ParamsNAdam { lr, ..ParamsNAdam::default() })?, gradients),
        "radam" => stepper(RAdam::new(variables, ParamsRAdam { lr, ..ParamsRAdam::default() })?, gradients),
        other => bail!("no contestant {other:?}"),
    })
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
