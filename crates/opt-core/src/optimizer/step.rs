//! The order of a step: learning rate, checks, clip, sum of duplicate rows, weight decay, rule, average, count.

pub(super) mod check;
pub(super) mod norms;
mod plan;
mod slice;
pub(super) mod storage;
mod tasks;
pub(super) mod threads;
pub(super) mod unique_rows;

use super::Optimizer;
use super::distributed;
use super::records::{Fill, NewSlots};
use crate::clip::{clip_factor, global_clip_factor};
use crate::error::{Error, HyperparameterError, require};
use crate::real::Scalar;
use crate::report::{NonFinite, NonFiniteGradient, Outcome, StepReport};
use crate::rule::{Step, UpdateRule};
use crate::variable::Variable;
use check::{Input, InputGradient, resolve};
use norms::{Norm, Question, first_non_finite, norms, scaled_norm};
use plan::Pass;
use slice::Buffers;
use tasks::{Piece, pieces};
use threads::CHUNK;
use unique_rows::UniqueRows;

/// Restored state may hold any count. Rules look one or two steps ahead of it, which must not wrap around.
const LAST_ITERATION: u64 = u64::MAX - 2;

/// Gradients of at most this many elements are measured right before they are used, by the same thread: what is in its
/// cache need not be read again. Variables of this size are never cut, see `Shares`.
const MEASURED_LATE: usize = CHUNK;

/// A step that has been checked, as far as its variables do not matter.
#[derive(Debug, Clone)]
pub(super) struct Start {
    pub(super) learning_rate: f64,
    /// Weight decay times learning rate.
    pub(super) decay: Option<f64>,
    /// What is to be said if nothing happens.
    pub(super) report: StepReport,
}

/// What is known about all gradients before anything is written.
#[derive(Default)]
pub(super) struct Measured {
    norms: Vec<Norm>,
    /// Gradients of at most this many elements are not in `norms`.
    late: usize,
    global_norm: Option<f64>,
    /// The factor of the clip by the global norm.
    factor: Option<f64>,
}

impl Measured {
    pub(super) fn norm(&self, input: usize) -> &Norm {
        self.norms.get(input).unwrap_or(&Norm::NONE)
    }

    /// The norm of an input with so many elements, unless that is measured later.
    pub(super) fn known(&self, input: usize, len: usize) -> Option<&Norm> {
        (len > self.late).then(|| self.norm(input))
    }
}

impl<R: UpdateRule<T>, T: Scalar> Optimizer<R, T> {
    pub(super) fn step_over<'a>(
        &mut self,
        variables: impl Iterator<Item = Variable<'a, T>>,
    ) -> Result<StepReport, Error> {
        if let Some(ranks) = self.options.ranks.clone() {
            return self.step_on(&*ranks, variables);
        }
        self.options.threads.call(self.records.elements());
        let (start, inputs) = self.begin(variables)?;
        self.apply(inputs, start)
    }

    /// Variables that fit their records; on ranks, with their places there.
    pub(super) fn resolved<'a>(
        &mut self,
        variables: impl Iterator<Item = Variable<'a, T>>,
    ) -> Result<Vec<Input<'a, T>>, Error> {
        let mut inputs = resolve(variables, &mut self.records)?;
        if let Some(ranks) = &self.options.ranks {
            distributed::place(&**ranks, &self.records, &mut inputs)?;
        }
        Ok(inputs)
    }

    /// Everything that can be checked before ranks talk to each other.
    pub(super) fn begin<'a>(
        &mut self,
        variables: impl Iterator<Item = Variable<'a, T>>,
    ) -> Result<(Start, Vec<Input<'a, T>>), Error> {
        self.ready()?;
        if self.iterations >= LAST_ITERATION {
            let (name, expected) = ("iterations".to_owned(), "a count that can go on".to_owned());
            return Err(HyperparameterError { name, value: self.iterations as f64, expected }.into());
        }
        let learning_rate = self.rule.learning_rate_at(self.iterations);
        require("learning_rate", learning_rate, 0.0..)?;
        let decay = self.weight_decay_at(learning_rate)?;
        let report = StepReport {
            outcome: Outcome::NoVariables,
            iterations: self.iterations,
            learning_rate,
            global_norm: None,
            clip_factor: None,
            non_finite: None,
        };

        let inputs = self.resolved(variables)?;
        if !inputs.is_empty() && inputs.iter().all(|input| input.gradient.is_none()) {
            return Err(Error::NoGradients { variables: inputs.len() });
        }
        Ok((Start { learning_rate, decay, report }, inputs))
    }

    /// Norms, clipping, and the update.
    pub(super) fn apply(&mut self, mut inputs: Vec<Input<'_, T>>, start: Start) -> Result<StepReport, Error> {
        let Start { learning_rate, decay, mut report } = start;
        if inputs.is_empty() {
            return Ok(report);
        }
        let measured = self.measure(&inputs)?;
        (report.global_norm, report.clip_factor) = (measured.global_norm, measured.factor);
        if self.options.non_finite != NonFinite::Propagate {
            let finite = measured.norms.iter().all(|norm| norm.finite);
            if !finite || !measured.global_norm.is_none_or(f64::is_finite) {
                report.non_finite = self.first_non_finite(&inputs)?;
                report.outcome = Outcome::NonFinite;
                return self.refuse(report);
            }
        }
        let unique = self.unique_rows(&inputs, &measured)?;

        // Nothing can fail any more: from here on state changes.
        self.admit(&mut inputs, Fill::Initial);
        self.poisoned = true;
        self.update(inputs, &unique, &measured, learning_rate, decay);
        self.poisoned = false;
        self.iterations += 1;
        Ok(StepReport { outcome: Outcome::Applied, iterations: self.iterations, ..report })
    }

    /// Weight decay times learning rate.
    fn weight_decay_at(&self, learning_rate: f64) -> Result<Option<f64>, Error> {
        let Some(rate) = &self.options.weight_decay.rate else { return Ok(None) };
        let rate = rate.at(self.iterations);
        require("weight_decay", rate, 0.0..)?;
        Ok(Some(rate * learning_rate))
    }

    fn refuse(&self, report: StepReport) -> Result<StepReport, Error> {
        match (self.options.non_finite, report.non_finite) {
            (NonFinite::Error, Some(NonFiniteGradient { variable, index, value })) => {
                Err(Error::NonFiniteGradient { variable, index, value })
            }
            (NonFinite::Error, None) => Err(Error::NormOverflow),
            (_, non_finite) => Ok(StepReport { non_finite, ..report }),
        }
    }

    /// What the stages of a step ask about gradients.
    fn question(&self) -> Question {
        Question { limit: self.options.clip.value, check_finite: self.options.non_finite != NonFinite::Propagate }
    }

    /// Sums over gradients, as far as they have to be known before the first write, or before a variable is cut into
    /// pieces for several threads.
    fn measure(&self, inputs: &[Input<'_, T>]) -> Result<Measured, Error> {
        let (clip, question) = (&self.options.clip, self.question());
        let all = clip.global_norm.is_some() || question.check_finite || self.options.ranks.is_some();
        let late = if all { 0 } else { MEASURED_LATE };
        let wanted = |input: &Input<'_, T>| match &input.gradient {
            Some(InputGradient::Dense(values)) => values.len() > late,
            // They are clipped before they are summed.
            Some(InputGradient::Sparse(_)) => true,
            None => false,
        };
        let needed = self.needs_norms();
        let mut norms = if needed { norms(inputs, question, wanted, &self.options.threads) } else { Vec::new() };
        if let (true, Some(ranks)) = (needed, &self.options.ranks) {
            distributed::sum_norms(ranks.world(), inputs, &mut norms, question.check_finite)?;
        }
        let Some(limit) = clip.global_norm else { return Ok(Measured { norms, late, ..Measured::default() }) };
        let scale = |norm: &Norm| clip.norm.map_or(1.0, |limit| clip_factor(norm.norm, limit));
        let order = self.in_name_order(inputs);
        let clipped = order.iter().map(|&i| norms[i].norm * scale(&norms[i]));
        let square_sum: f64 = clipped.clone().map(|norm| norm * norm).sum();
        let global_norm = if square_sum.is_infinite() { scaled_norm(clipped) } else { square_sum.sqrt() };
        let factor = Some(global_clip_factor(global_norm, limit));
        Ok(Measured { norms, late, global_norm: Some(global_norm), factor })
    }

    /// Whether a step looks at gradients as a whole.
    pub(super) fn needs_norms(&self) -> bool {
        let clip = &self.options.clip;
        let clips = clip.norm.is_some() || clip.global_norm.is_some();
        clips || self.question().check_finite || self.rule.needs_gradient_norm()
    }

    /// Rows of sparse gradients, clipped, each once; by the places of the inputs.
    fn unique_rows(&self, inputs: &[Input<'_, T>], measured: &Measured) -> Result<Vec<(usize, UniqueRows<T>)>, Error> {
        let clip = &self.options.clip;
        let factor = measured.factor.unwrap_or(1.0);
        let scale = |i: usize| clip.norm.map_or(1.0, |limit| clip_factor(measured.norm(i).norm, limit)) * factor;
        let unique = inputs.iter().enumerate().filter_map(|(i, input)| match &input.gradient {
            Some(InputGradient::Sparse(gradient)) => Some((i, UniqueRows::new(gradient, clip.value, scale(i)))),
            _ => None,
        });
        let mut unique: Vec<_> = unique.collect();
        if let (true, Some(ranks)) = (self.rule.needs_gradient_norm(), &self.options.ranks) {
            distributed::sum_rows(ranks.world(), inputs, &mut unique)?;
        }
        Ok(unique)
    }

    /// The first element that is infinite or NaN, by the names of the variables.
    fn first_non_finite(&self, inputs: &[Input<'_, T>]) -> Result<Option<NonFiniteGradient>, Error> {
        let form = |input: &Input<'_, T>| match &input.new {
            Some(form) => form.as_ref().clone(),
            None => self.records.at(input.place).form.clone(),
        };
        let order = self.in_name_order(inputs);
        let first = |(place, &i): (usize, &usize)| Some((place, first_non_finite(&inputs[i], &form(&inputs[i]))?));
        let found = order.iter().enumerate().find_map(first);
        match &self.options.ranks {
            None => Ok(found.map(|(_, found)| found)),
            Some(ranks) => distributed::first_non_finite(ranks.world(), found, &order, inputs),
        }
    }

    /// Inputs with a gradient in the order of their names, so that sums do not depend on the order of the list.
    fn in_name_order(&self, inputs: &[Input<'_, T>]) -> Vec<usize> {
        let mut order: Vec<usize> = (0..inputs.len()).filter(|&i| inputs[i].gradient.is_some()).collect();
        let by_place =
            inputs.len() == self.records.len() && inputs.iter().all(|input| input.place < self.records.len());
        if by_place {
            // Each record once, in order: the records know their order by name.
            order = self.records.by_name().iter().copied().filter(|&i| inputs[i].gradient.is_some()).collect();
        } else {
            order.sort_by(|&a, &b| inputs[a].name.cmp(&inputs[b].name));
        }
        order
    }

    /// Makes the slots of new variables.
    pub(super) fn admit(&mut self, inputs: &mut [Input<'_, T>], fill: Fill) {
        let exclude = &self.options.weight_decay.exclude;
        let new = NewSlots { specs: &self.slots, averages: self.options.use_ema, fill };
        self.records.admit(inputs.iter_mut(), &new, |name| !exclude.matches(name));
    }

    /// The part of a step that writes.
    pub(super) fn update(
        &mut self,
        mut inputs: Vec<Input<'_, T>>,
        unique: &[(usize, UniqueRows<T>)],
        measured: &Measured,
        learning_rate: f64,
        decay: Option<f64>,
    ) {
        let step = Step::new(self.iterations, learning_rate);
        let ema = self.options.use_ema.then_some(self.options.ema);
        let (question, threads) = (self.question(), &self.options.threads);
        let kernel = self.rule.begin_step(&step, &mut self.shared);
        let pass = Pass {
            kernel: &*kernel,
            question,
            norm_limit: self.options.clip.norm,
            global_factor: measured.factor.unwrap_or(1.0),
            needs_norm: self.rule.needs_gradient_norm(),
            decay,
            average: ema.map(|ema| ema.momentum),
            overwrite: ema.is_some_and(|ema| ema.overwrites_at(step.number())),
            storage: self.options.moments,
            iteration: self.iterations,
            on_ranks: self.options.ranks.is_some(),
            flush_below: if self.options.flush_denormals { T::SMALLEST } else { T::zero() },
        };
        let records = self.records.as_mut_slice();
        let mut pieces = pieces(&mut inputs, records, unique, measured, |total| threads.shares(total), &pass);
        threads.run(&mut pieces, Piece::len, |pieces| {
            let mut buffers = Buffers::default();
            pieces.iter_mut().for_each(|piece| piece.run(&pass, &mut buffers));
        });
    }
}
