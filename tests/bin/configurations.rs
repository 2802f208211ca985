//! Writes configurations for other libraries, one in each line: `{"target": ..., "config": {...}}`. The libraries
//! themselves check them (`tests/reference/check_configurations.py`).

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::PathBuf;

use clap::Parser;
use optimizers::config::Target;
use optimizers::schedules::{
    CosineDecay, CosineDecayRestarts, ExponentialCyclicalLearningRate, ExponentialDecay, InverseTimeDecay,
    PiecewiseConstantDecay, PolynomialDecay, ScaleMode, Triangular2CyclicalLearningRate,
    TriangularCyclicalLearningRate,
};
use optimizers::{
    Adam, AdamW, DynOptimizer, Ema, Hyper, Lookahead, Nadam, NovoGrad, Optimizer, OptimizerBuilder, RectifiedAdam, Sgd,
    UpdateRule,
};
use serde_json::{Value, json};

/// Configurations for the libraries that are to read them.
#[derive(Debug, Parser)]
struct Args {
    /// File to write
    file: PathBuf,
}

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    let mut file = BufWriter::new(File::create(Args::parse().file)?);
    for line in lines()? {
        writeln!(file, "{line}")?;
    }
    Ok(file.flush()?)
}

/// The configurations, each with the name of its target.
fn lines() -> Result<Vec<Value>, Failure> {
    let mut lines = Vec::new();
    // Keras 3 averages otherwise.
    for optimizer in newer(Ema::keras3)? {
        lines.push(json!({"target": "keras3", "config": optimizer.to_config_for(Target::Keras3)?}));
        lines.push(json!({"target": "keras3", "config": read_back(&optimizer.to_config_for(Target::Keras3)?)?}));
    }
    for optimizer in newer(|ema| ema)? {
        lines.push(json!({"target": "keras2", "config": optimizer.to_config_for(Target::Keras2)?}));
        // An optimizer that was made in code names Keras 2.15.
        lines.push(json!({"target": "keras2", "config": optimizer.to_config()?}));
    }
    for optimizer in legacy()? {
        let config = optimizer.to_config_for(Target::KerasLegacy)?;
        lines.push(json!({"target": "keras_legacy", "config": config}));
        lines.push(json!({"target": "addons", "config": optimizer.to_config_for(Target::Addons)?}));
        lines.push(json!({"target": "keras_legacy", "config": optimizer.to_config()?}));
    }
    for optimizer in addons()? {
        lines.push(json!({"target": "addons", "config": optimizer.to_config_for(Target::Addons)?}));
        lines.push(json!({"target": "addons", "config": optimizer.to_config()?}));
    }
    Ok(lines)
}

/// The configuration that an optimizer writes that has read one.
fn read_back(config: &Value) -> Result<Value, Failure> {
    Ok(DynOptimizer::<f32>::from_config(config, &optimizers::registry())?.to_config()?)
}

/// Schedules of Keras.
fn schedules() -> Vec<Hyper> {
    vec![
        ExponentialDecay::new(1.0, 1562.5, 0.5).staircase(true).into(),
        InverseTimeDecay::new(0.5, 100, 2.0).into(),
        PiecewiseConstantDecay::new([10.5, 20.0], [1.0, 0.5, 0.0]).into(),
        PolynomialDecay::new(0.5, 100).power(2.0).cycle(true).end_learning_rate(0.0).into(),
        CosineDecay::new(0.5, 1562.5).alpha(0.25).into(),
        CosineDecay::new(0.0, 100).warmup(1.0, 12.5).into(),
        CosineDecayRestarts::new(1.0, 900.5).t_mul(1.5).m_mul(0.5).alpha(0.125).into(),
    ]
}

/// Schedules of TensorFlow Addons.
fn waves() -> Vec<Hyper> {
    vec![
        TriangularCyclicalLearningRate::new(0.25, 1.0, 20.5).into(),
        Triangular2CyclicalLearningRate::new(0.25, 1.0, 20).scale_mode(ScaleMode::Cycle).into(),
        ExponentialCyclicalLearningRate::new(0.25, 1.0, 20).gamma(0.5).scale_mode(ScaleMode::Cycle).into(),
    ]
}

fn builder(rule: impl UpdateRule<f32> + 'static) -> OptimizerBuilder<Box<dyn UpdateRule<f32>>> {
    Optimizer::builder(rule).boxed()
}

/// Optimizers as in Keras since 2.11.
fn newer(averages: impl Fn(Ema) -> Ema) -> Result<Vec<DynOptimizer>, Failure> {
    let mut builders = vec![
        builder(Sgd::new(1.0)),
        builder(Sgd::new(0.5).momentum(1.0).nesterov(true)).clipnorm(2.0).weight_decay(1.0),
        builder(Sgd::new(0.5)).clipvalue(1.0).ema(averages(Ema::new(0.75).overwrite_every(3))),
        builder(Nadam::keras(0.5).beta_1(0.5).beta_2(0.75).epsilon(0.25)).global_clipnorm(1.0),
        builder(Nadam::keras(CosineDecay::new(0.5, 10))),
        builder(Adam::new(1.0)),
        builder(Adam::new(0.5).beta_1(0.5).beta_2(0.75).epsilon(0.0).amsgrad(true)).clipnorm(1.0).weight_decay(0.25),
        builder(AdamW::new(1.0)),
        builder(AdamW::new(CosineDecay::new(0.5, 10)).beta_1(0.5).beta_2(0.75).epsilon(0.25).amsgrad(true))
            .weight_decay(0.0)
            .ema(averages(Ema::new(0.75))),
    ];
    builders.extend(schedules().into_iter().map(|rate| builder(Sgd::new(rate))));
    Ok(builders.into_iter().map(OptimizerBuilder::build).collect::<Result<_, _>>()?)
}

/// Optimizers of Keras's legacy generation.
fn legacy() -> Result<Vec<DynOptimizer>, Failure> {
    let mut builders = vec![
        builder(Sgd::new(1.0).legacy()),
        builder(Sgd::new(0.5).legacy().decay(0.25).momentum(0.5).nesterov(true)).clipnorm(1.0).clipvalue(0.5),
        builder(Nadam::new(0.5).beta_1(0.5).epsilon(0.25)).global_clipnorm(1.0),
        builder(Adam::new(1.0).legacy()),
        builder(Adam::new(0.5).legacy().decay(0.25).beta_1(0.5).beta_2(0.75).epsilon(0.25).amsgrad(true)),
        builder(Adam::new(ExponentialDecay::new(0.5, 10, 0.5)).legacy()).clipvalue(0.5),
    ];
    builders.extend(schedules().into_iter().map(|rate| builder(Sgd::new(rate).legacy())));
    Ok(builders.into_iter().map(OptimizerBuilder::build).collect::<Result<_, _>>()?)
}

/// Optimizers of TensorFlow Addons, and of Keras inside them.
fn addons() -> Result<Vec<DynOptimizer>, Failure> {
    let rectified = || RectifiedAdam::new(0.5).total_steps(1_000).warmup_proportion(0.25).min_lr(0.125);
    let mut builders = vec![
        builder(RectifiedAdam::new(1.0)),
        builder(rectified().beta_1(0.5).beta_2(0.75).decay(0.5).sma_threshold(4.0).amsgrad(true)).clipvalue(1.0),
        builder(RectifiedAdam::new(0.5).weight_decay(ExponentialDecay::new(0.5, 10, 0.5))),
        builder(NovoGrad::new(0.5).decay(0.5).weight_decay(0.25).grad_averaging(true).amsgrad(true).epsilon(0.25)),
        builder(Lookahead::new(Sgd::new(0.5).legacy().momentum(0.5)).sync_period(3).slow_step_size(1.0)),
        builder(Lookahead::new(Nadam::new(0.5))),
        builder(Lookahead::new(Adam::new(0.5).legacy().amsgrad(true))),
        builder(Lookahead::new(Lookahead::new(rectified()))).clipnorm(1.0),
    ];
    let rates = schedules().into_iter().chain(waves());
    builders.extend(rates.map(|rate| builder(RectifiedAdam::new(rate))));
    builders.extend(waves().into_iter().map(|rate| builder(Lookahead::new(NovoGrad::new(rate)))));
    Ok(builders.into_iter().map(OptimizerBuilder::build).collect::<Result<_, _>>()?)
}
