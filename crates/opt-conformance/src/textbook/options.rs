//! Random options, for the naive engine and for ours.

use opt_core::{Ema, Exclude, Optimizer, OptimizerBuilder, UpdateRule};
use proptest::prelude::*;

use super::{Formula, Naive};
use crate::problem::{Problem, Variables};

/// An optimizer in 64 bits with any rule.
type DynBuilder = OptimizerBuilder<Box<dyn UpdateRule<f64>>, f64>;

/// The expected variables after a step, by name.
type Wanted = std::collections::BTreeMap<String, Vec<f64>>;

/// Random options: one of the clips or none, weight decay (but not of `v3`), averages.
pub fn options() -> impl Strategy<Value = Naive> {
    let clip = (0..4, 0.1..4.0_f64);
    // Keras rounds weight decay to 32 bits.
    let decay = proptest::option::of((0.0..0.5_f32).prop_map(f64::from));
    let ema = proptest::option::of((0.0..=1.0_f64, proptest::option::of(1..4_u64)));
    (clip, decay, ema).prop_map(|((clip, limit), weight_decay, ema)| Naive {
        clipvalue: (clip == 1).then_some(limit),
        clipnorm: (clip == 2).then_some(limit),
        global_clipnorm: (clip == 3).then_some(limit),
        weight_decay,
        excluded: vec!["v3".to_owned()],
        ema,
        teams: Vec::new(),
    })
}

impl Naive {
    /// Our engine with the same options.
    pub fn around(&self, rule: Box<dyn UpdateRule<f64>>) -> DynBuilder {
        let mut builder = Optimizer::builder(rule);
        if let Some(limit) = self.clipvalue {
            builder = builder.clipvalue(limit);
        }
        if let Some(limit) = self.clipnorm {
            builder = builder.clipnorm(limit);
        }
        if let Some(limit) = self.global_clipnorm {
            builder = builder.global_clipnorm(limit);
        }
        if let Some(rate) = self.weight_decay {
            builder = builder.weight_decay(rate).exclude_from_weight_decay(Exclude::names(&self.excluded));
        }
        if let Some((momentum, overwrite)) = self.ema {
            let averages = Ema::new(momentum);
            builder = builder.ema(overwrite.map_or(averages, |steps| averages.overwrite_every(steps)));
        }
        builder
    }

    /// Runs a rule in our engine, and its formula in the naive engine.
    ///
    /// # Errors
    ///
    /// Names the first element that is not close to the result of the formula.
    ///
    /// # Panics
    ///
    /// When the engine refuses the options or a step.
    pub fn agrees(
        &self,
        problem: &Problem,
        rule: Box<dyn UpdateRule<f64>>,
        eta: &dyn Fn(u64) -> f64,
        formula: &mut dyn Formula,
        close: &dyn Fn(f64, f64) -> bool,
    ) -> Result<(), TestCaseError> {
        let mut opt = self.around(rule).build().unwrap_or_else(|error| panic!("{error}"));
        let mut variables = problem.start();
        for (number, want) in self.run(problem, eta, formula).iter().enumerate() {
            problem.step(number, &mut opt, &mut variables).unwrap_or_else(|error| panic!("step {number}: {error}"));
            all_close(number, &variables, want, close)?;
        }
        Ok(())
    }
}

/// Compares variables after a step.
///
/// # Errors
///
/// Names the first element that is not close to the expected one.
pub fn all_close(
    number: usize,
    got: &Variables<f64>,
    want: &Wanted,
    close: &dyn Fn(f64, f64) -> bool,
) -> Result<(), TestCaseError> {
    for (name, got) in &got.0 {
        let far = got.iter().zip(&want[name]).find(|(got, want)| !close(**got, **want));
        prop_assert!(far.is_none(), "step {number}: {name}: {far:?}");
    }
    Ok(())
}
