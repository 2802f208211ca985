//! Hyperparameters of RectifiedAdam.

use opt_core::config::{Choice, Dialect, HyperparameterError, Steps};
use opt_core::{Hyper, hyperparameters};

hyperparameters! {
    /// Rectified Adam: Adam whose steps are shortened as long as there are too few gradients to trust the second
    /// moment.
    ///
    /// Where Adam needs a warmup to survive its first steps, RectifiedAdam often needs none; for other cases a warmup
    /// is built in. It is the inner rule of Ranger.
    ///
    /// ```text
    /// m := beta_1 m + (1 - beta_1) g                 m_hat = m / (1 - beta_1^t)
    /// v := beta_2 v + (1 - beta_2) g^2               v_hat = v / (1 - beta_2^t)
    ///
    /// rho_inf = 2 / (1 - beta_2) - 1                 rho_t = rho_inf - 2 t beta_2^t / (1 - beta_2^t)
    /// r_t = sqrt((rho_t - 4) (rho_t - 2) rho_inf / ((rho_inf - 4) (rho_inf - 2) rho_t))
    ///
    /// u = r_t m_hat / (sqrt(v_hat) + epsilon)        if rho_t >= sma_threshold
    /// u = m_hat                                      otherwise
    /// w := w - eta_t (u + lambda w)
    /// ```
    ///
    /// with t counted from 1. For AMSGrad, `vhat := max(vhat, v)` before the bias is corrected, and v_hat is computed
    /// from `vhat`. With `total_steps` above 0, the learning rate eta (from a schedule, and divided by `1 + decay *
    /// iterations`) rises and falls:
    ///
    /// ```text
    /// warmup = total_steps * warmup_proportion       fall = max(total_steps - warmup, 1)
    ///
    /// eta_t = eta t / warmup                                                if t <= warmup
    /// eta_t = eta + (min_lr - eta) min(t - warmup, fall) / fall             otherwise
    /// ```
    ///
    /// | symbol | field | default | range |
    /// |---|---|---|---|
    /// | eta | [`new`](Self::new): `learning_rate`, a number or a schedule | 0.001 | at least 0 |
    /// | beta_1 | [`beta_1`](Self::beta_1) | 0.9 | `[0, 1)` |
    /// | beta_2 | [`beta_2`](Self::beta_2) | 0.999 | `[0, 1)` |
    /// | epsilon | [`epsilon`](Self::epsilon) | 1e-7 | at least 0 |
    /// | lambda | [`weight_decay`](Self::weight_decay), a number or a schedule | 0 | at least 0 |
    /// | | [`amsgrad`](Self::amsgrad) | false | |
    /// | | [`sma_threshold`](Self::sma_threshold) | 5 | see there |
    /// | | [`total_steps`](Self::total_steps) | 0 | at least 0 |
    /// | | [`warmup_proportion`](Self::warmup_proportion) | 0.1 | `[0, 1]` |
    /// | | [`min_lr`](Self::min_lr) | 0 | at least 0 |
    /// | | [`decay`](Self::decay) | 0 | at least 0 |
    ///
    /// The slots are m and v, with AMSGrad also `vhat`, each of the variable's shape. A sparse gradient changes m, v
    /// and `vhat` of all rows, but w only in the rows that it touches; weight decay, too, changes only these rows.
    ///
    /// [`rectification_at`](Self::rectification_at) gives the rectification of each step.
    ///
    /// # Examples
    ///
    /// ```
    /// use opt_core::{Optimizer, Variable};
    /// use opt_radam::RectifiedAdam;
    ///
    /// let mut opt = Optimizer::new(RectifiedAdam::new(0.1).beta_1(0.5))?;
    /// let mut w = [1.0_f64];
    /// for g in [1.0, 1.0, -5.0] {
    ///     opt.apply_gradients([Variable::new("w", &mut w).gradient(&[g])])?;
    /// }
    /// // Too early for v: m_hat is 1, 1 and (1 / 8 + 1 / 4 - 5 / 2) / (7 / 8).
    /// assert!((w[0] - (1.0 - 0.1 * (1.0 + 1.0 - 17.0 / 7.0))).abs() < 1e-15);
    /// # Ok::<(), opt_core::Error>(())
    /// ```
    ///
    /// # Differences
    ///
    /// Other libraries use the name for other arithmetic. Each difference is a field, kept in the configuration, and a
    /// constructor for each library sets these fields:
    ///
    /// | | rectified if | u of a rectified step | epsilon | weight decay |
    /// |---|---|---|---|---|
    /// | [`new`](Self::new): TensorFlow Addons | `rho_t >= 5` | `r_t m_hat / (sqrt(v_hat) + epsilon)` | 1e-7 | decoupled |
    /// | [`pytorch`](Self::pytorch) | `rho_t > 5` | `r_t m_hat sqrt(1 - beta_2^t) / (sqrt(v) + epsilon)` | 1e-8 | coupled |
    /// | [`optax`](Self::optax) | `rho_t >= 5` | `r_t m_hat / (sqrt(v_hat + epsilon_root) + epsilon)` | 1e-8 | decoupled |
    /// | the paper | `rho_t > 4` | `r_t m_hat sqrt(1 - beta_2^t) / sqrt(v)` | | |
    ///
    /// * PyTorch counts t for each variable: a variable that starts late, such as a layer that is unfrozen, is
    ///   rectified and corrected as in a first step. Addons and optax count the steps of the optimizer.
    /// * Addons computes rho_t in the type of the variable, and loses most of its digits; here rho_t is always in 64
    ///   bits.
    /// * Addons replaces an epsilon of 0 by 1e-7. Here 0 means 0, and an element whose gradients have all been 0 does
    ///   not change.
    /// * Addons ignores a change of a `weight_decay` or `total_steps` that was 0 at first. Here
    ///   [`set_rule`](opt_core::Optimizer::set_rule) may change everything, except that AMSGrad cannot be switched off.
    /// * Addons accepts negative weight decay, any proportion, and thresholds that make the weights NaN.
    ///
    /// # References
    ///
    /// * L. Liu, H. Jiang, P. He, W. Chen, X. Liu, J. Gao, J. Han, "On the variance of the adaptive learning rate and
    ///   beyond", arXiv:1908.03265.
    /// * S. J. Reddi, S. Kale, S. Kumar, "On the convergence of Adam and beyond", arXiv:1904.09237: AMSGrad.
    #[derive(Debug, Clone)]
    pub struct RectifiedAdam {
        #[dialect(Self::in_dialect)] dialect = Dialect::KerasLegacy;

        learning_rate: Hyper = 0.001, in 0.0.., "learning rate, eta";

        /// Sets the decay rate of m, in `[0, 1)`.
        beta_1: f64 = 0.9, in 0.0..1.0, "decay rate of the first moment";

        /// Sets the decay rate of v, in `[0, 1)`. Up to 2/3, `rho_inf` is at most 5, so that with the default threshold
        /// no step is ever rectified.
        beta_2: f64 = 0.999, in 0.0..1.0, "decay rate of the second moment";

        /// Sets epsilon, at least 0, which keeps the divisor away from 0. With 0, elements whose gradients have all
        /// been 0 do not change, and a v that is too small for its type (with gradients below about 3e-18 in 32 bits)
        /// does not make a step longer: gradients that small count as if v were just large enough.
        ///
        /// # Examples
        ///
        /// ```
        /// use opt_core::{Optimizer, Variable};
        /// use opt_radam::RectifiedAdam;
        ///
        /// let mut opt = Optimizer::new(RectifiedAdam::new(0.5).epsilon(0.0))?;
        /// let mut w = [1.0, 1.0];
        /// for _ in 0..8 {
        ///     opt.apply_gradients([Variable::new("w", &mut w).gradient(&[0.0, 1.0])])?;
        /// }
        /// assert!(opt.rule().rectification_at(7).is_some());
        /// assert!(w[0] == 1.0 && w[1] < 0.0);
        /// # Ok::<(), opt_core::Error>(())
        /// ```
        epsilon: f64 = 1e-7, in 0.0.., "keeps the divisor away from 0";

        weight_decay: Hyper = 0.0, in 0.0.., "weight decay, lambda; multiplied by the learning rate";

        /// Sets whether to divide by the root of the largest v so far.
        amsgrad: bool = false, "divide by the largest second moment so far";

        /// Sets the value that `rho_t` must reach for a step to be rectified.
        ///
        /// `r_t` is defined only where `rho_t` is at least 4 and `rho_inf` above 4. So a threshold is accepted if **no
        /// step reaches it while `rho_t` is below 4, and no step reaches it at all if `rho_inf` is at most 4**.
        /// Thresholds of 4 and more are nearly always accepted (with `beta_2 = 0.6`, `rho_inf` is exactly 4, and 4 is
        /// refused). Thresholds below 4 are accepted only if no `rho_t` lies between the threshold and 4. A threshold
        /// that is never reached is accepted: all steps are then momentum steps.
        ///
        /// # Examples
        ///
        /// ```
        /// use opt_core::Optimizer;
        /// use opt_radam::RectifiedAdam;
        ///
        /// let build = |threshold, beta_2| {
        ///     Optimizer::<_, f32>::new(RectifiedAdam::new(1e-3).sma_threshold(threshold).beta_2(beta_2))
        /// };
        /// assert!(build(4.0, 0.999).is_ok()); // rectified from rho_5 = 4.996 on
        /// assert!(build(3.9, 0.999).is_err()); // rho_4 = 3.9975 would reach it
        /// assert!(build(3.5, 0.5).is_ok()); // rho_inf is 3: never rectified
        /// assert!(build(2.5, 0.5).is_err());
        /// ```
        sma_threshold: f64 = 5.0, "what rho_t has to reach for a rectified step";

        total_steps: Steps = Steps::ZERO, in 0.0.., "steps of warmup and decay together; 0 turns them off";

        /// Sets the fraction of [`total_steps`](Self::total_steps) that is warmup, in `[0, 1]`.
        warmup_proportion: f64 = 0.1, in 0.0..=1.0, "part of total_steps that is warmup";

        /// Sets the learning rate after [`total_steps`](Self::total_steps), at least 0.
        min_lr: f64 = 0.0, in 0.0.., "learning rate after total_steps";

        /// Divides the learning rate by `1 + decay * iterations`, before warmup; `decay` is at least 0.
        decay: f64 = 0.0, in 0.0.., "divides the learning rate by 1 + decay * iterations, before warmup";

        // Fields that TensorFlow Addons does not have.

        /// Sets whether `rho_t` must be above the threshold for a step to be rectified. Otherwise `rho_t` may also
        /// equal it.
        strict_threshold: bool = false, unless default, "rectify only above the threshold, as PyTorch";

        /// Sets where epsilon is added.
        epsilon_placement: EpsilonPlacement = EpsilonPlacement::AfterCorrection, unless default,
            "whether epsilon is added after the bias of v is corrected or, as PyTorch, before";

        /// Sets the number that is added to the second moment under the root, at least 0.
        epsilon_root: f64 = 0.0, in 0.0.., unless default, "added inside of the root, optax's eps_root";

        /// Sets whether weight decay is a part of the gradient, `g := g + lambda w`, and so goes through m and v (an L2
        /// penalty).
        coupled_weight_decay: bool = false, unless default, "weight decay is part of the gradient, as PyTorch";
    }
    rule "RectifiedAdam" {
        check: Self::check_rectification,
    }
}

/// The place where epsilon is added to the root of the second moment. The two places differ by a factor of `sqrt(1 -
/// beta_2^t)` in epsilon.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum EpsilonPlacement {
    /// `sqrt(v / (1 - beta_2^t)) + epsilon`, as in TensorFlow Addons and optax.
    #[default]
    AfterCorrection,
    /// `(sqrt(v) + epsilon) / sqrt(1 - beta_2^t)`, as in PyTorch and the authors' program.
    BeforeCorrection,
}

impl Choice for EpsilonPlacement {
    const CHOICES: &'static [(&'static str, Self)] =
        &[("after_correction", Self::AfterCorrection), ("before_correction", Self::BeforeCorrection)];
}

impl RectifiedAdam {
    /// RectifiedAdam as in TensorFlow Addons, with a learning rate: a number or a schedule, at least 0.
    #[must_use]
    pub fn new(learning_rate: impl Into<Hyper>) -> Self {
        Self { learning_rate: learning_rate.into(), ..Self::default() }
    }

    /// RectifiedAdam as `torch.optim.RAdam`: `rho_t` must be above the threshold, epsilon (1e-8) is added before the
    /// bias is corrected, steps are counted for each variable (slot `step`), and weight decay is coupled to the
    /// gradient. [`coupled_weight_decay(false)`](Self::coupled_weight_decay) decouples it, as PyTorch's
    /// `decoupled_weight_decay=True` does.
    ///
    /// # Examples
    ///
    /// ```
    /// use opt_core::state::StateValue;
    /// use opt_core::{Optimizer, Variable};
    /// use opt_radam::RectifiedAdam;
    ///
    /// let mut opt = Optimizer::new(RectifiedAdam::pytorch(0.5).weight_decay(0.25))?;
    /// let mut w = [2.0_f64];
    /// opt.apply_gradients([Variable::new("w", &mut w).gradient(&[1.0])])?;
    /// assert!((w[0] - (2.0 - 0.5 * (1.0 + 0.25 * 2.0))).abs() < 1e-15);
    /// let StateValue::Array(m) = opt.slot("w", "m")? else { unreachable!("m has the shape of w") };
    /// assert!((m[[0]] - 0.1 * (1.0 + 0.25 * 2.0)).abs() < 1e-15); // weight decay included
    /// # Ok::<(), opt_core::Error>(())
    /// ```
    #[must_use]
    pub fn pytorch(learning_rate: impl Into<Hyper>) -> Self {
        Self::of(Dialect::Pytorch, learning_rate)
    }

    /// RectifiedAdam as `optax.radam` without `nesterov`: an epsilon of 1e-8, and [`epsilon_root`](Self::epsilon_root),
    /// which optax calls `eps_root`. [`weight_decay`](Self::weight_decay) is `optax.add_decayed_weights` before the
    /// learning rate.
    #[must_use]
    pub fn optax(learning_rate: impl Into<Hyper>) -> Self {
        Self::of(Dialect::Optax, learning_rate)
    }

    fn of(dialect: Dialect, learning_rate: impl Into<Hyper>) -> Self {
        let settings = Self::in_dialect(dialect).unwrap_or_default();
        Self { learning_rate: learning_rate.into(), ..settings }
    }

    /// The settings of a dialect, if RectifiedAdam has it.
    fn in_dialect(dialect: Dialect) -> Option<Self> {
        let addons = Self { dialect, ..Self::default() };
        match dialect {
            Dialect::KerasLegacy => Some(addons),
            Dialect::Pytorch => {
                let epsilon_placement = EpsilonPlacement::BeforeCorrection;
                let rectified = Self { strict_threshold: true, epsilon_placement, ..addons };
                Some(Self { epsilon: 1e-8, coupled_weight_decay: true, ..rectified })
            }
            Dialect::Optax => Some(Self { epsilon: 1e-8, ..addons }),
            _ => None,
        }
    }

    /// Sets the weight decay, a number or a schedule, at least 0. It is multiplied by the learning rate, warmup
    /// included, and added after the rectified step is computed, so that no moment contains it.
    ///
    /// The engine has a weight decay of its own, [`OptimizerBuilder::weight_decay`](opt_core::OptimizerBuilder), which
    /// can exclude variables by name, and decays w before the step.
    #[must_use]
    pub fn weight_decay(mut self, weight_decay: impl Into<Hyper>) -> Self {
        self.weight_decay = weight_decay.into();
        self
    }

    /// Turns on warmup and decay, which together take `total_steps` steps; afterwards the learning rate stays at
    /// [`min_lr`](Self::min_lr). 0 turns them off, which is the default.
    #[must_use]
    pub fn total_steps(mut self, total_steps: impl Into<Steps>) -> Self {
        self.total_steps = total_steps.into();
        self
    }

    /// Refuses a threshold that a step reaches for which the rectification is not defined.
    fn check_rectification(&self) -> Result<(), HyperparameterError> {
        /// `rho_t` grows with t: once it reaches 4, later steps need no check. It takes longest, some 80 steps, for a
        /// `beta_2` just above 0.6. For a `beta_2` up to 0.6, `rho_t` equals `rho_inf` to the last bit by then.
        const STEPS: u64 = 100;
        let rho_inf = self.rho_inf();
        let undefined = |rho: f64| self.reaches_threshold(rho) && (rho < 4.0 || rho_inf <= 4.0);
        if (0..STEPS).map(|step| self.rho_at(step)).any(undefined) {
            let expected = format!("a number that no rho_t below 4 reaches, with beta_2 = {}", self.beta_2);
            return Err(HyperparameterError::new("sma_threshold", self.sma_threshold, expected));
        }
        Ok(())
    }
}
