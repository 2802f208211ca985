//! Hyperparameters of Adam and AdamW.

use opt_core::config::{Dialect, HyperparameterError};
use opt_core::{Hyper, hyperparameters};

hyperparameters! {
    /// Adam: steps of about the size of the learning rate, whatever the scale of the gradients.
    ///
    /// The rule to try where gradients of different variables differ in scale. It needs little tuning, and most
    /// published training recipes start from it. With weight decay, use [`AdamW`].
    ///
    /// ```text
    /// m       := beta_1 m + (1 - beta_1) g
    /// v       := beta_2 v + (1 - beta_2) g^2
    /// alpha_t := eta sqrt(1 - beta_2^t) / (1 - beta_1^t)         corrects the bias of m and v
    /// w       := w - alpha_t m / (sqrt(v) + epsilon)
    /// ```
    ///
    /// with t counted from 1. For AMSGrad, `vhat := max(vhat, v)` takes the place of v in the last line.
    ///
    /// | symbol | field | default | range |
    /// |---|---|---|---|
    /// | eta | [`new`](Self::new): `learning_rate`, a number or a schedule | 0.001 | at least 0 |
    /// | beta_1 | [`beta_1`](Self::beta_1) | 0.9 | `[0, 1)` |
    /// | beta_2 | [`beta_2`](Self::beta_2) | 0.999 | `[0, 1)` |
    /// | epsilon | [`epsilon`](Self::epsilon) | 1e-7; 1e-8 for PyTorch and optax | at least 0 |
    /// | | [`amsgrad`](Self::amsgrad) | false | |
    /// | | [`decay`](Self::decay), legacy only | 0 | at least 0 |
    /// | lambda | [`weight_decay`](Self::weight_decay), PyTorch only | 0 | at least 0 |
    /// | epsilon_root | [`epsilon_root`](Self::epsilon_root), optax only | 0 | at least 0 |
    ///
    /// The slots are m and v, with AMSGrad also `vhat`, each of the variable's shape. A sparse gradient is equivalent
    /// to a dense one in every form: m and v decay in all rows, and all rows of w change.
    ///
    /// # Examples
    ///
    /// ```
    /// use opt_adam::Adam;
    /// use opt_core::{Optimizer, Variable};
    ///
    /// let mut opt = Optimizer::new(Adam::new(0.5).beta_1(0.5).beta_2(0.75).epsilon(0.0))?;
    /// let mut w = [0.0_f64, 0.0];
    /// opt.apply_gradients([Variable::new("w", &mut w).gradient(&[100.0, -1e-6])])?;
    /// assert!((w[0] + 0.5).abs() < 1e-15 && (w[1] - 0.5).abs() < 1e-15); // the learning rate, whatever the scale
    /// opt.apply_gradients([Variable::new("w", &mut w).gradient(&[0.0, -1e-6])])?;
    /// // m = 100 / 4, v = 100^2 (3 / 16); corrected, 100 / 3 and 100^2 (3 / 7): the step is 1/2 (1/3) sqrt(7/3).
    /// assert!((w[0] + 0.5 + (7.0_f64 / 3.0).sqrt() / 6.0).abs() < 1e-15);
    /// # Ok::<(), opt_core::Error>(())
    /// ```
    ///
    /// # Differences
    ///
    /// The libraries agree on m and v. They differ in the place of epsilon, by a factor of `sqrt(1 - beta_2^t)` in
    /// epsilon, and in whose steps t counts. With `m_hat = m / (1 - beta_1^t)` and `v_hat = v / (1 - beta_2^t)`:
    ///
    /// | source | here | the step | epsilon | t |
    /// |---|---|---|---|---|
    /// | Keras from 2.11 on, Keras 3 | [`new`](Self::new) | `alpha_t m / (sqrt(v) + epsilon)` | 1e-7 | optimizer |
    /// | Keras to 2.10 and legacy | [`legacy`](Self::legacy) | the same | 1e-7 | optimizer |
    /// | PyTorch | [`pytorch`](Self::pytorch) | `eta m_hat / (sqrt(v_hat) + epsilon)` | 1e-8 | each variable |
    /// | optax | [`optax`](Self::optax) | `eta m_hat / (sqrt(v_hat + epsilon_root) + epsilon)` | 1e-8 | optimizer |
    /// | the paper, algorithm 1 | | that of PyTorch | 1e-8 | |
    ///
    /// * **AMSGrad.** Keras and PyTorch keep the largest v, and correct its bias in each step. optax keeps the largest
    ///   corrected v, `vhat := max(vhat, v_hat)`: its steps are shorter after large early gradients.
    /// * **A variable that starts late**, such as a layer that is unfrozen, is corrected as in a first step in
    ///   PyTorch's form, which keeps t in one more slot of each variable, `step`. In all other forms the first step of
    ///   such a variable is up to `(1 - beta_1) / sqrt(1 - beta_2)` times the learning rate, 3.2 times by default.
    /// * **Keras** rounds both betas to the type of the variable before it computes `beta^t`, and in its legacy
    ///   generation also before it computes `1 - beta`; so do its forms here. With the default `beta_2`, early steps of
    ///   variables in 32 bits are therefore off by some 1e-5 of themselves. The legacy generation replaces an epsilon
    ///   of 0 by 1e-7. Here 0 means 0, and an element whose gradients have all been 0 does not change.
    /// * **PyTorch's** `weight_decay` is [`weight_decay`](Self::weight_decay), a part of the gradient. Together with
    ///   `decoupled_weight_decay` it is [`OptimizerBuilder::weight_decay`](opt_core::OptimizerBuilder::weight_decay).
    /// * **optax's** `adam` with `nesterov` is its `nadam`, here `Nadam::optax` of the crate `opt-nadam`.
    ///
    /// # References
    ///
    /// * D. P. Kingma, J. Ba, "Adam: a method for stochastic optimization", 2014, arXiv:1412.6980. Keras's form is that
    ///   of the end of section 2.
    /// * S. J. Reddi, S. Kale, S. Kumar, "On the convergence of Adam and beyond", ICLR 2018, arXiv:1904.09237: AMSGrad.
    #[derive(Debug, Clone)]
    pub struct Adam {
        #[dialect(Self::in_dialect)] dialect = Dialect::Keras;

        learning_rate: Hyper = 0.001, in 0.0.., "learning rate, eta";

        /// Sets the decay rate of m, in `[0, 1)`.
        beta_1: f64 = 0.9, in 0.0..1.0, "decay rate of the first moment";

        /// Sets the decay rate of v, in `[0, 1)`.
        beta_2: f64 = 0.999, in 0.0..1.0, "decay rate of the second moment";

        /// Sets epsilon, at least 0, which keeps the divisor away from 0. With 0, elements whose gradients have all
        /// been 0 do not change, and a v that is too small for its type (with gradients below about 3e-18 in 32 bits)
        /// does not make a step longer: gradients that small count as if v were just large enough.
        epsilon: f64 = 1e-7, in 0.0.., "keeps the divisor away from 0";

        /// Sets whether to divide by the root of the largest v so far.
        amsgrad: bool = false, "divide by the largest second moment so far";

        /// Divides the learning rate by `1 + decay * iterations`. Only the legacy generation has this field; otherwise
        /// use an inverse-time schedule.
        decay: f64 = 0.0, in 0.0.., if Dialect::KerasLegacy,
            "legacy generation only: divides the learning rate by 1 + decay * iterations";

        weight_decay: Hyper = 0.0, in 0.0.., if Dialect::Pytorch,
            "PyTorch only: weight decay that is part of the gradient, lambda";

        /// Sets the number that is added to the corrected second moment under the root, at least 0. optax calls it
        /// `eps_root`; only [`optax`](Self::optax) has it.
        epsilon_root: f64 = 0.0, in 0.0.., if Dialect::Optax, unless default,
            "optax only: added inside of the root, optax's eps_root";
    }
    rule "Adam" {
        check: Self::check,
    }
}

hyperparameters! {
    /// AdamW: [`Adam`] with decoupled weight decay.
    ///
    /// The usual choice for transformers, and wherever Adam needs regularisation: the decay does not pass through the
    /// moments, so that it acts on all weights alike.
    ///
    /// ```text
    /// w := w - eta lambda w                           decoupled weight decay
    /// w := w - alpha_t m / (sqrt(v) + epsilon)        the step of Adam
    /// ```
    ///
    /// | symbol | field | default | range |
    /// |---|---|---|---|
    /// | eta | [`new`](Self::new): `learning_rate`, a number or a schedule | 0.001 | at least 0 |
    /// | lambda | [`OptimizerBuilder::weight_decay`](opt_core::OptimizerBuilder::weight_decay), a number or a schedule | see below | at least 0 |
    /// | beta_1 | [`beta_1`](Self::beta_1) | 0.9 | `[0, 1)` |
    /// | beta_2 | [`beta_2`](Self::beta_2) | 0.999 | `[0, 1)` |
    /// | epsilon | [`epsilon`](Self::epsilon) | 1e-7; 1e-8 for PyTorch and optax | at least 0 |
    /// | | [`amsgrad`](Self::amsgrad) | false | |
    /// | epsilon_root | [`epsilon_root`](Self::epsilon_root), optax only | 0 | at least 0 |
    ///
    /// The decay is that of the optimizer, which can exclude variables by name. Here it has a default, that of the
    /// library that the constructor is named after:
    ///
    /// | source | here | lambda |
    /// |---|---|---|
    /// | Keras from 2.11 on, Keras 3 | [`new`](Self::new) | 0.004 |
    /// | PyTorch `AdamW` | [`pytorch`](Self::pytorch) | 0.01 |
    /// | optax `adamw` | [`optax`](Self::optax) | 0.0001 |
    ///
    /// `weight_decay(0.0)` turns it off. A wrapper such as Lookahead has the default of the rule inside. Everything
    /// else is as in [`Adam`]; so are the differences between the libraries.
    ///
    /// # Examples
    ///
    /// ```
    /// use opt_adam::{Adam, AdamW};
    /// use opt_core::{Exclude, Optimizer, Variable};
    ///
    /// let exclude = Exclude::names(["bias"]);
    /// let mut opt = Optimizer::builder(AdamW::new(0.5)).exclude_from_weight_decay(exclude).build()?;
    /// let (mut kernel, mut bias) = ([1.0_f64], [1.0_f64]);
    /// opt.apply_gradients([
    ///     Variable::new("kernel", &mut kernel).gradient(&[0.0]),
    ///     Variable::new("bias", &mut bias).gradient(&[0.0]),
    /// ])?;
    /// assert!((kernel[0] - (1.0 - 0.5 * 0.004)).abs() < 1e-9 && bias[0] == 1.0);
    ///
    /// // Any rule has decoupled weight decay; AdamW only has a default.
    /// let opt = Optimizer::<_, f32>::builder(Adam::new(0.5)).weight_decay(0.004).build()?;
    /// # Ok::<(), opt_core::Error>(())
    /// ```
    ///
    /// # Differences
    ///
    /// * The **paper** does not multiply the decay by the learning rate. Neither does the AdamW of TensorFlow Addons,
    ///   whose configurations are therefore refused.
    /// * A configuration without the key `weight_decay` has the default of its dialect; `null` is refused, as in Keras.
    ///   Keras 2.15 does not find the class in configurations, its own included, unless it is among the
    ///   `custom_objects`.
    /// * **optax** adds `lambda w` to the step, with the w before the step: equal up to rounding. Its `mask` is
    ///   [`exclude_from_weight_decay`](opt_core::OptimizerBuilder::exclude_from_weight_decay). Its `adamw` with
    ///   `nesterov` is `Nadam::optax` of the crate `opt-nadam`, with the weight decay of the optimizer.
    ///
    /// # References
    ///
    /// * I. Loshchilov, F. Hutter, "Decoupled weight decay regularization", arXiv:1711.05101.
    #[derive(Debug, Clone)]
    pub struct AdamW {
        #[dialect(Self::in_dialect)] dialect = Dialect::Keras;

        learning_rate: Hyper = 0.001, in 0.0.., "learning rate, eta";

        /// Sets the decay rate of m, in `[0, 1)`.
        beta_1: f64 = 0.9, in 0.0..1.0, "decay rate of the first moment";

        /// Sets the decay rate of v, in `[0, 1)`.
        beta_2: f64 = 0.999, in 0.0..1.0, "decay rate of the second moment";

        /// Sets epsilon, at least 0, which keeps the divisor away from 0: see [`Adam::epsilon`].
        epsilon: f64 = 1e-7, in 0.0.., "keeps the divisor away from 0";

        /// Sets whether to divide by the root of the largest v so far.
        amsgrad: bool = false, "divide by the largest second moment so far";

        /// Sets the number that is added to the corrected second moment under the root, at least 0. optax calls it
        /// `eps_root`; only [`optax`](Self::optax) has it.
        epsilon_root: f64 = 0.0, in 0.0.., if Dialect::Optax, unless default,
            "optax only: added inside of the root, optax's eps_root";
    }
    rule "AdamW" {
        check: Self::check,
        default_weight_decay: Self::weight_decay_of_dialect,
    }
}

impl Adam {
    /// Adam as in Keras from 2.11 on, and Keras 3, with a learning rate: a number or a schedule, at least 0.
    #[must_use]
    pub fn new(learning_rate: impl Into<Hyper>) -> Self {
        Self::of(Dialect::Keras, learning_rate)
    }

    /// Follows `keras.optimizers.legacy.Adam`: the same steps, with `decay`; `weights` lists the slots one after the
    /// other, and the configuration is written in the form of that generation.
    #[must_use]
    pub fn legacy(mut self) -> Self {
        self.dialect = Dialect::KerasLegacy;
        self
    }

    /// Adam as `torch.optim.Adam`: epsilon, 1e-8, is added after the bias is corrected, steps are counted for each
    /// variable (slot `step`), and [`weight_decay`](Self::weight_decay) is part of the gradient.
    ///
    /// # Examples
    ///
    /// A variable whose first gradient comes late starts as if it were new:
    ///
    /// ```
    /// use opt_adam::Adam;
    /// use opt_core::{Optimizer, Variable};
    ///
    /// let late = |rule: Adam| {
    ///     let (mut a, mut b) = ([0.0_f64], [0.0_f64]);
    ///     let mut opt = Optimizer::new(rule)?;
    ///     for step in 0..=10_000 {
    ///         let b = Variable::new("b", &mut b).optional_gradient((step == 10_000).then(|| (&[1.0]).into()));
    ///         opt.apply_gradients([Variable::new("a", &mut a).gradient(&[1.0]), b])?;
    ///     }
    ///     Ok::<_, opt_core::Error>(b[0])
    /// };
    /// assert!((late(Adam::pytorch(1.0))? + 1.0).abs() < 1e-7);
    /// assert!((late(Adam::new(1.0))? + 3.162).abs() < 1e-3); // the bias of step 10,001 is not that of a first step
    /// # Ok::<(), opt_core::Error>(())
    /// ```
    #[must_use]
    pub fn pytorch(learning_rate: impl Into<Hyper>) -> Self {
        Self::of(Dialect::Pytorch, learning_rate)
    }

    /// Adam as `optax.adam`; with [`amsgrad`](Self::amsgrad) as `optax.amsgrad`. Epsilon is 1e-8, and there is
    /// [`epsilon_root`](Self::epsilon_root).
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

    /// The settings of a dialect, if Adam has it.
    fn in_dialect(dialect: Dialect) -> Option<Self> {
        let keras = Self { dialect, ..Self::default() };
        match dialect {
            Dialect::Keras | Dialect::KerasLegacy => Some(keras),
            Dialect::Pytorch | Dialect::Optax => Some(Self { epsilon: 1e-8, ..keras }),
            _ => None,
        }
    }

    fn check(&self) -> Result<(), HyperparameterError> {
        if self.decay != 0.0 && self.dialect != Dialect::KerasLegacy {
            return Err(HyperparameterError::new("decay", self.decay, "0, unless the optimizer is legacy"));
        }
        let decays = self.weight_decay.is_scheduled() || self.weight_decay.at(0) != 0.0;
        if decays && self.dialect != Dialect::Pytorch {
            let expected = "0: only PyTorch's Adam has it; elsewhere weight decay is an option of the optimizer";
            return Err(HyperparameterError::new("weight_decay", self.weight_decay.at(0), expected));
        }
        check_epsilon_root(self.epsilon_root, self.dialect)
    }
}

impl AdamW {
    /// AdamW as in Keras from 2.11 on, and Keras 3, with a learning rate: a number or a schedule, at least 0.
    #[must_use]
    pub fn new(learning_rate: impl Into<Hyper>) -> Self {
        Self::of(Dialect::Keras, learning_rate)
    }

    /// AdamW as `torch.optim.AdamW`: [`Adam::pytorch`], with a weight decay of 0.01 by default.
    #[must_use]
    pub fn pytorch(learning_rate: impl Into<Hyper>) -> Self {
        Self::of(Dialect::Pytorch, learning_rate)
    }

    /// AdamW as `optax.adamw`: [`Adam::optax`], with a weight decay of 0.0001 by default.
    #[must_use]
    pub fn optax(learning_rate: impl Into<Hyper>) -> Self {
        Self::of(Dialect::Optax, learning_rate)
    }

    fn of(dialect: Dialect, learning_rate: impl Into<Hyper>) -> Self {
        let settings = Self::in_dialect(dialect).unwrap_or_default();
        Self { learning_rate: learning_rate.into(), ..settings }
    }

    /// The settings of a dialect, if AdamW has it.
    fn in_dialect(dialect: Dialect) -> Option<Self> {
        let keras = Self { dialect, ..Self::default() };
        match dialect {
            Dialect::Keras => Some(keras),
            Dialect::Pytorch | Dialect::Optax => Some(Self { epsilon: 1e-8, ..keras }),
            _ => None,
        }
    }

    fn weight_decay_of_dialect(&self) -> Option<f64> {
        match self.dialect {
            Dialect::Pytorch => Some(0.01),
            Dialect::Optax => Some(1e-4),
            _ => Some(0.004),
        }
    }

    fn check(&self) -> Result<(), HyperparameterError> {
        check_epsilon_root(self.epsilon_root, self.dialect)
    }
}

/// Refuses optax's `eps_root` in other dialects.
fn check_epsilon_root(epsilon_root: f64, dialect: Dialect) -> Result<(), HyperparameterError> {
    if epsilon_root != 0.0 && dialect != Dialect::Optax {
        return Err(HyperparameterError::new("epsilon_root", epsilon_root, "0: only optax has it"));
    }
    Ok(())
}
