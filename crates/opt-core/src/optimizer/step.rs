//! The order of a step: learning rate, checks, clip, sum of duplicate rows, weight decay, rule, average, count.

use super::Optimizer;
use super::norms::{Norm, Question, first_non_finite, norms, scaled_norm};
use super::pieces::{Buffers, Piece};
use super::resolve::{Input, InputGradient, resolve};
use super::sparse::UniqueRows;
use super::stages::Pass;
use super::threads::CHUNK;
use crate::clip::{clip_factor, global_clip_factor};
use crate::error::{Error, HyperparameterError, require};
use crate::real::Scalar;
use crate::report::{NonFinite, NonFiniteGradient, Outcome, StepReport};
use crate::rule::{Step, UpdateRule};
use crate::variable::Variable;

/// Restored state may hold any count. Rules look one or two steps ahead of it, which must not wrap around.
const LAST_ITERATION: u64 = u64::MAX - 2;

/// Gradients of at most this many elements are measured right before they are used, by the same thread: what is in its
/// cache need not be read again. Variables of this size are never cut, see `Threads::share`.
const MEASURED_LATE: usize = CHUNK;

/// What is known about all gradients before anything is written.
struct Measured {
    norms: Vec<Norm>,
    /// Gradients of at most this many elements are not in `norms`.
    late: usize,
    global_norm: Option<f64>,
    /// The factor of the clip by the global norm.
    factor: Option<f64>,
}

impl<R: UpdateRule<T>, T: Scalar> Optimizer<R, T> {
    pub(super) fn step_over<'a>(
        &mut self,
        variables: impl Iterator<Item = Variable<'a, T>>,
    ) -> Result<StepReport, Error> {
        self.ready()?;
        if self.iterations >= LAST_ITERATION {
            let (name, expected) = ("iterations".to_owned(), "a count that can go on".to_owned());
            return Err(HyperparameterError { name, value: self.iterations as f64, expected }.into());
        }
        let learning_rate = self.rule.learning_rate_at(self.iterations);
        require("learning_rate", learning_rate, 0.0..)?;
        let decay = self.weight_decay_at(learning_rate)?;
        let mut report = StepReport {
            outcome: Outcome::NoVariables,
            iterations: self.iterations,
            learning_rate,
            global_norm: None,
            clip_factor: None,
            non_finite: None,
        };

        let mut inputs = resolve(variables, &mut self.records)?;
        if inputs.is_empty() {
            return Ok(report);
        }
        if inputs.iter().all(|input| input.gradient.is_none()) {
            return Err(Error::NoGradients { variables: inputs.len() });
        }
        let measured = self.measure(&inputs);
        (report.global_norm, report.clip_factor) = (measured.global_norm, measured.factor);
        if self.options.non_finite != NonFinite::Propagate {
            let finite = measured.norms.iter().all(|norm| norm.finite);
            if !finite || !measured.global_norm.is_none_or(f64::is_finite) {
                report.non_finite = self.first_non_finite(&inputs);
                report.outcome = Outcome::NonFinite;
                return self.refuse(report);
            }
        }

        // Nothing can fail any more: from here on state changes.
        self.admit(&mut inputs);
        self.poisoned = true;
        self.update(inputs, &measured, learning_rate, decay);
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
    fn measure(&self, inputs: &[Input<'_, T>]) -> Measured {
        let (clip, question) = (&self.options.clip, self.question());
        let all = clip.global_norm.is_some() || question.check_finite;
        let late = if all { 0 } else { MEASURED_LATE };
        let wanted = |input: &Input<'_, T>| match &input.gradient {
            Some(InputGradient::Dense(values)) => values.len() > late,
            // They are clipped before they are summed.
            Some(InputGradient::Sparse(_)) => true,
            None => false,
        };
        let anybody = all || clip.norm.is_some() || self.rule.needs_gradient_norm();
        let norms = if anybody { norms(inputs, question, wanted, &self.options.threads) } else { Vec::new() };
        let Some(limit) = clip.global_norm else { return Measured { norms, late, global_norm: None, factor: None } };
        let scale = |norm: &Norm| clip.norm.map_or(1.0, |limit| clip_factor(norm.norm, limit));
        let order = self.in_name_order(inputs);
        let clipped = order.iter().map(|&i| norms[i].norm * scale(&norms[i]));
        let square_sum: f64 = clipped.clone().map(|norm| norm * norm).sum();
        let global_norm = if square_sum.is_infinite() { scaled_norm(clipped) } else { square_sum.sqrt() };
        let factor = Some(global_clip_factor(global_norm, limit));
        Measured { norms, late, global_norm: Some(global_norm), factor }
    }

    fn first_non_finite(&self, inputs: &[Input<'_, T>]) -> Option<NonFiniteGradient> {
        let form = |input: &Input<'_, T>| match &input.new {
            Some(form) => form.as_ref().clone(),
            None => self.records.at(input.place).form.clone(),
        };
        self.in_name_order(inputs).into_iter().find_map(|i| first_non_finite(&inputs[i], &form(&inputs[i])))
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
    pub(super) fn admit(&mut self, inputs: &mut [Input<'_, T>]) {
        let exclude = &self.options.weight_decay.exclude;
        self.records.admit(inputs.iter_mut(), &self.slots, self.options.use_ema, |name| !exclude.matches(name));
    }

    /// The part of a step that writes.
    fn update(&mut self, mut inputs: Vec<Input<'_, T>>, measured: &Measured, learning_rate: f64, decay: Option<f64>) {
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
            flush_below: if self.options.flush_denormals { T::SMALLEST } else { T::zero() },
        };
        let norm_of = |i: usize| measured.norms.get(i).copied().unwrap_or(Norm::NONE);
        let unique: Vec<(usize, UniqueRows<T>)> = inputs
            .iter()
            .enumerate()
            .filter_map(|(i, input)| match &input.gradient {
                Some(InputGradient::Sparse(gradient)) => {
                    Some((i, UniqueRows::new(gradient, question.limit, pass.scale(&norm_of(i)))))
                }
                _ => None,
            })
            .collect();

        let given = |input: &Input<'_, T>| if input.gradient.is_some() { input.value.len() } else { 0 };
        let mut left = inputs.iter().map(given).sum();
        let mut pieces = Vec::with_capacity(inputs.len());
        let (mut unique, mut records) = (unique.iter().peekable(), self.records.iter_mut().enumerate());
        for (i, Input { place, value, gradient, .. }) in inputs.iter_mut().enumerate() {
            let Some((_, record)) = records.by_ref().find(|(record, _)| *record == *place) else { break };
            let Some(gradient) = gradient else { continue };
            let unique = unique.next_if(|(input, _)| *input == i).map(|(_, rows)| rows);
            if unique.is_some() {
                record.make_row_major();
            }
            let norm = (value.len() > measured.late).then(|| norm_of(i));
            if let Some(piece) = Piece::whole(value.reborrow(), gradient, unique, record, norm) {
                piece.cut(&mut left, |left| threads.share(left), &pass, &mut pieces);
            }
        }
        threads.run(&mut pieces, Piece::len, |pieces| {
            let mut buffers = Buffers::default();
            pieces.iter_mut().for_each(|piece| piece.run(&pass, &mut buffers));
        });
    }
}
