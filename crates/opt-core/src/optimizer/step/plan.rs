//! What happens to one block: clip, decay, rule (with whatever it wraps), average.

use half::bf16;

use super::super::records::Record;
use super::norms::{Norm, Question, square_sum};
use super::slice::cut_off;
use super::storage::AnyValues;
use super::unique_rows::UniqueRows;
use crate::clip::clip_factor;
use crate::loops;
use crate::precision::stochastic::{MAX_NARROW, MomentStorage, Noise};
use crate::real::Scalar;
use crate::rule::{Around, Block, Kernel, Locals, MAX_ARRAY_SLOTS, Narrow, VariableStep, Workspace};

/// What is the same for all variables of a step.
pub(crate) struct Pass<'k, T> {
    pub(crate) kernel: &'k dyn Kernel<T>,
    pub(crate) question: Question,
    /// The limit of a clip by the norm of each variable.
    pub(crate) norm_limit: Option<f64>,
    /// The factor of a clip by the global norm.
    pub(crate) global_factor: f64,
    /// Whether the rule wants to know the norm.
    pub(crate) needs_norm: bool,
    /// Decoupled weight decay times the learning rate.
    pub(crate) decay: Option<f64>,
    /// The momentum of the average.
    pub(crate) average: Option<f64>,
    /// Whether the average then replaces the value.
    pub(crate) overwrite: bool,
    /// Slots of a smaller magnitude become 0.
    pub(crate) flush_below: T,
    /// How moments are stored, and which step (counted from 0) they are rounded in.
    pub(crate) storage: MomentStorage,
    pub(crate) iteration: u64,
    /// Whether variables lie on several ranks.
    pub(crate) on_ranks: bool,
}

/// What happens to one variable in one step.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan<T> {
    /// Clip by value; not for sparse gradients, which are clipped before.
    pub(crate) limit: Option<T>,
    around: Around<T>,
    overwrite: bool,
    /// The rule's numbers for this variable.
    locals: Locals,
}

#[cfg(test)]
impl<'k, T: Scalar> Pass<'k, T> {
    /// A step with nothing around the rule.
    pub(crate) fn plain(kernel: &'k dyn Kernel<T>, storage: MomentStorage) -> Self {
        Self {
            kernel,
            question: Question { limit: None, check_finite: false },
            norm_limit: None,
            global_factor: 1.0,
            needs_norm: false,
            decay: None,
            average: None,
            overwrite: false,
            flush_below: T::zero(),
            storage,
            iteration: 0,
            on_ranks: false,
        }
    }
}

impl<T: Scalar> Pass<'_, T> {
    /// Whether norms of single variables are wanted, for a clip or for the rule.
    pub(crate) fn wants_norms(&self) -> bool {
        self.needs_norm || self.norm_limit.is_some()
    }

    /// The roundings of a variable, if it has any.
    pub(crate) fn noise(&self, record: &Record<T>) -> Option<Noise> {
        match self.storage {
            MomentStorage::Full => None,
            MomentStorage::Bf16 { seed } => Some(Noise::new(seed, self.iteration, record.hash)),
        }
    }

    /// The norm of one gradient, if anybody wants it.
    pub(crate) fn norm(&self, values: &AnyValues<'_, T>) -> Norm {
        if self.wants_norms() { self.question.answer(values) } else { Norm::NONE }
    }

    /// The factor by which the gradient of a variable is clipped.
    pub(crate) fn scale(&self, norm: &Norm) -> f64 {
        self.norm_limit.map_or(1.0, |limit| clip_factor(norm.norm, limit)) * self.global_factor
    }

    /// The plan for a dense gradient.
    pub(crate) fn plan(&self, record: &mut Record<T>, norm: Norm) -> Plan<T> {
        let scale = self.scale(&norm);
        let square_sum = norm.square_sum * scale * scale;
        let around = self.around(record, (scale != 1.0).then(|| loops::factors(scale)));
        Plan { limit: self.question.limit.map(T::literal), ..self.begin(record, square_sum, around) }
    }

    /// What a step does to a variable without elements: its scalar slots.
    pub(crate) fn settle(&self, record: &mut Record<T>, unique: Option<&UniqueRows<T>>, norm: Norm) {
        match unique {
            None => self.plan(record, norm),
            Some(unique) => self.sparse_plan(record, &[], unique.square_sum),
        };
    }

    /// The plan for rows that are clipped and summed already. `known` is the sum of their squares over all ranks.
    pub(crate) fn sparse_plan(&self, record: &mut Record<T>, values: &[T], known: Option<f64>) -> Plan<T> {
        let square_sum = if self.needs_norm { known.unwrap_or_else(|| square_sum(values, None)) } else { 0.0 };
        let around = self.around(record, None);
        self.begin(record, square_sum, around)
    }

    fn around(&self, record: &Record<T>, scale: Option<[T; 2]>) -> Around<T> {
        Around {
            scale,
            decay: self.decay.filter(|_| record.decays).map(T::literal),
            average: self.average.map(|momentum| [momentum, 1.0 - momentum].map(T::literal)),
            flush_below: self.flush_below,
            widened: false,
        }
    }

    fn begin(&self, record: &mut Record<T>, square_sum: f64, around: Around<T>) -> Plan<T> {
        let gradient_square_sum = self.needs_norm.then_some(square_sum);
        let variable = VariableStep { name: &record.name, gradient_square_sum };
        let locals = self.kernel.begin_variable(&variable, &mut record.scalars);
        Plan { limit: None, around, overwrite: self.overwrite, locals }
    }
}

/// Everything that happens to the blocks of a piece.
pub(crate) struct Stages<'p, 'a, T> {
    pub(crate) plan: &'p Plan<T>,
    pub(crate) kernel: &'p dyn Kernel<T>,
    pub(crate) slots: &'p mut [&'a mut [T]; MAX_ARRAY_SLOTS],
    /// How many of them there are.
    pub(crate) count: usize,
    pub(crate) packed: Option<&'p mut Packed<'a>>,
    pub(crate) average: &'p mut [T],
    pub(crate) workspace: &'p mut Workspace<T>,
}

/// Slots of a piece that are stored in 16 bits.
pub(crate) struct Packed<'a> {
    /// In the order of the slots; empty behind the last one.
    pub(crate) slots: [&'a mut [bf16]; MAX_NARROW],
    /// Which array slot each of them is.
    pub(crate) places: [usize; MAX_NARROW],
    pub(crate) noise: Noise,
    /// The place in the variable of the first element.
    pub(crate) first: usize,
}

impl<T: Scalar> Stages<'_, '_, T> {
    /// Whether anything happens to rows that a sparse gradient does not touch.
    pub(crate) fn visits_untouched_rows(&self) -> bool {
        let Around { decay, average, .. } = self.plan.around;
        self.kernel.visits_untouched_rows() || decay.is_some() || average.is_some()
    }

    /// Runs the block that starts at element `at` of the piece.
    pub(crate) fn run(&mut self, at: usize, value: &mut [T], gradient: Option<&[T]>) {
        let n = value.len();
        let mut slots: [&mut [T]; MAX_ARRAY_SLOTS] = Default::default();
        for (slot, whole) in slots.iter_mut().zip(self.slots.iter_mut().take(self.count)) {
            *slot = part(whole, at, n);
        }
        let average = part(self.average, at, n);
        let narrow = self.packed.as_mut().map(|packed| packed.block(at, n));
        let widened = self.plan.run(self.kernel, value, gradient, slots, average, narrow, self.workspace);
        if let (true, Some(packed)) = (widened, &mut self.packed) {
            packed.block(at, n).round(&mut self.workspace.wide);
        }
    }
}

impl<T: Scalar> Plan<T> {
    /// Runs a block. Returns whether slots in 16 bits have been widened, and are still to be rounded.
    #[expect(clippy::too_many_arguments, reason = "a block is all that there is")]
    pub(crate) fn run(
        &self,
        kernel: &dyn Kernel<T>,
        value: &mut [T],
        gradient: Option<&[T]>,
        slots: [&mut [T]; MAX_ARRAY_SLOTS],
        average: &mut [T],
        narrow: Option<Narrow<'_>>,
        workspace: &mut Workspace<T>,
    ) -> bool {
        let mut around = self.around;
        if gradient.is_some() || kernel.visits_untouched_rows() {
            kernel.update(Block {
                value,
                gradient,
                slots,
                narrow,
                locals: &self.locals,
                average: around.average.is_some().then_some(&mut *average),
                around: &mut around,
                workspace,
            });
        }
        // What the rule's loop has not done on its way.
        around.settle_decay(value);
        around.settle_average(average, value);
        if self.overwrite {
            value.copy_from_slice(average);
        }
        around.widened
    }
}

/// The part of a slice that may be absent (empty).
fn part<T>(slice: &mut [T], at: usize, n: usize) -> &mut [T] {
    if slice.is_empty() { slice } else { &mut slice[at..at + n] }
}

impl<'a> Packed<'a> {
    /// The elements `at..at + n`.
    fn block(&mut self, at: usize, n: usize) -> Narrow<'_> {
        let slots = self.slots.each_mut().map(|slot| part(slot, at, n));
        Narrow { slots, places: self.places, sequences: self.noise.at(self.first + at) }
    }

    /// Cuts before an element of the piece.
    pub(crate) fn split_at(self, at: usize) -> (Self, Self) {
        let Self { mut slots, places, noise, first } = self;
        let back = slots.each_mut().map(|slot| cut_off(slot, at));
        (Self { slots, places, noise, first }, Self { slots: back, places, noise, first: first + at })
    }
}
