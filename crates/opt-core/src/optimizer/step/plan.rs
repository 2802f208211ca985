//! The plan of a step, the plan of each variable in it, and the update of one block: clip, decay, the rule with the
//! rules that it wraps, average.

use super::super::records::Record;
use super::norms::{Norm, Question, square_sum};
use super::storage::AnyValues;
use super::unique_rows::UniqueRows;
use crate::clip::clip_factor;
use crate::moments::MomentStorage;
use crate::precision::packed::PackedBlock;
use crate::precision::stochastic::Noise;
use crate::real::Scalar;
use crate::rule::{ArraySlots, Block, Fused, Kernel, VariableScalars, VariableStep, Workspace};

/// The plan of a step: numbers that are the same for all variables.
pub(crate) struct StepPlan<'k, T> {
    pub(crate) kernel: &'k dyn Kernel<T>,
    pub(crate) question: Question,
    /// The limit of the clip by the norm of each variable, if there is one.
    pub(crate) norm_limit: Option<f64>,
    /// The factor of the clip by the global norm; 1 without this clip.
    pub(crate) global_factor: f64,
    /// Whether the rule needs the norm of each variable's gradient.
    pub(crate) needs_norm: bool,
    /// The engine's stages for a variable that decays, if its gradient is dense and is not clipped by its own norm.
    pub(crate) fused: Fused<T>,
    /// Whether the average then replaces the value.
    pub(crate) overwrite: bool,
    /// How moments are stored, and the number of the step (counted from 0), which their rounding depends on.
    pub(crate) storage: MomentStorage,
    pub(crate) iteration: u64,
    /// Whether variables are distributed over several ranks.
    pub(crate) on_ranks: bool,
}

/// The plan of one variable in one step.
#[derive(Debug, Clone, Copy)]
pub(crate) struct VariablePlan<T> {
    /// The limit of the clip by value; none for sparse gradients, which are clipped before.
    pub(crate) limit: Option<T>,
    fused: Fused<T>,
    overwrite: bool,
    /// The rule's numbers for this variable.
    scalars: VariableScalars,
}

/// The state that the optimizer keeps for the elements of a block.
pub(crate) struct BlockState<'a, T> {
    pub(crate) slots: ArraySlots<'a, T>,
    /// The slots in fewer bits. The rule borrows them; the caller of the update rounds them afterwards, if they were
    /// lent.
    pub(crate) packed: Option<PackedBlock<'a>>,
    /// The average; empty if there is none.
    pub(crate) average: &'a mut [T],
}

#[cfg(test)]
impl<'k, T: Scalar> StepPlan<'k, T> {
    /// A step without clip, decay and average.
    pub(crate) fn plain(kernel: &'k dyn Kernel<T>, storage: MomentStorage) -> Self {
        Self {
            kernel,
            question: Question { limit: None, check_finite: false, factor: 1.0 },
            norm_limit: None,
            global_factor: 1.0,
            needs_norm: false,
            fused: Fused::none(),
            overwrite: false,
            storage,
            iteration: 0,
            on_ranks: false,
        }
    }
}

impl<T: Scalar> StepPlan<'_, T> {
    /// The source of the roundings of a variable, if it has slots in fewer bits.
    pub(crate) fn noise(&self, record: &Record<T>) -> Option<Noise> {
        match self.storage {
            MomentStorage::Full => None,
            MomentStorage::Bf16 { seed } | MomentStorage::Float8 { seed } => {
                Some(Noise::new(seed, self.iteration, record.hash))
            }
        }
    }

    /// The norm of one gradient, if a clip or the rule needs it.
    pub(crate) fn norm_of<V: Scalar>(&self, values: &AnyValues<'_, V>) -> Norm {
        if self.is_norm_wanted() { self.question.answer(values) } else { Norm::NONE }
    }

    /// Whether a clip or the rule needs the norm of each gradient.
    #[inline(always)]
    pub(crate) fn is_norm_wanted(&self) -> bool {
        self.needs_norm || self.norm_limit.is_some()
    }

    /// The stages of a variable with a dense gradient, and the sum of squares of its clipped gradient.
    fn clipped(&self, record: &Record<T>, norm: &Norm) -> (Fused<T>, f64) {
        let clip = self.clip_of(norm);
        (self.stages(record, Fused::scale(clip * self.question.factor)), norm.scaled_square_sum(clip))
    }

    /// The factor of the clips by norms.
    #[inline(always)]
    pub(crate) fn clip_of(&self, norm: &Norm) -> f64 {
        self.norm_limit.map_or(1.0, |limit| clip_factor(norm.norm, limit)) * self.global_factor
    }

    /// The stages of a variable.
    #[inline(always)]
    fn stages(&self, record: &Record<T>, scale: Option<[T; 2]>) -> Fused<T> {
        Fused { scale, decay: self.fused.decay.filter(|_| record.decays), ..self.fused }
    }

    /// The plan of a variable with a dense gradient.
    pub(crate) fn dense(&self, record: &mut Record<T>, norm: Norm) -> VariablePlan<T> {
        let (fused, square_sum) = self.clipped(record, &norm);
        let scalars = self.begin_variable(record, square_sum);
        VariablePlan { limit: self.question.limit.map(T::literal), fused, overwrite: self.overwrite, scalars }
    }

    /// The plan of a variable with a sparse gradient, whose rows are clipped and summed already. `known` is the sum of
    /// their squares over all ranks.
    pub(crate) fn sparse(&self, record: &mut Record<T>, values: &[T], known: Option<f64>) -> VariablePlan<T> {
        let square_sum = if self.needs_norm { known.unwrap_or_else(|| square_sum(values, None)) } else { 0.0 };
        let fused = self.stages(record, None);
        let scalars = self.begin_variable(record, square_sum);
        VariablePlan { limit: None, fused, overwrite: self.overwrite, scalars }
    }

    /// Updates the scalar slots of a variable without elements, as those of other variables.
    pub(crate) fn update_scalars(&self, record: &mut Record<T>, unique: Option<&UniqueRows<T>>, norm: Norm) {
        match unique {
            None => self.dense(record, norm),
            Some(unique) => self.sparse(record, &[], unique.square_sum),
        };
    }

    #[inline(always)]
    fn begin_variable(&self, record: &mut Record<T>, square_sum: f64) -> VariableScalars {
        self.variable_scalars(&record.name, &mut record.scalars, square_sum)
    }

    /// The rule's numbers for a variable; `scalars` are its scalar slots, which are updated.
    #[inline(always)]
    pub(crate) fn variable_scalars(&self, name: &str, scalars: &mut [f64], square_sum: f64) -> VariableScalars {
        let gradient_square_sum = self.needs_norm.then_some(square_sum);
        self.kernel.begin_variable(&VariableStep { name, gradient_square_sum }, scalars)
    }

    /// Updates a variable that is one block of contiguous numbers with a dense gradient, which is not clipped by value,
    /// and whose slots are stored in full.
    ///
    /// Long lists consist of such variables, so it makes no plan and copies no state on the way. `norm` is that of the
    /// gradient, if one is wanted.
    #[inline(always)]
    pub(crate) fn update_small(
        &self,
        record: &mut Record<T>,
        value: &mut [T],
        gradient: &[T],
        norm: Option<Norm>,
        workspace: &mut Workspace<T>,
    ) {
        let (fused, square_sum) = match norm {
            None => (self.stages(record, self.fused.scale), 0.0),
            Some(norm) => self.clipped(record, &norm),
        };
        let scalars = self.begin_variable(record, square_sum);
        let average = record.average.as_deref_mut().unwrap_or_default();
        let mut block = Block {
            value: &mut *value,
            gradient: Some(gradient),
            slots: ArraySlots::default(),
            packed: None,
            scalars: &scalars,
            average: fused.average.is_some().then_some(&mut *average),
            fused,
            workspace,
        };
        block.slots.fill(&mut record.arrays);
        let done = self.kernel.update(block);
        fused.end(&done, value, average, self.overwrite);
    }
}

impl<T: Scalar> VariablePlan<T> {
    /// Whether a step updates rows that a sparse gradient does not touch.
    pub(crate) fn visits_untouched_rows(&self, kernel: &dyn Kernel<T>) -> bool {
        kernel.visits_untouched_rows() || self.fused.decay.is_some() || self.fused.average.is_some()
    }

    /// Updates a block: the rule with the fused stages, then the stages that the rule's loop has not done.
    pub(crate) fn update_block(
        &self,
        kernel: &dyn Kernel<T>,
        value: &mut [T],
        gradient: Option<&[T]>,
        BlockState { slots, packed, average }: BlockState<'_, T>,
        workspace: &mut Workspace<T>,
    ) {
        let block = Block {
            value: &mut *value,
            gradient,
            slots,
            packed,
            scalars: &self.scalars,
            average: self.fused.average.is_some().then_some(&mut *average),
            fused: self.fused,
            workspace,
        };
        let is_visited = gradient.is_some() || kernel.visits_untouched_rows();
        let done = if is_visited { kernel.update(block) } else { block.done() };
        self.fused.end(&done, value, average, self.overwrite);
    }
}
