//! Hyperparameters of NovoGrad.

use opt_core::config::Generation;
use opt_core::{Hyper, hyperparameters};

hyperparameters! {
    /// NovoGrad: momentum of gradients that are divided by the norm of their whole variable.
    ///
    /// For large batches and for networks whose layers have gradients of very different sizes: a variable's step does not
    /// depend on the scale of its gradients. It remembers one array and one number for each variable, half of what Adam
    /// does.
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
    /// variable's shape, and `v`, with AMSGrad also `vhat`, one number each, in 64 bits. A sparse gradient changes the rows
    /// that it touches, of w and of m, and no others; `|g|^2` is the sum over these rows.
    ///
    /// If both v and epsilon are 0, the normalised gradient g / d is 0. With `beta_2` = 0, a gradient of 0 resets v, and the
    /// next step counts as a first step.
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
    /// From TensorFlow Addons, whose numbers these are:
    ///
    /// * v starts at a variable's first gradient that is not 0, whenever that is. In Addons it starts at the optimizer's
    ///   first step; a gradient that comes later is divided by sqrt(1 - `beta_2`) of its norm, and the step is 31 times too
    ///   large. The first step of a variable, which gradient averaging leaves unscaled, is told by v = 0, too.
    /// * AMSGrad works with sparse gradients. `amsgrad` and `decay` are kept in the configuration.
    /// * epsilon = 0 means 0, and not 1e-7. Decay rates outside `[0, 1)` are refused.
    ///
    /// From the paper: it has the learning rate outside m. With a constant one both agree.
    ///
    /// ## Dialects
    ///
    /// The name means different arithmetic elsewhere. Each difference is a field; these constructors set them.
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
    /// What remains different: optax and apex start v at the first step also if that gradient is 0, and then average from
    /// 0; apex's `norm_type=0`, the largest magnitude instead of the norm, does not exist here; apex and timm keep v in the
    /// element type, and apex its root. pytorch-optimizer's `NovoGrad` is `nvidia` without averaging of the first step.
    /// Decay outside everything, as timm's and pytorch-optimizer's decoupled one, is the optimizer's own weight decay.
    ///
    /// # References
    ///
    /// * B. Ginsburg, P. Castonguay, O. Hrinchuk, O. Kuchaiev, V. Lavrukhin, R. Leary, J. Li, H. Nguyen, Y. Zhang, J. M.
    ///   Cohen, "Stochastic gradient methods with layer-wise adaptive moments for training of deep networks", 2019,
    ///   arXiv:1905.11286.
    /// * S. J. Reddi, S. Kale, S. Kumar, "On the convergence of Adam and beyond", ICLR 2018, arXiv:1904.09237: AMSGrad.
    #[derive(Debug, Clone)]
    pub struct NovoGrad {
        learning_rate: Hyper = 0.001, in 0.0.., "learning rate, eta";

        /// Divides the learning rate by `1 + decay * iterations`.
        decay: f64 = 0.0, in 0.0.., "divides the learning rate by 1 + decay * iterations";

        /// Sets the decay rate of m.
        beta_1: f64 = 0.9, in 0.0..1.0, "decay rate of the moment m";

        /// Sets the decay rate of v.
        beta_2: f64 = 0.999, in 0.0..1.0, "decay rate of v, the average of squared norms";

        /// Sets what is added to the root of v.
        epsilon: f64 = 1e-7, in 0.0.., "added to the root of v; 0 means 0";

        /// Sets the weight decay. It goes through m, and a sparse gradient decays the rows that it touches.
        weight_decay: f64 = 0.0, in 0.0.., "weight decay inside the moment, lambda";

        /// Makes m an average: a gradient enters it with 1 - `beta_1`, the first one of a variable as it is.
        grad_averaging: bool = false, "gradients enter the moment with 1 - beta_1, the first as it is";

        /// Divides by the root of the largest v so far, kept in the slot `vhat`.
        amsgrad: bool = false, "divide by the root of the largest v so far";

        // What TensorFlow Addons does not have.

        /// Takes the learning rate out of m: `m := beta_1 m + u`, then `w := w - eta m`. After a change of the learning
        /// rate the old velocity follows the new one at once. The slot m has the gradient's sign then, not the step's.
        learning_rate_outside: bool = false, unless default, "dialect: the moment is free of the learning rate";

        /// With [`grad_averaging`](Self::grad_averaging): the first gradient, too, enters m with 1 - `beta_1`.
        average_first_step: bool = false, unless default, "dialect: grad_averaging at the first step, too";

        /// If false, m is of gradients as they are, and the rest follows: `u := g`, then
        /// `w := w + m / d - eta lambda w` (or `w := w - eta (m / d + lambda w)`, with the learning rate outside).
        reg_inside_moment: bool = true, unless default, "dialect: if false, the moment is of gradients as they are";

        /// Divides m by 1 - `beta_1`^t and v by 1 - `beta_2`^t in step t of the optimizer, where they are used.
        bias_correction: bool = false, unless default, "dialect: divide m and v by 1 - beta^t";

        /// Averages v from 0 on, instead of starting it at the first gradient.
        init_zero: bool = false, unless default, "dialect: v is averaged from 0 on";

        /// Sets what is added to v under the root, optax's `eps_root`.
        epsilon_root: f64 = 0.0, in 0.0.., unless default, "dialect: added to v under the root";
    }
    rule "NovoGrad" {
        generation: Generation::Legacy,
    }
}

impl NovoGrad {
    /// NovoGrad with a learning rate: a number or a schedule, at least 0.
    #[must_use]
    pub fn new(learning_rate: impl Into<Hyper>) -> Self {
        Self { learning_rate: learning_rate.into(), ..Self::default() }
    }

    /// As `optax.novograd`.
    ///
    /// # Examples
    ///
    /// The learning rate is outside m: once it is 0, nothing moves, whatever the velocity.
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
        Self::new(learning_rate).beta_2(0.25).epsilon(1e-6).learning_rate_outside(true)
    }

    /// As NVIDIA's own for Jasper, and `NvNovoGrad` of `timm`.
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
        Self::new(learning_rate)
            .beta_1(0.95)
            .beta_2(0.98)
            .epsilon(1e-8)
            .learning_rate_outside(true)
            .average_first_step(true)
    }

    /// As `FusedNovoGrad` of NVIDIA's apex.
    ///
    /// Mind its combination of a first-gradient start with bias correction: v needs none then, and the first steps are
    /// divided by 1 / sqrt(1 - `beta_2`), which is 31. [`init_zero`](Self::init_zero) makes them whole.
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
        Self::new(learning_rate)
            .epsilon(1e-8)
            .grad_averaging(true)
            .learning_rate_outside(true)
            .average_first_step(true)
            .reg_inside_moment(false)
            .bias_correction(true)
    }
}
