//! A rule as an optimizer of burn, with its state in burn's records.

mod state;

use std::sync::Arc;

use burn_core::tensor::{Device, Tensor};
use burn_optim::{LearningRate, ModuleOptimizer};
use opt_core::rule::Step;
use opt_core::{SliceStep, UpdateRule};

pub use state::RuleState;

use crate::error::Error;
use crate::host::Host;
use crate::stepped::Copies;

/// A rule of `opt-core` as an optimizer of burn: for its `ModuleOptimizer`, with parameter groups, learning-rate
/// schedulers, record files and learners.
///
/// burn steps each parameter by itself, and knows nothing of the others. So what is about a whole model (the global
/// norm, averages, a step that is applied as a whole or not at all) needs [`BurnOptimizer`](crate::BurnOptimizer).
///
/// * The learning rate is the one that burn hands in. A schedule in the rule is not used.
/// * Steps are counted for each parameter: bias corrections start with its first gradient.
/// * Parameters in bfloat16 and float16 are updated in a copy in 32 bits, which is part of the state, and then get its
///   rounded numbers. burn's own optimizers compute in 16 bits, where small updates are rounded away.
/// * The state lies in the memory of the CPU. A record has it as `slots.0`, `slots.1` and so on, in the order of
///   [`UpdateRule::slots`].
/// * Each parameter is updated on one thread.
///
/// # Panics
///
/// burn's trait has no errors. [`step`](burn_optim::Optimizer::step) panics for a learning rate that is negative or not
/// finite, for parameters in other types than F32, BF16 and F16, for state of another rule or another shape, and for
/// parameters on other devices than the CPU without [`offload`](Self::offload).
///
/// # Examples
///
/// ```
/// use burn_core::module::{Param, ParamGroup};
/// use burn_core::tensor::{Device, Tensor};
/// use burn_optim::{GradientsParams, ModuleOptimizer};
/// use opt_burn::Rule;
/// use optimizers::{AdamW, Sgd};
///
/// let device = Device::default().autodiff();
/// let mut module = Param::<Tensor<1>>::from_data([3.0, -2.0], &device);
/// let mut optim: ModuleOptimizer = Rule::new(Sgd::new(0.0).momentum(0.9))?.init();
/// optim = optim.with_group(ParamGroup::from_path("encoder"), Rule::new(AdamW::pytorch(0.0))?, None);
/// for _ in 0..100 {
///     let grads = GradientsParams::from_grads(module.val().square().sum().backward(), &module);
///     module = optim.step(0.05, module, grads);
/// }
/// assert!(module.val().abs().max().into_scalar::<f32>() < 0.05);
/// # Ok::<(), opt_burn::Error>(())
/// ```
#[derive(Debug)]
pub struct Rule<R> {
    rule: Arc<R>,
    /// Tells its state from that of other rules.
    kind: u64,
    weight_decay: Option<f64>,
    offload: bool,
}

impl<R: UpdateRule<f32> + 'static> Rule<R> {
    /// A rule for burn, with the decoupled weight decay that it has by default (0.01 for
    /// `AdamW::pytorch`), if it has one.
    ///
    /// # Errors
    ///
    /// When a hyperparameter is out of range.
    pub fn new(rule: R) -> Result<Self, Error> {
        let weight_decay = rule.default_weight_decay();
        check(&rule, weight_decay)?;
        let kind = state::kind(rule.class_name(), &rule.slots());
        Ok(Self { rule: Arc::new(rule), kind, weight_decay, offload: false })
    }

    /// Decoupled weight decay: `w -= w * weight_decay * learning_rate` before the rule.
    ///
    /// # Errors
    ///
    /// When the number is negative or not finite.
    pub fn weight_decay(mut self, weight_decay: f64) -> Result<Self, Error> {
        check(&*self.rule, Some(weight_decay))?;
        self.weight_decay = Some(weight_decay);
        Ok(self)
    }

    /// Allows parameters on other devices than burn's CPU backend `flex`: see
    /// [`BurnOptimizer::offload`](crate::BurnOptimizer::offload).
    #[must_use]
    pub fn offload(mut self) -> Self {
        self.offload = true;
        self
    }

    /// An optimizer of a module, as burn's configurations make them: `AdamWConfig::new().init()`.
    #[must_use]
    pub fn init(self) -> ModuleOptimizer {
        self.into()
    }

    fn host<const D: usize>(&self, tensor: Tensor<D>) -> Host {
        let host = Host::to_change(tensor, &mut Copies::default());
        let host = host.unwrap_or_else(|unread| panic!("a tensor could not be read: {}", unread.reason));
        if let Some(device) = host.away().filter(|_| !self.offload) {
            panic!("a parameter is on {device:?}, and is updated on the CPU: `Rule::offload` lets the rule copy it");
        }
        host
    }
}

/// Makes a step over no numbers, which checks every hyperparameter.
fn check<R: UpdateRule<f32>>(rule: &R, weight_decay: Option<f64>) -> Result<(), Error> {
    let mut shared = state::shared(&rule.slots());
    SliceStep::with_weight_decay(rule, &Step::new(0, 1.0), &mut shared, weight_decay)?;
    Ok(())
}

impl<R> Clone for Rule<R> {
    fn clone(&self) -> Self {
        let Self { rule, kind, weight_decay, offload } = self;
        Self { rule: Arc::clone(rule), kind: *kind, weight_decay: *weight_decay, offload: *offload }
    }
}

impl<R: UpdateRule<f32> + 'static> burn_optim::Optimizer for Rule<R> {
    type State<const D: usize> = RuleState<D>;

    fn step<const D: usize>(
        &self,
        lr: LearningRate,
        tensor: Tensor<D>,
        grad: Tensor<D>,
        state: Option<RuleState<D>>,
    ) -> (Tensor<D>, Option<RuleState<D>>) {
        let mut value = self.host(tensor);
        let gradient = self.host(grad);
        let mut state = state.unwrap_or_else(|| RuleState::new(&*self.rule, self.kind, &value));
        state.require(self.rule.class_name(), self.kind, &value);
        let stepped = state.step(&*self.rule, lr, self.weight_decay, &mut value, &gradient);
        stepped.unwrap_or_else(|error| panic!("{error}"));
        (value.into_tensor(), Some(state))
    }

    /// The state stays in the memory of the CPU.
    fn to_device<const D: usize>(state: RuleState<D>, _device: &Device) -> RuleState<D> {
        state
    }
}
