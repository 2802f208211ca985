//! The laws of single steps.

use ndarray::{Array, ArrayD, Axis, Slice};
use opt_core::{Error, NonFinite, Outcome, Parameters, Scalar, Variable};

use opt_core::DynOptimizer;

use super::{Broken, Setting, Stage, Subject, for_all, state};
use crate::problem::{Gradient, Problem, Rng, Variables};

/// A step that is refused leaves variables, slots and the step counter unchanged, and does not disturb later steps.
///
/// # Errors
///
/// When the law does not hold.
pub fn rejected_steps_leave_no_trace(rule: &Subject) -> Result<(), Broken> {
    fn check<T: Scalar>(setting: &Setting<'_, T>) -> Result<(), Broken> {
        let problem = Problem::varied(1, 6);
        let (control, control_variables) = setting.trained(&problem)?;
        let builder = setting.builder().non_finite(NonFinite::Error);
        let (mut optimizer, mut variables) = (setting.build(builder)?, problem.start::<T>());
        for number in 0..problem.steps.len() {
            let before = (state::of(&optimizer), variables.clone());
            for (what, error) in bad_steps(&mut optimizer, &mut variables) {
                if error.is_none() {
                    return Err(setting.broken(format!("{what} was accepted")));
                }
            }
            setting.same("refused", &variables, &before.1)?;
            setting.still_the_state("refused", &optimizer, &before.0)?;
            setting.step(&problem, number, &mut optimizer, &mut variables)?;
        }
        setting.same("after refusals", &variables, &control_variables)?;
        setting.same_state("after refusals", &optimizer, &control)
    }
    for_all!(rule, Stage::ALL, rejected_steps_leave_no_trace => check);
    Ok(())
}

/// Tries steps with one mistake, after a correct variable in the same list.
fn bad_steps<T: Scalar>(
    optimizer: &mut DynOptimizer<T>,
    variables: &mut Variables<T>,
) -> Vec<(&'static str, Option<Error>)> {
    const KNOWN: &str = "a known variable of another shape";
    const WAYS: [&str; 8] = [
        "a gradient of another shape",
        "a name that is given twice",
        KNOWN,
        "an index out of range",
        "a negative index",
        "values that do not match indices",
        "values that do not match rows",
        "a gradient that is NaN",
    ];
    let mut results = Vec::new();
    for what in WAYS {
        if optimizer.iterations() == 0 && what == KNOWN {
            continue;
        }
        let right: Vec<ArrayD<T>> = variables.0.iter().map(|(_, value)| ones(value.shape())).collect();
        let (mut first, mut second, mut small) = (ones::<T>(&[3, 2]), ones::<T>(&[3, 2]), ones::<T>(&[1, 1]));
        let (wide, rows, row, long_row) = (ones(&[2, 3]), ones(&[2, 2]), ones(&[1, 2]), ones(&[1, 3]));
        let mut nan = ones(&[3, 2]);
        nan[[1, 1]] = T::literal(f64::NAN);
        let bad = Variable::new("bad", &mut first);
        let bad = match what {
            "a gradient of another shape" => vec![bad.gradient(&wide)],
            "a name that is given twice" => vec![bad, Variable::new("bad", &mut second)],
            KNOWN => vec![Variable::new("v5", &mut small)],
            "an index out of range" => vec![bad.sparse_gradient(&[0_usize, 3], &rows)],
            "a negative index" => vec![bad.sparse_gradient(&[-1_i64], &row)],
            "values that do not match indices" => vec![bad.sparse_gradient(&[0_usize], &rows)],
            "values that do not match rows" => vec![bad.sparse_gradient(&[0_usize], &long_row)],
            _ => vec![bad.gradient(&nan)],
        };
        let known =
            variables.variables().into_iter().zip(&right).map(|(variable, gradient)| variable.gradient(gradient));
        // A known variable is given with another shape: remove the correct one, since the list may not have it twice.
        let known = known.filter(|variable| what != KNOWN || variable.name() != "v5");
        results.push((what, optimizer.apply_gradients(known.chain(bad)).err()));
    }
    results.push(("no gradient at all", optimizer.apply_gradients(variables.variables()).err()));
    results
}

fn ones<T: Scalar>(shape: &[usize]) -> ArrayD<T> {
    Array::from_elem(shape, T::literal(1.0))
}

/// A step that is skipped for a NaN or an infinity changes nothing, and the report gives its place.
///
/// # Errors
///
/// When the law does not hold.
pub fn skipped_steps_leave_no_trace(rule: &Subject) -> Result<(), Broken> {
    fn check<T: Scalar>(setting: &Setting<'_, T>) -> Result<(), Broken> {
        let problem = Problem::varied(2, 5);
        let (control, control_variables) = setting.trained(&problem)?;
        let builder = setting.builder().non_finite(NonFinite::SkipStep);
        let (mut optimizer, mut variables) = (setting.build(builder)?, problem.start::<T>());
        for (number, bad) in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, f64::NAN, f64::INFINITY].iter().enumerate() {
            let mut spoilt = problem.clone();
            let Gradient::Dense(gradient) = &mut spoilt.steps[number][3] else { unreachable!("v3 is dense") };
            gradient[[6, 1]] = *bad;
            let before = (state::of(&optimizer), variables.clone());
            let report = spoilt.step(number, &mut optimizer, &mut variables);
            let found = report.ok().filter(|report| report.outcome == Outcome::NonFinite);
            let place = found.and_then(|report| report.non_finite).map(|found| (found.variable, found.index));
            if place != Some(("v3".to_owned(), vec![6, 1])) {
                return Err(setting.broken(format!("{bad} at v3[6, 1] was found at {place:?}")));
            }
            setting.same("skipped", &variables, &before.1)?;
            setting.still_the_state("skipped", &optimizer, &before.0)?;
            setting.step(&problem, number, &mut optimizer, &mut variables)?;
        }
        setting.same("after skipped steps", &variables, &control_variables)?;
        setting.same_state("after skipped steps", &optimizer, &control)
    }
    for_all!(rule, Stage::ALL, skipped_steps_leave_no_trace => check);
    Ok(())
}

/// Two variables that are the halves of one variable get the same updates as that variable. Not for rules that need a
/// variable as a whole.
///
/// # Errors
///
/// When the law does not hold.
pub fn splitting_changes_nothing(rule: &Subject) -> Result<(), Broken> {
    fn check<T: Scalar>(setting: &Setting<'_, T>) -> Result<(), Broken> {
        let whole = Problem::dense(3, &[&[13, 3]], 7);
        let half = |values: &ArrayD<f64>, first: bool| {
            let part = if first { Slice::from(..5) } else { Slice::from(5..) };
            values.slice_axis(Axis(0), part).to_owned()
        };
        let (_, value) = &whole.variables[0];
        let halves = Problem {
            variables: vec![("a".to_owned(), half(value, true)), ("b".to_owned(), half(value, false))],
            steps: whole
                .steps
                .iter()
                .map(|step| match &step[0] {
                    Gradient::Dense(g) => vec![Gradient::Dense(half(g, true)), Gradient::Dense(half(g, false))],
                    other => vec![other.clone(), other.clone()],
                })
                .collect(),
        };
        let (_, whole) = setting.trained(&whole)?;
        let (_, halves) = setting.trained(&halves)?;
        let joined = ndarray::concatenate![Axis(0), halves.0[0].1, halves.0[1].1];
        setting.same("joined", &Variables(vec![("v0".to_owned(), joined)]), &whole)
    }
    for_all!(rule, Stage::ELEMENTWISE, splitting_changes_nothing => check);
    Ok(())
}

/// The order of variables in a list does not change a bit, not even of a global norm.
///
/// # Errors
///
/// When the law does not hold.
pub fn order_does_not_matter(rule: &Subject) -> Result<(), Broken> {
    fn check<T: Scalar>(setting: &Setting<'_, T>) -> Result<(), Broken> {
        let problem = Problem::varied(4, 6);
        let (_, want) = setting.trained(&problem)?;
        let (mut optimizer, mut variables) = (setting.optimizer()?, problem.start::<T>());
        let mut rng = Rng(5);
        for number in 0..problem.steps.len() {
            for last in (1..variables.0.len()).rev() {
                variables.0.swap(last, rng.below(last + 1));
            }
            setting.step(&problem, number, &mut optimizer, &mut variables)?;
        }
        setting.same("shuffled", &variables, &want)
    }
    for_all!(rule, Stage::ALL, order_does_not_matter => check);
    Ok(())
}

/// A sparse gradient that has every row once is equivalent to a dense gradient. Not for rules that need a variable as a
/// whole.
///
/// # Errors
///
/// When the law does not hold.
pub fn full_sparse_gradients_are_dense(rule: &Subject) -> Result<(), Broken> {
    fn check<T: Scalar>(setting: &Setting<'_, T>) -> Result<(), Broken> {
        let dense = Problem::dense(6, &[&[9, 5]], 6);
        let rows = [8, 0, 3, 1, 2, 7, 4, 6, 5];
        let mut sparse = dense.clone();
        for step in &mut sparse.steps {
            if let Gradient::Dense(gradient) = &step[0] {
                step[0] = Gradient::Sparse(rows.to_vec(), gradient.select(Axis(0), &rows));
            }
        }
        let ((dense_optimizer, dense), (optimizer, sparse)) = (setting.trained(&dense)?, setting.trained(&sparse)?);
        setting.same("sparse", &sparse, &dense)?;
        setting.same_state("sparse", &optimizer, &dense_optimizer)
    }
    for_all!(rule, Stage::ELEMENTWISE, full_sparse_gradients_are_dense => check);
    Ok(())
}

/// Several gradients of the same row are equivalent to one gradient, their sum.
///
/// # Errors
///
/// When the law does not hold.
pub fn duplicate_rows_are_summed(rule: &Subject) -> Result<(), Broken> {
    fn check<T: Scalar>(setting: &Setting<'_, T>) -> Result<(), Broken> {
        let mut rng = Rng(7);
        let start = rng.array(&[6, 2]);
        let problem = |summed: bool| {
            let mut rng = Rng(8);
            let steps = (0..6).map(|_| {
                // Multiples of 1/4: their sums are exact.
                let values = rng.array(&[3, 2]).mapv(|value| (value * 8.0).round() / 4.0);
                let twice = Gradient::Sparse(vec![4, 1, 4], values.clone());
                let mut once = values.select(Axis(0), &[1, 0]);
                once.index_axis_mut(Axis(0), 1).scaled_add(1.0, &values.index_axis(Axis(0), 2));
                vec![if summed { Gradient::Sparse(vec![1, 4], once) } else { twice }]
            });
            Problem { variables: vec![("embedding".to_owned(), start.clone())], steps: steps.collect() }
        };
        let (_, twice) = setting.trained(&problem(false))?;
        let (_, once) = setting.trained(&problem(true))?;
        setting.same("rows twice", &twice, &once)
    }
    // Clips apply to rows before they are summed, so this law holds only for the other stages.
    let stages = [Stage::Alone, Stage::WeightDecay, Stage::Average];
    for_all!(rule, stages, duplicate_rows_are_summed => check);
    Ok(())
}

/// A variable that never has a gradient keeps its value, and gets no slots.
///
/// # Errors
///
/// When the law does not hold.
pub fn missing_gradients_leave_alone(rule: &Subject) -> Result<(), Broken> {
    fn check<T: Scalar>(setting: &Setting<'_, T>) -> Result<(), Broken> {
        let mut problem = Problem::dense(9, &[&[4, 2], &[3]], 5);
        problem.steps.iter_mut().for_each(|step| step[1] = Gradient::Absent);
        let (optimizer, variables) = setting.trained(&problem)?;
        let start = problem.start::<T>();
        setting.same("frozen", &Variables(variables.0[1..].to_vec()), &Variables(start.0[1..].to_vec()))?;
        if variables.0[0] == start.0[0] {
            return Err(setting.broken("the variable with gradients did not move"));
        }
        match optimizer.variables().find(|(name, _)| *name == "v1") {
            Some(_) => Err(setting.broken("the frozen variable has slots")),
            None => Ok(()),
        }
    }
    for_all!(rule, Stage::ALL, missing_gradients_leave_alone => check);
    Ok(())
}
