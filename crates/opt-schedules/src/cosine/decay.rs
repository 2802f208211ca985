//! One half cosine, with an optional linear warmup.

use opt_core::{
    Config, ConfigError, Fields, HyperparameterError, HyperparameterKind, HyperparameterSpec, Interval, Schedule,
    ScheduleFromConfig, config,
};

use super::above_floor;
use crate::checks;
use crate::numbers::{blend, fraction, half_cosine};
use crate::spec::{INITIAL_LEARNING_RATE, PART, STEPS, optional, required};

/// Falls along half a cosine to a fraction of the initial learning rate, and stays there.
///
/// The usual choice when the number of steps is known; transformers take the warmup with it.
///
/// ```text
/// no warmup:       value(s) = l [(1 - a) (1 + cos(pi p)) / 2 + a],   p = min(s, d) / d
/// warmup, s < w:   value(s) = l + (t - l) s / w
/// warmup, s >= w:  value(s) = t [(1 - a) (1 + cos(pi p)) / 2 + a],   p = min(s - w, d) / d
/// ```
///
/// | symbol | field | default |
/// |---|---|---|
/// | l | `initial_learning_rate` | required |
/// | d | `decay_steps` | required, not counting the warmup |
/// | a | `alpha` | 0: the end, as a fraction of the highest value |
/// | t | `warmup_target` | none |
/// | w | `warmup_steps` | 0 |
///
/// # Examples
///
/// ```
/// use opt_schedules::{CosineDecay, Schedule};
///
/// let rate = CosineDecay::new(1.0, 100).alpha(0.2);
/// assert_eq!([0, 50, 100, 1_000].map(|step| rate.value(step)), [1.0, 0.6, 0.2, 0.2]);
///
/// // From 0 to 0.5 in 10 steps, then down to 0 in 100 more.
/// let rate = CosineDecay::new(0.0, 100).warmup(0.5, 10);
/// assert_eq!([0, 4, 10, 60, 110].map(|step| rate.value(step)), [0.0, 0.2, 0.5, 0.25, 0.0]);
/// ```
///
/// # Differences
///
/// Keras ignores `warmup_steps` when there is no `warmup_target`; here that is an error. It accepts an `alpha` above 1,
/// computes in `f32`, and with `decay_steps = 0` returns NaN. PyTorch's `CosineAnnealingLR` has no warmup and goes up
/// again after the end. In optax's `warmup_cosine_decay_schedule`, `decay_steps` includes the warmup.
///
/// # Errors
///
/// [`validate`](Schedule::validate) refuses `decay_steps = 0`, an `alpha` outside [0, 1] (it is a fraction), rates that
/// are negative, infinite or NaN, and `warmup_steps` without `warmup_target`.
///
/// # References
///
/// * I. Loshchilov and F. Hutter, 2016: SGDR: Stochastic Gradient Descent with Warm Restarts. arXiv:1608.03983.
/// * P. Goyal et al., 2017: Accurate, Large Minibatch SGD: Training ImageNet in 1 Hour. arXiv:1706.02677 (warmup).
#[derive(Debug, Clone, PartialEq)]
pub struct CosineDecay {
    initial_learning_rate: f64,
    decay_steps: u64,
    alpha: f64,
    warmup_target: Option<f64>,
    warmup_steps: u64,
}

impl CosineDecay {
    /// Falls from `initial_learning_rate` to 0 in `decay_steps` steps.
    #[must_use]
    pub fn new(initial_learning_rate: f64, decay_steps: u64) -> Self {
        Self { initial_learning_rate, decay_steps, alpha: 0.0, warmup_target: None, warmup_steps: 0 }
    }

    /// The end value, as a fraction of the highest value.
    #[must_use]
    pub fn alpha(mut self, alpha: f64) -> Self {
        self.alpha = alpha;
        self
    }

    /// Rises from the initial learning rate to `target` in `steps` steps, before the decay from there.
    #[must_use]
    pub fn warmup(mut self, target: f64, steps: u64) -> Self {
        self.warmup_target = Some(target);
        self.warmup_steps = steps;
        self
    }

    fn decayed(&self, from: f64, step: u64) -> f64 {
        let p = fraction(step.min(self.decay_steps), self.decay_steps);
        above_floor(from, self.alpha, half_cosine(p))
    }
}

impl Schedule for CosineDecay {
    fn value(&self, step: u64) -> f64 {
        match (self.warmup_target, step.checked_sub(self.warmup_steps)) {
            (None, _) => self.decayed(self.initial_learning_rate, step),
            (Some(target), None) => blend(self.initial_learning_rate, target, fraction(step, self.warmup_steps)),
            (Some(target), Some(since_warmup)) => self.decayed(target, since_warmup),
        }
    }

    fn class_name(&self) -> &str {
        Self::CLASS_NAME
    }

    fn config(&self) -> Result<Config, ConfigError> {
        Ok(config([
            ("initial_learning_rate", self.initial_learning_rate.into()),
            ("decay_steps", self.decay_steps.into()),
            ("alpha", self.alpha.into()),
            ("warmup_target", self.warmup_target.into()),
            ("warmup_steps", self.warmup_steps.into()),
        ]))
    }

    fn validate(&self) -> Result<(), HyperparameterError> {
        checks::rate("initial_learning_rate", self.initial_learning_rate)?;
        checks::at_least_one("decay_steps", self.decay_steps)?;
        checks::part("alpha", self.alpha)?;
        match self.warmup_target {
            Some(target) => checks::rate("warmup_target", target),
            None => checks::accept(self.warmup_steps == 0, || {
                checks::error("warmup_steps", self.warmup_steps as f64, "0 without warmup_target")
            }),
        }
    }
}

impl ScheduleFromConfig for CosineDecay {
    const CLASS_NAME: &'static str = "CosineDecay";

    const HYPERPARAMETERS: &'static [HyperparameterSpec] = &[
        INITIAL_LEARNING_RATE,
        required("decay_steps", STEPS, "steps of the decay, after the warmup, d"),
        optional("alpha", PART, "0.0", "end, as a fraction of the highest value, a"),
        optional(
            "warmup_target",
            HyperparameterKind::OptionalNumber(Interval::NOT_NEGATIVE),
            "null",
            "value after the warmup, t",
        ),
        optional(
            "warmup_steps",
            HyperparameterKind::Integer(0),
            "0",
            "steps of the warmup, w; 0 without `warmup_target`",
        ),
    ];

    fn from_config(fields: &mut Fields<'_>) -> Result<Self, ConfigError> {
        Ok(Self {
            initial_learning_rate: fields.f64("initial_learning_rate")?,
            decay_steps: fields.u64("decay_steps")?,
            alpha: fields.f64_or("alpha", 0.0)?,
            warmup_target: fields.optional_f64("warmup_target")?,
            warmup_steps: fields.u64_or("warmup_steps", 0)?,
        })
    }
}
