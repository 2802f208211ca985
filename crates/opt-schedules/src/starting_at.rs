//! A schedule that counts from a step in the middle of a run.

use opt_core::{Hyper, Schedule, hyperparameters};

hyperparameters! {
    /// A schedule whose steps are counted from a step of the run. Before this step it has its first value.
    ///
    /// ```text
    /// value(s) = f(max(s - b, 0))
    /// ```
    ///
    /// | symbol | field | default |
    /// |---|---|---|
    /// | f | `schedule`, a number or a schedule | required |
    /// | b | `start`, in steps | required |
    ///
    /// Schedules count from the start of the run. A schedule that is set at step 1,000 would be read at its own step
    /// 1,000, where most schedules are over, so
    /// [`Optimizer::set_learning_rate`](opt_core::Optimizer::set_learning_rate) asks where it starts: now
    /// (`StartingAt::new(schedule, opt.iterations())`), or as if it had been there from the start (with 0).
    ///
    /// # Examples
    ///
    /// ```
    /// use opt_schedules::{PolynomialDecay, Schedule, StartingAt};
    ///
    /// let falling = PolynomialDecay::new(1.0, 4).end_learning_rate(0.0);
    /// assert_eq!(falling.value(100), 0.0); // long over
    /// let late = StartingAt::new(falling, 100);
    /// assert_eq!([0, 100, 102, 104].map(|step| late.value(step)), [1.0, 1.0, 0.5, 0.0]);
    /// ```
    #[derive(Debug, Clone)]
    pub struct StartingAt {
        #[required] schedule: Hyper, in 0.0.., "schedule whose steps are counted from start";
        #[required] start: u64, "step of the run at which the schedule starts";
    }
    schedule "StartingAt"
}

impl StartingAt {
    /// A schedule, or a number, that counts from a step of the run.
    #[must_use]
    pub fn new(schedule: impl Into<Hyper>, start: u64) -> Self {
        Self::with_defaults(schedule.into(), start)
    }
}

impl Schedule for StartingAt {
    fn value(&self, step: u64) -> f64 {
        self.schedule.at(step.saturating_sub(self.start))
    }

    fn start(&self) -> Option<u64> {
        Some(self.start)
    }
}
