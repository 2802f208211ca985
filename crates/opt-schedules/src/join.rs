//! Schedules one after the other.

use opt_core::config::{HyperparameterError, Steps};
use opt_core::{Hyper, Schedule, hyperparameters};

use crate::lists;

hyperparameters! {
    /// Schedules one after the other, each from its own boundary on.
    ///
    /// For recipes that no single class covers: warm up, hold, cool down.
    ///
    /// ```text
    /// value(s) = f_i(s - b_i),   i = number of boundaries b with b <= s,   b_0 = 0
    /// ```
    ///
    /// | symbol | field | default |
    /// |---|---|---|
    /// | f | `schedules` | required: numbers or schedules |
    /// | b | `boundaries` | required, in steps from 1 on, rising; one less than schedules |
    ///
    /// Each schedule counts its steps from its own boundary: at the boundary it has its value at 0.
    ///
    /// # Examples
    ///
    /// ```
    /// use opt_schedules::{Join, LinearWarmup, PolynomialDecay, Schedule};
    ///
    /// let cool_down = PolynomialDecay::new(1.0, 4).end_learning_rate(0.0);
    /// let rate = Join::new(LinearWarmup::new(1.0, 4)).then(100, cool_down).then(104, 0.125);
    /// assert_eq!([0, 2, 4, 99, 100, 101, 103].map(|step| rate.value(step)), [0.0, 0.5, 1.0, 1.0, 1.0, 0.75, 0.25]);
    /// assert_eq!(rate.value(104), 0.125);
    /// ```
    ///
    /// # Differences
    ///
    /// Like optax's `join_schedules` and PyTorch's `SequentialLR`. Boundaries that do not rise are refused, and so is a
    /// boundary at 0, because its left side would have no steps. A boundary belongs to its right side; in
    /// [`PiecewiseConstantDecay`](crate::PiecewiseConstantDecay), it belongs to its left side.
    ///
    /// # Errors
    ///
    /// [`validate`](opt_core::config::Configurable::validate) refuses boundaries that are below 1 or do not rise
    /// strictly, a list of schedules that is not one longer than the boundaries, and schedules that are not valid
    /// themselves. [`config`](opt_core::config::Configurable::config) fails if a schedule holds code.
    #[derive(Debug, Clone)]
    pub struct Join {
        #[required] schedules: Vec<Hyper>, in 0.0.., "schedules, f";
        #[required] boundaries: Vec<u64>, "first step of each schedule but the first, b; rising";
    }
    schedule "Join" {
        check: Self::check,
    }
}

impl Join {
    /// Begins with a schedule or a number.
    #[must_use]
    pub fn new(first: impl Into<Hyper>) -> Self {
        Self::with_defaults(vec![first.into()], Vec::new())
    }

    /// Adds a schedule or a number from the step `boundary` on.
    #[must_use]
    pub fn then(mut self, boundary: u64, next: impl Into<Hyper>) -> Self {
        self.schedules.push(next.into());
        self.boundaries.push(boundary);
        self
    }

    fn check(&self) -> Result<(), HyperparameterError> {
        let boundaries: Vec<Steps> = self.boundaries.iter().copied().map(Steps::from).collect();
        lists::rising(&boundaries, 1)?;
        lists::one_more("schedules", self.schedules.len(), boundaries.len())
    }
}

impl Schedule for Join {
    fn value(&self, step: u64) -> f64 {
        let passed = self.boundaries.partition_point(|boundary| *boundary <= step);
        let start = if passed == 0 { 0 } else { self.boundaries[passed - 1] };
        self.schedules.get(passed).map_or(f64::NAN, |schedule| schedule.at(step.saturating_sub(start)))
    }
}
