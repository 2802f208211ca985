//! The second phase of a step: norms, the global clip, and whether all gradients are finite. Writes nothing.

use super::super::Optimizer;
use super::super::distributed::global_norms;
use super::super::groups::PerGroup;
use super::input::{Input, InputGradient};
use super::norms::{Norm, Question, first_refused, norms, scaled_norm};
use super::threads::CHUNK;
use super::unique_rows::UniqueRows;
use crate::clip::{Clip, clip_factor, global_clip_factor};
use crate::error::Error;
use crate::real::Scalar;
use crate::report::{NonFinite, NonFiniteGradient};
use crate::rule::{SlotSpec, UpdateRule};

/// Gradients of at most this many elements are measured right before they are used, by the same thread, which then
/// finds them in its cache. Variables of this size are never cut into slices, see `Shares`.
const MEASURED_LATE: usize = CHUNK;

/// The measurements of all gradients before the first write.
#[derive(Debug, Default)]
pub(crate) struct Measured {
    norms: Vec<Norm>,
    /// Gradients of at most this many elements are measured later, and not in `norms`.
    late: usize,
    pub(crate) global_norm: Option<f64>,
    /// The factor of the clip by the global norm, if there is one.
    pub(crate) factor: Option<f64>,
    /// The factors of the clips by the norms of groups, if there are any.
    group_factors: Vec<f64>,
}

impl Measured {
    /// The norms of all inputs.
    pub(crate) fn of(norms: Vec<Norm>) -> Self {
        Self { norms, ..Self::default() }
    }

    pub(crate) fn norm(&self, input: usize) -> &Norm {
        self.norms.get(input).unwrap_or(&Norm::NONE)
    }

    /// The norm of an input with `len` elements, unless it is measured later.
    pub(crate) fn known(&self, input: usize, len: usize) -> Option<&Norm> {
        (len > self.late).then(|| self.norm(input))
    }

    /// The factor of the clips by the global norm and by the norm of a group.
    pub(crate) fn factor_of(&self, group: usize) -> f64 {
        self.group_factors.get(group).copied().unwrap_or(1.0) * self.factor.unwrap_or(1.0)
    }

    /// Whether all gradients and the global norm are finite, as far as the step checks this.
    pub(crate) fn is_finite(&self) -> bool {
        self.norms.iter().all(|norm| norm.finite) && self.global_norm.is_none_or(f64::is_finite)
    }
}

/// What is known of a gradient when its elements are looked at.
struct Guard<'u, T> {
    /// The summed rows of a sparse gradient.
    rows: Option<&'u UniqueRows<T>>,
    /// The limit of the clip by value.
    limit: f64,
    /// The factor of the gradient, and of the clips by norm.
    scale: f64,
    /// An element of a larger magnitude is refused.
    of_element: f64,
    /// An element of at least this magnitude is refused, because the norm is too large.
    share: f64,
}

impl<R: UpdateRule<T>, T: Scalar> Optimizer<R, T> {
    /// The question that this step asks about the gradients of a group. `factor` multiplies them.
    pub(in crate::optimizer) fn question(&self, group: usize, factor: f64) -> Question {
        let limit = self.clip(group).value.map(|limit| limit / factor);
        Question { limit, check_finite: self.checks_finite(), factor }
    }

    /// Whether gradients that are not finite are refused or skipped.
    pub(in crate::optimizer) fn checks_finite(&self) -> bool {
        self.options.non_finite != NonFinite::Propagate || self.scaling.is_dynamic()
    }

    /// The clips of a group by value and by norm, and by the norm of the group.
    pub(super) fn clip(&self, group: usize) -> Clip {
        self.groups.clip(group, &self.options.clip)
    }

    /// Whether the rule of a group needs the norms of its gradients.
    pub(super) fn rule_needs_norm(&self, group: usize) -> bool {
        self.groups.ruling_of(group).rule(&self.rule).needs_gradient_norm()
    }

    /// Whether a step needs the norms of the gradients of a group.
    fn needs_norms_of(&self, group: usize) -> bool {
        let clip = self.clip(group);
        clip.norm.is_some() || clip.global_norm.is_some() || self.rule_needs_norm(group)
    }

    /// Whether all gradients must be measured before any of them is used.
    fn measures_all(&self) -> bool {
        let in_groups = (0..self.groups.len()).any(|group| self.clip(group).global_norm.is_some());
        in_groups || self.options.clip.global_norm.is_some() || self.checks_finite()
    }

    /// Whether a step needs to look at all gradients before it writes.
    pub(in crate::optimizer) fn needs_norms(&self) -> bool {
        self.measures_all() || (0..self.groups.len()).any(|group| self.needs_norms_of(group))
    }

    /// Measures the gradients whose norms must be known before the first write, or before a variable is cut into slices
    /// for several threads.
    pub(super) fn measure(&self, inputs: &[Input<'_, T>], factor: f64) -> Result<Measured, Error> {
        let questions = self.groups.each(|group| self.question(group, factor));
        let late = if self.measures_before_writing() { 0 } else { MEASURED_LATE };
        let is_late = |input: &Input<'_, T>| match &input.gradient {
            Some(InputGradient::Dense(values)) => values.len() <= late,
            // Sparse gradients are clipped before rows of the same index are summed.
            Some(InputGradient::Sparse(_)) | None => false,
        };
        let mut measured = Measured { late, ..Measured::default() };
        if self.needs_norms() {
            let of_groups = self.measured_groups();
            let is_wanted = |input: &Input<'_, T>| of_groups[input.group] && !is_late(input);
            measured.norms = norms(inputs, &questions, is_wanted, &self.options.threads);
            if let Some(ranks) = &self.options.ranks {
                global_norms::sum_norms(ranks.world(), inputs, &mut measured.norms, questions[0].check_finite)?;
            }
        }
        Ok(self.clips(inputs, measured))
    }

    /// Whether no gradient may be measured right before it is used.
    fn measures_before_writing(&self) -> bool {
        self.measures_all() || self.options.ranks.is_some()
    }

    /// Whether a step needs measurements of the gradients of each group.
    pub(in crate::optimizer) fn measured_groups(&self) -> PerGroup<bool> {
        let all = self.measures_before_writing();
        self.groups.each(|group| all || self.needs_norms_of(group))
    }

    /// The factors of the clips by the norms of all gradients and of groups, from the norms of single gradients.
    pub(in crate::optimizer) fn clips(&self, inputs: &[Input<'_, T>], mut measured: Measured) -> Measured {
        self.measure_groups(inputs, &mut measured);
        if let Some(limit) = self.options.clip.global_norm {
            let norm = self.common_norm(inputs, &measured, |_| true);
            measured.global_norm = Some(norm);
            measured.factor = Some(global_clip_factor(norm, limit));
        }
        measured
    }

    /// The factors of the clips by the norms of groups.
    fn measure_groups(&self, inputs: &[Input<'_, T>], measured: &mut Measured) {
        let limit = |group: usize| self.clip(group).global_norm;
        if (0..self.groups.len()).all(|group| limit(group).is_none()) {
            return;
        }
        let factor = |group| {
            limit(group).map_or(1.0, |limit| {
                global_clip_factor(self.common_norm(inputs, measured, |of_input| of_input == group), limit)
            })
        };
        measured.group_factors = (0..self.groups.len()).map(factor).collect();
    }

    /// The norm of the gradients of some groups together, after the clips that come before.
    fn common_norm(&self, inputs: &[Input<'_, T>], measured: &Measured, has: impl Fn(usize) -> bool) -> f64 {
        let order = self.in_name_order(inputs);
        let limits = self.groups.each(|group| self.clip(group).norm);
        let factors = self.groups.each(|group| measured.factor_of(group));
        let clipped = order.iter().filter(|&&i| has(inputs[i].group)).map(|&i| {
            let (norm, group) = (measured.norm(i).norm, inputs[i].group);
            norm * limits[group].map_or(1.0, |limit| clip_factor(norm, limit)) * factors[group]
        });
        let square_sum: f64 = clipped.clone().map(|norm| norm * norm).sum();
        if square_sum.is_infinite() { scaled_norm(clipped) } else { square_sum.sqrt() }
    }

    /// The factor of the clip by the norm of one variable.
    fn norm_factor(&self, input: &Input<'_, T>, norm: &Norm) -> f64 {
        self.clip(input.group).norm.map_or(1.0, |limit| clip_factor(norm.norm, limit))
    }

    /// The factor of the clips by norms.
    fn clip_factor(&self, number: usize, input: &Input<'_, T>, measured: &Measured) -> f64 {
        self.norm_factor(input, measured.norm(number)) * measured.factor_of(input.group)
    }

    /// The clip by value of the rows of a sparse gradient, and the factor of all other clips.
    pub(super) fn clip_of_rows(
        &self,
        number: usize,
        input: &Input<'_, T>,
        measured: &Measured,
        factor: f64,
    ) -> (Option<f64>, f64) {
        (self.question(input.group, factor).limit, self.clip_factor(number, input, measured) * factor)
    }

    /// The rows of sparse gradients, clipped, and summed so that each row appears once; by the numbers of the inputs.
    pub(super) fn unique_rows(
        &self,
        inputs: &[Input<'_, T>],
        measured: &Measured,
        factor: f64,
    ) -> Result<Vec<(usize, UniqueRows<T>)>, Error> {
        let mut unique = Vec::new();
        for (i, input) in inputs.iter().enumerate() {
            if let Some(InputGradient::Sparse(gradient)) = &input.gradient {
                let (limit, scale) = self.clip_of_rows(i, input, measured, factor);
                unique.push((i, UniqueRows::new(gradient, limit, scale)));
            }
        }
        if (0..self.groups.len()).any(|group| self.rule_needs_norm(group))
            && let Some(ranks) = &self.options.ranks
        {
            global_norms::sum_rows(ranks.world(), inputs, &mut unique)?;
        }
        Ok(unique)
    }

    /// The first element that is infinite or NaN, in the order of the names of the variables.
    pub(in crate::optimizer) fn find_non_finite(
        &self,
        inputs: &[Input<'_, T>],
    ) -> Result<Option<NonFiniteGradient>, Error> {
        self.find_refused(inputs, |_, _, value| !value.is_finite())
    }

    /// The first finite element that is too large for the rule, in the order of the names of the variables: its clipped
    /// square overflows the second moment, which would then be infinite for good.
    pub(super) fn find_overflow(
        &self,
        inputs: &[Input<'_, T>],
        measured: &Measured,
        unique: &[(usize, UniqueRows<T>)],
        factor: f64,
    ) -> Result<Option<NonFiniteGradient>, Error> {
        if !self.may_overflow(inputs, measured) {
            return Ok(None);
        }
        let largest = self.largest();
        let clip = |i: usize| self.clip_factor(i, &inputs[i], measured);
        let guards: Vec<Guard<'_, T>> = (0..inputs.len())
            .map(|i| {
                let rows = unique.iter().find(|(input, _)| *input == i).map(|(_, rows)| rows);
                let norm = match rows {
                    Some(rows) => scaled_norm(rows.values.iter().map(|value| value.as_().abs())),
                    None => measured.norm(i).norm * clip(i),
                };
                // Of a gradient whose norm is too large, an element is named that has its share of it.
                let placed = inputs[i].placed.as_deref();
                let len = placed.map_or(inputs[i].value.len(), |placed| placed.placement.shape.iter().product());
                let (of_element, of_norm) = largest[inputs[i].group];
                let limit = self.question(inputs[i].group, factor).limit.unwrap_or(f64::INFINITY);
                let share = if norm > of_norm { norm / (len as f64).sqrt() / 2.0 } else { f64::INFINITY };
                Guard { rows, limit, scale: clip(i) * factor, of_element, share }
            })
            .collect();
        self.find_refused(inputs, |i, place, value| {
            let Guard { rows, limit, scale, of_element, share } = &guards[i];
            let magnitude = match (&inputs[i].gradient, rows) {
                (Some(InputGradient::Sparse(sparse)), Some(rows)) => rows.summed(sparse, place).as_().abs(),
                _ => value.as_().abs().min(*limit) * scale,
            };
            magnitude > *of_element || !magnitude.is_finite() || magnitude >= *share
        })
    }

    /// Whether the norm of a gradient is so large that an element of it may be too large for the rule.
    pub(in crate::optimizer) fn may_overflow(&self, inputs: &[Input<'_, T>], measured: &Measured) -> bool {
        /// Rows of a sparse gradient are summed after their norm is measured. More rows than this never have the same
        /// index.
        const DUPLICATES: f64 = 1_048_576.0;
        let largest = self.largest();
        inputs.iter().enumerate().any(|(i, input)| {
            let duplicates = if matches!(input.gradient, Some(InputGradient::Sparse(_))) { DUPLICATES } else { 1.0 };
            let (of_element, of_norm) = largest[input.group];
            measured.norm(i).norm * self.clip_factor(i, input, measured) * duplicates > of_element.min(of_norm)
        })
    }

    /// The largest magnitude of an element, and the largest norm, that the rule of each group can take.
    fn largest(&self) -> PerGroup<(f64, f64)> {
        self.groups.each(|group| {
            let squares = self.groups.slots_of(group).iter().any(SlotSpec::is_second_moment);
            let of_element = if squares { T::LARGEST.as_().sqrt() } else { f64::INFINITY };
            let of_norm = if self.rule_needs_norm(group) { f64::MAX.sqrt() } else { f64::INFINITY };
            (of_element, of_norm)
        })
    }

    /// The first element that is refused, in the order of the names of the variables; `is_refused` gets the number of
    /// the input, the place of the element in row-major order, and its value.
    fn find_refused(
        &self,
        inputs: &[Input<'_, T>],
        is_refused: impl Fn(usize, usize, T) -> bool,
    ) -> Result<Option<NonFiniteGradient>, Error> {
        let order = self.in_name_order(inputs);
        let found = order.iter().enumerate().find_map(|(position, &i)| {
            let form = inputs[i].new.as_deref().unwrap_or_else(|| &self.records.at(inputs[i].place).form);
            let found = first_refused(&inputs[i], form, |place, value| is_refused(i, place, value))?;
            Some((position, found))
        });
        match &self.options.ranks {
            None => Ok(found.map(|(_, found)| found)),
            Some(ranks) => global_norms::first_on_all_ranks(ranks.world(), found, &order, inputs),
        }
    }

    /// The numbers of the inputs with a gradient, in the order of their names: sums do not depend on the order of the
    /// list.
    fn in_name_order(&self, inputs: &[Input<'_, T>]) -> Vec<usize> {
        let all_known =
            inputs.len() == self.records.len() && inputs.iter().all(|input| input.place < self.records.len());
        if all_known {
            // The list has every record once, in order: the records have the order of the names.
            return self.records.by_name().iter().copied().filter(|&i| inputs[i].gradient.is_some()).collect();
        }
        let mut order: Vec<usize> = (0..inputs.len()).filter(|&i| inputs[i].gradient.is_some()).collect();
        order.sort_by(|&a, &b| inputs[a].name.cmp(&inputs[b].name));
        order
    }
}
