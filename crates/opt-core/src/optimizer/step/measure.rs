//! The second phase of a step: norms, the global clip, and whether all gradients are finite. Writes nothing.

use super::super::Optimizer;
use super::super::distributed::global_norms;
use super::input::{Input, InputGradient};
use super::norms::{Norm, Question, first_refused, norms, scaled_norm};
use super::threads::CHUNK;
use super::unique_rows::UniqueRows;
use crate::clip::{clip_factor, global_clip_factor};
use crate::error::Error;
use crate::real::Scalar;
use crate::report::{NonFinite, NonFiniteGradient};
use crate::rule::{SlotSpec, UpdateRule};

/// Gradients of at most this many elements are measured right before they are used, by the same thread, which then
/// finds them in its cache. Variables of this size are never cut into slices, see `Shares`.
const MEASURED_LATE: usize = CHUNK;

/// The measurements of all gradients before the first write.
#[derive(Default)]
pub(crate) struct Measured {
    norms: Vec<Norm>,
    /// Gradients of at most this many elements are measured later, and not in `norms`.
    late: usize,
    pub(crate) global_norm: Option<f64>,
    /// The factor of the clip by the global norm, if there is one.
    pub(crate) factor: Option<f64>,
}

impl Measured {
    pub(crate) fn norm(&self, input: usize) -> &Norm {
        self.norms.get(input).unwrap_or(&Norm::NONE)
    }

    /// The norm of an input with `len` elements, unless it is measured later.
    pub(crate) fn known(&self, input: usize, len: usize) -> Option<&Norm> {
        (len > self.late).then(|| self.norm(input))
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
    /// The factor of the clips by norm.
    scale: f64,
    /// An element of at least this magnitude is refused, because the norm is too large.
    share: f64,
}

impl<R: UpdateRule<T>, T: Scalar> Optimizer<R, T> {
    /// The question about gradients that this step asks.
    pub(in crate::optimizer) fn question(&self) -> Question {
        Question { limit: self.options.clip.value, check_finite: self.options.non_finite != NonFinite::Propagate }
    }

    /// Whether a step needs to look at all gradients before it writes.
    pub(in crate::optimizer) fn needs_norms(&self) -> bool {
        let clip = &self.options.clip;
        let clips = clip.norm.is_some() || clip.global_norm.is_some();
        clips || self.question().check_finite || self.rule.needs_gradient_norm()
    }

    /// Measures the gradients whose norms must be known before the first write, or before a variable is cut into slices
    /// for several threads.
    pub(super) fn measure(&self, inputs: &[Input<'_, T>]) -> Result<Measured, Error> {
        let clip = &self.options.clip;
        let question = self.question();
        let all = clip.global_norm.is_some() || question.check_finite || self.options.ranks.is_some();
        let late = if all { 0 } else { MEASURED_LATE };
        let is_wanted = |input: &Input<'_, T>| match &input.gradient {
            Some(InputGradient::Dense(values)) => values.len() > late,
            // Sparse gradients are clipped before rows of the same index are summed.
            Some(InputGradient::Sparse(_)) => true,
            None => false,
        };
        let mut measured = Measured { late, ..Measured::default() };
        if self.needs_norms() {
            measured.norms = norms(inputs, question, is_wanted, &self.options.threads);
            if let Some(ranks) = &self.options.ranks {
                global_norms::sum_norms(ranks.world(), inputs, &mut measured.norms, question.check_finite)?;
            }
        }
        if let Some(limit) = clip.global_norm {
            let norm = self.global_norm(inputs, &measured.norms);
            measured.global_norm = Some(norm);
            measured.factor = Some(global_clip_factor(norm, limit));
        }
        Ok(measured)
    }

    /// The norm of all gradients together, after the clip by the norm of each variable.
    fn global_norm(&self, inputs: &[Input<'_, T>], norms: &[Norm]) -> f64 {
        let order = self.in_name_order(inputs);
        let clipped = order.iter().map(|&i| norms[i].norm * self.norm_factor(&norms[i]));
        let square_sum: f64 = clipped.clone().map(|norm| norm * norm).sum();
        if square_sum.is_infinite() { scaled_norm(clipped) } else { square_sum.sqrt() }
    }

    /// The factor of the clip by the norm of one variable.
    fn norm_factor(&self, norm: &Norm) -> f64 {
        self.options.clip.norm.map_or(1.0, |limit| clip_factor(norm.norm, limit))
    }

    /// The rows of sparse gradients, clipped, and summed so that each row appears once; by the numbers of the inputs.
    pub(super) fn unique_rows(
        &self,
        inputs: &[Input<'_, T>],
        measured: &Measured,
    ) -> Result<Vec<(usize, UniqueRows<T>)>, Error> {
        let limit = self.options.clip.value;
        let factor = measured.factor.unwrap_or(1.0);
        let mut unique = Vec::new();
        for (i, input) in inputs.iter().enumerate() {
            if let Some(InputGradient::Sparse(gradient)) = &input.gradient {
                let scale = self.norm_factor(measured.norm(i)) * factor;
                unique.push((i, UniqueRows::new(gradient, limit, scale)));
            }
        }
        if self.rule.needs_gradient_norm()
            && let Some(ranks) = &self.options.ranks
        {
            global_norms::sum_rows(ranks.world(), inputs, &mut unique)?;
        }
        Ok(unique)
    }

    /// The first element that is infinite or NaN, in the order of the names of the variables.
    pub(super) fn find_non_finite(&self, inputs: &[Input<'_, T>]) -> Result<Option<NonFiniteGradient>, Error> {
        self.find_refused(inputs, |_, _, value| !value.is_finite())
    }

    /// The first finite element that is too large for the rule, in the order of the names of the variables: its clipped
    /// square overflows the second moment, which would then be infinite for good.
    pub(super) fn find_overflow(
        &self,
        inputs: &[Input<'_, T>],
        measured: &Measured,
        unique: &[(usize, UniqueRows<T>)],
    ) -> Result<Option<NonFiniteGradient>, Error> {
        /// Rows of a sparse gradient are summed after their norm is measured. More rows than this never have the same
        /// index.
        const DUPLICATES: f64 = 1_048_576.0;
        let squares = self.slots.iter().any(SlotSpec::is_second_moment);
        let of_element = if squares { T::LARGEST.as_().sqrt() } else { f64::INFINITY };
        let of_norm = if self.rule.needs_gradient_norm() { f64::MAX.sqrt() } else { f64::INFINITY };
        let scale = |i: usize| self.norm_factor(measured.norm(i)) * measured.factor.unwrap_or(1.0);
        let is_suspicious = |i: usize| {
            let duplicates =
                if matches!(inputs[i].gradient, Some(InputGradient::Sparse(_))) { DUPLICATES } else { 1.0 };
            measured.norm(i).norm * scale(i) * duplicates > of_element.min(of_norm)
        };
        if !(0..inputs.len()).any(is_suspicious) {
            return Ok(None);
        }
        let clip = self.options.clip.value.unwrap_or(f64::INFINITY);
        let guards: Vec<Guard<'_, T>> = (0..inputs.len())
            .map(|i| {
                let rows = unique.iter().find(|(input, _)| *input == i).map(|(_, rows)| rows);
                let norm = match rows {
                    Some(rows) => scaled_norm(rows.values.iter().map(|value| value.as_().abs())),
                    None => measured.norm(i).norm * scale(i),
                };
                // Of a gradient whose norm is too large, an element is named that has its share of it.
                let placed = inputs[i].placed.as_deref();
                let len = placed.map_or(inputs[i].value.len(), |placed| placed.placement.shape.iter().product());
                let share = if norm > of_norm { norm / (len as f64).sqrt() / 2.0 } else { f64::INFINITY };
                Guard { rows, scale: scale(i), share }
            })
            .collect();
        self.find_refused(inputs, |i, place, value| {
            let Guard { rows, scale, share } = &guards[i];
            let magnitude = match (&inputs[i].gradient, rows) {
                (Some(InputGradient::Sparse(sparse)), Some(rows)) => rows.summed(sparse, place).as_().abs(),
                _ => value.as_().abs().min(clip) * scale,
            };
            magnitude > of_element || !magnitude.is_finite() || magnitude >= *share
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
