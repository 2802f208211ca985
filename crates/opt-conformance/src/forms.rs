//! Optimizers of many forms: every rule, alone and inside Lookahead, with the stages of the engine around it.

use opt_core::state::DType;
use opt_core::{Ema, MomentStorage, OptimizerBuilder, Scalar, UpdateRule};
use optimizers::{Adam, AdamW, Lookahead, Nadam, NovoGrad, Optimizer, RectifiedAdam, Sgd};

type Rule<T> = Box<dyn UpdateRule<T>>;

/// A builder of any rule.
pub type Builder<T> = OptimizerBuilder<Rule<T>, T>;

/// Every rule, in each of its forms.
fn rules<T: Scalar>() -> Vec<Rule<T>> {
    let sgd = || Sgd::new(0.125).momentum(0.875);
    let radam = || RectifiedAdam::new(0.125);
    vec![
        Box::new(Sgd::new(0.125)),
        Box::new(sgd()),
        Box::new(sgd().nesterov(true).legacy()),
        Box::new(Sgd::pytorch(0.125).momentum(0.875).dampening(0.25)),
        Box::new(Sgd::optax(0.125).momentum(0.875).nesterov(true)),
        Box::new(Adam::new(0.125)),
        Box::new(Adam::pytorch(0.125).epsilon(0.0).amsgrad(true).weight_decay(0.0625)),
        Box::new(AdamW::new(0.125)),
        Box::new(Nadam::new(0.125)),
        Box::new(Nadam::keras(0.125)),
        Box::new(Nadam::pytorch(0.125).epsilon(0.0)),
        // Rectified from the sixth step on.
        Box::new(radam()),
        Box::new(radam().amsgrad(true).weight_decay(0.0625)),
        Box::new(RectifiedAdam::pytorch(0.125).epsilon(0.0).weight_decay(0.0625)),
        Box::new(NovoGrad::new(0.125).weight_decay(0.0625).grad_averaging(true)),
        Box::new(NovoGrad::apex(0.125).weight_decay(0.0625)),
    ]
}

/// A rule alone, and inside Lookahead, which goes part of the way back in every third step, or stays in every second.
fn wrapped<T: Scalar>(rule: usize) -> [Rule<T>; 3] {
    let inner = || rules().swap_remove(rule);
    let partly = Lookahead::new(inner()).sync_period(3);
    let wholly = Lookahead::new(inner()).sync_period(2).slow_step_size(1.0);
    [inner(), Box::new(partly), Box::new(wholly)]
}

/// The stages of the engine around a rule.
fn options<T: Scalar>() -> Vec<fn(Builder<T>) -> Builder<T>> {
    let all: [fn(Builder<T>) -> Builder<T>; 6] = [
        |builder| builder,
        |builder| builder.clipvalue(0.5),
        |builder| builder.clipnorm(0.5).weight_decay(0.0625),
        |builder| builder.ema(Ema::new(0.75).overwrite_every(3)),
        |builder| builder.global_clipnorm(1e-33).weight_decay(0.0625).ema(Ema::new(0.75)).flush_denormals(false),
        |builder| {
            builder.moments(MomentStorage::Bf16 { seed: 7 }).clipvalue(0.5).weight_decay(0.0625).ema(Ema::new(0.75))
        },
    ];
    // Moments are stored in fewer bits only beside variables of 32 bits.
    let count = if T::DTYPE == DType::F32 { all.len() } else { all.len() - 1 };
    all[..count].to_vec()
}

/// All forms, with their names.
#[must_use]
pub fn forms<T: Scalar>() -> Vec<(String, Builder<T>)> {
    let mut forms = Vec::new();
    for (number, option) in options::<T>().into_iter().enumerate() {
        for rule in (0..rules::<T>().len()).flat_map(wrapped) {
            let name = format!("{rule:?} with options {number}");
            forms.push((name, option(Optimizer::builder(rule))));
        }
    }
    forms
}
