//! Hyperparameters of SGD.

use opt_core::config::{Dialect, HyperparameterError};
use opt_core::{Hyper, hyperparameters};

hyperparameters! {
    /// Stochastic gradient descent, with momentum and Nesterov momentum.
    ///
    /// The rule to try first. With momentum and a good schedule it is hard to beat.
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
    /// The slot is `momentum`, m, of the variable's shape. It exists only if mu is not 0.
    ///
    /// # Examples
    ///
    /// ```
    /// use opt_core::{Optimizer, Variable};
    /// use opt_sgd::Sgd;
    ///
    /// let mut opt = Optimizer::new(Sgd::new(0.5).momentum(0.5).nesterov(true))?;
    /// let mut w = [1.0, 2.0];
    /// opt.apply_gradients([Variable::new("w", &mut w).gradient(&[1.0, 0.0])])?;
    /// assert_eq!(w, [0.25, 2.0]); // m = -0.5, and w += 0.5 m - 0.5
    /// # Ok::<(), opt_core::Error>(())
    /// ```
    ///
    /// # Differences
    ///
    /// * The learning rate is inside m, as in Keras: after a change of the learning rate, the velocity so far keeps the
    ///   old learning rate. In PyTorch and optax it is outside, and the change rescales the whole velocity at once.
    ///   With a constant learning rate all three agree. [`Sgd::pytorch`] and [`Sgd::optax`] have the learning rate
    ///   outside:
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
    ///   | weight decay | decoupled, before the step | added to g: [`weight_decay`](Self::weight_decay) | by chain |
    /// * Keras's two generations treat **sparse gradients** differently. By default, as since Keras 2.11, a sparse
    ///   gradient is equivalent to a dense one: m decays in every row, and every row of w changes. With
    ///   [`legacy`](Self::legacy), only touched rows change.
    /// * A variable that starts late, such as a layer that is unfrozen, takes the same steps as one that starts early,
    ///   in every dialect: nothing here depends on a count of steps, except a schedule and [`decay`](Self::decay).
    /// * Since 2.11, Keras allocates m even for mu = 0; here it exists only if it is used.
    ///
    /// # References
    ///
    /// * B. T. Polyak, "Some methods of speeding up the convergence of iteration methods", 1964.
    /// * I. Sutskever, J. Martens, G. Dahl, G. Hinton, "On the importance of initialization and momentum in deep
    ///   learning", ICML 2013: this form of Nesterov momentum.
    #[derive(Debug, Clone)]
    pub struct Sgd {
        #[dialect(Self::in_dialect)] dialect = Dialect::Keras;

        learning_rate: Hyper = 0.01, in 0.0.., "learning rate, eta";

        /// Sets the momentum, in `[0, 1]`; 0 needs no slot.
        momentum: f64 = 0.0, in 0.0..=1.0, "momentum, mu; 0 needs no slot";

        /// Sets whether the step looks ahead along the velocity. Without momentum this has no effect.
        nesterov: bool = false, "look ahead along the velocity";

        /// Sets whether the learning rate is outside the velocity, as in PyTorch and optax, or inside, as in Keras.
        learning_rate_outside: bool = false, unless default,
            "the learning rate is outside the velocity, as in PyTorch and optax";

        /// Scales each gradient by `1 - dampening` before it enters the velocity, except the first gradient of a
        /// variable, as PyTorch does. The learning rate must be outside the velocity, and Nesterov momentum is not
        /// possible. A scalar slot, `started`, remembers whether a variable has had its first gradient.
        dampening: f64 = 0.0, in 0.0..=1.0, unless default,
            "PyTorch's dampening, tau; only with the learning rate outside the velocity";

        weight_decay: Hyper = 0.0, in 0.0.., if Dialect::Pytorch,
            "PyTorch only: weight decay that is part of the gradient, lambda";

        /// Divides the learning rate by `1 + decay * iterations`. Only the legacy generation has this field; otherwise
        /// use an inverse-time schedule.
        decay: f64 = 0.0, in 0.0.., if Dialect::KerasLegacy,
            "legacy generation only: divides the learning rate by 1 + decay * iterations";
    }
    rule "SGD" {
        check: Self::check,
    }
}

impl Sgd {
    /// SGD with a learning rate: a number or a schedule, at least 0.
    #[must_use]
    pub fn new(learning_rate: impl Into<Hyper>) -> Self {
        Self { learning_rate: learning_rate.into(), ..Self::default() }
    }

    /// SGD with the arithmetic of PyTorch's `torch.optim.SGD`: the learning rate is outside the velocity.
    ///
    /// # Examples
    ///
    /// ```
    /// use opt_core::{Optimizer, Variable};
    /// use opt_sgd::Sgd;
    ///
    /// let mut opt = Optimizer::new(Sgd::pytorch(1.0).momentum(0.5))?;
    /// let mut w = [0.0];
    /// opt.apply_gradients([Variable::new("w", &mut w).gradient(&[1.0])])?;
    /// opt.set_learning_rate(0.5)?;
    /// opt.apply_gradients([Variable::new("w", &mut w).gradient(&[1.0])])?;
    /// assert_eq!(w, [-1.0 - 0.5 * 1.5]); // Keras: the old velocity keeps its learning rate, -2.0
    /// # Ok::<(), opt_core::Error>(())
    /// ```
    #[must_use]
    pub fn pytorch(learning_rate: impl Into<Hyper>) -> Self {
        Self::of(Dialect::Pytorch, learning_rate)
    }

    /// SGD with the arithmetic of `optax.sgd`: the learning rate is outside the velocity.
    #[must_use]
    pub fn optax(learning_rate: impl Into<Hyper>) -> Self {
        Self::of(Dialect::Optax, learning_rate)
    }

    /// Follows `keras.optimizers.legacy.SGD`: a sparse gradient changes only the rows that it touches, and the
    /// configuration is written in the form of that generation.
    #[must_use]
    pub fn legacy(mut self) -> Self {
        self.dialect = Dialect::KerasLegacy;
        self
    }

    /// Sets PyTorch's `weight_decay`, a number or a schedule, at least 0: it is a part of the gradient, `g := g +
    /// lambda w`, and so goes through the velocity (an L2 penalty). Only [`pytorch`](Self::pytorch) has it. The
    /// weight decay of all other dialects is decoupled, [`OptimizerBuilder::weight_decay`](opt_core::OptimizerBuilder).
    #[must_use]
    pub fn weight_decay(mut self, weight_decay: impl Into<Hyper>) -> Self {
        self.weight_decay = weight_decay.into();
        self
    }

    fn of(dialect: Dialect, learning_rate: impl Into<Hyper>) -> Self {
        let learning_rate_outside = matches!(dialect, Dialect::Pytorch | Dialect::Optax);
        Self { dialect, learning_rate_outside, ..Self::new(learning_rate) }
    }

    /// The settings of a dialect, if SGD has it.
    fn in_dialect(dialect: Dialect) -> Option<Self> {
        let has = matches!(dialect, Dialect::Keras | Dialect::KerasLegacy | Dialect::Pytorch | Dialect::Optax);
        has.then(|| Self::of(dialect, Self::default().learning_rate))
    }

    /// Whether dampening has an effect; it has none without momentum.
    pub(crate) fn is_dampened(&self) -> bool {
        self.dampening != 0.0 && self.momentum != 0.0
    }

    fn check(&self) -> Result<(), HyperparameterError> {
        if self.dampening != 0.0 && (!self.learning_rate_outside || self.nesterov) {
            let expected = "0, unless the learning rate is outside the velocity and momentum is not Nesterov's";
            return Err(HyperparameterError::new("dampening", self.dampening, expected));
        }
        if self.decay != 0.0 && self.dialect != Dialect::KerasLegacy {
            return Err(HyperparameterError::new("decay", self.decay, "0, unless the optimizer is legacy"));
        }
        if matches!(self.dialect, Dialect::Pytorch | Dialect::Optax) && !self.learning_rate_outside {
            let expected = format!("true: so it is in {}", self.dialect.name());
            return Err(HyperparameterError::new("learning_rate_outside", 0.0, expected));
        }
        let decays = self.weight_decay.is_scheduled() || self.weight_decay.at(0) != 0.0;
        if decays && self.dialect != Dialect::Pytorch {
            let expected = "0: only PyTorch's SGD has it; elsewhere weight decay is an option of the optimizer";
            return Err(HyperparameterError::new("weight_decay", self.weight_decay.at(0), expected));
        }
        Ok(())
    }
}
