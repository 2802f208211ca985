//! The formula of RectifiedAdam.

use opt_core::config::{Dialect, Steps};
use opt_core::rule::{
    Block, Done, Kernel, Real, SlotSpec, SparseUpdate, Step, VariableScalars, VariableStep, inverse_time_decay,
};
use opt_core::{Scalar, UpdateRule};

use crate::config::{EpsilonPlacement, RectifiedAdam};

/// The coefficients of a step, the same for all elements.
#[derive(Debug, Clone, Copy)]
struct Coefficients<E> {
    /// Learning rate.
    eta: E,
    beta_1: E,
    one_minus_beta_1: E,
    beta_2: E,
    one_minus_beta_2: E,
    /// The factor that corrects the bias of m.
    m_correction: E,
    /// The factor that corrects the bias of v.
    v_correction: E,
    /// The rectification; `None` in a momentum step.
    r: Option<E>,
    epsilon: E,
    epsilon_root: E,
    /// The smallest v that is known well enough to divide by its root.
    least_v: E,
    /// Weight decay, decoupled from the gradient.
    lambda: E,
    /// Weight decay, coupled to the gradient.
    coupled_lambda: E,
}

fn element<E: Real, const EPSILON: bool>(k: &Coefficients<E>, w: E, g: E, [m, v]: [E; 2]) -> (E, [E; 2]) {
    let [m, v] = moments(k, w, g, [m, v]);
    (w - k.eta * direction::<E, EPSILON>(k, w, m, v), [m, v])
}

fn amsgrad<E: Real, const EPSILON: bool>(k: &Coefficients<E>, w: E, g: E, [m, v, v_max]: [E; 3]) -> (E, [E; 3]) {
    let [m, v] = moments(k, w, g, [m, v]);
    let v_max = v_max.max(v);
    (w - k.eta * direction::<E, EPSILON>(k, w, m, v_max), [m, v, v_max])
}

fn moments<E: Real>(k: &Coefficients<E>, w: E, g: E, [m, v]: [E; 2]) -> [E; 2] {
    let g = g + k.coupled_lambda * w;
    [k.beta_1 * m + k.one_minus_beta_1 * g, k.beta_2 * v + k.one_minus_beta_2 * g * g]
}

/// Without `EPSILON`: the square of a gradient may be too small for its type, though the gradient is not. A v below
/// `least_v` must not make the step long, and 0 must not be divided by 0.
fn direction<E: Real, const EPSILON: bool>(k: &Coefficients<E>, w: E, m: E, v: E) -> E {
    let m_hat = k.m_correction * m;
    let v = if EPSILON { v } else { v.max(k.least_v) };
    let u = match k.r {
        Some(r) => r * m_hat / ((k.v_correction * v + k.epsilon_root).sqrt() + k.epsilon),
        None => m_hat,
    };
    u + k.lambda * w
}

/// `1 - beta^t`, accurate to the last bits also where beta is close to 1.
fn one_minus_power(beta: f64, t: f64) -> f64 {
    -(t * beta.ln()).exp_m1()
}

impl RectifiedAdam {
    /// `rho_inf`, the limit of [`rho_at`](Self::rho_at): `2 / (1 - beta_2) - 1`.
    #[must_use]
    pub fn rho_inf(&self) -> f64 {
        2.0 / (1.0 - self.beta_2) - 1.0
    }

    /// `rho_t`: the number of gradients in a plain average of the same mean age as v. `step` is counted from 0, so that
    /// `t = step + 1`.
    ///
    /// It grows from 1 towards [`rho_inf`](Self::rho_inf).
    ///
    /// # Examples
    ///
    /// ```
    /// let rule = opt_radam::RectifiedAdam::new(1e-3); // beta_2 = 0.999
    /// for (step, rho) in [1.0, 1.9995, 2.9987, 3.9975, 4.9960, 5.9942].into_iter().enumerate() {
    ///     assert!((rule.rho_at(step as u64) - rho).abs() < 5e-5);
    /// }
    /// ```
    #[must_use]
    pub fn rho_at(&self, step: u64) -> f64 {
        let t = step as f64 + 1.0;
        let power = (t * self.beta_2.ln()).exp();
        self.rho_inf() - 2.0 * t * power / one_minus_power(self.beta_2, t)
    }

    /// `r_t`, the factor that shortens a step while there have been few gradients; `None` in a momentum step. `step` is
    /// counted from 0, so that `t = step + 1`.
    ///
    /// # Examples
    ///
    /// ```
    /// let rule = opt_radam::RectifiedAdam::new(1e-3); // beta_2 = 0.999
    /// assert_eq!(rule.rectification_at(4), None);
    /// assert!((rule.rectification_at(5).unwrap() - 0.025821).abs() < 5e-7);
    /// assert!((rule.rectification_at(4_999).unwrap() - 0.982878).abs() < 5e-7);
    /// ```
    #[must_use]
    pub fn rectification_at(&self, step: u64) -> Option<f64> {
        let (rho, rho_inf) = (self.rho_at(step), self.rho_inf());
        let square = (rho - 4.0) / (rho_inf - 4.0) * ((rho - 2.0) / (rho_inf - 2.0)) * (rho_inf / rho);
        self.reaches_threshold(rho).then(|| square.sqrt())
    }

    pub(crate) fn reaches_threshold(&self, rho: f64) -> bool {
        if self.strict_threshold { rho > self.sma_threshold } else { rho >= self.sma_threshold }
    }

    /// Warmup up to `eta`, then decay to `min_lr`; `step` is counted from 0.
    fn warmed_up(&self, eta: f64, step: u64) -> f64 {
        if self.total_steps == Steps::ZERO {
            return eta;
        }
        let t = step as f64 + 1.0;
        let warmup_steps = self.total_steps.get() * self.warmup_proportion;
        if t <= warmup_steps {
            return eta * t / warmup_steps;
        }
        let decay_steps = (self.total_steps.get() - warmup_steps).max(1.0);
        // As an interpolation it never passes its end: a learning rate must not fall below 0.
        let way = (t - warmup_steps).min(decay_steps) / decay_steps;
        eta * (1.0 - way) + self.min_lr * way
    }

    /// The corrections of m and v, and the rectification, after this many steps; NaN in a momentum step.
    fn corrections_at(&self, step: u64) -> VariableScalars {
        let t = step as f64 + 1.0;
        let m_correction = one_minus_power(self.beta_1, t).recip();
        let v_correction = one_minus_power(self.beta_2, t).recip();
        let r = self.rectification_at(step).unwrap_or(f64::NAN);
        // Where epsilon is added to the root of the uncorrected v, the correction of v moves into r.
        match self.epsilon_placement {
            EpsilonPlacement::AfterCorrection => [m_correction, v_correction, r, 0.0],
            EpsilonPlacement::BeforeCorrection => [m_correction, 1.0, r / v_correction.sqrt(), 0.0],
        }
    }

    fn coefficients<E: Scalar>(&self, step: &Step, corrections: &VariableScalars) -> Coefficients<E> {
        let [m_correction, v_correction, r, _] = *corrections;
        let weight_decay = self.weight_decay.at(step.iteration);
        let (lambda, coupled_lambda) =
            if self.coupled_weight_decay { (0.0, weight_decay) } else { (weight_decay, 0.0) };
        Coefficients {
            eta: E::literal(step.learning_rate),
            beta_1: E::literal(self.beta_1),
            one_minus_beta_1: E::literal(1.0 - self.beta_1),
            beta_2: E::literal(self.beta_2),
            one_minus_beta_2: E::literal(1.0 - self.beta_2),
            m_correction: E::literal(m_correction),
            v_correction: E::literal(v_correction),
            r: (!r.is_nan()).then(|| E::literal(r)),
            epsilon: E::literal(self.epsilon),
            least_v: E::literal(E::SMALLEST.as_() / (1.0 - self.beta_2)),
            epsilon_root: E::literal(self.epsilon_root),
            lambda: E::literal(lambda),
            coupled_lambda: E::literal(coupled_lambda),
        }
    }
}

/// A step with its coefficients.
struct Rectified<E> {
    touched: Coefficients<E>,
    /// The coefficients for rows that a sparse gradient does not touch: without weight decay, also in m and v.
    untouched: Coefficients<E>,
    amsgrad: bool,
    /// Whether there is an epsilon above 0, inside or outside of the root.
    epsilon: bool,
}

impl<E: Scalar> Rectified<E> {
    fn new(rule: &RectifiedAdam, step: &Step, corrections: &VariableScalars) -> Self {
        let touched = rule.coefficients(step, corrections);
        let untouched = Coefficients { coupled_lambda: E::literal(0.0), ..touched };
        let epsilon = rule.epsilon != 0.0 || rule.epsilon_root != 0.0;
        Self { touched, untouched, amsgrad: rule.amsgrad, epsilon }
    }
}

impl<T: Scalar> Kernel<T> for Rectified<T> {
    fn update(&self, block: Block<'_, T>) -> Done {
        let k = if block.is_touched() { &self.touched } else { &self.untouched };
        let sparse = SparseUpdate::Moments;
        match (self.amsgrad, self.epsilon) {
            (false, true) => block.elementwise(sparse, k, element::<T, true>),
            (false, false) => block.elementwise(sparse, k, element::<T, false>),
            (true, true) => block.elementwise(sparse, k, amsgrad::<T, true>),
            (true, false) => block.elementwise(sparse, k, amsgrad::<T, false>),
        }
    }

    fn visits_untouched_rows(&self) -> bool {
        true
    }
}

/// A step of PyTorch's dialect: t belongs to the variable.
struct CountedByVariable<'a> {
    rule: &'a RectifiedAdam,
    step: Step,
}

impl<T: Scalar> Kernel<T> for CountedByVariable<'_> {
    fn begin_variable(&self, _variable: &VariableStep<'_>, scalars: &mut [f64]) -> VariableScalars {
        let before = scalars[0];
        scalars[0] = before + 1.0;
        self.rule.corrections_at(before as u64)
    }

    fn update(&self, block: Block<'_, T>) -> Done {
        Rectified::new(self.rule, &self.step, block.variable_scalars()).update(block)
    }

    fn visits_untouched_rows(&self) -> bool {
        true
    }
}

impl<T: Scalar> UpdateRule<T> for RectifiedAdam {
    fn adjusted_learning_rate(&self, learning_rate: f64, step: u64) -> f64 {
        self.warmed_up(inverse_time_decay(learning_rate, self.decay, step), step)
    }

    fn slots(&self) -> Vec<SlotSpec> {
        let counter = (self.dialect == Dialect::Pytorch).then(|| SlotSpec::counter("step"));
        let moments = [SlotSpec::zeros("m").moment(), SlotSpec::zeros("v").moment().within(0.0..)];
        let largest = self.amsgrad.then(|| SlotSpec::zeros("vhat").within(0.0..));
        counter.into_iter().chain(moments).chain(largest).collect()
    }

    fn begin_step<'a>(&'a self, step: &Step, _shared: &mut [f64]) -> Box<dyn Kernel<T> + 'a> {
        if self.dialect == Dialect::Pytorch {
            return Box::new(CountedByVariable { rule: self, step: *step });
        }
        Box::new(Rectified::<T>::new(self, step, &self.corrections_at(step.iteration)))
    }
}
