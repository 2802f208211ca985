//! Hyperparameters of Nadam.

use opt_core::config::{Choice, Dialect, HyperparameterError};
use opt_core::{Hyper, hyperparameters};

hyperparameters! {
    /// Adam with Nesterov momentum.
    ///
    /// Worth a try wherever Adam works. It looks ahead along the momentum, and so turns a little earlier. Like Adam, it
    /// takes steps of about the size of the learning rate, whatever the scale of the gradients.
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
    /// | psi | [`schedule_decay`](Self::schedule_decay), in 1/step | 0.004; 1 for [`keras`](Self::keras) | at least 0 |
    /// | mu_t = beta_1 | [`constant_momentum`](Self::constant_momentum) | off | |
    ///
    /// t is the step, counted from 1. The slots are `momentum_cache`, c, one number for all variables, and `m` and `v`,
    /// of the variable's shape. c advances once a step, whichever variables have a gradient in the step. After
    /// thousands of steps c is almost 0, and no longer corrects the bias.
    ///
    /// # Examples
    ///
    /// ```
    /// use opt_core::{Optimizer, Variable};
    /// use opt_nadam::Nadam;
    ///
    /// // psi = 0: the momentum is beta_1 / 2 in every step.
    /// let mut opt = Optimizer::new(Nadam::new(0.5).beta_1(0.5).schedule_decay(0.0).epsilon(0.0))?;
    /// let mut w = [1.0_f64];
    /// opt.apply_gradients([Variable::new("w", &mut w).gradient(&[8.0])])?;
    /// // mu = c = 1/4, m = 4, sqrt(v') = 8: the step is 1/2 ((3/4) 8/(3/4) + (1/4) 4/(15/16)) / 8 = 1/2 (1 + 2/15).
    /// assert!((w[0] - (1.0 - 17.0 / 30.0)).abs() < 1e-15);
    /// # Ok::<(), opt_core::Error>(())
    /// ```
    ///
    /// # Differences
    ///
    /// Four formulas have this name. All of them are this formula with other settings:
    ///
    /// | source | here | mu_t | epsilon | a sparse gradient moves |
    /// |---|---|---|---|---|
    /// | Keras to 2.10 and legacy | [`new`](Self::new) | psi = 0.004 | 1e-7 | the rows it touches |
    /// | Keras from 2.11 on, Keras 3 | [`keras`](Self::keras) | psi = 1 | 1e-7 | all rows |
    /// | PyTorch `NAdam` | [`pytorch`](Self::pytorch) | psi = 0.004 | 1e-8 | all rows |
    /// | optax `nadam` | [`optax`](Self::optax) | beta_1 | 1e-8 | all rows |
    ///
    /// * **Sparse gradients.** m and v of all rows decay in every form. In the reference form only the rows move that
    ///   the gradient touches. In the newer form a sparse gradient is equivalent to a dense one. PyTorch and optax
    ///   accept only dense gradients, and so agree.
    /// * **Keras, legacy**, refuses schedules for the learning rate, replaces an epsilon of 0 by 1e-7, and loses
    ///   `schedule_decay` when it reads its own configuration. The configuration calls it `decay`, though it does not
    ///   change the learning rate. Here schedules work, an epsilon of 0 is 0, and nothing is lost.
    /// * **Keras, newer**: it holds the 0.96 in 32 bits, and rounds both betas to 32 bits before it computes `1 - beta`
    ///   and powers; for variables in 32 bits, [`keras`](Self::keras) does the same, and in 64 bits it rounds only the
    ///   0.96. Keras's momentum product is not among the weights, and is wrong inside `tf.function`. Here it is among
    ///   the weights, as `momentum_cache`, and advances once a step.
    /// * **PyTorch** counts t, and multiplies c, for each variable: a variable that starts late, such as a layer that
    ///   is unfrozen, is corrected as in a first step. In all other forms both belong to the optimizer, and the first
    ///   step of such a variable is up to `1 / sqrt(1 - beta_2)` times too large. [`pytorch`](Self::pytorch) has t and
    ///   c in two more slots of each variable, `step` and `momentum_cache`. PyTorch has a default learning rate of
    ///   0.002, and keeps c in 32 bits. Its `weight_decay` is [`weight_decay`](Self::weight_decay); together with
    ///   `decoupled_weight_decay` it is
    ///   [`OptimizerBuilder::weight_decay`](opt_core::OptimizerBuilder::weight_decay).
    /// * **optax**: `eps_root` is 0, its default.
    /// * The **paper** has t / 250 in the exponent: the psi of the reference form.
    ///
    /// A configuration of the legacy generation calls psi `decay`, one of PyTorch's dialect `momentum_decay`. All
    /// others call it `schedule_decay`, and have it only if it is not 1; Keras cannot read this key. Nor can Keras read
    /// `momentum_schedule`, which is written only if it is not that of the dialect.
    ///
    /// # References
    ///
    /// * T. Dozat, "Incorporating Nesterov momentum into Adam", ICLR workshop 2016.
    /// * D. P. Kingma, J. Ba, "Adam: a method for stochastic optimization", 2014, arXiv:1412.6980.
    #[derive(Debug, Clone)]
    pub struct Nadam {
        #[dialect(Self::in_dialect)] dialect = Dialect::KerasLegacy;

        learning_rate: Hyper = 0.001, in 0.0.., "learning rate, eta";

        /// Sets the decay rate of m, in `[0, 1)`, which is also the limit of the momentum.
        beta_1: f64 = 0.9, in 0.0..1.0, "decay rate of m, and limit of the momentum";

        /// Sets the decay rate of v, in `[0, 1)`.
        beta_2: f64 = 0.999, in 0.0..1.0, "decay rate of v";

        /// Sets epsilon, at least 0, which is added to the root of v'. With 0, elements whose gradients have all been 0
        /// do not change, and a v that is too small for its type (with gradients below about 3e-18 in 32 bits) does not
        /// make a step longer: gradients that small count as if v were just large enough.
        epsilon: f64 = 1e-7, in 0.0.., "added to the root of v";

        // psi: each dialect has its own key and its own default. A rule that is made in code has the same value in all
        // three fields.
        schedule_decay: f64 = 1.0, in 0.0.., if Dialect::Keras | Dialect::Optax, unless default,
            "newer generation only, not in Keras: how fast the momentum rises, psi";
        decay: f64 = 0.004, in 0.0.., if Dialect::KerasLegacy,
            "legacy generation only: how fast the momentum rises, psi";
        momentum_decay: f64 = 0.004, in 0.0.., if Dialect::Pytorch,
            "PyTorch only: how fast the momentum rises, psi";

        weight_decay: Hyper = 0.0, in 0.0.., if Dialect::Pytorch,
            "PyTorch only: weight decay that is part of the gradient, lambda";

        momentum_schedule: MomentumSchedule = MomentumSchedule::Rising, unless default,
            "not in Keras: whether the momentum rises to beta_1 or is beta_1 from the first step on";
    }
    rule "Nadam" {
        check: Self::check,
        check_read: Self::check_read,
    }
}

/// The momentum mu as a function of the step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum MomentumSchedule {
    /// Rises from half of `beta_1` to `beta_1`.
    Rising,
    /// `beta_1` at every step.
    Constant,
}

impl Choice for MomentumSchedule {
    const CHOICES: &'static [(&'static str, Self)] = &[("rising", Self::Rising), ("constant", Self::Constant)];
}

impl Nadam {
    /// The reference form, with a learning rate: a number or a schedule, at least 0. Its configuration has the form of
    /// `keras.optimizers.legacy.Nadam`.
    #[must_use]
    pub fn new(learning_rate: impl Into<Hyper>) -> Self {
        Self::of(Dialect::KerasLegacy, learning_rate)
    }

    /// Nadam as in Keras from 2.11 on, and Keras 3: the momentum rises 250 times as fast, a sparse gradient moves all
    /// rows, and `weights` lists the slots variable by variable.
    #[must_use]
    pub fn keras(learning_rate: impl Into<Hyper>) -> Self {
        Self::of(Dialect::Keras, learning_rate)
    }

    /// Nadam as PyTorch's `NAdam`: psi, which PyTorch calls `momentum_decay`, is 0.004, epsilon is 1e-8, all rows move,
    /// and steps are counted for each variable. [`weight_decay`](Self::weight_decay) is a part of the gradient.
    ///
    /// # Examples
    ///
    /// A variable whose first gradient comes late starts as if it were new:
    ///
    /// ```
    /// use opt_core::{Optimizer, Variable};
    /// use opt_nadam::Nadam;
    ///
    /// let late = |rule: Nadam| {
    ///     let (mut a, mut b) = ([0.0_f64], [0.0_f64]);
    ///     let mut opt = Optimizer::new(rule.epsilon(0.0))?;
    ///     for step in 0..=1_000 {
    ///         let b = Variable::new("b", &mut b).optional_gradient((step == 1_000).then(|| (&[1.0]).into()));
    ///         opt.apply_gradients([Variable::new("a", &mut a).gradient(&[1.0]), b])?;
    ///     }
    ///     Ok::<_, opt_core::Error>(b[0])
    /// };
    /// assert!((late(Nadam::pytorch(1.0))? + 1.0565).abs() < 5e-5);
    /// assert!((late(Nadam::new(1.0))? + 13.43).abs() < 5e-3); // the bias of step 1,001 is not that of a first step
    /// # Ok::<(), opt_core::Error>(())
    /// ```
    #[must_use]
    pub fn pytorch(learning_rate: impl Into<Hyper>) -> Self {
        Self::of(Dialect::Pytorch, learning_rate)
    }

    /// Nadam as optax's `nadam`: [`keras`](Self::keras) with a [constant momentum](Self::constant_momentum) and an
    /// epsilon of 1e-8.
    #[must_use]
    pub fn optax(learning_rate: impl Into<Hyper>) -> Self {
        Self::of(Dialect::Optax, learning_rate)
    }

    /// Sets PyTorch's `weight_decay`, a number or a schedule, at least 0: it is a part of the gradient, `g := g +
    /// lambda w`, and so goes through m and v (an L2 penalty). Only [`pytorch`](Self::pytorch) has it. What PyTorch
    /// calls `decoupled_weight_decay`, and the weight decay of all other dialects, is
    /// [`OptimizerBuilder::weight_decay`](opt_core::OptimizerBuilder::weight_decay).
    #[must_use]
    pub fn weight_decay(mut self, weight_decay: impl Into<Hyper>) -> Self {
        self.weight_decay = weight_decay.into();
        self
    }

    fn of(dialect: Dialect, learning_rate: impl Into<Hyper>) -> Self {
        let settings = Self::in_dialect(dialect).unwrap_or_default();
        Self { learning_rate: learning_rate.into(), ..settings }
    }

    /// The settings of a dialect, if Nadam has it.
    fn in_dialect(dialect: Dialect) -> Option<Self> {
        let keras = Self { dialect, ..Self::default() };
        match dialect {
            Dialect::Keras | Dialect::KerasLegacy => Some(keras),
            Dialect::Pytorch => Some(Self { epsilon: 1e-8, ..keras }),
            Dialect::Optax => Some(Self { epsilon: 1e-8, momentum_schedule: MomentumSchedule::Constant, ..keras }),
            _ => None,
        }
    }

    /// psi, from the field of the rule's dialect, and its key.
    fn psi_field(&self) -> (&'static str, f64) {
        match self.dialect {
            Dialect::KerasLegacy => ("decay", self.decay),
            Dialect::Pytorch => ("momentum_decay", self.momentum_decay),
            _ => ("schedule_decay", self.schedule_decay),
        }
    }

    pub(crate) fn psi(&self) -> f64 {
        self.psi_field().1
    }

    /// Sets psi, the rate at which the momentum rises, in 1/step, at least 0. Replaces
    /// [`constant_momentum`](Self::constant_momentum).
    #[must_use]
    pub fn schedule_decay(mut self, schedule_decay: f64) -> Self {
        self.schedule_decay = schedule_decay;
        self.decay = schedule_decay;
        self.momentum_decay = schedule_decay;
        self.momentum_schedule = MomentumSchedule::Rising;
        self
    }

    /// Keeps the momentum at `beta_1` from the first step on, the limit of a large
    /// [`schedule_decay`](Self::schedule_decay), which this setting replaces. c is then beta_1^t.
    #[must_use]
    pub fn constant_momentum(self) -> Self {
        let Self { schedule_decay, decay, momentum_decay, .. } = Self::default();
        let momentum_schedule = MomentumSchedule::Constant;
        Self { schedule_decay, decay, momentum_decay, momentum_schedule, ..self }
    }

    /// Refuses PyTorch's weight decay in other dialects.
    fn check(&self) -> Result<(), HyperparameterError> {
        let decays = self.weight_decay.is_scheduled() || self.weight_decay.at(0) != 0.0;
        if decays && self.dialect != Dialect::Pytorch {
            let expected = "0: only PyTorch's NAdam has it; elsewhere weight decay is an option of the optimizer";
            return Err(HyperparameterError::new("weight_decay", self.weight_decay.at(0), expected));
        }
        Ok(())
    }

    /// Refuses psi together with a constant momentum.
    fn check_read(&self) -> Result<(), HyperparameterError> {
        let default = Self::of(self.dialect, 0.0).psi();
        let (key, psi) = self.psi_field();
        if self.momentum_schedule == MomentumSchedule::Rising || psi == default {
            return Ok(());
        }
        Err(HyperparameterError::new(key, psi, format!("{default}, because the momentum is constant")))
    }
}
