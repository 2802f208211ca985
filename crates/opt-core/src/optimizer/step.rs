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
mod averages;
pub(super) mod blocks;
pub(super) mod check;
pub(super) mod input;
pub(super) mod measure;
pub(super) mod norms;
mod plan;
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

use crate::error::Error;
use crate::real::Scalar;
use crate::report::{NonFinite, NonFiniteGradient, Outcome, StepReport};
use crate::rule::UpdateRule;
use crate::variable::Variable;

impl<R: UpdateRule<T>, T: Scalar> Optimizer<R, T> {
    /// One step over a list of variables.
    pub(super) fn step_over<'a>(
        &mut self,
        variables: impl Iterator<Item = Variable<'a, T>>,
    ) -> Result<StepReport, Error> {
        if let Some(ranks) = self.options.ranks.clone() {
            return self.step_on(&*ranks, variables);
        }
        self.options.threads.call(self.records.elements());
        let (start, mut inputs) = self.check(variables)?;
        self.leave_out_frozen(&mut inputs);
        self.apply(inputs, &start)
    }

    /// The phases after the check.
    pub(super) fn apply(&mut self, mut inputs: Vec<Input<'_, T>>, start: &Start) -> Result<StepReport, Error> {
        let mut report = start.report.clone();
        if inputs.is_empty() {
            return Ok(report);
        }
        let measured = self.measure(&inputs)?;
        report.global_norm = measured.global_norm;
        report.clip_factor = measured.factor;
        if self.options.non_finite != NonFinite::Propagate && !measured.is_finite() {
            report.non_finite = self.find_non_finite(&inputs)?;
            report.outcome = Outcome::NonFinite;
            return self.refuse(report);
        }
        let unique = self.unique_rows(&inputs, &measured)?;
        if self.options.non_finite != NonFinite::Propagate {
            report.non_finite = self.find_overflow(&inputs, &measured, &unique)?;
            if report.non_finite.is_some() {
                report.outcome = Outcome::NonFinite;
                return self.refuse(report);
            }
        }

        // Nothing can fail any more: from here on state changes.
        self.admit(&mut inputs, Fill::Initial);
        self.poisoned = true;
        self.write_updates(inputs, &unique, &measured, start);
        self.poisoned = false;
        self.iterations += 1;
        Ok(StepReport { outcome: Outcome::Applied, iterations: self.iterations, ..report })
    }

    /// Refuses or skips a step whose gradients are not finite.
    fn refuse(&self, report: StepReport) -> Result<StepReport, Error> {
        if self.options.non_finite != NonFinite::Error {
            return Ok(report);
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
