//! From a function of one element to a kernel over blocks.

use std::array;
use std::mem;
use std::ops::RangeFrom;

use super::fused_loop::{Around, Narrow, Workspace};
use super::{Kernel, Locals, MAX_ARRAY_SLOTS};
use crate::loops;
use crate::real::Scalar;

/// The largest number of elements in a block: value, gradient and all slots of it fit in the first-level caches.
pub const BLOCK: usize = if cfg!(miri) { 64 } else { 8192 };

/// A piece of one variable, small enough for the cache, with its gradient and its slots.
///
/// What the engine does to a block around the rule (scaling by a clip, weight decay, averages) happens in the loop of
/// [`elementwise`](Self::elementwise), so that each number is read once and written once. A kernel with loops of its own
/// takes [`parts`](Self::parts).
#[derive(Debug)]
pub struct Block<'a, T> {
    pub(crate) value: &'a mut [T],
    pub(crate) gradient: Option<&'a [T]>,
    /// Empty where a slot is stored in 16 bits.
    pub(crate) slots: [&'a mut [T]; MAX_ARRAY_SLOTS],
    pub(crate) narrow: Option<Narrow<'a>>,
    pub(crate) locals: &'a Locals,
    /// The average, if this block is the last to change the value.
    pub(crate) average: Option<&'a mut [T]>,
    pub(crate) around: &'a mut Around<T>,
    pub(crate) workspace: &'a mut Workspace<T>,
}

/// The numbers of a block, for loops of one's own.
#[derive(Debug)]
pub struct BlockParts<'a, T> {
    /// The elements of the variable, at most [`BLOCK`] of them.
    pub value: &'a mut [T],
    /// Their gradient, clipped; `None` for rows that a sparse gradient does not touch.
    pub gradient: Option<&'a [T]>,
    /// The elements of the array slots, in the order of [`UpdateRule::slots`](super::UpdateRule::slots).
    pub slots: [&'a mut [T]; MAX_ARRAY_SLOTS],
}

/// What a sparse gradient does to the rows that it does not touch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SparseUpdate {
    /// They are updated with a gradient of 0: the sparse gradient is a dense one, stored cleverly.
    #[default]
    Dense,
    /// Their slots are updated with a gradient of 0, their values stay.
    Moments,
    /// Neither slots nor values change.
    Rows,
}

impl<'a, T: Scalar> Block<'a, T> {
    /// Whether there is a gradient: not for rows that a sparse gradient does not touch.
    #[must_use]
    pub fn is_touched(&self) -> bool {
        self.gradient.is_some()
    }

    /// What [`Kernel::begin_variable`] returned for the variable.
    #[must_use]
    pub fn locals(&self) -> &'a Locals {
        self.locals
    }

    /// The same block for a wrapped rule whose slots are the wrapper's from `slots.start` on, when the wrapper changes
    /// the value afterwards.
    #[must_use]
    pub fn with_slots(&mut self, slots: RangeFrom<usize>) -> Block<'_, T> {
        Block {
            value: self.value,
            gradient: self.gradient,
            slots: shifted(&mut self.slots, slots.start),
            narrow: self.narrow.as_mut().map(|narrow| narrow.shifted(slots.start)),
            locals: self.locals,
            // The average is of the value that the wrapper leaves.
            average: None,
            around: self.around,
            workspace: self.workspace,
        }
    }

    /// The same block for a wrapped rule whose slots are the wrapper's from `slots.start` on, when the wrapper has
    /// nothing to do afterwards.
    #[must_use]
    pub fn into_slots(mut self, slots: RangeFrom<usize>) -> Self {
        self.slots.rotate_left(slots.start.min(MAX_ARRAY_SLOTS));
        if let Some(narrow) = &mut self.narrow {
            narrow.places = narrow.places.map(|place| place.wrapping_sub(slots.start));
        }
        self
    }

    /// The numbers of the block, for loops of one's own: clipped and decayed.
    pub fn parts(&mut self) -> BlockParts<'_, T> {
        self.around.settle_decay(self.value);
        let Workspace { scratch, wide, .. } = &mut *self.workspace;
        let gradient = match (self.gradient, self.around.scale) {
            (Some(gradient), Some(scale)) => {
                let scaled = scratch.first(gradient.len());
                loops::scale(scaled, gradient, scale);
                Some(&*scaled)
            }
            (gradient, _) => gradient,
        };
        let mut slots = shifted(&mut self.slots, 0);
        if let Some(narrow) = &self.narrow {
            narrow.lend(wide, &mut slots, &mut self.around.widened);
        }
        BlockParts { value: self.value, gradient, slots }
    }

    /// Runs `element` over the block: new value and new slots from coefficients, value, gradient and slots.
    ///
    /// It is compiled for several instruction sets; all of them give the same bits.
    #[inline]
    pub fn elementwise<K, F, const N: usize>(mut self, sparse: SparseUpdate, k: &K, element: F)
    where
        F: Fn(&K, T, T, [T; N]) -> (T, [T; N]),
    {
        const { assert!(N <= MAX_ARRAY_SLOTS) };
        let Workspace { zeros, scratch, wide } = self.workspace;
        let (value, around) = (self.value, self.around);
        let (value, gradient) = match (self.gradient, sparse) {
            (Some(gradient), _) => (value, gradient),
            (None, SparseUpdate::Rows) => return,
            (None, SparseUpdate::Dense) => {
                let len = value.len();
                (value, &*zeros.first(len))
            }
            (None, SparseUpdate::Moments) => {
                around.settle_decay(value);
                // The value that stays is averaged by the engine.
                self.average = None;
                let scratch = scratch.first(value.len());
                scratch.copy_from_slice(value);
                (scratch, &*zeros.first(value.len()))
            }
        };
        if let Some(mut narrow) = self.narrow.filter(|narrow| narrow.any_first(N)) {
            if !around.widened && around.run_narrow(k, &element, value, gradient, &mut narrow) {
                return;
            }
            narrow.lend(wide, &mut self.slots, &mut around.widened);
        }
        let state = array::from_fn(|slot| mem::take(&mut self.slots[slot]));
        around.run(k, element, value, gradient, state, self.average);
    }
}

/// The slots from one on, at the places from 0 on.
fn shifted<'a, T>(slots: &'a mut [&mut [T]; MAX_ARRAY_SLOTS], start: usize) -> [&'a mut [T]; MAX_ARRAY_SLOTS] {
    let mut shifted: [&mut [T]; MAX_ARRAY_SLOTS] = Default::default();
    for (to, from) in shifted.iter_mut().zip(slots.iter_mut().skip(start)) {
        *to = from;
    }
    shifted
}

/// A kernel that is one function of each element.
#[derive(Debug, Clone, Copy)]
pub struct Elementwise<K, F, const N: usize> {
    coefficients: K,
    element: F,
    sparse: SparseUpdate,
}

/// Turns one function of an element, with a state of `N` array slots, into a [`Kernel`].
///
/// `element` gets the coefficients, the value `w`, its gradient `g` and the state, and returns the new value and the
/// new state. It should be generic over [`Real`](crate::Real).
///
/// # Examples
///
/// See [`UpdateRule`](super::UpdateRule).
pub fn elementwise<T, K, F, const N: usize>(coefficients: K, element: F) -> Elementwise<K, F, N>
where
    F: Fn(&K, T, T, [T; N]) -> (T, [T; N]),
{
    Elementwise { coefficients, element, sparse: SparseUpdate::default() }
}

impl<K, F, const N: usize> Elementwise<K, F, N> {
    /// Says what a sparse gradient does to the rows that it does not touch.
    #[must_use]
    pub fn sparse(mut self, sparse: SparseUpdate) -> Self {
        self.sparse = sparse;
        self
    }
}

impl<T, K, F, const N: usize> Kernel<T> for Elementwise<K, F, N>
where
    T: Scalar,
    K: Send + Sync,
    F: Fn(&K, T, T, [T; N]) -> (T, [T; N]) + Send + Sync,
{
    fn update(&self, block: Block<'_, T>) {
        block.elementwise(self.sparse, &self.coefficients, &self.element);
    }

    fn visits_untouched_rows(&self) -> bool {
        self.sparse != SparseUpdate::Rows
    }
}
