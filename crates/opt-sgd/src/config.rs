//! Hyperparameters of SGD: ranges, defaults, configurations.

use opt_core::{
    Config, ConfigError, Fields, FromConfig, Generation, Hyper, HyperparameterError, HyperparameterKind,
    HyperparameterSpec, Interval, LearningRate, Registry, Scalar, config, require,
};

/// Stochastic gradient descent, with momentum and Nesterov momentum.
///
/// The first thing to try, and hard to beat with momentum and a good schedule.
///
/// ```text
/// m := mu m - eta g
/// w := w + m                      momentum
/// w := w + mu m - eta g           Nesterov momentum, with the new m
/// w := w - eta g                  without momentum
/// ```
///
/// | symbol | field | default | range |
/// |---|---|---|---|
/// | eta | [`new`](Self::new): `learning_rate`, a number or a schedule | 0.01 | at least 0 |
/// | mu | [`momentum`](Self::momentum) | 0 | `[0, 1]` |
/// | | [`nesterov`](Self::nesterov) | false | |
/// | | [`learning_rate_outside`](Self::learning_rate_outside) | false | |
/// | tau | [`dampening`](Self::dampening), outside the velocity only | 0 | `[0, 1]` |
/// | | [`legacy`](Self::legacy) | false | |
/// | | [`decay`](Self::decay), legacy only | 0 | at least 0 |
///
/// The slot is `momentum`, m, of the variable's shape; it exists only if mu is not 0.
///
/// # Examples
///
/// ```
/// use opt_core::{Optimizer, Variable};
/// use opt_sgd::Sgd;
///
/// let mut opt = Optimizer::new(Sgd::new(0.5).momentum(0.5).nesterov(true)).build()?;
/// let mut w = [1.0, 2.0];
/// opt.apply_gradients([Variable::new("w", &mut w).gradient(&[1.0, 0.0])])?;
/// assert_eq!(w, [0.25, 2.0]); // m = -0.5, and w += 0.5 m - 0.5
/// # Ok::<(), opt_core::Error>(())
/// ```
///
/// # Differences
///
/// * The learning rate is inside m, as in Keras: after a change of the learning rate the old velocity keeps the old
///   one. In PyTorch and optax it is outside, and the change rescales the whole velocity at once. With a constant
///   learning rate all three agree. [`Sgd::pytorch`] and [`Sgd::optax`] are those:
///
///   ```text
///   m := mu m + (1 - tau) g         m := g at the first gradient of a variable
///   w := w - eta m
///   w := w - eta (g + mu m)         Nesterov momentum, with the new m
///   ```
///
///   | | Keras | PyTorch | optax |
///   |---|---|---|---|
///   | learning rate | inside m | outside | outside |
///   | dampening | no | `dampening`, not at the first gradient | no |
///   | weight decay | decoupled, before the step | added to g: not offered here | by chain |
/// * Keras's two generations treat **sparse gradients** differently. By default, as since Keras 2.11, a sparse gradient
///   is a dense one, stored cleverly: m of every row decays, and every row of w moves on. With
///   [`legacy`](Self::legacy), only touched rows change.
/// * Keras allocates m since 2.11 even for mu = 0; here it exists only if it is used.
///
/// # References
///
/// * B. T. Polyak, "Some methods of speeding up the convergence of iteration methods", 1964.
/// * I. Sutskever, J. Martens, G. Dahl, G. Hinton, "On the importance of initialization and momentum in deep
///   learning", ICML 2013: this form of Nesterov momentum.
#[derive(Debug, Clone)]
pub struct Sgd {
    pub(crate) learning_rate: LearningRate,
    pub(crate) momentum: f64,
    pub(crate) nesterov: bool,
    pub(crate) learning_rate_outside: bool,
    pub(crate) dampening: f64,
    pub(crate) generation: Generation,
}

impl Sgd {
    /// SGD with a learning rate: a number or a schedule, at least 0.
    #[must_use]
    pub fn new(learning_rate: impl Into<Hyper>) -> Self {
        Self {
            learning_rate: LearningRate::new(learning_rate),
            momentum: 0.0,
            nesterov: false,
            learning_rate_outside: false,
            dampening: 0.0,
            generation: Generation::New,
        }
    }

    /// SGD as PyTorch's `torch.optim.SGD`: the learning rate is outside the velocity.
    ///
    /// # Examples
    ///
    /// ```
    /// use opt_core::{Optimizer, Variable};
    /// use opt_sgd::Sgd;
    ///
    /// let mut opt = Optimizer::new(Sgd::pytorch(1.0).momentum(0.5)).build()?;
    /// let mut w = [0.0];
    /// opt.apply_gradients([Variable::new("w", &mut w).gradient(&[1.0])])?;
    /// opt.set_learning_rate(0.5)?;
    /// opt.apply_gradients([Variable::new("w", &mut w).gradient(&[1.0])])?;
    /// assert_eq!(w, [-1.0 - 0.5 * 1.5]); // Keras: the old velocity keeps its learning rate, -2.0
    /// # Ok::<(), opt_core::Error>(())
    /// ```
    #[must_use]
    pub fn pytorch(learning_rate: impl Into<Hyper>) -> Self {
        Self::new(learning_rate).learning_rate_outside(true)
    }

    /// SGD as `optax.sgd`: the learning rate is outside the velocity.
    #[must_use]
    pub fn optax(learning_rate: impl Into<Hyper>) -> Self {
        Self::new(learning_rate).learning_rate_outside(true)
    }

    /// Sets the momentum, in `[0, 1]`; 0 needs no slot.
    #[must_use]
    pub fn momentum(mut self, momentum: f64) -> Self {
        self.momentum = momentum;
        self
    }

    /// Looks ahead along the velocity. Without momentum it changes nothing.
    #[must_use]
    pub fn nesterov(mut self, nesterov: bool) -> Self {
        self.nesterov = nesterov;
        self
    }

    /// Whether the learning rate is outside the velocity, as in PyTorch and optax, or inside, as in Keras.
    #[must_use]
    pub fn learning_rate_outside(mut self, outside: bool) -> Self {
        self.learning_rate_outside = outside;
        self
    }

    /// Scales each gradient but a variable's first by `1 - dampening` on its way into the velocity, as PyTorch does.
    /// The learning rate must be outside the velocity, and Nesterov momentum is not possible. A scalar slot, `started`,
    /// remembers whether a variable has had its first gradient.
    #[must_use]
    pub fn dampening(mut self, dampening: f64) -> Self {
        self.dampening = dampening;
        self
    }

    /// As `keras.optimizers.legacy.SGD`: a sparse gradient changes the rows it touches, and no others; the
    /// configuration is written in that generation's form.
    #[must_use]
    pub fn legacy(mut self) -> Self {
        self.generation = Generation::Legacy;
        self
    }

    /// Divides the learning rate by `1 + decay * iterations`. Only the legacy generation has this; elsewhere use an
    /// inverse-time schedule.
    #[must_use]
    pub fn decay(mut self, decay: f64) -> Self {
        self.learning_rate = self.learning_rate.decay(decay);
        self
    }

    /// Dampening without momentum does nothing.
    pub(crate) fn is_dampened(&self) -> bool {
        self.dampening != 0.0 && self.momentum != 0.0
    }

    pub(crate) fn check(&self) -> Result<(), HyperparameterError> {
        require("momentum", self.momentum, 0.0..=1.0)?;
        require("dampening", self.dampening, 0.0..=1.0)?;
        if self.dampening != 0.0 && (!self.learning_rate_outside || self.nesterov) {
            let expected = "0, unless the learning rate is outside the velocity and momentum is not Nesterov's";
            let (name, expected) = ("dampening".to_owned(), expected.to_owned());
            return Err(HyperparameterError { name, value: self.dampening, expected });
        }
        let decay = self.learning_rate.inverse_time_decay();
        if self.generation == Generation::New && decay != 0.0 {
            let expected = "0, unless the optimizer is legacy".to_owned();
            return Err(HyperparameterError { name: "decay".to_owned(), value: decay, expected });
        }
        Ok(())
    }

    pub(crate) fn fields(&self) -> Result<Config, ConfigError> {
        let mut fields = config([
            ("learning_rate", self.learning_rate.base().to_json()?),
            ("momentum", self.momentum.into()),
            ("nesterov", self.nesterov.into()),
        ]);
        if self.learning_rate_outside {
            fields.insert("learning_rate_outside".to_owned(), true.into());
        }
        if self.dampening != 0.0 {
            fields.insert("dampening".to_owned(), self.dampening.into());
        }
        if self.generation == Generation::Legacy {
            fields.insert("decay".to_owned(), self.learning_rate.inverse_time_decay().into());
        }
        Ok(fields)
    }
}

impl Default for Sgd {
    fn default() -> Self {
        Self::new(0.01)
    }
}

impl<T: Scalar> FromConfig<T> for Sgd {
    const CLASS_NAME: &'static str = "SGD";

    const HYPERPARAMETERS: &'static [HyperparameterSpec] = &[
        HyperparameterSpec {
            name: "learning_rate",
            kind: HyperparameterKind::NumberOrSchedule(Interval::NOT_NEGATIVE),
            default: Some("0.01"),
            meaning: "learning rate, eta",
        },
        HyperparameterSpec {
            name: "momentum",
            kind: HyperparameterKind::Number(Interval::UNIT),
            default: Some("0.0"),
            meaning: "momentum, mu; 0 needs no slot",
        },
        HyperparameterSpec {
            name: "nesterov",
            kind: HyperparameterKind::Bool,
            default: Some("false"),
            meaning: "look ahead along the velocity",
        },
        HyperparameterSpec {
            name: "learning_rate_outside",
            kind: HyperparameterKind::Bool,
            default: Some("false"),
            meaning: "the learning rate is outside the velocity, as in PyTorch and optax",
        },
        HyperparameterSpec {
            name: "dampening",
            kind: HyperparameterKind::Number(Interval::UNIT),
            default: Some("0.0"),
            meaning: "PyTorch's dampening, tau; only with the learning rate outside the velocity",
        },
        HyperparameterSpec {
            name: "decay",
            kind: HyperparameterKind::Number(Interval::NOT_NEGATIVE),
            default: Some("0.0"),
            meaning: "legacy generation only: divides the learning rate by 1 + decay * iterations",
        },
    ];

    fn from_config(fields: &mut Fields<'_>, _registry: &Registry<T>) -> Result<Self, ConfigError> {
        let sgd = Self::new(fields.hyper_or("learning_rate", 0.01)?)
            .momentum(fields.f64_or("momentum", 0.0)?)
            .nesterov(fields.bool_or("nesterov", false)?)
            .learning_rate_outside(fields.bool_or("learning_rate_outside", false)?)
            .dampening(fields.f64_or("dampening", 0.0)?);
        match fields.generation() {
            Generation::Legacy => Ok(sgd.legacy().decay(fields.f64_or("decay", 0.0)?)),
            Generation::New => Ok(sgd),
        }
    }
}
