//! Hyperparameters of Nadam: ranges, defaults, configurations.

use opt_core::{
    Config, ConfigError, Fields, FromConfig, Generation, Hyper, HyperparameterError, HyperparameterKind,
    HyperparameterSpec, Interval, LearningRate, Registry, Scalar, config, require,
};

/// Adam with Nesterov momentum.
///
/// Worth a try wherever Adam works: it looks ahead along the momentum, and so turns a little earlier. Like Adam it
/// takes steps of about the learning rate, whatever the scale of the gradients.
///
/// ```text
/// mu_t := beta_1 (1 - 0.96^(psi t) / 2)                  the momentum rises from beta_1 / 2 to beta_1
/// c_t  := c_{t-1} mu_t                                   c_0 = 1
/// m    := beta_1 m + (1 - beta_1) g
/// v    := beta_2 v + (1 - beta_2) g^2
/// g'   := g / (1 - c_t)
/// m'   := m / (1 - c_t mu_{t+1})
/// v'   := v / (1 - beta_2^t)
/// w    := w - eta ((1 - mu_t) g' + mu_{t+1} m') / (sqrt(v') + epsilon)
/// ```
///
/// | symbol | field | default | range |
/// |---|---|---|---|
/// | eta | [`new`](Self::new): `learning_rate`, a number or a schedule | 0.001 | at least 0 |
/// | beta_1 | [`beta_1`](Self::beta_1) | 0.9 | `[0, 1)` |
/// | beta_2 | [`beta_2`](Self::beta_2) | 0.999 | `[0, 1)` |
/// | epsilon | [`epsilon`](Self::epsilon) | 1e-7 | at least 0 |
/// | psi | [`schedule_decay`](Self::schedule_decay), in 1/step | 0.004 | at least 0 |
/// | mu_t = beta_1 | [`constant_momentum`](Self::constant_momentum) | off | |
///
/// t is the step, counted from 1. The slots are `momentum_cache`, c, one number for all variables, and `m` and `v` of
/// the variable's shape. c advances once a step, whichever variables have a gradient in it; after thousands of steps it
/// is as good as 0, and corrects no more.
///
/// # Examples
///
/// ```
/// use opt_core::{Optimizer, Variable};
/// use opt_nadam::Nadam;
///
/// // psi = 0: the momentum is beta_1 / 2 in every step.
/// let mut opt = Optimizer::new(Nadam::new(0.5).beta_1(0.5).schedule_decay(0.0).epsilon(0.0)).build()?;
/// let mut w = [1.0_f64];
/// opt.apply_gradients([Variable::new("w", &mut w).gradient(&[8.0])])?;
/// // mu = c = 1/4, m = 4, sqrt(v') = 8: the step is 1/2 ((3/4) 8/(3/4) + (1/4) 4/(15/16)) / 8 = 1/2 (1 + 2/15).
/// assert!((w[0] - (1.0 - 17.0 / 30.0)).abs() < 1e-15);
/// # Ok::<(), opt_core::Error>(())
/// ```
///
/// # Differences
///
/// Four formulas go by this name. All of them are this one with other settings:
///
/// | source | here | mu_t | epsilon | a sparse gradient moves |
/// |---|---|---|---|---|
/// | Keras to 2.10 and legacy | [`new`](Self::new) | psi = 0.004 | 1e-7 | the rows it touches |
/// | Keras from 2.11 on, Keras 3 | [`keras`](Self::keras) | psi = 1 | 1e-7 | all rows |
/// | PyTorch `NAdam` | [`pytorch`](Self::pytorch) | psi = 0.004 | 1e-8 | all rows |
/// | optax `nadam` | [`optax`](Self::optax) | beta_1 | 1e-8 | all rows |
///
/// * **Sparse gradients.** m and v of all rows decay in every form. In the reference form only the rows that the
///   gradient touches move. In the newer one a sparse gradient is a dense one, stored cleverly; PyTorch and optax take
///   dense ones only, and so agree.
/// * **Keras, legacy**: refuses schedules for the learning rate, replaces an epsilon of 0 by 1e-7, and loses a
///   `schedule_decay` when it reads its own configuration. There it is called `decay`, and has nothing to do with the
///   learning rate. Here schedules work, 0 is 0, and nothing is lost.
/// * **Keras, newer**: its momentum product is not among the weights, and is wrong inside `tf.function`. Here it is
///   among them, `momentum_cache`, and advances once a step.
/// * **PyTorch** calls psi `momentum_decay`, defaults to a learning rate of 0.002, and keeps c in 32 bits. Its
///   `weight_decay` together with `decoupled_weight_decay` is
///   [`OptimizerBuilder::weight_decay`](opt_core::OptimizerBuilder::weight_decay).
/// * **optax**: `eps_root` is 0, its default.
/// * The **paper** has t / 250 in the exponent: the reference form's psi.
///
/// A configuration of the legacy generation calls psi `decay`. In one of the newer generation it is `schedule_decay`,
/// written only if it is not 1, which Keras cannot read; nor can it read `momentum_schedule`, written only if it is
/// `"constant"`.
///
/// # References
///
/// * T. Dozat, "Incorporating Nesterov momentum into Adam", ICLR workshop 2016.
/// * D. P. Kingma, J. Ba, "Adam: a method for stochastic optimization", 2014, arXiv:1412.6980.
#[derive(Debug, Clone)]
pub struct Nadam {
    pub(crate) learning_rate: LearningRate,
    pub(crate) beta_1: f64,
    pub(crate) beta_2: f64,
    pub(crate) epsilon: f64,
    pub(crate) momentum: Momentum,
    pub(crate) generation: Generation,
}

/// How the momentum mu goes over the steps.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Momentum {
    /// From half of `beta_1` up to `beta_1`.
    Rising { schedule_decay: f64 },
    /// Always `beta_1`.
    Constant,
}

impl Nadam {
    /// The reference form, with a learning rate: a number or a schedule, at least 0. Its configuration is that of
    /// `keras.optimizers.legacy.Nadam`.
    #[must_use]
    pub fn new(learning_rate: impl Into<Hyper>) -> Self {
        Self::of(Generation::Legacy, learning_rate)
    }

    /// As Keras from 2.11 on, and Keras 3: the momentum rises 250 times as fast, a sparse gradient moves all rows, and
    /// `weights` go variable by variable.
    #[must_use]
    pub fn keras(learning_rate: impl Into<Hyper>) -> Self {
        Self::of(Generation::New, learning_rate)
    }

    /// As PyTorch's `NAdam`: [`keras`](Self::keras) with a `schedule_decay` of 0.004, which is called `momentum_decay`
    /// there, and an epsilon of 1e-8.
    #[must_use]
    pub fn pytorch(learning_rate: impl Into<Hyper>) -> Self {
        Self::keras(learning_rate).schedule_decay(0.004).epsilon(1e-8)
    }

    /// As optax's `nadam`: [`keras`](Self::keras) with a [constant momentum](Self::constant_momentum) and an epsilon of
    /// 1e-8.
    #[must_use]
    pub fn optax(learning_rate: impl Into<Hyper>) -> Self {
        Self::keras(learning_rate).constant_momentum().epsilon(1e-8)
    }

    fn of(generation: Generation, learning_rate: impl Into<Hyper>) -> Self {
        Self {
            learning_rate: LearningRate::new(learning_rate),
            beta_1: 0.9,
            beta_2: 0.999,
            epsilon: 1e-7,
            momentum: Momentum::Rising { schedule_decay: schedule_decay_of(generation) },
            generation,
        }
    }

    /// Sets the decay rate of m, and the limit of the momentum, in `[0, 1)`.
    #[must_use]
    pub fn beta_1(mut self, beta_1: f64) -> Self {
        self.beta_1 = beta_1;
        self
    }

    /// Sets the decay rate of v, in `[0, 1)`.
    #[must_use]
    pub fn beta_2(mut self, beta_2: f64) -> Self {
        self.beta_2 = beta_2;
        self
    }

    /// Sets what is added to the root of v', at least 0. With 0, elements whose gradients have all been 0 stay where
    /// they are.
    #[must_use]
    pub fn epsilon(mut self, epsilon: f64) -> Self {
        self.epsilon = epsilon;
        self
    }

    /// Sets how fast the momentum rises, psi, in 1/step, at least 0. Replaces
    /// [`constant_momentum`](Self::constant_momentum).
    #[must_use]
    pub fn schedule_decay(mut self, schedule_decay: f64) -> Self {
        self.momentum = Momentum::Rising { schedule_decay };
        self
    }

    /// Keeps the momentum at `beta_1` from the first step on: the limit of a large
    /// [`schedule_decay`](Self::schedule_decay), which it replaces. c is then beta_1^t.
    #[must_use]
    pub fn constant_momentum(mut self) -> Self {
        self.momentum = Momentum::Constant;
        self
    }

    pub(crate) fn check(&self) -> Result<(), HyperparameterError> {
        require("beta_1", self.beta_1, 0.0..1.0)?;
        require("beta_2", self.beta_2, 0.0..1.0)?;
        require("epsilon", self.epsilon, 0.0..)?;
        match self.momentum {
            Momentum::Rising { schedule_decay } => require("schedule_decay", schedule_decay, 0.0..),
            Momentum::Constant => Ok(()),
        }
    }

    pub(crate) fn fields(&self) -> Result<Config, ConfigError> {
        let mut fields = config([
            ("learning_rate", self.learning_rate.base().to_json()?),
            ("beta_1", self.beta_1.into()),
            ("beta_2", self.beta_2.into()),
            ("epsilon", self.epsilon.into()),
        ]);
        let default = schedule_decay_of(self.generation);
        let schedule_decay = match self.momentum {
            Momentum::Rising { schedule_decay } => schedule_decay,
            Momentum::Constant => {
                fields.insert(MOMENTUM_SCHEDULE.to_owned(), CONSTANT.into());
                default
            }
        };
        // The legacy generation always has the key; it is known by it.
        if self.generation == Generation::Legacy || schedule_decay != default {
            fields.insert(schedule_decay_key(self.generation).to_owned(), schedule_decay.into());
        }
        Ok(fields)
    }
}

const MOMENTUM_SCHEDULE: &str = "momentum_schedule";
const RISING: &str = "rising";
const CONSTANT: &str = "constant";

/// The `schedule_decay` that a generation has by default.
fn schedule_decay_of(generation: Generation) -> f64 {
    match generation {
        Generation::Legacy => 0.004,
        Generation::New => 1.0,
    }
}

/// What a generation calls it.
fn schedule_decay_key(generation: Generation) -> &'static str {
    match generation {
        Generation::Legacy => "decay",
        Generation::New => "schedule_decay",
    }
}

/// Reads how the momentum goes.
fn read_momentum(fields: &mut Fields<'_>) -> Result<Momentum, ConfigError> {
    let (key, default) = (schedule_decay_key(fields.generation()), schedule_decay_of(fields.generation()));
    let schedule_decay = fields.f64_or(key, default)?;
    match fields.string_or(MOMENTUM_SCHEDULE, RISING)?.as_str() {
        RISING => Ok(Momentum::Rising { schedule_decay }),
        CONSTANT if schedule_decay == default => Ok(Momentum::Constant),
        CONSTANT => {
            let expected = format!("{default}, because the momentum is constant");
            Err(HyperparameterError { name: key.to_owned(), value: schedule_decay, expected }.into())
        }
        other => Err(ConfigError::WrongType {
            class_name: fields.class_name().to_owned(),
            key: MOMENTUM_SCHEDULE.to_owned(),
            found: format!("{other:?}"),
            expected: format!("{RISING:?} or {CONSTANT:?}"),
        }),
    }
}

impl Default for Nadam {
    fn default() -> Self {
        Self::new(0.001)
    }
}

impl<T: Scalar> FromConfig<T> for Nadam {
    const CLASS_NAME: &'static str = "Nadam";

    const HYPERPARAMETERS: &'static [HyperparameterSpec] = &[
        HyperparameterSpec {
            name: "learning_rate",
            kind: HyperparameterKind::NumberOrSchedule(Interval::NOT_NEGATIVE),
            default: Some("0.001"),
            meaning: "learning rate, eta",
        },
        HyperparameterSpec {
            name: "beta_1",
            kind: HyperparameterKind::Number(Interval::UNIT_BELOW_ONE),
            default: Some("0.9"),
            meaning: "decay rate of m, and limit of the momentum",
        },
        HyperparameterSpec {
            name: "beta_2",
            kind: HyperparameterKind::Number(Interval::UNIT_BELOW_ONE),
            default: Some("0.999"),
            meaning: "decay rate of v",
        },
        HyperparameterSpec {
            name: "epsilon",
            kind: HyperparameterKind::Number(Interval::NOT_NEGATIVE),
            default: Some("1e-7"),
            meaning: "added to the root of v",
        },
        HyperparameterSpec {
            name: "decay",
            kind: HyperparameterKind::Number(Interval::NOT_NEGATIVE),
            default: Some("0.004"),
            meaning: "legacy generation only: how fast the momentum rises, psi",
        },
        HyperparameterSpec {
            name: "schedule_decay",
            kind: HyperparameterKind::Number(Interval::NOT_NEGATIVE),
            default: Some("1.0"),
            meaning: "newer generation only, not in Keras: how fast the momentum rises, psi",
        },
        HyperparameterSpec {
            name: "momentum_schedule",
            kind: HyperparameterKind::Choice(&[RISING, CONSTANT]),
            default: Some("\"rising\""),
            meaning: "not in Keras: whether the momentum rises to beta_1 or is beta_1 from the first step on",
        },
    ];

    fn from_config(fields: &mut Fields<'_>, _registry: &Registry<T>) -> Result<Self, ConfigError> {
        Ok(Self {
            learning_rate: LearningRate::new(fields.hyper_or("learning_rate", 0.001)?),
            beta_1: fields.f64_or("beta_1", 0.9)?,
            beta_2: fields.f64_or("beta_2", 0.999)?,
            epsilon: fields.f64_or("epsilon", 1e-7)?,
            momentum: read_momentum(fields)?,
            generation: fields.generation(),
        })
    }
}
