//! The optimizers: ours for whole modules, a rule of ours inside burn's `ModuleOptimizer`, and burn's own.

use burn_core::module::Module;
use burn_optim::{AdamWConfig, GradientsParams, ModuleOptimizer};
use clap::ValueEnum;
use opt_burn::{BurnOptimizer, Error, Rule};
use optimizers::schedules::CosineDecay;
use optimizers::{AdamW, Ema, Nadam, Optimizer, Schedule, Sgd, UpdateRule};

/// The optimizers of the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Choice {
    /// Nadam, for the whole network.
    Nadam,
    /// AdamW, for the whole network.
    Adamw,
    /// SGD with momentum, for the whole network.
    Sgd,
    /// Our AdamW inside burn's `ModuleOptimizer`.
    RuleAdamw,
    /// burn's own AdamW.
    BurnAdamw,
}

/// An optimizer of either kind.
pub(crate) enum Optim {
    /// Of this library. Its schedule is its own.
    Ours(Box<BurnOptimizer<Box<dyn UpdateRule<f32>>>>),
    /// burn's, with the rule of this library or its own. The learning rate is handed in.
    Burns(Box<ModuleOptimizer>, CosineDecay),
}

impl Choice {
    pub(crate) fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }

    /// The optimizer. The learning rate rises for a tenth of the steps, and falls along half a cosine.
    pub(crate) fn make(self, learning_rate: f64, steps: u64) -> Result<Optim, Error> {
        let schedule = CosineDecay::with_warmup(0.0, learning_rate, steps / 10, steps);
        match self {
            Self::Nadam => whole(Nadam::new(schedule)),
            Self::Adamw => whole(AdamW::pytorch(schedule)),
            Self::Sgd => {
                whole(Sgd::new(CosineDecay::with_warmup(0.0, 5.0 * learning_rate, steps / 10, steps)).momentum(0.9))
            }
            Self::RuleAdamw => Ok(Optim::Burns(Box::new(Rule::new(AdamW::pytorch(learning_rate))?.init()), schedule)),
            Self::BurnAdamw => {
                let config = AdamWConfig::new().with_weight_decay(0.01).with_epsilon(1e-8);
                Ok(Optim::Burns(Box::new(config.init()), schedule))
            }
        }
    }
}

/// An optimizer of a whole network: it clips by the global norm, and keeps averages.
fn whole(rule: impl UpdateRule<f32> + 'static) -> Result<Optim, Error> {
    let builder = Optimizer::builder(rule).global_clipnorm(1.0).ema(Ema::new(0.98)).boxed();
    Ok(Optim::Ours(Box::new(BurnOptimizer::new(builder)?)))
}

impl Optim {
    pub(crate) fn step<M: Module>(&mut self, step: u64, model: M, grads: GradientsParams) -> Result<M, Error> {
        match self {
            Self::Ours(optim) => Ok(optim.step(None, model, grads)?.module),
            Self::Burns(optim, schedule) => Ok(optim.step(schedule.value(step), model, grads)),
        }
    }
}
