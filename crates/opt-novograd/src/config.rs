//! Hyperparameters of NovoGrad.

use opt_core::config::{Dialect, HyperparameterError};
use opt_core::{Hyper, hyperparameters};

hyperparameters! {
    /// NovoGrad: momentum of gradients, each divided by the norm of the gradient of its whole variable.
    ///
    /// For large batches and for networks whose layers have gradients of very different sizes: the step of a variable
    /// does not depend on the scale of its gradients. The state is one array and one number for each variable, half of
    /// Adam's.
    ///
    /// ```text
    /// v := |g|^2                                  while v is 0: no gradient but 0 has been seen
    /// v := beta_2 v + (1 - beta_2) |g|^2          later
    /// d := sqrt(v) + epsilon                      with AMSGrad the largest v so far
    /// u := g / d + lambda w
    /// u := (1 - beta_1) u                         with gradient averaging, unless v was 0
    /// m := beta_1 m - eta u
    /// w := w + m
    /// ```
    ///
    /// | symbol | field | default | range |
    /// |---|---|---|---|
    /// | eta | [`new`](Self::new): `learning_rate`, a number or a schedule | 0.001 | at least 0 |
    /// | | [`decay`](Self::decay): eta is divided by 1 + `decay` * iterations | 0 | at least 0 |
    /// | `beta_1` | [`beta_1`](Self::beta_1) | 0.9 | `[0, 1)` |
    /// | `beta_2` | [`beta_2`](Self::beta_2) | 0.999 | `[0, 1)` |
    /// | epsilon | [`epsilon`](Self::epsilon) | 1e-7 | at least 0; 0 means 0 |
    /// | lambda | [`weight_decay`](Self::weight_decay) | 0 | at least 0 |
    /// | | [`grad_averaging`](Self::grad_averaging) | false | |
    /// | | [`amsgrad`](Self::amsgrad) | false | |
    ///
    /// `|g|^2` is the sum of the squared elements of a variable's gradient, after clipping. The slots are `m`, of the
    /// variable's shape, and `v`, with AMSGrad also `vhat`, each one number in 64 bits. A sparse gradient changes only
    /// the rows of w and m that it touches; `|g|^2` is the sum over these rows.
    ///
    /// If both v and epsilon are 0, the normalised gradient g / d is 0. With `beta_2 = 0`, an all-zero gradient resets
    /// v, and the next step is treated as a first step.
    ///
    /// # Examples
    ///
    /// ```
    /// use opt_core::{Optimizer, Variable};
    /// use opt_novograd::NovoGrad;
    ///
    /// let mut opt = Optimizer::new(NovoGrad::new(0.5).beta_1(0.5).epsilon(0.0))?;
    /// let mut w = [1.0_f64, 2.0];
    /// for want in [[0.7, 1.6], [0.25, 1.0]] {
    ///     opt.apply_gradients([Variable::new("w", &mut w).gradient(&[3.0, 4.0])])?;
    ///     // g / d = [0.6, 0.8]: m = [-0.3, -0.4], then [-0.45, -0.6].
    ///     assert!((w[0] - want[0]).abs() < 1e-15 && (w[1] - want[1]).abs() < 1e-15);
    /// }
    /// # Ok::<(), opt_core::Error>(())
    /// ```
    ///
    /// # Differences
    ///
    /// From TensorFlow Addons, which this rule follows:
    ///
    /// * v starts at a variable's first gradient that is not 0, at any step. In Addons it starts at the optimizer's
    ///   first step. If a variable's first gradient comes later, it is divided by sqrt(1 - `beta_2`) of its norm, so
    ///   the step is 31 times too large. Here, v = 0 also marks the first step of a variable, which gradient averaging
    ///   leaves unscaled.
    ///   So a layer that is unfrozen starts like any other. Only [`bias_correction`](Self::bias_correction), apex's, counts
    ///   the steps of the optimizer.
    /// * AMSGrad works with sparse gradients. `amsgrad` and `decay` are kept in the configuration.
    /// * epsilon = 0 means 0, and not 1e-7. Decay rates outside `[0, 1)` are refused.
    ///
    /// From the paper: the paper has the learning rate outside m. With a constant learning rate both agree.
    ///
    /// ## Dialects
    ///
    /// Other libraries use the name for other arithmetic. Each difference is a field, and these constructors set the
    /// fields.
    ///
    /// | | [`new`](Self::new) | [`optax`](Self::optax) | [`nvidia`](Self::nvidia) | [`apex`](Self::apex) |
    /// |---|---|---|---|---|
    /// | follows | `tfa.optimizers.NovoGrad` | `optax.novograd` | NVIDIA's Jasper, `timm` `NvNovoGrad` | apex `FusedNovoGrad` |
    /// | `beta_1`, `beta_2` | 0.9, 0.999 | 0.9, 0.25 | 0.95, 0.98 | 0.9, 0.999 |
    /// | epsilon | 1e-7 | 1e-6 | 1e-8 | 1e-8 |
    /// | [`learning_rate_outside`](Self::learning_rate_outside) | false | true | true | true |
    /// | [`grad_averaging`](Self::grad_averaging) | false | false (it has none) | false | true |
    /// | [`average_first_step`](Self::average_first_step) | false | | true | true |
    /// | [`reg_inside_moment`](Self::reg_inside_moment) | true | true | true | false |
    /// | [`bias_correction`](Self::bias_correction) | false | false | false | true |
    /// | [`init_zero`](Self::init_zero) | false | false | false | false |
    /// | [`epsilon_root`](Self::epsilon_root) | 0 | 0 | 0 | 0 |
    ///
    /// These differences remain. optax and apex start v at the first step also if that gradient is 0, and then average
    /// from 0. apex's `norm_type=0`, the largest magnitude instead of the norm, does not exist here. apex and timm keep
    /// v in the element type, and apex keeps its root. pytorch-optimizer's `NovoGrad` is `nvidia` without averaging of
    /// the first step. The decoupled weight decay of timm and pytorch-optimizer, which is outside of everything else,
    /// is the optimizer's own weight decay here.
    ///
    /// # References
    ///
    /// * B. Ginsburg, P. Castonguay, O. Hrinchuk, O. Kuchaiev, V. Lavrukhin, R. Leary, J. Li, H. Nguyen, Y. Zhang, J.
    ///   M. Cohen, "Stochastic gradient methods with layer-wise adaptive moments for training of deep networks", 2019,
    ///   arXiv:1905.11286.
    /// * S. J. Reddi, S. Kale, S. Kumar, "On the convergence of Adam and beyond", ICLR 2018, arXiv:1904.09237: AMSGrad.
    #[derive(Debug, Clone)]
    pub struct NovoGrad {
        #[dialect(Self::in_dialect)] dialect = Dialect::KerasLegacy;

        learning_rate: Hyper = 0.001, in 0.0.., "learning rate, eta";

        /// Divides the learning rate by `1 + decay * iterations`; `decay` is at least 0.
        decay: f64 = 0.0, in 0.0.., "divides the learning rate by 1 + decay * iterations";

        /// Sets the decay rate of m, in `[0, 1)`.
        beta_1: f64 = 0.9, in 0.0..1.0, "decay rate of the moment m";

        /// Sets the decay rate of v, in `[0, 1)`.
        beta_2: f64 = 0.999, in 0.0..1.0, "decay rate of v, the average of squared norms";

        /// Sets epsilon, at least 0, which is added to the root of v.
        epsilon: f64 = 1e-7, in 0.0.., "added to the root of v; 0 means 0";

        /// Sets the weight decay, at least 0. It goes through m, and with a sparse gradient it decays the rows that the
        /// gradient touches.
        weight_decay: f64 = 0.0, in 0.0.., "weight decay inside the moment, lambda";

        /// Sets whether m is an average: gradients are multiplied by 1 - `beta_1`, except the first gradient of a
        /// variable.
        grad_averaging: bool = false, "gradients enter the moment with 1 - beta_1, the first as it is";

        /// Sets whether to divide by the root of the largest v so far, which is kept in the slot `vhat`.
        amsgrad: bool = false, "divide by the root of the largest v so far";

        // Fields that TensorFlow Addons does not have.

        /// Takes the learning rate out of m: `m := beta_1 m + u`, then `w := w - eta m`. After a change of the learning
        /// rate, the old velocity follows the new learning rate at once. The slot m then has the sign of the gradient,
        /// not of the step.
        learning_rate_outside: bool = false, unless default, "dialect: the moment is free of the learning rate";

        /// With [`grad_averaging`](Self::grad_averaging): the first gradient is multiplied by 1 - `beta_1`, too.
        average_first_step: bool = false, unless default, "dialect: grad_averaging at the first step, too";

        /// If false, m contains raw gradients, and normalisation and weight decay follow after it: `u := g`, then `w :=
        /// w + m / d - eta lambda w` (or `w := w - eta (m / d + lambda w)`, with the learning rate outside).
        reg_inside_moment: bool = true, unless default, "dialect: if false, the moment is of gradients as they are";

        /// Divides m by 1 - `beta_1`^t and v by 1 - `beta_2`^t where they are used; t is the step of the optimizer,
        /// counted from 1.
        bias_correction: bool = false, unless default, "dialect: divide m and v by 1 - beta^t";

        /// Averages v from 0 on, instead of starting it at the first gradient.
        init_zero: bool = false, unless default, "dialect: v is averaged from 0 on";

        /// Sets the number that is added to v under the root (`eps_root` in optax), at least 0.
        epsilon_root: f64 = 0.0, in 0.0.., unless default, "dialect: added to v under the root";
    }
    rule "NovoGrad" {
        check: Self::check,
    }
}

impl NovoGrad {
    /// NovoGrad with a learning rate: a number or a schedule, at least 0.
    #[must_use]
    pub fn new(learning_rate: impl Into<Hyper>) -> Self {
        Self { learning_rate: learning_rate.into(), ..Self::default() }
    }

    /// NovoGrad with the arithmetic of `optax.novograd`.
    ///
    /// # Examples
    ///
    /// The learning rate is outside m: a learning rate of 0 stops all movement, whatever the velocity is.
    ///
    /// ```
    /// use opt_core::{Optimizer, Variable};
    /// use opt_novograd::NovoGrad;
    ///
    /// let mut w = [1.0];
    /// let mut opt = Optimizer::new(NovoGrad::optax(0.5).epsilon(0.0))?;
    /// for (learning_rate, want) in [(0.5, 0.5), (0.0, 0.5)] {
    ///     opt.set_learning_rate(learning_rate)?;
    ///     opt.apply_gradients([Variable::new("w", &mut w).gradient(&[3.0])])?;
    ///     assert_eq!(w, [want]);
    /// }
    /// # Ok::<(), opt_core::Error>(())
    /// ```
    #[must_use]
    pub fn optax(learning_rate: impl Into<Hyper>) -> Self {
        Self::of(Dialect::Optax, learning_rate)
    }

    /// NovoGrad with the arithmetic of NVIDIA's own program for Jasper, and of `NvNovoGrad` in `timm`.
    ///
    /// # Examples
    ///
    /// ```
    /// use opt_core::{Optimizer, Variable};
    /// use opt_novograd::NovoGrad;
    ///
    /// let mut w = [1.0];
    /// let rule = NovoGrad::nvidia(0.5).beta_1(0.75).epsilon(0.0).grad_averaging(true);
    /// let mut opt = Optimizer::new(rule)?;
    /// opt.apply_gradients([Variable::new("w", &mut w).gradient(&[3.0])])?;
    /// assert_eq!(w, [1.0 - 0.5 * 0.25]); // the first step is averaged, too
    /// # Ok::<(), opt_core::Error>(())
    /// ```
    #[must_use]
    pub fn nvidia(learning_rate: impl Into<Hyper>) -> Self {
        Self::of(Dialect::Nvidia, learning_rate)
    }

    /// NovoGrad with the arithmetic of `FusedNovoGrad` in NVIDIA's apex.
    ///
    /// apex combines a first-gradient start of v with bias correction. Such a v needs no correction, so the first steps
    /// are divided by 1 / sqrt(1 - `beta_2`), which is 31. [`init_zero`](Self::init_zero) gives them their full length.
    ///
    /// # Examples
    ///
    /// ```
    /// use opt_core::{Optimizer, Variable};
    /// use opt_novograd::NovoGrad;
    ///
    /// for (init_zero, want) in [(false, 0.75), (true, 0.5)] {
    ///     let mut w = [1.0];
    ///     let rule = NovoGrad::apex(0.5).beta_1(0.5).beta_2(0.75).epsilon(0.0).init_zero(init_zero);
    ///     let mut opt = Optimizer::new(rule)?;
    ///     opt.apply_gradients([Variable::new("w", &mut w).gradient(&[3.0])])?;
    ///     assert_eq!(w, [want]);
    /// }
    /// # Ok::<(), opt_core::Error>(())
    /// ```
    #[must_use]
    pub fn apex(learning_rate: impl Into<Hyper>) -> Self {
        Self::of(Dialect::Apex, learning_rate)
    }

    fn of(dialect: Dialect, learning_rate: impl Into<Hyper>) -> Self {
        let settings = Self::in_dialect(dialect).unwrap_or_default();
        Self { learning_rate: learning_rate.into(), ..settings }
    }

    /// The settings of a dialect, if NovoGrad has it.
    fn in_dialect(dialect: Dialect) -> Option<Self> {
        let addons = Self { dialect, ..Self::default() };
        match dialect {
            Dialect::KerasLegacy => Some(addons),
            Dialect::Optax => Some(Self { beta_2: 0.25, epsilon: 1e-6, learning_rate_outside: true, ..addons }),
            Dialect::Nvidia => {
                let betas = Self { beta_1: 0.95, beta_2: 0.98, epsilon: 1e-8, ..addons };
                Some(Self { learning_rate_outside: true, average_first_step: true, ..betas })
            }
            Dialect::Apex => {
                let outside = Self { learning_rate_outside: true, reg_inside_moment: false, ..addons };
                let averaged = Self { grad_averaging: true, average_first_step: true, ..outside };
                Some(Self { epsilon: 1e-8, bias_correction: true, ..averaged })
            }
            _ => None,
        }
    }

    fn check(&self) -> Result<(), HyperparameterError> {
        if self.dialect != Dialect::KerasLegacy && !self.learning_rate_outside {
            let expected = format!("true: so it is in {}", self.dialect.name());
            return Err(HyperparameterError::new("learning_rate_outside", 0.0, expected));
        }
        Ok(())
    }
}
