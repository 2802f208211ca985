//! The law of recorded steps.

use std::collections::BTreeMap;

use opt_core::state::DType;
use opt_core::trace::Array;
use opt_core::{DynOptimizer, MomentStorage, Scalar};

use super::{Broken, Setting, Stage, Subject, for_all};
use crate::problem::{Problem, Variables};
use crate::recording::{self, Numbers};

/// The graph of a recorded step gives the bits of the step: for every stage, for dense and sparse gradients, for
/// moments in full and in 16 bits, also where numbers are infinite, NaN or very small. (Any NaN is as good as any
/// other.)
///
/// # Errors
///
/// When the law does not hold.
pub fn recorded_steps_are_steps(rule: &Subject) -> Result<(), Broken> {
    fn check<T: Scalar>(setting: &Setting<'_, T>) -> Result<(), Broken> {
        let narrow = (T::DTYPE == DType::F32).then_some((true, MomentStorage::Bf16 { seed: 11 }));
        let full = [true, false].map(|flushes| (flushes, MomentStorage::Full));
        for (flushes, moments) in full.into_iter().chain(narrow) {
            for problem in [
                Problem::varied(31, 9).with_distinct_rows(),
                recording::wild(32, 9, 257, false),
                recording::wild(33, 9, 257, true),
            ] {
                let mut optimizer = setting.build(setting.builder().flush_denormals(flushes).moments(moments))?;
                let mut variables = problem.start::<T>();
                for number in 0..problem.steps.len() {
                    compare(setting, &problem, number, &mut optimizer, &mut variables)?;
                }
            }
        }
        Ok(())
    }
    for_all!(rule, Stage::OF_ONE_GROUP, recorded_steps_are_steps => check);
    Ok(())
}

/// Records a step of a problem, makes it, and compares.
fn compare<T: Scalar>(
    setting: &Setting<'_, T>,
    problem: &Problem,
    number: usize,
    optimizer: &mut DynOptimizer<T>,
    variables: &mut Variables<T>,
) -> Result<(), Broken> {
    let broken = |how: String| setting.broken(format!("step {number}: {how}"));
    let recorded = problem.record(number, optimizer, variables).map_err(|error| broken(error.to_string()))?;
    if number == 0 {
        // Recorded before there are slots.
        optimizer.add_variables(variables).map_err(|error| broken(error.to_string()))?;
    }
    let before: Vec<Numbers<T>> = recorded.iter().map(|of| recording::numbers(of, optimizer, variables)).collect();
    setting.step(problem, number, optimizer, variables)?;
    for (of, before) in recorded.iter().zip(&before) {
        let gradient = &problem.gradients::<T>(number)[of.variable.as_str()];
        let after = recording::numbers(of, optimizer, variables);
        let width = before[&Array::Value].len() / variables.of(&of.variable).shape().first().unwrap_or(&1).max(&1);
        for element in 0..before[&Array::Value].len() {
            let g = gradient.element(element, width);
            let update = if g.is_some() { Some(&of.update) } else { of.untouched.as_ref() };
            let load = |array| if array == Array::Gradient { g.unwrap_or_default() } else { before[&array][element] };
            let new: BTreeMap<Array, T> = update.into_iter().flat_map(|update| update.evaluate(load)).collect();
            for (array, after) in &after {
                let want = after[element];
                let got = new.get(array).copied().unwrap_or(before[array][element]);
                if !recording::are_same(got, want) {
                    return Err(broken(format!("{array:?} {element} of {:?}: {got} instead of {want}", of.variable)));
                }
            }
        }
    }
    Ok(())
}
