//! Triangular waves between two learning rates: as they are, halved each cycle, or shrinking exponentially.

mod scale;
mod wave;

use opt_core::{
    Config, ConfigError, Fields, HyperparameterError, HyperparameterKind, HyperparameterSpec, Interval, Schedule,
    ScheduleFromConfig,
};

use scale::{Exponential, Halving, Same, Scale};
pub use wave::ScaleMode;
use wave::Wave;

use crate::spec::{INITIAL_LEARNING_RATE, RATE, STEPS, optional, required};

/// A [`Wave`] with a [`Scale`], and the fields that the scale adds.
macro_rules! cyclical {
    ($(#[$documentation:meta])* $name:ident, $scale:ident, [$($field:expr),*]) => {
        $(#[$documentation])*
        #[derive(Debug, Clone, PartialEq)]
        pub struct $name {
            wave: Wave,
            scale: $scale,
        }

        impl $name {
            /// Rises from `initial_learning_rate` to `maximal_learning_rate` in `step_size` steps, and falls back in as
            /// many.
            #[must_use]
            pub fn new(initial_learning_rate: f64, maximal_learning_rate: f64, step_size: u64) -> Self {
                let wave = Wave::new(initial_learning_rate, maximal_learning_rate, step_size, $scale::DEFAULT_MODE);
                Self { wave, scale: $scale::default() }
            }

            /// Whether the height depends on the cycle or on the step.
            #[must_use]
            pub fn scale_mode(mut self, scale_mode: ScaleMode) -> Self {
                self.wave.scale_mode = scale_mode;
                self
            }
        }

        impl Schedule for $name {
            fn value(&self, step: u64) -> f64 {
                self.wave.value(step, |x| self.scale.height(x))
            }

            fn class_name(&self) -> &str {
                Self::CLASS_NAME
            }

            fn config(&self) -> Result<Config, ConfigError> {
                let mut fields = self.wave.config();
                self.scale.write(&mut fields);
                Ok(fields)
            }

            fn validate(&self) -> Result<(), HyperparameterError> {
                self.wave.validate()?;
                self.scale.validate(&self.wave)
            }
        }

        impl ScheduleFromConfig for $name {
            const CLASS_NAME: &'static str = stringify!($name);

            const HYPERPARAMETERS: &'static [HyperparameterSpec] = &[
                INITIAL_LEARNING_RATE,
                required("maximal_learning_rate", RATE, "value at the peak, h"),
                required("step_size", STEPS, "steps of half a cycle, n"),
                optional("scale_mode", ScaleMode::KIND, $scale::DEFAULT_MODE.json(), "what the height depends on"),
                $($field),*
            ];

            fn from_config(fields: &mut Fields<'_>) -> Result<Self, ConfigError> {
                Ok(Self { wave: Wave::read(fields, $scale::DEFAULT_MODE)?, scale: $scale::read(fields)? })
            }
        }
    };
}

cyclical! {
    /// Rises and falls in straight lines between two learning rates.
    ///
    /// Needs no guess of one good learning rate: a range test gives the two ends, and every cycle crosses all between.
    ///
    /// ```text
    /// c = floor(1 + s / (2 n))            cycle, from 1
    /// x = |s / n - 2 c + 1|               1 at the ends of a cycle, 0 at its peak
    /// value(s) = l + (h - l) (1 - x)
    /// ```
    ///
    /// | symbol | field | default |
    /// |---|---|---|
    /// | l | `initial_learning_rate` | required |
    /// | h | `maximal_learning_rate` | required |
    /// | n | `step_size` | required: half a cycle |
    /// | | `scale_mode` | `"cycle"`, without effect here |
    ///
    /// # Examples
    ///
    /// ```
    /// use opt_schedules::{Schedule, TriangularCyclicalLearningRate};
    ///
    /// let rate = TriangularCyclicalLearningRate::new(0.0, 1.0, 4);
    /// assert_eq!([0, 1, 2, 4, 6, 8, 12].map(|step| rate.value(step)), [0.0, 0.25, 0.5, 1.0, 0.5, 0.0, 1.0]);
    /// ```
    ///
    /// # Differences
    ///
    /// TensorFlow Addons takes any `scale_mode` but `"cycle"` for `"iterations"`; here others are refused. Its values
    /// are `f32`, and NaN with `step_size = 0`. PyTorch's `CyclicLR` is the same wave, and may fall at another speed.
    ///
    /// # Errors
    ///
    /// [`validate`](Schedule::validate) refuses `step_size = 0`, and rates that are negative, infinite or NaN. The wave
    /// may also go down from the initial rate, as momentum does when the learning rate goes up.
    ///
    /// # References
    ///
    /// L. N. Smith, 2015: Cyclical Learning Rates for Training Neural Networks. arXiv:1506.01186.
    TriangularCyclicalLearningRate,
    Same,
    []
}

cyclical! {
    /// Rises and falls in straight lines, to half the height in each following cycle.
    ///
    /// Like [`TriangularCyclicalLearningRate`], but the peaks come down by themselves, so that training settles.
    ///
    /// ```text
    /// value(s) = l + (h - l) (1 - x) / 2^(c - 1)      s in place of c with scale_mode "iterations"
    /// ```
    ///
    /// | symbol | field | default |
    /// |---|---|---|
    /// | l | `initial_learning_rate` | required |
    /// | h | `maximal_learning_rate` | required |
    /// | c, x | from `step_size` as for [`TriangularCyclicalLearningRate`] | required |
    /// | | `scale_mode` | `"cycle"` |
    ///
    /// # Examples
    ///
    /// ```
    /// use opt_schedules::{Schedule, Triangular2CyclicalLearningRate};
    ///
    /// let rate = Triangular2CyclicalLearningRate::new(0.0, 1.0, 4);
    /// assert_eq!([0, 4, 8, 12, 16, 20].map(|step| rate.value(step)), [0.0, 1.0, 0.0, 0.5, 0.0, 0.25]);
    /// ```
    ///
    /// # Differences
    ///
    /// As for [`TriangularCyclicalLearningRate`].
    ///
    /// # Errors
    ///
    /// As for [`TriangularCyclicalLearningRate`].
    ///
    /// # References
    ///
    /// L. N. Smith, 2015: Cyclical Learning Rates for Training Neural Networks. arXiv:1506.01186.
    Triangular2CyclicalLearningRate,
    Halving,
    []
}

cyclical! {
    /// Rises and falls in straight lines, to a height that shrinks exponentially.
    ///
    /// Like [`TriangularCyclicalLearningRate`], but the peaks come down as fast as you choose.
    ///
    /// ```text
    /// value(s) = l + (h - l) (1 - x) g^s              c in place of s with scale_mode "cycle"
    /// ```
    ///
    /// | symbol | field | default |
    /// |---|---|---|
    /// | l | `initial_learning_rate` | required |
    /// | h | `maximal_learning_rate` | required |
    /// | c, x | from `step_size` as for [`TriangularCyclicalLearningRate`] | required |
    /// | g | `gamma` | 1 |
    /// | | `scale_mode` | `"iterations"` |
    ///
    /// Cycles count from 1: with `scale_mode` `"cycle"`, the first peak is already multiplied by `gamma`.
    ///
    /// # Examples
    ///
    /// ```
    /// use opt_schedules::{ExponentialCyclicalLearningRate, ScaleMode, Schedule};
    ///
    /// let rate = ExponentialCyclicalLearningRate::new(0.0, 1.0, 2).gamma(0.5);
    /// assert_eq!([0, 1, 2, 3, 6].map(|step| rate.value(step)), [0.0, 0.25, 0.25, 0.0625, 0.015625]);
    ///
    /// let rate = rate.scale_mode(ScaleMode::Cycle);
    /// assert_eq!([0, 2, 6].map(|step| rate.value(step)), [0.0, 0.5, 0.25]);
    /// ```
    ///
    /// # Differences
    ///
    /// As for [`TriangularCyclicalLearningRate`]. TensorFlow Addons fails with whole-number steps here. With a
    /// `gamma` above 1, growth stops before infinity.
    ///
    /// # Errors
    ///
    /// As for [`TriangularCyclicalLearningRate`], and a `gamma` that is not above 0, or that is above 1 while the
    /// maximal rate is below the initial one: the value would become negative.
    ///
    /// # References
    ///
    /// L. N. Smith, 2015: Cyclical Learning Rates for Training Neural Networks. arXiv:1506.01186.
    ExponentialCyclicalLearningRate,
    Exponential,
    [optional("gamma", HyperparameterKind::Number(Interval::POSITIVE), "1.0", "factor for each step or cycle, g")]
}

impl ExponentialCyclicalLearningRate {
    /// The factor for each step or cycle.
    #[must_use]
    pub fn gamma(mut self, gamma: f64) -> Self {
        self.scale.gamma = gamma;
        self
    }
}
