//! One rise and one long fall.

use opt_core::{
    Config, ConfigError, Fields, HyperparameterError, HyperparameterKind, HyperparameterSpec, Interval, Schedule,
    ScheduleFromConfig, config, require,
};

use crate::checks;
use crate::numbers::{blend, half_cosine};
use crate::spec::{PART, RATE, STEPS, optional, required};

/// The shape of the way between two values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Anneal {
    /// Half a cosine: `"cos"` in configurations.
    Cosine,
    /// A straight line: `"linear"` in configurations.
    Linear,
}

impl Anneal {
    const NAMES: [(&'static str, Self); 2] = [("cos", Self::Cosine), ("linear", Self::Linear)];

    fn name(self) -> &'static str {
        match self {
            Self::Cosine => "cos",
            Self::Linear => "linear",
        }
    }

    fn between(self, from: f64, to: f64, x: f64) -> f64 {
        match self {
            Self::Cosine => blend(to, from, half_cosine(x)),
            Self::Linear => blend(from, to, x),
        }
    }
}

/// Rises to a very high learning rate, and falls far below the first one.
///
/// With a `max_lr` near the largest that does not diverge, trainings of a known, short length get further.
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
/// The last step of the cycle is `n - 1`; its value stays from there on. If `p n` is below 1, there is no rise, and
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
/// PyTorch's `OneCycleLR` changes the momentum as well, takes epochs in place of `total_steps`, refuses to go on after
/// the cycle, and divides by zero when `pct_start * total_steps` is exactly 1 (here step 0 is then the peak). Its
/// `div_factor` may be below 1.
///
/// # Errors
///
/// [`validate`](Schedule::validate) refuses `total_steps = 0`, a `pct_start` outside [0, 1], a `max_lr` that is
/// negative, infinite or NaN, and factors that lead above `max_lr`: a `div_factor` below 1, a `final_div_factor` below
/// `1 / div_factor`.
///
/// # References
///
/// L. N. Smith and N. Topin, 2017: Super-Convergence: Very Fast Training of Neural Networks Using Large Learning Rates.
/// arXiv:1708.07120. Two phases: fast.ai's version of it.
#[derive(Debug, Clone, PartialEq)]
pub struct OneCycle {
    max_lr: f64,
    total_steps: u64,
    pct_start: f64,
    anneal_strategy: Anneal,
    div_factor: f64,
    final_div_factor: f64,
    three_phase: bool,
}

impl OneCycle {
    /// Rises from `max_lr / 25` to `max_lr` in 30 % of the steps, and falls to `max_lr / 250000` in the others.
    #[must_use]
    pub fn new(max_lr: f64, total_steps: u64) -> Self {
        Self {
            max_lr,
            total_steps,
            pct_start: 0.3,
            anneal_strategy: Anneal::Cosine,
            div_factor: 25.0,
            final_div_factor: 1e4,
            three_phase: false,
        }
    }

    /// The part of all steps in which the learning rate rises.
    #[must_use]
    pub fn pct_start(mut self, pct_start: f64) -> Self {
        self.pct_start = pct_start;
        self
    }

    /// The shape of rise and fall.
    #[must_use]
    pub fn anneal_strategy(mut self, anneal_strategy: Anneal) -> Self {
        self.anneal_strategy = anneal_strategy;
        self
    }

    /// How many times smaller than `max_lr` the first learning rate is.
    #[must_use]
    pub fn div_factor(mut self, div_factor: f64) -> Self {
        self.div_factor = div_factor;
        self
    }

    /// How many times smaller than the first learning rate the last one is.
    #[must_use]
    pub fn final_div_factor(mut self, final_div_factor: f64) -> Self {
        self.final_div_factor = final_div_factor;
        self
    }

    /// Whether the fall first repeats the rise, mirrored, and then goes on to the last learning rate: the original
    /// paper.
    #[must_use]
    pub fn three_phase(mut self, three_phase: bool) -> Self {
        self.three_phase = three_phase;
        self
    }

    /// The phase that a step is in.
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

/// From one value to another, between two steps (not always whole ones).
struct Phase {
    from: f64,
    to: f64,
    start: f64,
    end: f64,
}

impl Phase {
    /// The part that is over; a phase without length is.
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

    fn class_name(&self) -> &str {
        Self::CLASS_NAME
    }

    fn config(&self) -> Result<Config, ConfigError> {
        Ok(config([
            ("max_lr", self.max_lr.into()),
            ("total_steps", self.total_steps.into()),
            ("pct_start", self.pct_start.into()),
            ("anneal_strategy", self.anneal_strategy.name().into()),
            ("div_factor", self.div_factor.into()),
            ("final_div_factor", self.final_div_factor.into()),
            ("three_phase", self.three_phase.into()),
        ]))
    }

    fn validate(&self) -> Result<(), HyperparameterError> {
        checks::rate("max_lr", self.max_lr)?;
        checks::at_least_one("total_steps", self.total_steps)?;
        checks::part("pct_start", self.pct_start)?;
        require("div_factor", self.div_factor, 1.0..)?;
        require("final_div_factor", self.final_div_factor, 1.0 / self.div_factor..)
    }
}

impl ScheduleFromConfig for OneCycle {
    const CLASS_NAME: &'static str = "OneCycle";

    const HYPERPARAMETERS: &'static [HyperparameterSpec] = &[
        required("max_lr", RATE, "highest value, h"),
        required("total_steps", STEPS, "steps of the cycle, n"),
        optional("pct_start", PART, "0.3", "part of all steps that rises, p"),
        optional(
            "anneal_strategy",
            HyperparameterKind::Choice(&["cos", "linear"]),
            r#""cos""#,
            "shape of rise and fall",
        ),
        optional(
            "div_factor",
            HyperparameterKind::Number(Interval::AT_LEAST_ONE),
            "25.0",
            "highest value by first value, f",
        ),
        optional(
            "final_div_factor",
            HyperparameterKind::Number(Interval::POSITIVE),
            "10000.0",
            "first value by last value, g; at least 1 / `div_factor`",
        ),
        optional("three_phase", HyperparameterKind::Bool, "false", "fall to the first value before falling on"),
    ];

    fn from_config(fields: &mut Fields<'_>) -> Result<Self, ConfigError> {
        Ok(Self {
            max_lr: fields.f64("max_lr")?,
            total_steps: fields.u64("total_steps")?,
            pct_start: fields.f64_or("pct_start", 0.3)?,
            anneal_strategy: checks::choice(fields, "anneal_strategy", Anneal::Cosine, Anneal::NAMES)?,
            div_factor: fields.f64_or("div_factor", 25.0)?,
            final_div_factor: fields.f64_or("final_div_factor", 1e4)?,
            three_phase: fields.bool_or("three_phase", false)?,
        })
    }
}
