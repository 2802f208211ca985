//! The training loop.

use std::time::{Duration, Instant};

use half::bf16;
use optimizers::Error;

use crate::args::Args;
use crate::contestants::{Contestant, Variables};
use crate::model::{Element, Mlp};
use crate::random::Random;
use crate::text::{Batch, CONTEXT, Text};

/// The number of contexts in a step.
const BATCH: usize = 64;

/// The model is evaluated so many times, after equal numbers of steps.
const EVALUATIONS: u64 = 20;

/// The training loss is the mean over so many last steps.
const LAST: usize = 100;

/// Characters of the sample.
const SAMPLE: usize = 200;

/// The settings that all contestants share.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    pub(crate) steps: u64,
    pub(crate) learning_rate: f64,
    pub(crate) hidden: usize,
    pub(crate) lookahead: bool,
    pub(crate) seed: u64,
}

impl Plan {
    pub(crate) fn of(args: &Args) -> Self {
        let Args { steps, learning_rate, hidden, lookahead, seed, .. } = *args;
        Self { steps, learning_rate, hidden: hidden.into(), lookahead, seed }
    }

    fn evaluates_after(&self, step: u64) -> bool {
        step == self.steps || step.is_multiple_of(self.steps.div_ceil(EVALUATIONS))
    }
}

/// The result of one contestant with one seed.
#[derive(Debug)]
pub(crate) struct Run {
    /// The loss over the held-out text, after some numbers of steps.
    pub(crate) validation: Vec<(u64, f64)>,
    /// The mean over the last steps.
    pub(crate) training_loss: f64,
    pub(crate) state_bytes: usize,
    /// Of all steps, without evaluations.
    pub(crate) time: Duration,
    /// A text by the trained model.
    pub(crate) sample: String,
}

/// Trains a new model, and calls `on_step` with the loss after each step.
pub(crate) fn train(contestant: &Contestant, text: &Text, plan: &Plan, on_step: impl Fn(f64)) -> Result<Run, Error> {
    match contestant.variables {
        Variables::F32 => train_in::<f32>(contestant, text, plan, on_step),
        Variables::Bf16 => train_in::<bf16>(contestant, text, plan, on_step),
    }
}

/// As [`train`], with a model whose variables are of one type.
fn train_in<E: Element>(
    contestant: &Contestant,
    text: &Text,
    plan: &Plan,
    on_step: impl Fn(f64),
) -> Result<Run, Error> {
    let mut optimizer = contestant.build(plan)?;
    let mut random = Random::new(plan.seed);
    let mut model = Mlp::new(text.characters.len(), plan.hidden, &mut random).map(E::round);
    let held_out = Batch::all(&text.held_out);
    let (mut losses, mut validation, mut time) = (Vec::new(), Vec::new(), Duration::ZERO);
    for step in 1..=plan.steps {
        let batch = draw(&text.training, &mut random);
        let start = Instant::now();
        let (loss, gradients) = model.map(E::widen).gradients(&batch);
        optimizer.step(&mut model, &gradients.map(E::round))?;
        time += start.elapsed();
        losses.push(loss);
        on_step(loss);
        if plan.evaluates_after(step) {
            validation.push((step, model.map(E::widen).loss(&held_out)));
        }
    }
    let last = &losses[losses.len().saturating_sub(LAST)..];
    let training_loss = last.iter().sum::<f64>() / last.len() as f64;
    let sample = sample(&model.map(E::widen), text, &mut random);
    Ok(Run { validation, training_loss, state_bytes: optimizer.state_bytes(), time, sample })
}

/// Contexts at random places of a text.
fn draw(text: &[usize], random: &mut Random) -> Batch {
    let places: Vec<usize> = (0..BATCH).map(|_| random.below(text.len() - CONTEXT)).collect();
    Batch::new(text, &places)
}

/// Continues an empty line, character by character, each drawn by its probability.
fn sample(model: &Mlp, text: &Text, random: &mut Random) -> String {
    let mut context = [text.line_break(); CONTEXT];
    let next = |_| {
        let mut rest = random.within(0.5) + 0.5;
        let probabilities = model.predict(&context);
        let drawn = probabilities.iter().position(|p| {
            rest -= p;
            rest < 0.0
        });
        context.rotate_left(1);
        context[CONTEXT - 1] = drawn.unwrap_or(text.line_break());
        text.characters[context[CONTEXT - 1]]
    };
    (0..SAMPLE).map(next).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contestants::CONTESTANTS;

    const PLAN: Plan = Plan { steps: 200, learning_rate: 0.02, hidden: 16, lookahead: false, seed: 1 };

    fn run(contestant: &Contestant, plan: &Plan) -> Run {
        train(contestant, &Text::load(), plan, |_| ()).unwrap()
    }

    #[test]
    fn every_contestant_learns() {
        let with_lookahead = (CONTESTANTS[2], Plan { lookahead: true, ..PLAN });
        for (contestant, plan) in CONTESTANTS.map(|contestant| (contestant, PLAN)).into_iter().chain([with_lookahead]) {
            let (step, loss) = run(&contestant, &plan).validation[19];
            assert_eq!(step, 200);
            // The frequencies of the characters alone have 3.32.
            assert!(loss < 3.0, "{}: {loss}", contestant.name);
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_numbers_and_another_seed_others() {
        let plan = Plan { steps: 10, ..PLAN };
        let contestant = &CONTESTANTS[CONTESTANTS.len() - 1];
        let [first, second] = [(); 2].map(|()| run(contestant, &plan));
        assert_eq!((first.validation, first.sample), (second.validation, second.sample));
        assert_ne!(first.training_loss, run(contestant, &Plan { seed: 2, ..plan }).training_loss);
    }

    #[test]
    fn a_training_of_any_size_is_evaluated_at_its_end() {
        for (steps, hidden) in [(1, 1), (19, 2), (21, 3)] {
            let validation = run(&CONTESTANTS[0], &Plan { steps, hidden, ..PLAN }).validation;
            assert_eq!(validation.last().map(|point| point.0), Some(steps));
        }
    }
}
