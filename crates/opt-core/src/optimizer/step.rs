//! The order of a step: learning rate, checks, clip, sum of duplicate rows, weight decay, rule, average, count.

use super::Optimizer;
use super::norms::{Norm, first_non_finite, norms, scaled_norm, square_sum};
use super::pieces::{Buffers, Piece, Plan};
use super::ranks;
use super::resolve::{Input, resolve};
use super::sparse::UniqueRows;
use crate::clip::{clip_factor, global_clip_factor};
use crate::error::{Error, HyperparameterError, require};
use crate::real::Scalar;
use crate::report::{NonFinite, NonFiniteGradient, Outcome, StepReport};
use crate::rule::{Step, UpdateRule, VariableStep};
use crate::stage::Transform;
use crate::variable::Variable;

/// Restored state may hold any count. Rules look one or two steps ahead of it, which must not wrap around.
const LAST_ITERATION: u64 = u64::MAX - 2;

/// A step that has been checked, as far as its variables do not matter.
#[derive(Debug, Clone)]
pub(super) struct Start {
    pub(super) learning_rate: f64,
    /// Weight decay times learning rate.
    pub(super) decay: Option<f64>,
    /// What is to be said if nothing happens.
    pub(super) report: StepReport,
}

/// Clipping of a whole step.
pub(super) struct Clipping {
    /// For each input, what its gradient goes through.
    pub(super) transforms: Vec<Transform>,
    pub(super) global_norm: Option<f64>,
    pub(super) factor: Option<f64>,
}

impl<R: UpdateRule<T>, T: Scalar> Optimizer<R, T> {
    pub(super) fn step_over<'a>(
        &mut self,
        variables: impl Iterator<Item = Variable<'a, T>>,
    ) -> Result<StepReport, Error> {
        if let Some(ranks) = self.options.ranks.clone() {
            return self.step_on(&*ranks, variables);
        }
        let (start, inputs) = self.begin(variables)?;
        self.apply(inputs, start)
    }

    /// Variables that fit their records, with their places on the ranks.
    pub(super) fn resolved<'a>(
        &mut self,
        variables: impl Iterator<Item = Variable<'a, T>>,
    ) -> Result<Vec<Input<'a, T>>, Error> {
        let mut inputs = resolve(variables, &mut self.records)?;
        if let Some(ranks) = &self.options.ranks {
            ranks::place(&**ranks, &mut inputs)?;
        }
        Ok(inputs)
    }

    /// Everything that this rank can check by itself.
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
    pub(super) fn apply(&mut self, inputs: Vec<Input<'_, T>>, start: Start) -> Result<StepReport, Error> {
        let Start { learning_rate, decay, mut report } = start;
        if inputs.is_empty() {
            return Ok(report);
        }
        let norms = self.norms(&inputs)?;
        let clipping = self.clipping(&inputs, &norms);
        (report.global_norm, report.clip_factor) = (clipping.global_norm, clipping.factor);
        if self.options.non_finite != NonFinite::Propagate {
            let finite = norms.iter().all(|norm| norm.finite) && clipping.global_norm.is_none_or(f64::is_finite);
            if !finite {
                report.non_finite = self.first_non_finite(&inputs)?;
                report.outcome = Outcome::NonFinite;
                return self.refuse(report);
            }
        }
        let unique = self.unique_rows(&inputs, &clipping)?;

        // Nothing can fail any more: from here on state changes.
        self.admit(&inputs);
        self.poisoned = true;
        self.update(inputs, &unique, &norms, &clipping, learning_rate, decay);
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

    /// Sums over gradients, if any stage needs them.
    fn norms(&self, inputs: &[Input<'_, T>]) -> Result<Vec<Norm>, Error> {
        if !self.needs_norms() {
            return Ok(vec![Norm::NONE; inputs.len()]);
        }
        let check_finite = self.options.non_finite != NonFinite::Propagate;
        let mut norms = norms(inputs, self.options.clip.value, check_finite, &self.options.threads);
        if let Some(ranks) = &self.options.ranks {
            ranks::sum_norms(ranks.world(), inputs, &mut norms, check_finite)?;
        }
        Ok(norms)
    }

    /// Whether a step looks at gradients as a whole before it applies them.
    pub(super) fn needs_norms(&self) -> bool {
        let clip = &self.options.clip;
        let check_finite = self.options.non_finite != NonFinite::Propagate;
        clip.norm.is_some() || clip.global_norm.is_some() || self.rule.needs_gradient_norm() || check_finite
    }

    /// The first element that is infinite or NaN, by the names of the variables.
    fn first_non_finite(&self, inputs: &[Input<'_, T>]) -> Result<Option<NonFiniteGradient>, Error> {
        let order = self.in_name_order(inputs);
        let mut found = order.iter().enumerate().filter_map(|(i, &input)| Some((i, first_non_finite(&inputs[input])?)));
        match &self.options.ranks {
            None => Ok(found.next().map(|(_, found)| found)),
            Some(ranks) => ranks::first_non_finite(ranks.world(), found.next(), &order, inputs),
        }
    }

    /// Rows of sparse gradients, clipped, each once.
    fn unique_rows(&self, inputs: &[Input<'_, T>], clipping: &Clipping) -> Result<Vec<Option<UniqueRows<T>>>, Error> {
        let gradients = inputs.iter().zip(&clipping.transforms);
        let unique = gradients.map(|(input, &transform)| UniqueRows::new(input.gradient.as_ref()?, transform));
        let mut unique: Vec<_> = unique.collect();
        if self.rule.needs_gradient_norm() {
            for unique in unique.iter_mut().flatten() {
                unique.square_sum = square_sum(&unique.values, None);
            }
            if let Some(ranks) = &self.options.ranks {
                ranks::sum_rows(ranks.world(), inputs, &mut unique)?;
            }
        }
        Ok(unique)
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

    pub(super) fn clipping(&self, inputs: &[Input<'_, T>], norms: &[Norm]) -> Clipping {
        let clip = &self.options.clip;
        let by_norm = |norm: &Norm| clip.norm.map_or(1.0, |limit| clip_factor(norm.norm, limit));
        let mut transforms: Vec<Transform> =
            norms.iter().map(|norm| Transform { limit: clip.value, scale: by_norm(norm) }).collect();
        let Some(limit) = clip.global_norm else {
            return Clipping { transforms, global_norm: None, factor: None };
        };
        let order = self.in_name_order(inputs);
        let clipped = order.iter().map(|&i| norms[i].norm * transforms[i].scale);
        let square_sum: f64 = clipped.clone().map(|norm| norm * norm).sum();
        let global_norm = if square_sum.is_infinite() { scaled_norm(clipped) } else { square_sum.sqrt() };
        let factor = global_clip_factor(global_norm, limit);
        transforms.iter_mut().for_each(|transform| transform.scale *= factor);
        Clipping { transforms, global_norm: Some(global_norm), factor: Some(factor) }
    }

    /// Makes the slots of new variables.
    pub(super) fn admit(&mut self, inputs: &[Input<'_, T>]) {
        let exclude = &self.options.weight_decay.exclude;
        self.records.admit(inputs.iter(), &self.slots, self.options.use_ema, |name| !exclude.matches(name));
    }

    /// The part of a step that writes.
    pub(super) fn update(
        &mut self,
        mut inputs: Vec<Input<'_, T>>,
        unique: &[Option<UniqueRows<T>>],
        norms: &[Norm],
        clipping: &Clipping,
        learning_rate: f64,
        decay: Option<f64>,
    ) {
        let step = Step::new(self.iterations, learning_rate);
        let ema = self.options.use_ema.then_some(self.options.ema);
        let needs_norm = self.rule.needs_gradient_norm();
        let kernel = self.rule.begin_step(&step, &mut self.shared);

        let mut pieces = Vec::new();
        let mut records = self.records.iter_mut().enumerate();
        for (i, input) in inputs.iter_mut().enumerate() {
            let Some((_, record)) = records.by_ref().find(|(place, _)| *place == input.place) else { break };
            if input.gradient.is_none() {
                continue;
            }
            let (unique, transform) = (unique[i].as_ref(), clipping.transforms[i]);
            let gradient_square_sum = needs_norm.then(|| match unique {
                Some(unique) => unique.square_sum,
                None => norms[i].square_sum * transform.scale * transform.scale,
            });
            let variable = VariableStep { name: &input.name, gradient_square_sum };
            let plan = Plan {
                locals: kernel.begin_variable(&variable, &mut record.scalars),
                transform: if unique.is_some() { Transform::IDENTITY } else { transform },
                decay: decay.filter(|_| record.decays),
                average: ema.map(|ema| ema.momentum),
                overwrite: ema.is_some_and(|ema| ema.overwrites_at(step.number())),
            };
            if unique.is_some() {
                record.make_row_major();
            }
            Piece::cut(input, unique, record, plan, &mut pieces);
        }
        self.options.threads.run(&mut pieces, Piece::len, |pieces| {
            let mut buffers = Buffers::new();
            pieces.iter_mut().for_each(|piece| piece.run(&*kernel, &mut buffers));
        });
    }
}
