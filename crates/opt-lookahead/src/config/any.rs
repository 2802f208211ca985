//! Lookahead around whatever rule a configuration names.

use opt_core::{
    Config, ConfigError, Fields, FromConfig, Generation, HyperparameterError, HyperparameterSpec, Kernel, LearningRate,
    Registry, Scalar, SlotSpec, Step, UpdateRule, WeightsOrder,
};

use super::Lookahead;

/// Makes Lookahead known to a registry, around any rule that the registry knows when a configuration is read.
///
/// # Examples
///
/// ```
/// use opt_core::{Optimizer, Registry};
/// use opt_sgd::Sgd;
/// use serde_json::json;
///
/// let mut registry = Registry::<f32>::new();
/// registry.register::<Sgd>();
/// opt_lookahead::register(&mut registry);
///
/// let sgd = json!({"class_name": "SGD", "config": {"learning_rate": 0.25, "momentum": 0.5, "nesterov": false}});
/// let config = json!({
///     "class_name": "Addons>Lookahead",
///     "config": {"optimizer": sgd, "sync_period": 10, "slow_step_size": 0.5},
/// });
/// let opt = Optimizer::from_config(&config, &registry)?;
/// assert_eq!(opt.learning_rate(), 0.25);
/// assert_eq!(opt.slot_names(), ["slow", "momentum"]);
/// assert_eq!(opt.to_config()?, config);
/// # Ok::<(), opt_core::Error>(())
/// ```
pub fn register<T: Scalar>(registry: &mut Registry<T>) {
    registry.register::<AnyLookahead<T>>();
}

/// A type of its own: `Lookahead<R>` reads the class of `R`, and a boxed rule has none.
#[derive(Debug)]
struct AnyLookahead<T: Scalar>(Lookahead<Box<dyn UpdateRule<T>>>);

impl<T: Scalar> FromConfig<T> for AnyLookahead<T> {
    const CLASS_NAME: &'static str = <Lookahead<Self> as FromConfig<T>>::CLASS_NAME;

    const HYPERPARAMETERS: &'static [HyperparameterSpec] = <Lookahead<Self> as FromConfig<T>>::HYPERPARAMETERS;

    fn from_config(fields: &mut Fields<'_>, registry: &Registry<T>) -> Result<Self, ConfigError> {
        Lookahead::from_fields(fields, registry, |inner| registry.rule(inner)).map(Self)
    }
}

#[deny(clippy::missing_trait_methods, reason = "every method must be forwarded")]
impl<T: Scalar> UpdateRule<T> for AnyLookahead<T> {
    fn class_name(&self) -> &str {
        self.0.class_name()
    }

    fn learning_rate(&self) -> &LearningRate {
        self.0.learning_rate()
    }

    fn learning_rate_mut(&mut self) -> &mut LearningRate {
        self.0.learning_rate_mut()
    }

    fn learning_rate_at(&self, step: u64) -> f64 {
        self.0.learning_rate_at(step)
    }

    fn validate(&self) -> Result<(), HyperparameterError> {
        self.0.validate()
    }

    fn slots(&self) -> Vec<SlotSpec> {
        self.0.slots()
    }

    fn needs_gradient_norm(&self) -> bool {
        self.0.needs_gradient_norm()
    }

    fn begin_step<'a>(&'a self, step: &Step, shared: &mut [f64]) -> Box<dyn Kernel<T> + 'a> {
        self.0.begin_step(step, shared)
    }

    fn config(&self) -> Result<Config, ConfigError> {
        self.0.config()
    }

    fn generation(&self) -> Generation {
        self.0.generation()
    }

    fn weights_order(&self) -> WeightsOrder {
        self.0.weights_order()
    }
}
