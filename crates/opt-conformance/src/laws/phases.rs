//! The laws of steps whose variables or slots are elsewhere.

use opt_core::rule::{SlotInit, Step};
use opt_core::{Description, DynOptimizer, Error, Scalar, SliceStep, StepReport, UpdateRule};

use super::{Broken, Setting, Stage, Subject, for_all};
use crate::problem::{Cast, Problem, Rng, Variables};

/// A step in phases, whose variables are lent one at a time or several together, in any order, is the same step, bit
/// for bit. A step that is dropped before its first update leaves no trace.
///
/// # Errors
///
/// When the law does not hold.
pub fn a_step_in_phases_is_a_step(rule: &Subject) -> Result<(), Broken> {
    fn check<T: Scalar>(setting: &Setting<'_, T>) -> Result<(), Broken> {
        let problem = Problem::varied(21, 7);
        let (mut optimizer, mut got) = (setting.optimizer()?, problem.start::<T>());
        let (mut control, mut want) = (setting.optimizer()?, problem.start::<T>());
        let mut rng = Rng(22);
        for number in 0..problem.steps.len() {
            setting.step(&problem, number, &mut control, &mut want)?;
            for dropped in [true, false] {
                let stepped = in_phases(&problem, number, &mut optimizer, &mut got, &mut rng, dropped);
                stepped.map_err(|error| setting.broken(format!("step {number} in phases: {error}")))?;
            }
            setting.same("in phases", &got, &want)?;
            setting.same_state("in phases", &optimizer, &control)?;
        }
        Ok(())
    }
    for_all!(rule, Stage::ALL, a_step_in_phases_is_a_step => check);
    Ok(())
}

/// Makes a step of a problem in phases, or begins it only.
fn in_phases<T: Scalar>(
    problem: &Problem,
    number: usize,
    optimizer: &mut DynOptimizer<T>,
    variables: &mut Variables<T>,
    rng: &mut Rng,
    dropped: bool,
) -> Result<Option<StepReport>, Error> {
    let gradients = problem.gradients::<T>(number);
    let described = variables.0.iter().map(|(name, value)| {
        let gradient = gradients.get(name.as_str()).and_then(Cast::as_gradient);
        Description::new(name.clone(), value.shape()).optional_gradient(gradient)
    });
    let mut step = optimizer.begin(described)?;
    if dropped {
        return Ok(None);
    }
    let mut waiting: Vec<_> = variables.0.iter_mut().map(|(_, value)| value).enumerate().collect();
    while !waiting.is_empty() {
        let together = 1 + rng.below(3);
        let lent = (0..together.min(waiting.len())).map(|_| waiting.swap_remove(rng.below(waiting.len())));
        step.update_all(lent.collect::<Vec<_>>())?;
    }
    step.finish().map(Some)
}

/// A rule over slots that the caller keeps gives the bits of an optimizer.
///
/// # Errors
///
/// When the law does not hold.
pub fn borrowed_slots_are_slots(rule: &Subject) -> Result<(), Broken> {
    fn check<T: Scalar>(setting: &Setting<'_, T>) -> Result<(), Broken> {
        let problem = Problem::dense(23, &[&[], &[0], &[3, 5], &[9_000]], 7);
        let (_, want) = setting.trained(&problem)?;
        let mut got = problem.start::<T>();
        let rule = setting.rule.copy();
        let run = borrowed(&*rule, &problem, &mut got);
        run.map_err(|error| setting.broken(format!("with borrowed slots: {error}")))?;
        setting.same("with borrowed slots", &got, &want)
    }
    for_all!(rule, [Stage::Alone], borrowed_slots_are_slots => check);
    Ok(())
}

/// Trains with slots of its own.
fn borrowed<T: Scalar>(rule: &dyn UpdateRule<T>, problem: &Problem, variables: &mut Variables<T>) -> Result<(), Error> {
    let specs = rule.slots();
    let array = |init: SlotInit, value: &[T]| match init {
        SlotInit::Zeros => Some(vec![T::zero(); value.len()]),
        SlotInit::Ones => Some(vec![T::literal(1.0); value.len()]),
        SlotInit::Copy => Some(value.to_vec()),
        _ => None,
    };
    let scalar = |init: SlotInit| if let SlotInit::Scalar(initial) = init { Some(initial) } else { None };
    let shared = |init: SlotInit| if let SlotInit::Shared(initial) = init { Some(initial) } else { None };
    let inits = || specs.iter().map(opt_core::rule::SlotSpec::init);
    let mut states: Vec<(Vec<Vec<T>>, Vec<f64>)> = variables
        .0
        .iter()
        .map(|(_, value)| {
            let value: Vec<T> = value.iter().copied().collect();
            (inits().filter_map(|init| array(init, &value)).collect(), inits().filter_map(scalar).collect())
        })
        .collect();
    let mut shared: Vec<f64> = inits().filter_map(shared).collect();
    for number in 0..problem.steps.len() {
        let step = Step::new(number as u64, rule.learning_rate_at(number as u64));
        let mut step = SliceStep::new(rule, &step, &mut shared)?;
        let gradients = problem.gradients::<T>(number);
        for ((name, value), (arrays, scalars)) in variables.0.iter_mut().zip(&mut states) {
            let Some(Cast::Dense(gradient)) = gradients.get(name.as_str()) else { continue };
            let mut slots: Vec<&mut [T]> = arrays.iter_mut().map(Vec::as_mut_slice).collect();
            let value = value.as_slice_mut().unwrap_or_default();
            step.update(name, value, gradient.as_slice().unwrap_or_default(), &mut slots, scalars)?;
        }
    }
    Ok(())
}
