//! The optimizers that are timed.

use burn_core::module::{Module, ModuleMapper, Param};
use burn_core::tensor::Tensor;
use burn_optim::{AdamConfig, AdamWConfig, GradientsParams, ModuleOptimizer, SgdConfig};
use opt_burn::{BurnOptimizer, Error, Rule};
use optimizers::{AdamW, Nadam, Optimizer, Sgd, UpdateRule};

use crate::Model;

/// A rate at which nothing becomes infinite.
const RATE: f64 = 1e-4;

type Step = Box<dyn FnMut(Model, GradientsParams) -> Model>;

/// An optimizer with a name.
pub(crate) struct Contestant {
    pub(crate) name: String,
    pub(crate) step: Step,
}

impl Contestant {
    fn new(name: impl Into<String>, step: impl FnMut(Model, GradientsParams) -> Model + 'static) -> Self {
        Self { name: name.into(), step: Box::new(step) }
    }

    /// burn's `ModuleOptimizer`.
    fn burn(name: impl Into<String>, mut optim: ModuleOptimizer) -> Self {
        Self::new(name, move |model, gradients| optim.step(RATE, model, gradients))
    }

    fn ours<R: UpdateRule<f32> + 'static>(name: &str, rule: R, threads: usize) -> Result<Self, Error> {
        let mut optim = BurnOptimizer::new(Optimizer::builder(rule).threads(threads))?;
        let name = format!("{name}, {threads} thread{}", if threads == 1 { "" } else { "s" });
        Ok(Self::new(name, move |model, gradients| match optim.step(RATE, model, gradients) {
            Ok(stepped) => {
                assert_eq!(stepped.copies.tensors(), 0, "updated in place");
                stepped.module
            }
            Err(refused) => panic!("{refused}"),
        }))
    }

    fn rule<R: UpdateRule<f32> + Clone + 'static>(name: &str, rule: R) -> Result<Self, Error> {
        Ok(Self::burn(format!("{name}, in burn's ModuleOptimizer"), Rule::new(rule)?.init()))
    }
}

pub(crate) fn contestants() -> Result<Vec<Contestant>, Error> {
    Ok(vec![
        Contestant::new("nothing", |model, mut gradients| model.map(&mut Take(&mut gradients))),
        Contestant::burn("burn Sgd", SgdConfig::new().init()),
        Contestant::ours("Sgd", Sgd::pytorch(RATE), 1)?,
        Contestant::ours("Sgd", Sgd::pytorch(RATE), 2)?,
        Contestant::rule("Sgd", Sgd::pytorch(RATE))?,
        Contestant::burn("burn Adam", AdamConfig::new().init()),
        Contestant::burn("burn AdamW", AdamWConfig::new().init()),
        Contestant::ours("AdamW", AdamW::pytorch(RATE), 1)?,
        Contestant::ours("AdamW", AdamW::pytorch(RATE), 2)?,
        Contestant::rule("AdamW", AdamW::pytorch(RATE))?,
        Contestant::ours("Nadam", Nadam::new(RATE), 1)?,
        Contestant::ours("Nadam", Nadam::new(RATE), 2)?,
        Contestant::rule("Nadam", Nadam::new(RATE))?,
    ])
}

/// Takes the gradients, and changes nothing.
struct Take<'g>(&'g mut GradientsParams);

impl ModuleMapper for Take<'_> {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        drop(self.0.remove::<D>(param.id));
        param
    }
}
