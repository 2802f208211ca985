//! Half cosines, one after the other.

use opt_core::config::Steps;
use opt_core::{Schedule, hyperparameters};

use super::above_floor;
use crate::numbers::{fraction, half_cosine, power};

hyperparameters! {
    /// Falls along half a cosine, then starts again at the top, and so on; each period is `t_mul` times as long as the
    /// one before.
    ///
    /// Every restart lets the weights leave their current minimum. The weights just before a restart are good ones to
    /// keep or to average.
    ///
    /// ```text
    /// value(s) = l [(1 - a) m^i (1 + cos(pi x)) / 2 + a]
    /// b_i = d (t^i - 1) / (t - 1),   d i if t = 1          the step at which period i starts, from 0
    /// x = (s - b_i) / (b_{i+1} - b_i)                      for b_i <= s < b_{i+1}
    /// ```
    ///
    /// | symbol | field | default |
    /// |---|---|---|
    /// | l | `initial_learning_rate` | required |
    /// | d | `first_decay_steps` | required |
    /// | t | `t_mul` | 2 |
    /// | m | `m_mul` | 1 |
    /// | a | `alpha` | 0: the floor, as a fraction of the initial learning rate |
    ///
    /// `m_mul` scales only the part above the floor.
    ///
    /// # Examples
    ///
    /// ```
    /// use opt_schedules::{CosineDecayRestarts, Schedule};
    ///
    /// // Periods of 100, 200, 400, ... steps; each starts at half the height of the one before.
    /// let rate = CosineDecayRestarts::new(1.0, 100).m_mul(0.5);
    /// assert_eq!([0, 50, 100, 200, 300, 500].map(|step| rate.value(step)), [1.0, 0.5, 0.5, 0.25, 0.25, 0.125]);
    /// ```
    ///
    /// # Differences
    ///
    /// Keras finds the period by a logarithm in `f32`. Here the period is checked against its boundaries, and a
    /// boundary that differs from a whole number only by rounding counts as that number: with `t_mul = 1.1` and 10
    /// first steps, step 21 restarts. With an `m_mul` above 1, growth stops at the largest finite number. In PyTorch's
    /// `CosineAnnealingWarmRestarts`, `T_mult` is a whole number, and there is no `m_mul`.
    ///
    /// # Errors
    ///
    /// [`validate`](opt_core::config::Configurable::validate) refuses `first_decay_steps` below 1, a `t_mul` below 1, an `alpha`
    /// outside [0, 1] (it is a fraction), and rates and `m_mul` that are negative, infinite or NaN.
    ///
    /// # References
    ///
    /// I. Loshchilov and F. Hutter, 2016: SGDR: Stochastic Gradient Descent with Warm Restarts. arXiv:1608.03983.
    #[derive(Debug, Clone, PartialEq)]
    pub struct CosineDecayRestarts {
        #[required] initial_learning_rate: f64, in 0.0.., "value at step 0, l";
        #[required] first_decay_steps: Steps, in 1.0.., "steps of the first period, d";

        /// Sets the length of a period, relative to the period before it, at least 1.
        t_mul: f64 = 2.0, in 1.0.., "how many times as long the next period is, t";

        /// Sets the height of the start of a period above the floor, relative to the period before it, at least 0.
        m_mul: f64 = 1.0, in 0.0.., "how many times as high the next period starts, m";

        /// Sets the floor, as a fraction of the initial learning rate, in [0, 1].
        alpha: f64 = 0.0, in 0.0..=1.0, "floor, as a fraction of the initial learning rate, a";
    }
    schedule "CosineDecayRestarts"
}

impl CosineDecayRestarts {
    /// Falls from `initial_learning_rate` to 0 in `first_decay_steps` steps, again in twice as many, and so on.
    #[must_use]
    pub fn new(initial_learning_rate: f64, first_decay_steps: impl Into<Steps>) -> Self {
        Self::with_defaults(initial_learning_rate, first_decay_steps.into())
    }

    /// The number of the period, and the fraction of it that is over.
    fn position(&self, step: u64) -> (f64, f64) {
        let d = self.first_decay_steps;
        if self.t_mul > 1.0 {
            let growing = Growing { d: if d == Steps::ZERO { 1.0 } else { d.get() }, t: self.t_mul };
            growing.position(step as f64)
        } else {
            let (i, since) = d.split(step);
            (i as f64, fraction(since, d))
        }
    }
}

impl Schedule for CosineDecayRestarts {
    fn value(&self, step: u64) -> f64 {
        let (i, x) = self.position(step);
        above_floor(self.initial_learning_rate, self.alpha, power(self.m_mul, i) * half_cosine(x))
    }
}

/// Periods of `d`, `d t`, `d t^2`, ... steps, for `t > 1`.
struct Growing {
    d: f64,
    t: f64,
}

impl Growing {
    /// The number of the period, and the fraction of it that is over.
    fn position(&self, step: f64) -> (f64, f64) {
        let mut i = self.guess(step);
        while self.start(i) > step {
            i -= 1;
        }
        while self.start(i + 1) <= step {
            i += 1;
        }
        let (start, end) = (self.start(i), self.start(i + 1));
        (i as f64, (step - start) / (end - start))
    }

    /// The number of the period, by the inverse of [`start`](Self::start); rounding may make it wrong by one.
    fn guess(&self, step: f64) -> u64 {
        let growth = (step / self.d * (self.t - 1.0)).min(f64::MAX);
        (growth.ln_1p() / self.t.ln()) as u64
    }

    /// The step at which a period starts, rounded to a whole number if it differs from it only by rounding.
    fn start(&self, i: u64) -> f64 {
        const ROUNDING: f64 = 1e-12;
        let start = self.d * (self.growth(i as f64) / (self.t - 1.0));
        let whole = start.round();
        if (start - whole).abs() <= ROUNDING * whole { whole } else { start }
    }

    /// `t^i - 1`, accurate also where `t` is so near to 1 that the subtraction would lose all digits.
    fn growth(&self, i: f64) -> f64 {
        if self.t >= 2.0 { self.t.powf(i) - 1.0 } else { (i * (self.t - 1.0).ln_1p()).exp_m1() }
    }
}
