//! The optimizers in the comparison, one line each.

use optimizers::schedules::{
    CosineDecay, ExponentialDecay, OneCycle, PiecewiseConstantDecay, Triangular2CyclicalLearningRate,
};
use optimizers::{
    Adam, AdamW, DynOptimizer, Ema, Error, Exclude, Group, Hyper, Lookahead, LossScale, Master, MomentStorage, Nadam,
    NovoGrad, Optimizer, OptimizerBuilder, RectifiedAdam, Sgd, UpdateRule,
};

use crate::precision::Precision;

type Builder = OptimizerBuilder<Box<dyn UpdateRule<f32>>, f32>;

/// A name, the type of the model's variables, and a constructor of the optimizer for a training with this many steps.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Contestant {
    pub(crate) name: &'static str,
    pub(crate) precision: Precision,
    builder: fn(u64) -> Builder,
}

impl Contestant {
    pub(crate) fn build(&self, steps: u64) -> Result<DynOptimizer, Error> {
        (self.builder)(steps).build()
    }
}

/// Add a line to add an optimizer. `n` is the number of steps of the training, for schedules.
pub(crate) fn contestants() -> Vec<Contestant> {
    let contestant = |name, builder| Contestant { name, precision: Precision::F32, builder };
    let in_f16 = |name, builder| Contestant { name, precision: Precision::F16, builder };
    vec![
        contestant("sgd-plain", |_| of(Sgd::new(0.5))),
        contestant("sgd-momentum", |_| of(momentum())),
        contestant("sgd-nesterov", |_| of(momentum().nesterov(true))),
        contestant("sgd-decay", |_| of(momentum()).weight_decay(0.01).exclude_from_weight_decay(biases())),
        contestant("sgd-clip", |_| of(momentum()).global_clipnorm(0.5)),
        contestant("sgd-ema", |_| of(momentum()).ema(Ema::new(0.99))),
        contestant("sgd-legacy", |_| of(momentum().legacy().decay(1e-3))),
        contestant("sgd-cosine", |n| of(sgd(CosineDecay::with_warmup(0.0, 0.2, n / 10, n)))),
        contestant("sgd-one-cycle", |n| of(sgd(OneCycle::new(0.3, n)))),
        contestant("sgd-exponential", |n| of(sgd(ExponentialDecay::new(0.2, n, 0.05)))),
        contestant("sgd-piecewise", |n| of(sgd(PiecewiseConstantDecay::new([n / 2, n * 3 / 4], [0.2, 0.05, 0.01])))),
        contestant("sgd-triangular2", |n| of(sgd(Triangular2CyclicalLearningRate::new(0.02, 0.3, n / 6)))),
        contestant("sgd-bf16", |_| of(momentum()).moments(in_16_bits())),
        contestant("sgd-float8", |_| of(momentum()).moments(in_8_bits())),
        in_f16("sgd-f16", |_| of(momentum()).loss_scale(LossScale::dynamic())),
        contestant("adam-keras", |_| of(Adam::new(0.003))),
        contestant("adam-amsgrad", |_| of(Adam::new(0.003).amsgrad(true))),
        contestant("adam-bf16", |_| of(Adam::new(0.003)).moments(in_16_bits())),
        contestant("adam-float8", |_| of(Adam::new(0.003)).moments(in_8_bits())),
        contestant("adamw-keras", |_| of(AdamW::new(0.003)).exclude_from_weight_decay(biases())),
        contestant("adamw-pytorch", |_| adamw()),
        in_f16("adamw-f16", |_| adamw().loss_scale(LossScale::dynamic())),
        in_f16("adamw-f16-24", |_| adamw().loss_scale(LossScale::dynamic()).master(Master::Bits24 { seed: 1 })),
        contestant("adamw-groups", |_| of(AdamW::pytorch(0.003)).group(undecayed()).group(slower_output())),
        contestant("adamw-cosine", |n| of(AdamW::new(CosineDecay::with_warmup(0.0, 0.005, n / 10, n)))),
        contestant("nadam-legacy", |_| of(Nadam::new(0.003))),
        contestant("nadam-keras", |_| of(Nadam::keras(0.003))),
        contestant("nadam-clip", |_| of(Nadam::keras(0.003)).global_clipnorm(1.0)),
        contestant("nadam-bf16", |_| of(Nadam::keras(0.003)).moments(in_16_bits())),
        contestant("nadam-float8", |_| of(Nadam::keras(0.003)).moments(in_8_bits())),
        contestant("radam", |_| of(RectifiedAdam::new(0.005))),
        contestant("radam-bf16", |_| of(RectifiedAdam::new(0.005)).moments(in_16_bits())),
        contestant("radam-float8", |_| of(RectifiedAdam::new(0.005)).moments(in_8_bits())),
        contestant("radam-warmup", |n| of(RectifiedAdam::new(0.01).total_steps(n).min_lr(1e-5))),
        contestant("novograd-plain", |_| of(NovoGrad::new(0.02))),
        contestant("novograd-averaging", |_| of(NovoGrad::new(0.1).grad_averaging(true).weight_decay(1e-3))),
        contestant("lookahead-sgd", |_| of(Lookahead::new(momentum()))),
        contestant("lookahead-adam", |_| of(Lookahead::new(Adam::new(0.005)))),
        contestant("ranger", |_| of(Lookahead::new(RectifiedAdam::new(0.01)))),
    ]
}

/// Boxes the rule, so that all rules fit into one list.
fn of(rule: impl UpdateRule<f32> + 'static) -> Builder {
    Optimizer::builder(rule).boxed()
}

/// SGD with momentum, at a learning rate or schedule.
fn sgd(learning_rate: impl Into<Hyper>) -> Sgd {
    Sgd::new(learning_rate).momentum(0.9)
}

fn momentum() -> Sgd {
    sgd(0.1)
}

fn adamw() -> Builder {
    of(AdamW::pytorch(0.003)).exclude_from_weight_decay(biases())
}

fn undecayed() -> Group<f32> {
    Group::matching(r"bias$").weight_decay(0.0).named("biases")
}

/// The kernel of the output layer: its bias belongs to the group before.
fn slower_output() -> Group<f32> {
    Group::matching(r"^output\.").learning_rate_scale(0.5).named("output")
}

/// Each stands beside the contestant of the same name with moments in 32 bits.
fn in_16_bits() -> MomentStorage {
    MomentStorage::Bf16 { seed: 1 }
}

fn in_8_bits() -> MomentStorage {
    MomentStorage::Float8 { seed: 1 }
}

fn biases() -> Exclude {
    Exclude::names(["hidden.bias", "output.bias"])
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const STEPS: [u64; 3] = [45, 1_350, 45 * u32::MAX as u64];

    #[test]
    fn every_class_of_the_registry_takes_part() {
        let build = |contestant: Contestant| contestant.build(STEPS[1]).unwrap();
        let found: BTreeSet<String> =
            contestants().into_iter().map(|c| build(c).rule().class_name().to_owned()).collect();
        let registered = optimizers::registry::<f32>().class_names().map(str::to_owned).collect();
        assert_eq!(found, registered);
    }

    #[test]
    fn names_are_unique_and_no_class_names() {
        let mut names: BTreeSet<String> = contestants().iter().map(|contestant| contestant.name.to_owned()).collect();
        assert_eq!(names.len(), contestants().len());
        let classes = optimizers::registry::<f32>().class_names().map(str::to_lowercase).collect::<Vec<_>>();
        assert!(classes.into_iter().all(|class| names.insert(class)));
    }

    #[test]
    fn any_number_of_epochs_builds() {
        for (contestant, steps) in contestants().iter().flat_map(|c| STEPS.map(|steps| (c, steps))) {
            assert!(contestant.build(steps).is_ok(), "{} over {steps} steps", contestant.name);
        }
    }
}
