//! One rise and one long fall.

use opt_core::config::{Choice, HyperparameterError, Interval, require};
use opt_core::{Schedule, hyperparameters};

use crate::numbers::{blend, half_cosine};

/// The shape of the curve between two values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Anneal {
    /// Half a cosine: `"cos"` in configurations.
    Cosine,
    /// A straight line: `"linear"` in configurations.
    Linear,
}

impl Choice for Anneal {
    const CHOICES: &'static [(&'static str, Self)] = &[("cos", Self::Cosine), ("linear", Self::Linear)];
}

impl Anneal {
    fn between(self, from: f64, to: f64, x: f64) -> f64 {
        match self {
            Self::Cosine => blend(to, from, half_cosine(x)),
            Self::Linear => blend(from, to, x),
        }
    }
}

hyperparameters! {
    /// Rises to a very high learning rate, and falls far below the first one.
    ///
    /// With a `max_lr` just below the rates that diverge, short trainings of a known length get further.
    ///
    /// ```text
    /// l = h / f,   e = l / g,   u = p n - 1
    /// s <= u:   value(s) = from l to h at s / u
    /// s > u:    value(s) = from h to e at (s - u) / (n - 1 - u)
    ///
    /// three phases:
    /// u < s <= 2 u:   value(s) = from h to l at (s - u) / u
    /// s > 2 u:        value(s) = from l to e at (s - 2 u) / (n - 1 - 2 u)
    ///
    /// from a to b at x:   b + (a - b) (1 + cos(pi x)) / 2,   or   a + (b - a) x
    /// ```
    ///
    /// | symbol | field | default |
    /// |---|---|---|
    /// | h | `max_lr` | required |
    /// | n | `total_steps` | required |
    /// | p | `pct_start` | 0.3: the part of all steps that rises |
    /// | | `anneal_strategy` | `"cos"` |
    /// | f | `div_factor` | 25 |
    /// | g | `final_div_factor` | 10000 |
    /// | | `three_phase` | false |
    ///
    /// The last step of the cycle is `n - 1`; later steps keep its value. If `p n` is below 1, there is no rise, and
    /// even the first step is a little past the peak.
    ///
    /// # Examples
    ///
    /// ```
    /// use opt_schedules::{Anneal, OneCycle, Schedule};
    ///
    /// // Up to 1 at step 4, down to 0.25 / 4 at step 19.
    /// let rate = OneCycle::new(1.0, 20).pct_start(0.25).div_factor(4.0).final_div_factor(4.0);
    /// let linear = rate.anneal_strategy(Anneal::Linear);
    /// assert_eq!([0, 2, 4, 12, 19, 20].map(|step| linear.value(step)), [0.25, 0.625, 1.0, 0.5, 0.0625, 0.0625]);
    /// ```
    ///
    /// # Differences
    ///
    /// PyTorch's `OneCycleLR` changes the momentum as well, takes epochs in place of `total_steps`, refuses steps after
    /// the cycle, and divides by zero when `pct_start * total_steps` is exactly 1 (here step 0 is then the peak). Its
    /// `div_factor` may be below 1.
    ///
    /// # Errors
    ///
    /// [`validate`](opt_core::config::Configurable::validate) refuses `total_steps = 0`, a `pct_start` outside [0, 1],
    /// a `max_lr` that is negative, infinite or NaN, and factors that lead above `max_lr`: a `div_factor` below 1, or a
    /// `final_div_factor` below `1 / div_factor`.
    ///
    /// # References
    ///
    /// L. N. Smith and N. Topin, 2017: Super-Convergence: Very Fast Training of Neural Networks Using Large Learning
    /// Rates. arXiv:1708.07120. Two phases: fast.ai's version of it.
    #[derive(Debug, Clone, PartialEq)]
    pub struct OneCycle {
        #[required] max_lr: f64, in 0.0.., "highest value, h";
        #[required] total_steps: u64, in 1.., "steps of the cycle, n";

        /// Sets the fraction of all steps in which the learning rate rises, in [0, 1].
        pct_start: f64 = 0.3, in 0.0..=1.0, "part of all steps that rises, p";

        /// Sets the shape of rise and fall.
        anneal_strategy: Anneal = Anneal::Cosine, "shape of rise and fall";

        /// Sets how many times smaller than `max_lr` the first learning rate is, at least 1.
        div_factor: f64 = 25.0, in 1.0.., "highest value by first value, f";

        /// Sets how many times smaller than the first learning rate the last one is, at least 1 / `div_factor`.
        final_div_factor: f64 = 1e4, in Interval::POSITIVE, "first value by last value, g; at least 1 / `div_factor`";

        /// Sets whether the fall first mirrors the rise, and then continues to the last learning rate, as in the
        /// original paper.
        three_phase: bool = false, "fall to the first value before falling on";
    }
    schedule "OneCycle" {
        check: Self::check,
    }
}

impl OneCycle {
    /// Rises from `max_lr / 25` to `max_lr` in 30 % of the steps, and falls to `max_lr / 250000` in the others.
    #[must_use]
    pub fn new(max_lr: f64, total_steps: u64) -> Self {
        Self::with_defaults(max_lr, total_steps)
    }

    fn check(&self) -> Result<(), HyperparameterError> {
        require("final_div_factor", self.final_div_factor, 1.0 / self.div_factor..)
    }

    /// The phase of a step.
    fn phase(&self, step: f64, last: f64) -> Phase {
        let high = self.max_lr;
        let first = high / self.div_factor;
        let end = first / self.final_div_factor;
        let top = self.pct_start * self.total_steps as f64 - 1.0;
        if step <= top {
            Phase { from: first, to: high, start: 0.0, end: top }
        } else if !self.three_phase {
            Phase { from: high, to: end, start: top, end: last }
        } else if step <= 2.0 * top {
            Phase { from: high, to: first, start: top, end: 2.0 * top }
        } else {
            Phase { from: first, to: end, start: 2.0 * top, end: last }
        }
    }
}

/// A phase from one value to another, between two steps (which need not be whole numbers).
struct Phase {
    from: f64,
    to: f64,
    start: f64,
    end: f64,
}

impl Phase {
    /// The fraction of the phase that is over; 1 for a phase without length.
    fn part(&self, step: f64) -> f64 {
        let length = self.end - self.start;
        if length > 0.0 { (step - self.start) / length } else { 1.0 }
    }
}

impl Schedule for OneCycle {
    fn value(&self, step: u64) -> f64 {
        let last = self.total_steps.saturating_sub(1);
        let step = step.min(last) as f64;
        let phase = self.phase(step, last as f64);
        self.anneal_strategy.between(phase.from, phase.to, phase.part(step))
    }
}
