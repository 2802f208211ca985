//! The learning rate that a training loop hands in.

use std::fmt::{self, Formatter};

use burn_core::module::{Module, ModuleVisitor, Param};
use burn_core::tensor::Tensor;
use burn_optim::lr_scheduler::module_lr_scheduler::ModuleLearningRate;

use crate::error::Error;
use crate::names::Path;

/// The learning rate of a step: made from a number, from the rate of a scheduler of burn, or from `None`, which is the
/// optimizer's own rate.
#[derive(Clone)]
pub struct Rate(Given);

#[derive(Clone)]
enum Given {
    Number(Option<f64>),
    Scheduled(ModuleLearningRate),
}

impl Rate {
    pub(super) fn base(&self) -> Option<f64> {
        match &self.0 {
            Given::Number(number) => *number,
            Given::Scheduled(rate) => Some(rate.base()),
        }
    }

    /// Refuses rates that differ from parameter to parameter.
    pub(super) fn groups<M: Module>(&self, module: &M) -> Option<Error> {
        let Given::Scheduled(rate) = &self.0 else { return None };
        let mut groups = Groups { rate, path: Path::default(), error: None };
        module.visit(&mut groups);
        groups.error
    }
}

impl From<f64> for Rate {
    fn from(rate: f64) -> Self {
        Self(Given::Number(Some(rate)))
    }
}

impl From<Option<f64>> for Rate {
    fn from(rate: Option<f64>) -> Self {
        Self(Given::Number(rate))
    }
}

impl From<ModuleLearningRate> for Rate {
    fn from(rate: ModuleLearningRate) -> Self {
        Self(Given::Scheduled(rate))
    }
}

impl fmt::Debug for Rate {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Rate").field(&self.base()).finish()
    }
}

/// Looks for a parameter with another rate.
struct Groups<'r> {
    rate: &'r ModuleLearningRate,
    path: Path,
    error: Option<Error>,
}

impl ModuleVisitor for Groups<'_> {
    fn enter_module(&mut self, name: &str, _container_type: &str) {
        self.path.enter(name);
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.exit();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let name = self.path.name();
        let (base, found) = (self.rate.base(), self.rate.lr_from_param(param.id, Some(name)));
        if self.error.is_none() && found.to_bits() != base.to_bits() {
            self.error = Some(Error::GroupRate { parameter: name.to_owned(), rate: found, base });
        }
    }
}
