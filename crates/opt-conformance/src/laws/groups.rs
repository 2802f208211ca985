//! The laws of groups, accumulation and loss scales: options that amount to none.

use std::collections::BTreeMap;

use ndarray::{ArrayD, Axis};
use opt_core::{Accumulate, Group, LossScale, Scalar};

use super::{Broken, DynBuilder, Setting, Stage, Subject, for_all};
use crate::problem::{Gradient, Problem, Rng};

impl<T: Scalar> Setting<'_, T> {
    /// Trains with a builder and a problem, and with another builder and another problem, and compares the variables
    /// that the second one has; also the state, if both have the same.
    fn compare(
        &self,
        what: &str,
        (builder, problem): (DynBuilder<T>, &Problem),
        (reference, same): (DynBuilder<T>, &Problem),
        has_the_same_state: bool,
    ) -> Result<(), Broken> {
        let (mut optimizer, mut got) = (self.build(builder)?, problem.start::<T>());
        self.train(problem, 0, &mut optimizer, &mut got)?;
        let (mut control, mut want) = (self.build(reference)?, same.start::<T>());
        self.train(same, 0, &mut control, &mut want)?;
        self.same(what, &got, &want)?;
        if has_the_same_state { self.same_state(what, &optimizer, &control) } else { Ok(()) }
    }
}

/// A group with the options of the default one is no group, bit for bit; nor is one with a rule of its own that is the
/// same.
///
/// # Errors
///
/// When the law does not hold.
pub fn equal_groups_are_no_groups(rule: &Subject) -> Result<(), Broken> {
    fn check<T: Scalar>(setting: &Setting<'_, T>) -> Result<(), Broken> {
        let problem = Problem::varied(17, 7);
        let group = || Group::matching("^(v[2-4]|embedding)$");
        let equal = setting.builder().group(group().learning_rate_scale(1.0));
        setting.compare("an equal group", (equal, &problem), (setting.builder(), &problem), true)?;
        let equal = setting.builder().group(group().rule(setting.rule.copy()));
        setting.compare("an equal rule", (equal, &problem), (setting.builder(), &problem), false)
    }
    for_all!(rule, Stage::ALL, equal_groups_are_no_groups => check);
    Ok(())
}

/// Variables of a frozen group are left out: their values stay, and they have no slots.
///
/// # Errors
///
/// When the law does not hold.
pub fn frozen_groups_are_left_out(rule: &Subject) -> Result<(), Broken> {
    fn check<T: Scalar>(setting: &Setting<'_, T>) -> Result<(), Broken> {
        let problem = Problem::varied(18, 7);
        let is_frozen = |name: &str| ["v4", "embedding"].contains(&name);
        let trained: Vec<usize> =
            (0..problem.variables.len()).filter(|&place| !is_frozen(&problem.variables[place].0)).collect();
        let rest = Problem {
            variables: trained.iter().map(|&place| problem.variables[place].clone()).collect(),
            steps: problem
                .steps
                .iter()
                .map(|step| trained.iter().map(|&place| step[place].clone()).collect())
                .collect(),
        };
        let frozen = || setting.builder().group(Group::matching("^(v4|embedding)$").frozen());
        setting.compare("trained variables", (frozen(), &problem), (setting.builder(), &rest), true)?;
        let (mut optimizer, mut variables) = (setting.build(frozen())?, problem.start::<T>());
        setting.train(&problem, 0, &mut optimizer, &mut variables)?;
        variables.0.retain(|(name, _)| is_frozen(name));
        let mut start = problem.start::<T>();
        start.0.retain(|(name, _)| is_frozen(name));
        setting.same("frozen variables", &variables, &start)
    }
    for_all!(rule, Stage::ALL, frozen_groups_are_left_out => check);
    Ok(())
}

/// A loss scale that is a power of two changes no bit.
///
/// # Errors
///
/// When the law does not hold.
pub fn powers_of_two_scale_nothing(rule: &Subject) -> Result<(), Broken> {
    fn check<T: Scalar>(setting: &Setting<'_, T>) -> Result<(), Broken> {
        let problem = Problem::varied(19, 7);
        let reference = || setting.builder().loss_scale(LossScale::fixed(1.0));
        for scale in [0.125, 1_024.0] {
            let mut scaled = problem.clone();
            for gradient in scaled.steps.iter_mut().flatten() {
                match gradient {
                    Gradient::Absent => {}
                    Gradient::Dense(values) | Gradient::Sparse(_, values) => *values *= scale,
                }
            }
            let builder = setting.builder().loss_scale(LossScale::fixed(scale));
            setting.compare(&format!("scaled by {scale}"), (builder, &scaled), (reference(), &problem), true)?;
        }
        Ok(())
    }
    for_all!(rule, Stage::ALL, powers_of_two_scale_nothing => check);
    Ok(())
}

/// Gradients that are accumulated without rounding are their mean or their sum.
///
/// # Errors
///
/// When the law does not hold.
pub fn accumulated_gradients_are_their_mean(rule: &Subject) -> Result<(), Broken> {
    const CALLS: usize = 4;
    fn check<T: Scalar>(setting: &Setting<'_, T>) -> Result<(), Broken> {
        let mut rng = Rng(20);
        let shapes: [&[usize]; 5] = [&[3, 2], &[5], &[], &[6, 2], &[4, 3]];
        let mut problem = Problem::dense(20, &shapes, 0);
        // The third variable has sparse gradients, the fourth one both kinds.
        let mut dyadic = |shape: &[usize]| rng.array(shape).mapv(|number| (number * 64.0).round() / 16.0);
        let mut rows = Rng(21);
        for call in 0..5 * CALLS {
            let step = shapes.iter().enumerate().map(|(place, shape)| match place {
                3 | 4 if place == 3 || call % 3 == 1 => {
                    let rows: Vec<usize> = (0..shape[0]).filter(|_| rows.below(2) == 0).collect();
                    let values = dyadic(&[rows.len(), shape[1]]);
                    Gradient::Sparse(rows, values)
                }
                1 if call % CALLS == 3 => Gradient::Absent,
                _ => Gradient::Dense(dyadic(shape)),
            });
            problem.steps.push(step.collect());
        }
        for (accumulate, factor) in [(Accumulate::mean(4), 0.25), (Accumulate::sum(4), 1.0)] {
            let steps = problem.steps.chunks(CALLS).map(|calls| {
                (0..shapes.len())
                    .map(|place| total(shapes[place], calls.iter().map(|call| &call[place]), factor))
                    .collect()
            });
            let totals = Problem { variables: problem.variables.clone(), steps: steps.collect() };
            let once = setting.builder().accumulate(Accumulate::sum(1));
            let builder = setting.builder().accumulate(accumulate);
            setting.compare(&format!("{accumulate:?}"), (builder, &problem), (once, &totals), true)?;
        }
        Ok(())
    }
    for_all!(rule, Stage::ALL, accumulated_gradients_are_their_mean => check);
    Ok(())
}

/// A multiple of the sum of gradients; of rows, if all of them are sparse.
fn total<'g>(shape: &[usize], gradients: impl Iterator<Item = &'g Gradient>, factor: f64) -> Gradient {
    let mut dense = None::<ArrayD<f64>>;
    let mut rows: BTreeMap<usize, ArrayD<f64>> = BTreeMap::new();
    for gradient in gradients {
        match gradient {
            Gradient::Absent => {}
            Gradient::Dense(values) => *dense.get_or_insert_with(|| ArrayD::zeros(shape)) += &(values * factor),
            Gradient::Sparse(indices, values) => {
                for (row, values) in indices.iter().zip(values.axis_iter(Axis(0))) {
                    *rows.entry(*row).or_insert_with(|| ArrayD::zeros(&shape[1..])) += &(&values * factor);
                }
            }
        }
    }
    match dense {
        Some(mut sum) => {
            rows.iter().for_each(|(row, values)| sum.index_axis_mut(Axis(0), *row).scaled_add(1.0, values));
            Gradient::Dense(sum)
        }
        None => {
            let mut values = ArrayD::zeros([&[rows.len()], &shape[1..]].concat());
            values.axis_iter_mut(Axis(0)).zip(rows.values()).for_each(|(mut to, values)| to.assign(values));
            Gradient::Sparse(rows.into_keys().collect(), values)
        }
    }
}
