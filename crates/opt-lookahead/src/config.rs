//! Hyperparameters of Lookahead.

mod inner;

use inner::Inner;
use opt_core::config::{
    Config, ConfigError, Configurable, Dialect, Fields, FromConfig, FromFields, HyperparameterError,
    HyperparameterKind, HyperparameterSpec, Hyperparameters, Interval,
};
use opt_core::rule::Step;
use opt_core::trace::TracedKernel;
use opt_core::{Hyper, Registry, Scalar, UpdateRule, hyperparameters};

/// Lookahead: after every k steps of a rule, the variables go part of the way back to their values before these steps.
///
/// The variables are less noisy, and the hyperparameters of the inner rule need less care. It costs one more array for
/// each variable, and almost no time.
///
/// ```text
/// w := A(w, g)                  each step: the rule A
/// s := s + alpha (w - s)        each k-th step, after A
/// w := s
/// ```
///
/// | symbol | field | default | range |
/// |---|---|---|---|
/// | A | [`new`](Self::new): `optimizer`, any rule, boxed or not | required | |
/// | k | [`sync_period`](Self::sync_period) | 6 | at least 1 |
/// | alpha | [`slow_step_size`](Self::slow_step_size) | 0.5 | `(0, 1]` |
///
/// The slot `slow`, s, of the variable's shape, starts as a copy of w and comes before the slots of A. If A has a slot
/// `slow`, too, that slot is called `slow_2` outside: in Lookahead around Lookahead, `slow` is always the outermost,
/// the slowest. The learning rate is that of A, with all changes that A makes to it.
///
/// Steps are counted for all variables together: the first synchronisation is at step k. A variable without a gradient
/// in that step is not synchronised then, but at the next multiple of k at which it has a gradient. With a sparse
/// gradient all rows are synchronised, also rows that the gradient does not touch.
///
/// # Examples
///
/// ```
/// use opt_core::{Error, Optimizer, UpdateRule, Variable};
/// use opt_lookahead::Lookahead;
/// use opt_sgd::Sgd;
///
/// fn trace(rule: impl UpdateRule<f64>) -> Result<Vec<f64>, Error> {
///     let mut opt = Optimizer::new(rule)?;
///     let mut w = [10.0];
///     let mut step = || {
///         opt.apply_gradients([Variable::new("w", &mut w).gradient(&[1.0])])?;
///         Ok(w[0])
///     };
///     (0..6).map(|_| step()).collect()
/// }
///
/// let lookahead = Lookahead::new(Sgd::new(1.0)).sync_period(3).slow_step_size(0.5);
/// assert_eq!(trace(lookahead)?, [9.0, 8.0, 8.5, 7.5, 6.5, 7.0]);
///
/// // Which is inside, and which is outside, matters.
/// let (often, seldom) = (Lookahead::new(Sgd::new(1.0)).sync_period(2), Lookahead::new(Sgd::new(1.0)).sync_period(3));
/// assert_eq!(trace(Lookahead::new(often).sync_period(3))?[5], 8.25);
/// assert_eq!(trace(Lookahead::new(seldom).sync_period(2))?[5], 8.125);
/// # Ok::<(), Error>(())
/// ```
///
/// # Differences
///
/// * TensorFlow Addons accepts any `sync_period` and `slow_step_size`, and fails in the middle of a step with a period
///   of 0; here they are checked before the first step.
/// * TensorFlow Addons ignores the clips, the weight decay and the averages of an optimizer that it wraps. Here a
///   configuration is refused that asks for them inside: set them outside, on the engine.
/// * With `alpha = 1`, s is w exactly, without rounding. `k = 1` and `alpha = 1` together give A, bit for bit.
/// * The paper's appendix also resets or interpolates the state of A. Here, as in TensorFlow Addons, A keeps its state.
/// * timm makes s at the first synchronisation, which therefore has no effect. optax recomputes w and s in every step,
///   so that a NaN in w reaches s at once; here s changes only in each k-th step.
///
/// # References
///
/// * M. R. Zhang, J. Lucas, G. Hinton, J. Ba, "Lookahead optimizer: k steps forward, 1 step back", 2019,
///   arXiv:1907.08610.
#[derive(Debug, Clone)]
pub struct Lookahead<R> {
    pub(crate) inner: Inner<R>,
    pub(crate) sync: Synchronisation,
}

hyperparameters! {
    /// The period and the size of the steps back.
    #[derive(Debug, Clone)]
    pub(crate) struct Synchronisation {
        sync_period: u64 = 6, in 1.., "steps from one synchronisation to the next, k";
        slow_step_size: f64 = 0.5, in Interval::UNIT_ABOVE_ZERO, "which part of the way forward stays, alpha";
    }
    part "Lookahead"
}

impl<R> Lookahead<R> {
    /// Lookahead around a rule.
    #[must_use]
    pub fn new(rule: R) -> Self {
        Self { inner: Inner::new(rule), sync: Synchronisation::with_defaults() }
    }

    /// Sets the number of steps between two synchronisations: at least 1.
    #[must_use]
    pub fn sync_period(mut self, steps: u64) -> Self {
        self.sync.sync_period = steps;
        self
    }

    /// Sets which fraction of the way forward remains, in `(0, 1]`; with 1, the variables never go back.
    #[must_use]
    pub fn slow_step_size(mut self, slow_step_size: f64) -> Self {
        self.sync.slow_step_size = slow_step_size;
        self
    }

    /// The rule inside.
    #[must_use]
    pub fn get_ref(&self) -> &R {
        &self.inner.rule
    }

    /// Returns the rule inside.
    #[must_use]
    pub fn into_inner(self) -> R {
        self.inner.rule
    }
}

impl<R: Hyperparameters> Configurable for Lookahead<R> {
    fn class_name(&self) -> &str {
        self.sync.class_name()
    }

    fn config(&self) -> Result<Config, ConfigError> {
        let mut config = self.sync.config()?;
        config.insert(OPTIMIZER.to_owned(), self.inner.write()?);
        Ok(config)
    }

    fn validate(&self) -> Result<(), HyperparameterError> {
        self.sync.validate()?;
        self.inner.rule.validate()
    }
}

#[deny(clippy::missing_trait_methods, reason = "every method must be forwarded")]
impl<R: Hyperparameters> Hyperparameters for Lookahead<R> {
    fn learning_rate(&self) -> &Hyper {
        self.inner.rule.learning_rate()
    }

    fn learning_rate_mut(&mut self) -> &mut Hyper {
        self.inner.rule.learning_rate_mut()
    }

    /// The dialect of the rule inside; Keras has Lookahead only in its legacy generation.
    fn dialect(&self) -> Dialect {
        match self.inner.rule.dialect() {
            Dialect::Keras => Dialect::KerasLegacy,
            other => other,
        }
    }

    fn default_weight_decay(&self) -> Option<f64> {
        self.inner.rule.default_weight_decay()
    }

    fn begin_traced<'a>(&'a self, step: &Step, shared: &mut [f64]) -> Option<TracedKernel<'a>> {
        Some(self.around(step, self.inner.rule.begin_traced(step, shared)?))
    }
}

/// The key of the rule inside.
const OPTIMIZER: &str = "optimizer";

/// All fields of Lookahead, around any rule.
fn all_hyperparameters() -> Vec<HyperparameterSpec> {
    let (kind, meaning) = (HyperparameterKind::Rule, "the rule inside, A");
    let mut all = vec![HyperparameterSpec { name: OPTIMIZER, kind, default: None, meaning }];
    all.extend(Synchronisation::hyperparameters());
    all
}

/// Reads all fields; `read` reads the rule inside.
fn read<R: Hyperparameters, T: Scalar>(
    fields: &mut Fields<'_>,
    registry: &Registry<T>,
    read: impl FnOnce(&mut Fields<'_>) -> Result<R, ConfigError>,
) -> Result<Lookahead<R>, ConfigError> {
    let inner = Inner::read(&fields.take_required(OPTIMIZER)?, registry, read)?;
    Ok(Lookahead { inner, sync: Synchronisation::from_fields(fields)? })
}

impl<T: Scalar, R: FromConfig<T>> FromConfig<T> for Lookahead<R> {
    const CLASS_NAME: &'static str = Synchronisation::CLASS_NAME;

    fn hyperparameters() -> Vec<HyperparameterSpec> {
        all_hyperparameters()
    }

    fn from_config(fields: &mut Fields<'_>, registry: &Registry<T>) -> Result<Self, ConfigError> {
        read(fields, registry, |inner| {
            let found = inner.class_name();
            if !found.eq_ignore_ascii_case(R::CLASS_NAME) {
                return Err(ConfigError::OtherClass { found: found.to_owned(), expected: R::CLASS_NAME });
            }
            R::from_config(inner, registry)
        })
    }
}

/// Makes Lookahead known to a registry, around any rule that the registry knows when it reads a configuration.
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
    registry.register_class(Synchronisation::CLASS_NAME, all_hyperparameters, |fields, registry| {
        let lookahead: Lookahead<Box<dyn UpdateRule<T>>> = read(fields, registry, |inner| registry.rule(inner))?;
        Ok(Box::new(lookahead))
    });
}
