//! The order of a step: check, measure, admit, write.
//!
//! | phase | file | what it does |
//! |---|---|---|
//! | check | `check.rs` | compares names, shapes, indices, learning rate; may refuse the step |
//! | measure | `measure.rs` | norms, the global clip, gradients that are not finite; may refuse or skip the step |
//! | admit | `admit.rs` | makes the slots of new variables |
//! | write | `write.rs` | for each block: clip, weight decay, rule, average |
//!
//! On several ranks, [`distributed`](super::distributed) adds an agreement before, and exchanges before and after.

mod admit;
pub(super) mod averages;
pub(super) mod blocks;
pub(super) mod check;
pub(super) mod input;
pub(super) mod measure;
pub(super) mod norms;
mod plan;
pub(super) mod recording;
mod slice;
pub(super) mod storage;
mod tasks;
pub(super) mod threads;
pub(super) mod unique_rows;
mod write;

use super::Optimizer;
use super::records::Fill;
use check::Start;
use input::Input;
use measure::Measured;
use unique_rows::UniqueRows;

use crate::error::Error;
use crate::real::Scalar;
use crate::report::{NonFinite, NonFiniteGradient, Outcome, StepReport};
use crate::rule::UpdateRule;
use crate::step_options::StepOptions;
use crate::variable::Variable;

/// The result of the phases that only look.
#[derive(Debug)]
pub(super) enum Prepared<T> {
    /// The step can be written.
    Ready(Ready<T>),
    /// Nothing is written.
    Skipped(StepReport),
}

/// The measurements of a step that can no longer fail.
#[derive(Debug)]
pub(super) struct Ready<T> {
    pub(super) measured: Measured,
    /// The rows of sparse gradients, by the numbers of the inputs.
    pub(super) unique: Vec<(usize, UniqueRows<T>)>,
    /// The report, but for the outcome.
    pub(super) report: StepReport,
}

impl<R: UpdateRule<T>, T: Scalar> Optimizer<R, T> {
    /// One step over a list of variables, or one micro-step.
    pub(super) fn step_over<'a>(
        &mut self,
        variables: impl Iterator<Item = Variable<'a, T>>,
        options: &StepOptions,
    ) -> Result<StepReport, Error> {
        let (start, inputs) = self.start(variables, true, options)?;
        match self.options.accumulate {
            Some(accumulate) if accumulate.steps > 1 => self.accumulate(accumulate, inputs, start),
            _ => self.go_on(inputs, &start),
        }
    }

    /// The check, and on several ranks the agreement. `needs_gradients` tells whether a list without any gradient is
    /// refused.
    pub(super) fn start<'a>(
        &mut self,
        variables: impl Iterator<Item = Variable<'a, T>>,
        needs_gradients: bool,
        options: &StepOptions,
    ) -> Result<(Start, Vec<Input<'a, T>>), Error> {
        let (start, mut inputs) = match self.options.ranks.clone() {
            Some(ranks) => {
                let checked = self.check(variables, needs_gradients, options);
                self.agree(&*ranks, checked, options)?
            }
            None => {
                self.options.threads.call(self.records.elements());
                self.check(variables, needs_gradients, options)?
            }
        };
        self.groups.be_sure();
        self.leave_out_frozen(&mut inputs);
        Ok((start, inputs))
    }

    /// The phases after the check.
    pub(super) fn go_on(&mut self, inputs: Vec<Input<'_, T>>, start: &Start) -> Result<StepReport, Error> {
        match self.options.ranks.clone() {
            Some(ranks) => self.apply_on(&*ranks, inputs, start),
            None => self.apply(inputs, start),
        }
    }

    /// Measure, admit, write.
    pub(super) fn apply(&mut self, mut inputs: Vec<Input<'_, T>>, start: &Start) -> Result<StepReport, Error> {
        let Ready { measured, unique, report } = match self.prepare(&inputs, start)? {
            Prepared::Ready(ready) => ready,
            Prepared::Skipped(report) => return Ok(report),
        };
        // Nothing can fail any more: from here on state changes.
        self.admit(&mut inputs, Fill::Initial);
        self.poisoned = true;
        self.write_updates(&mut inputs, 0, &unique, &measured, start);
        self.poisoned = false;
        Ok(self.finish(report))
    }

    /// Measures the gradients. Refuses or skips the step, or finds that nothing can fail any more.
    pub(super) fn prepare(&mut self, inputs: &[Input<'_, T>], start: &Start) -> Result<Prepared<T>, Error> {
        let mut report = start.report.clone();
        if inputs.is_empty() {
            return Ok(Prepared::Skipped(report));
        }
        let measured = self.measure(inputs, start.factor)?;
        report.global_norm = measured.global_norm;
        report.clip_factor = measured.factor;
        if self.checks_finite() && !measured.is_finite() {
            report.non_finite = self.find_non_finite(inputs)?;
            return self.refuse(report).map(Prepared::Skipped);
        }
        let unique = self.unique_rows(inputs, &measured, start.factor)?;
        if self.options.non_finite != NonFinite::Propagate {
            report.non_finite = self.find_overflow(inputs, &measured, &unique, start.factor)?;
            if report.non_finite.is_some() {
                return self.refuse(report).map(Prepared::Skipped);
            }
        }
        Ok(Prepared::Ready(Ready { measured, unique, report }))
    }

    /// Counts an applied step.
    pub(super) fn finish(&mut self, report: StepReport) -> StepReport {
        self.iterations += 1;
        self.scaling.succeed();
        StepReport { outcome: Outcome::Applied, iterations: self.iterations, ..report }
    }

    /// Refuses or skips a step whose gradients are not finite, or too large.
    pub(super) fn refuse(&mut self, report: StepReport) -> Result<StepReport, Error> {
        let is_overflow = report.non_finite.as_ref().is_none_or(|found| !found.value.is_finite());
        if is_overflow {
            self.scaling.fail();
        }
        if self.options.non_finite != NonFinite::Error {
            return Ok(StepReport { outcome: Outcome::NonFinite, ..report });
        }
        Err(match report.non_finite {
            Some(NonFiniteGradient { variable, index, value }) if value.is_finite() => {
                Error::GradientOverflow { variable, index, value }
            }
            Some(NonFiniteGradient { variable, index, value }) => Error::NonFiniteGradient { variable, index, value },
            None => Error::NormOverflow,
        })
    }
}
