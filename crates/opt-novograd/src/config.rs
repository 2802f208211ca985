//! Hyperparameters of NovoGrad: ranges, defaults, dialects, configurations.

use opt_core::{
    Config, ConfigError, Fields, FromConfig, Hyper, HyperparameterError, HyperparameterKind, HyperparameterSpec,
    Interval, LearningRate, Registry, Scalar, config, require,
};

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
/// While v is 0 and epsilon is 0, g / d counts as 0. With `beta_2` = 0 a gradient of 0 makes v 0 again, and the step
/// after it a first step.
///
/// # Examples
///
/// ```
/// use opt_core::{Optimizer, Variable};
/// use opt_novograd::NovoGrad;
///
/// let mut opt = Optimizer::new(NovoGrad::new(0.5).beta_1(0.5).epsilon(0.0)).build()?;
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
    pub(crate) learning_rate: LearningRate,
    pub(crate) beta_1: f64,
    pub(crate) beta_2: f64,
    pub(crate) epsilon: f64,
    pub(crate) weight_decay: f64,
    pub(crate) grad_averaging: bool,
    pub(crate) amsgrad: bool,
    // What makes dialects.
    pub(crate) learning_rate_outside: bool,
    pub(crate) average_first_step: bool,
    pub(crate) reg_inside_moment: bool,
    pub(crate) bias_correction: bool,
    pub(crate) init_zero: bool,
    pub(crate) epsilon_root: f64,
}

impl NovoGrad {
    /// NovoGrad with a learning rate: a number or a schedule, at least 0.
    #[must_use]
    pub fn new(learning_rate: impl Into<Hyper>) -> Self {
        Self {
            learning_rate: LearningRate::new(learning_rate),
            beta_1: 0.9,
            beta_2: 0.999,
            epsilon: 1e-7,
            weight_decay: 0.0,
            grad_averaging: false,
            amsgrad: false,
            learning_rate_outside: false,
            average_first_step: false,
            reg_inside_moment: true,
            bias_correction: false,
            init_zero: false,
            epsilon_root: 0.0,
        }
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
    /// let mut opt = Optimizer::new(NovoGrad::optax(0.5).epsilon(0.0)).build()?;
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
    /// let mut opt = Optimizer::new(rule).build()?;
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
    ///     let mut opt = Optimizer::new(rule).build()?;
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

    /// Divides the learning rate by `1 + decay * iterations`.
    #[must_use]
    pub fn decay(mut self, decay: f64) -> Self {
        self.learning_rate = self.learning_rate.decay(decay);
        self
    }

    /// Sets the decay rate of m, in `[0, 1)`.
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

    /// Sets what is added to the root of v, at least 0.
    #[must_use]
    pub fn epsilon(mut self, epsilon: f64) -> Self {
        self.epsilon = epsilon;
        self
    }

    /// Sets the weight decay, at least 0. It goes through m, and a sparse gradient decays the rows that it touches.
    #[must_use]
    pub fn weight_decay(mut self, weight_decay: f64) -> Self {
        self.weight_decay = weight_decay;
        self
    }

    /// Makes m an average: a gradient enters it with 1 - `beta_1`, the first one of a variable as it is.
    #[must_use]
    pub fn grad_averaging(mut self, grad_averaging: bool) -> Self {
        self.grad_averaging = grad_averaging;
        self
    }

    /// Divides by the root of the largest v so far, kept in the slot `vhat`.
    #[must_use]
    pub fn amsgrad(mut self, amsgrad: bool) -> Self {
        self.amsgrad = amsgrad;
        self
    }

    /// Takes the learning rate out of m: `m := beta_1 m + u`, then `w := w - eta m`. After a change of the learning
    /// rate the old velocity follows the new one at once. The slot m has the gradient's sign then, not the step's.
    #[must_use]
    pub fn learning_rate_outside(mut self, outside: bool) -> Self {
        self.learning_rate_outside = outside;
        self
    }

    /// With [`grad_averaging`](Self::grad_averaging): the first gradient, too, enters m with 1 - `beta_1`.
    #[must_use]
    pub fn average_first_step(mut self, average_first_step: bool) -> Self {
        self.average_first_step = average_first_step;
        self
    }

    /// If false, m is of gradients as they are, and the rest follows: `u := g`, then
    /// `w := w + m / d - eta lambda w` (or `w := w - eta (m / d + lambda w)`, with the learning rate outside).
    #[must_use]
    pub fn reg_inside_moment(mut self, inside: bool) -> Self {
        self.reg_inside_moment = inside;
        self
    }

    /// Divides m by 1 - `beta_1`^t and v by 1 - `beta_2`^t in step t of the optimizer, where they are used.
    #[must_use]
    pub fn bias_correction(mut self, bias_correction: bool) -> Self {
        self.bias_correction = bias_correction;
        self
    }

    /// Averages v from 0 on, instead of starting it at the first gradient.
    #[must_use]
    pub fn init_zero(mut self, init_zero: bool) -> Self {
        self.init_zero = init_zero;
        self
    }

    /// Sets what is added to v under the root, at least 0; optax's `eps_root`.
    #[must_use]
    pub fn epsilon_root(mut self, epsilon_root: f64) -> Self {
        self.epsilon_root = epsilon_root;
        self
    }

    pub(crate) fn check(&self) -> Result<(), HyperparameterError> {
        require("beta_1", self.beta_1, 0.0..1.0)?;
        require("beta_2", self.beta_2, 0.0..1.0)?;
        require("epsilon", self.epsilon, 0.0..)?;
        require("weight_decay", self.weight_decay, 0.0..)?;
        require("epsilon_root", self.epsilon_root, 0.0..)
    }

    /// What makes a dialect is written only where it differs from Addons.
    pub(crate) fn fields(&self) -> Result<Config, ConfigError> {
        let mut fields = config([
            ("learning_rate", self.learning_rate.base().to_json()?),
            ("decay", self.learning_rate.inverse_time_decay().into()),
            ("beta_1", self.beta_1.into()),
            ("beta_2", self.beta_2.into()),
            ("epsilon", self.epsilon.into()),
            ("weight_decay", self.weight_decay.into()),
            ("grad_averaging", self.grad_averaging.into()),
            ("amsgrad", self.amsgrad.into()),
        ]);
        let dialect = [
            ("learning_rate_outside", self.learning_rate_outside, false),
            ("average_first_step", self.average_first_step, false),
            ("reg_inside_moment", self.reg_inside_moment, true),
            ("bias_correction", self.bias_correction, false),
            ("init_zero", self.init_zero, false),
        ];
        for (key, value, _) in dialect.into_iter().filter(|(_, value, default)| value != default) {
            fields.insert(key.to_owned(), value.into());
        }
        if self.epsilon_root != 0.0 {
            fields.insert("epsilon_root".to_owned(), self.epsilon_root.into());
        }
        Ok(fields)
    }
}

impl Default for NovoGrad {
    fn default() -> Self {
        Self::new(1e-3)
    }
}

/// A hyperparameter that is true or false.
const fn switch(name: &'static str, default: &'static str, meaning: &'static str) -> HyperparameterSpec {
    HyperparameterSpec { name, kind: HyperparameterKind::Bool, default: Some(default), meaning }
}

/// A hyperparameter that is a number.
const fn number(
    name: &'static str,
    interval: Interval,
    default: &'static str,
    meaning: &'static str,
) -> HyperparameterSpec {
    HyperparameterSpec { name, kind: HyperparameterKind::Number(interval), default: Some(default), meaning }
}

impl<T: Scalar> FromConfig<T> for NovoGrad {
    const CLASS_NAME: &'static str = "NovoGrad";

    const HYPERPARAMETERS: &'static [HyperparameterSpec] = &[
        HyperparameterSpec {
            name: "learning_rate",
            kind: HyperparameterKind::NumberOrSchedule(Interval::NOT_NEGATIVE),
            default: Some("0.001"),
            meaning: "learning rate, eta",
        },
        number("decay", Interval::NOT_NEGATIVE, "0.0", "divides the learning rate by 1 + decay * iterations"),
        number("beta_1", Interval::UNIT_BELOW_ONE, "0.9", "decay rate of the moment m"),
        number("beta_2", Interval::UNIT_BELOW_ONE, "0.999", "decay rate of v, the average of squared norms"),
        number("epsilon", Interval::NOT_NEGATIVE, "1e-7", "added to the root of v; 0 means 0"),
        number("weight_decay", Interval::NOT_NEGATIVE, "0.0", "weight decay inside the moment, lambda"),
        switch("grad_averaging", "false", "gradients enter the moment with 1 - beta_1, the first as it is"),
        switch("amsgrad", "false", "divide by the root of the largest v so far"),
        switch("learning_rate_outside", "false", "dialect: the moment is free of the learning rate"),
        switch("average_first_step", "false", "dialect: grad_averaging at the first step, too"),
        switch("reg_inside_moment", "true", "dialect: if false, the moment is of gradients as they are"),
        switch("bias_correction", "false", "dialect: divide m and v by 1 - beta^t"),
        switch("init_zero", "false", "dialect: v is averaged from 0 on"),
        number("epsilon_root", Interval::NOT_NEGATIVE, "0.0", "dialect: added to v under the root"),
    ];

    fn from_config(fields: &mut Fields<'_>, _registry: &Registry<T>) -> Result<Self, ConfigError> {
        let default = Self::default();
        Ok(Self::new(fields.hyper_or("learning_rate", default.learning_rate.at(0))?)
            .decay(fields.f64_or("decay", 0.0)?)
            .beta_1(fields.f64_or("beta_1", default.beta_1)?)
            .beta_2(fields.f64_or("beta_2", default.beta_2)?)
            .epsilon(fields.f64_or("epsilon", default.epsilon)?)
            .weight_decay(fields.f64_or("weight_decay", default.weight_decay)?)
            .grad_averaging(fields.bool_or("grad_averaging", default.grad_averaging)?)
            .amsgrad(fields.bool_or("amsgrad", default.amsgrad)?)
            .learning_rate_outside(fields.bool_or("learning_rate_outside", default.learning_rate_outside)?)
            .average_first_step(fields.bool_or("average_first_step", default.average_first_step)?)
            .reg_inside_moment(fields.bool_or("reg_inside_moment", default.reg_inside_moment)?)
            .bias_correction(fields.bool_or("bias_correction", default.bias_correction)?)
            .init_zero(fields.bool_or("init_zero", default.init_zero)?)
            .epsilon_root(fields.f64_or("epsilon_root", default.epsilon_root)?))
    }
}
