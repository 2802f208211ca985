//! The formula of NovoGrad.

use opt_core::rule::{
    Block, Done, Kernel, Real, SlotSpec, SparseUpdate, Step, VariableScalars, VariableStep, inverse_time_decay,
};
use opt_core::{Scalar, UpdateRule};

use crate::config::NovoGrad;

/// The coefficients of a step, the same for all elements of a variable.
#[derive(Debug, Clone, Copy)]
struct Coefficients<E> {
    beta_1: E,
    /// The factor of u in m: -eta, or 1 if the learning rate is outside.
    into_m: E,
    /// The factor of m in w: 1, or -eta if the learning rate is outside; with the bias correction.
    out_of_m: E,
    /// Weight decay.
    lambda: E,
    /// Weight decay times learning rate.
    eta_lambda: E,
    /// 1 - beta_1 with gradient averaging, else 1.
    gain: E,
    /// The denominator.
    d: E,
}

/// The update with normalisation and weight decay inside the moment.
fn inside<E: Real>(k: &Coefficients<E>, w: E, g: E, [m]: [E; 1]) -> (E, [E; 1]) {
    let u = g / k.d + k.lambda * w;
    let m = k.beta_1 * m + k.into_m * (k.gain * u);
    (w + k.out_of_m * m, [m])
}

/// The update with normalisation and weight decay outside the moment.
fn outside<E: Real>(k: &Coefficients<E>, w: E, g: E, [m]: [E; 1]) -> (E, [E; 1]) {
    let m = k.beta_1 * m + k.into_m * (k.gain * g);
    (w + (k.out_of_m * m / k.d - k.eta_lambda * w), [m])
}

/// One step over all variables.
#[derive(Debug)]
struct NovoGradStep<'a> {
    rule: &'a NovoGrad,
    /// Learning rate.
    eta: f64,
    /// 1 / (1 - beta_1^t), or 1.
    m_correction: f64,
    /// 1 / (1 - beta_2^t), or 1.
    v_correction: f64,
}

impl<'a> NovoGradStep<'a> {
    fn new(rule: &'a NovoGrad, step: &Step) -> Self {
        let t = step.number() as f64;
        let correction = |beta: f64| if rule.bias_correction { 1.0 / (1.0 - beta.powf(t)) } else { 1.0 };
        Self {
            rule,
            eta: step.learning_rate,
            m_correction: correction(rule.beta_1),
            v_correction: correction(rule.beta_2),
        }
    }

    /// The coefficients, and the factor of g where d alone would be too large for the element type.
    fn coefficients<T: Scalar>(&self, [d, gain, ..]: VariableScalars) -> (Coefficients<T>, Option<T>) {
        /// A power of two: scaling by it is exact.
        const SCALE: f64 = 1.0 / (1_u64 << 40) as f64;
        let is_too_large = d.is_finite() && !T::literal(d).is_finite();
        let scale = if is_too_large { SCALE } else { 1.0 };
        let rule = self.rule;
        let (into_m, out_of_m) = if rule.learning_rate_outside { (1.0, -self.eta) } else { (-self.eta, 1.0) };
        let out_of_m = if rule.reg_inside_moment { out_of_m } else { out_of_m * scale };
        let d = T::literal(d * scale);
        let k = Coefficients {
            beta_1: T::literal(rule.beta_1),
            into_m: T::literal(into_m),
            out_of_m: T::literal(out_of_m * self.m_correction),
            lambda: T::literal(rule.weight_decay),
            eta_lambda: T::literal(self.eta * rule.weight_decay),
            gain: T::literal(gain),
            // d is 0 only if epsilon is 0 and the squares of all gradients so far were 0: 0/0 is then 0.
            d: if d == T::zero() { T::literal(f64::INFINITY) } else { d },
        };
        (k, is_too_large.then(|| T::literal(SCALE)))
    }
}

impl<T: Scalar> Kernel<T> for NovoGradStep<'_> {
    fn begin_variable(&self, variable: &VariableStep<'_>, scalars: &mut [f64]) -> VariableScalars {
        let Self { rule, v_correction, .. } = *self;
        let s = variable.gradient_square_sum.expect("the rule needs the norm of gradients");

        let v = scalars[0];
        let unseen = v == 0.0;
        let v = if unseen && !rule.init_zero { s } else { rule.beta_2 * v + (1.0 - rule.beta_2) * s };
        scalars[0] = v;
        let v = if rule.amsgrad {
            scalars[1] = Real::max(scalars[1], v);
            scalars[1]
        } else {
            v
        };
        let d = (v * v_correction + rule.epsilon_root).sqrt() + rule.epsilon;

        let averages = rule.grad_averaging && (rule.average_first_step || !unseen);
        [d, if averages { 1.0 - rule.beta_1 } else { 1.0 }, 0.0, 0.0]
    }

    fn update(&self, block: Block<'_, T>) -> Done {
        let (k, scale) = self.coefficients(*block.variable_scalars());
        match scale.filter(|_| self.rule.reg_inside_moment) {
            Some(scale) => block.elementwise(SparseUpdate::Rows, &k, |k, w, g, m| inside(k, w, scale * g, m)),
            None if self.rule.reg_inside_moment => block.elementwise(SparseUpdate::Rows, &k, inside),
            None => block.elementwise(SparseUpdate::Rows, &k, outside),
        }
    }

    fn visits_untouched_rows(&self) -> bool {
        false
    }
}

impl<T: Scalar> UpdateRule<T> for NovoGrad {
    fn adjusted_learning_rate(&self, learning_rate: f64, step: u64) -> f64 {
        inverse_time_decay(learning_rate, self.decay, step)
    }

    fn slots(&self) -> Vec<SlotSpec> {
        let mut slots = vec![
            SlotSpec::zeros("m").moment().free_of_learning_rate(self.learning_rate_outside),
            SlotSpec::scalar("v", 0.0).within(0.0..),
        ];
        if self.amsgrad {
            slots.push(SlotSpec::scalar("vhat", 0.0).within(0.0..));
        }
        slots
    }

    fn needs_gradient_norm(&self) -> bool {
        true
    }

    fn begin_step<'a>(&'a self, step: &Step, _shared: &mut [f64]) -> Box<dyn Kernel<T> + 'a> {
        Box::new(NovoGradStep::new(self, step))
    }
}
