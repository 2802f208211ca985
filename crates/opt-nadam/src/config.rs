//! Hyperparameters of Nadam.

use opt_core::config::{Choice, Generation, HyperparameterError};
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
    /// * **Keras, newer**: its momentum product is not among the weights, and is wrong inside `tf.function`. Here it is
    ///   among the weights, as `momentum_cache`, and advances once a step.
    /// * **PyTorch** calls psi `momentum_decay`, has a default learning rate of 0.002, and keeps c in 32 bits. Its
    ///   `weight_decay` together with `decoupled_weight_decay` is
    ///   [`OptimizerBuilder::weight_decay`](opt_core::OptimizerBuilder::weight_decay).
    /// * **optax**: `eps_root` is 0, its default.
    /// * The **paper** has t / 250 in the exponent: the psi of the reference form.
    ///
    /// A configuration of the legacy generation calls psi `decay`. A configuration of the newer generation calls it
    /// `schedule_decay`, and has it only if it is not 1; Keras cannot read this key. Nor can Keras read
    /// `momentum_schedule`, which is written only if it is `"constant"`.
    ///
    /// # References
    ///
    /// * T. Dozat, "Incorporating Nesterov momentum into Adam", ICLR workshop 2016.
    /// * D. P. Kingma, J. Ba, "Adam: a method for stochastic optimization", 2014, arXiv:1412.6980.
    #[derive(Debug, Clone)]
    pub struct Nadam {
        #[generation] generation = Generation::Legacy;

        learning_rate: Hyper = 0.001, in 0.0.., "learning rate, eta";

        /// Sets the decay rate of m, in `[0, 1)`, which is also the limit of the momentum.
        beta_1: f64 = 0.9, in 0.0..1.0, "decay rate of m, and limit of the momentum";

        /// Sets the decay rate of v, in `[0, 1)`.
        beta_2: f64 = 0.999, in 0.0..1.0, "decay rate of v";

        /// Sets epsilon, at least 0, which is added to the root of v'. With 0, elements whose gradients have all been 0
        /// do not change.
        epsilon: f64 = 1e-7, in 0.0.., "added to the root of v";

        // psi: each generation has its own key and its own default. A rule that is made in code has the same value in
        // both fields.
        schedule_decay: f64 = 1.0, in 0.0.., if Generation::New, unless default,
            "newer generation only, not in Keras: how fast the momentum rises, psi";
        decay: f64 = 0.004, in 0.0.., if Generation::Legacy,
            "legacy generation only: how fast the momentum rises, psi";

        momentum_schedule: MomentumSchedule = MomentumSchedule::Rising, unless default,
            "not in Keras: whether the momentum rises to beta_1 or is beta_1 from the first step on";
    }
    rule "Nadam" {
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
        Self::of(Generation::Legacy, learning_rate)
    }

    /// Nadam as in Keras from 2.11 on, and Keras 3: the momentum rises 250 times as fast, a sparse gradient moves all
    /// rows, and `weights` lists the slots variable by variable.
    #[must_use]
    pub fn keras(learning_rate: impl Into<Hyper>) -> Self {
        Self::of(Generation::New, learning_rate)
    }

    /// Nadam as PyTorch's `NAdam`: [`keras`](Self::keras) with a `schedule_decay` of 0.004, which PyTorch calls
    /// `momentum_decay`, and an epsilon of 1e-8.
    #[must_use]
    pub fn pytorch(learning_rate: impl Into<Hyper>) -> Self {
        Self::keras(learning_rate).schedule_decay(0.004).epsilon(1e-8)
    }

    /// Nadam as optax's `nadam`: [`keras`](Self::keras) with a [constant momentum](Self::constant_momentum) and an
    /// epsilon of 1e-8.
    #[must_use]
    pub fn optax(learning_rate: impl Into<Hyper>) -> Self {
        Self::keras(learning_rate).constant_momentum().epsilon(1e-8)
    }

    fn of(generation: Generation, learning_rate: impl Into<Hyper>) -> Self {
        Self { generation, learning_rate: learning_rate.into(), ..Self::default() }
    }

    /// psi, from the field of the rule's generation.
    pub(crate) fn psi(&self) -> f64 {
        match self.generation {
            Generation::Legacy => self.decay,
            Generation::New => self.schedule_decay,
        }
    }

    /// Sets psi, the rate at which the momentum rises, in 1/step, at least 0. Replaces
    /// [`constant_momentum`](Self::constant_momentum).
    #[must_use]
    pub fn schedule_decay(mut self, schedule_decay: f64) -> Self {
        self.schedule_decay = schedule_decay;
        self.decay = schedule_decay;
        self.momentum_schedule = MomentumSchedule::Rising;
        self
    }

    /// Keeps the momentum at `beta_1` from the first step on, the limit of a large
    /// [`schedule_decay`](Self::schedule_decay), which this setting replaces. c is then beta_1^t.
    #[must_use]
    pub fn constant_momentum(self) -> Self {
        let Self { schedule_decay, decay, .. } = Self::default();
        Self { schedule_decay, decay, momentum_schedule: MomentumSchedule::Constant, ..self }
    }

    /// Refuses a `schedule_decay` together with a constant momentum.
    fn check_read(&self) -> Result<(), HyperparameterError> {
        let default = Self::of(self.generation, 0.0).psi();
        if self.momentum_schedule == MomentumSchedule::Rising || self.psi() == default {
            return Ok(());
        }
        let key = match self.generation {
            Generation::Legacy => "decay",
            Generation::New => "schedule_decay",
        };
        Err(HyperparameterError::new(key, self.psi(), format!("{default}, because the momentum is constant")))
    }
}
