//! Every rule with settings that use each of its loops, and the options of the engine.

use opt_core::simd::Level;
use optimizers::Scalar;
use optimizers::{
    Adam, AdamW, Ema, Lookahead, MomentStorage, Nadam, NovoGrad, Optimizer, OptimizerBuilder, RectifiedAdam, Sgd,
    UpdateRule,
};

/// Any rule.
pub type Rule<T> = Box<dyn UpdateRule<T>>;

/// Moments decay so fast that a few steps show it.
#[must_use]
pub fn rules<T: Scalar>() -> Vec<(&'static str, Rule<T>)> {
    let radam = || RectifiedAdam::new(0.01).beta_1(0.75).beta_2(0.875).sma_threshold(4.0);
    vec![
        ("sgd", Box::new(Sgd::new(0.1))),
        ("momentum", Box::new(Sgd::new(0.1).momentum(0.75))),
        ("nesterov", Box::new(Sgd::new(0.1).momentum(0.75).nesterov(true))),
        ("heavy ball", Box::new(Sgd::pytorch(0.1).momentum(0.75))),
        ("dampened", Box::new(Sgd::pytorch(0.1).momentum(0.75).nesterov(false).dampening(0.25))),
        ("heavy ball, nesterov", Box::new(Sgd::pytorch(0.1).momentum(0.75).nesterov(true))),
        ("adam", Box::new(Adam::new(0.01).beta_1(0.75).beta_2(0.875))),
        ("adam, amsgrad", Box::new(Adam::new(0.01).legacy().beta_1(0.75).beta_2(0.875).epsilon(0.0).amsgrad(true))),
        ("adam of pytorch", Box::new(Adam::pytorch(0.01).beta_2(0.875).weight_decay(0.0625).amsgrad(true))),
        ("adamw", Box::new(AdamW::optax(0.01).beta_2(0.875).epsilon(0.0))),
        ("nadam", Box::new(Nadam::new(0.01).beta_1(0.75).beta_2(0.875))),
        ("radam", Box::new(radam())),
        ("amsgrad", Box::new(radam().amsgrad(true).weight_decay(0.0625))),
        ("radam of pytorch", Box::new(RectifiedAdam::pytorch(0.01).beta_2(0.875).weight_decay(0.0625))),
        ("novograd", Box::new(NovoGrad::new(0.01).beta_1(0.75).beta_2(0.875).weight_decay(0.0625))),
        ("novograd of nvidia", Box::new(NovoGrad::nvidia(0.01).grad_averaging(true).reg_inside_moment(false))),
        ("lookahead", Box::new(Lookahead::new(radam()).sync_period(2).slow_step_size(0.75))),
        (
            "copying lookahead",
            Box::new(Lookahead::new(Sgd::new(0.1).momentum(0.75)).sync_period(2).slow_step_size(1.0)),
        ),
    ]
}

/// An optimizer with any rule.
pub type Builder<T> = OptimizerBuilder<Rule<T>, T>;

/// Options of the engine; the last four are for 32 bits only.
pub const OPTIONS: [&str; 12] = [
    "alone",
    "clipvalue",
    "clipnorm",
    "global clip",
    "decay",
    "ema",
    "decay + ema",
    "global clip + decay + ema",
    "bf16",
    "bf16 + clipnorm + decay + ema",
    "float8",
    "float8 + clipnorm + decay + ema",
];

/// Whether the options are possible for elements of type `T`.
#[must_use]
pub fn fits<T: Scalar>(options: &str) -> bool {
    size_of::<T>() == 4 || !options.starts_with("bf16") && !options.starts_with("float8")
}

/// Makes a builder with these options. The limits are low enough to have an effect.
///
/// # Panics
///
/// When there are no such options.
#[must_use]
pub fn around<T: Scalar>(rule: Rule<T>, options: &str) -> Builder<T> {
    options.split(" + ").fold(Optimizer::builder(rule), |builder, option| match option {
        "alone" => builder,
        "clipvalue" => builder.clipvalue(0.5),
        "clipnorm" => builder.clipnorm(0.5),
        "global clip" => builder.global_clipnorm(0.5),
        "decay" => builder.weight_decay(0.0625),
        "ema" => builder.ema(Ema::new(0.75).overwrite_every(3)),
        "bf16" => builder.moments(MomentStorage::Bf16 { seed: 11 }),
        "float8" => builder.moments(MomentStorage::Float8 { seed: 11 }),
        other => panic!("no option is called {other:?}"),
    })
}

/// The instruction sets that can be tested here. Others are named on the error output: none is skipped silently.
///
/// # Panics
///
/// When there are too few to compare.
#[must_use]
pub fn levels() -> Vec<Level> {
    let (levels, missing): (Vec<Level>, Vec<Level>) = Level::ALL.into_iter().partition(|level| level.is_available());
    if !missing.is_empty() {
        eprintln!("not tested, because this processor lacks them: {missing:?}");
    }
    let enough = levels[0] == Level::Baseline && (levels.len() > 1 || !cfg!(target_arch = "x86_64"));
    assert!(enough, "only {levels:?} to compare");
    levels
}
