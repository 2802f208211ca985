//! Blocks, and kernels made from a function of one element.

use std::array;
use std::ops::RangeFrom;

use super::fused_loop::{Done, Fused};
use super::slot::{ArraySlots, MAX_ARRAY_SLOTS};
use super::workspace::Workspace;
use super::{BLOCK, Kernel, VariableScalars};
use crate::loops;
use crate::precision::packed::PackedBlock;
use crate::real::{Real, Scalar};

/// A part of one variable, small enough for the cache, with its gradient and its slots.
///
/// The loop of [`elementwise`](Self::elementwise) also does the engine's stages (scaling by a clip, weight decay,
/// averages), so that each number is read once and written once. A kernel with loops of its own calls
/// [`parts`](Self::parts), and [`done`](Self::done) at the end.
///
/// In both cases, and for any order of wrapper and inner rule: the gradient is always clipped, and the value is decayed
/// once, before the first of them reads it.
#[derive(Debug)]
pub struct Block<'a, T> {
    pub(crate) value: &'a mut [T],
    /// The gradient, clipped by value but not yet by norm.
    pub(crate) gradient: Option<&'a [T]>,
    /// The array slots; empty slices where a slot is stored in fewer bits.
    pub(crate) slots: ArraySlots<'a, T>,
    pub(crate) packed: Option<PackedBlock<'a>>,
    pub(crate) scalars: &'a VariableScalars,
    /// The average, if there is one and no later loop changes the value of this block.
    pub(crate) average: Option<&'a mut [T]>,
    /// The engine's stages that have not been applied to this block yet.
    pub(crate) fused: Fused<T>,
    pub(crate) workspace: &'a mut Workspace<T>,
}

/// The numbers of a block, for a kernel with loops of its own.
#[derive(Debug)]
pub struct BlockParts<'a, T> {
    /// The elements of the variable, at most [`BLOCK`](crate::rule::BLOCK) of them.
    pub value: &'a mut [T],
    /// Their gradient, clipped; `None` for rows that a sparse gradient does not touch.
    pub gradient: Option<&'a [T]>,
    /// The elements of the array slots, in the order of [`UpdateRule::slots`](super::UpdateRule::slots).
    pub slots: [&'a mut [T]; MAX_ARRAY_SLOTS],
}

/// How an update treats the rows that a sparse gradient does not touch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SparseUpdate {
    /// They are updated with a gradient of 0: the sparse gradient is equivalent to a dense one.
    #[default]
    Dense,
    /// Their slots are updated with a gradient of 0, their values stay.
    Moments,
    /// Neither slots nor values change.
    Rows,
}

impl<'a, T: Scalar> Block<'a, T> {
    /// A block of numbers that somebody else than an optimizer keeps, without the engine's stages: to run a kernel, or
    /// to test one. See [`SliceStep`](crate::SliceStep) for whole variables.
    ///
    /// `gradient` is `None` for rows that a sparse gradient does not touch; `slots` are the array slots of the rule, in
    /// their order; `scalars` is what [`Kernel::begin_variable`] returned.
    ///
    /// # Panics
    ///
    /// If the slices have different lengths, or more than [`BLOCK`] elements, or there are more than
    /// [`MAX_ARRAY_SLOTS`] slots.
    #[must_use]
    pub fn new(
        value: &'a mut [T],
        gradient: Option<&'a [T]>,
        slots: impl IntoIterator<Item = &'a mut [T]>,
        scalars: &'a VariableScalars,
        workspace: &'a mut Workspace<T>,
    ) -> Self {
        let len = value.len();
        assert!(len <= BLOCK, "a block of {len} elements is too long");
        assert!(gradient.is_none_or(|gradient| gradient.len() == len), "the gradient has another length");
        let slots = ArraySlots::from_slices(slots);
        assert!(slots.all_have(len), "a slot has another length");
        Self { value, gradient, slots, packed: None, scalars, average: None, fused: Fused::none(), workspace }
    }

    /// Whether the block has a gradient. Rows that a sparse gradient does not touch have none.
    #[must_use]
    pub fn is_touched(&self) -> bool {
        self.gradient.is_some()
    }

    /// What [`Kernel::begin_variable`] returned for the variable.
    #[must_use]
    pub fn variable_scalars(&self) -> &'a VariableScalars {
        self.scalars
    }

    /// The same block for a wrapped rule whose slots are the wrapper's from `slots.start` on. For a wrapper that
    /// changes the block after the wrapped rule. Weight decay is applied now, so that neither rule repeats it.
    #[must_use]
    pub fn with_slots(&mut self, slots: RangeFrom<usize>) -> Block<'_, T> {
        self.fused = self.fused.decay_first(self.value);
        Block {
            value: self.value,
            gradient: self.gradient,
            slots: self.slots.from(slots.start),
            packed: self.packed.as_mut().map(|packed| packed.from(slots.start)),
            scalars: self.scalars,
            // The average is taken of the value that the wrapper leaves.
            average: None,
            fused: self.fused,
            workspace: self.workspace,
        }
    }

    /// The same block for a wrapped rule whose slots are the wrapper's from `slots.start` on. For a wrapper that does
    /// nothing after the wrapped rule.
    #[must_use]
    pub fn into_slots(mut self, slots: RangeFrom<usize>) -> Self {
        // In place: a block is large, and long lists of small variables have many.
        self.slots.start_at(slots.start);
        if let Some(packed) = &mut self.packed {
            packed.start_at(slots.start);
        }
        self
    }

    /// The numbers of the block, clipped and decayed, for a kernel with loops of its own.
    pub fn parts(&mut self) -> BlockParts<'_, T> {
        self.fused = self.fused.decay_first(self.value);
        let Workspace { scratch, wide, .. } = &mut *self.workspace;
        let gradient = match (self.gradient, self.fused.scale) {
            (Some(gradient), Some(scale)) => {
                let scaled = scratch.first(gradient.len());
                loops::scale(scaled, gradient, scale);
                Some(&*scaled)
            }
            (gradient, _) => gradient,
        };
        let mut slots = self.slots.from(0).into_array();
        if let Some(packed) = &self.packed {
            packed.lend(wide, &mut slots);
        }
        BlockParts { value: self.value, gradient, slots }
    }

    /// Ends the block, after loops of its own, or unchanged.
    pub fn done(self) -> Done {
        self.fused.decay_first(self.value);
        Done { averaged: false }
    }

    /// Runs `element` over the block. `element` returns the new value and the new slots from coefficients, value,
    /// gradient and slots.
    ///
    /// The loop is compiled for several instruction sets; all of them give the same bits.
    #[inline]
    pub fn elementwise<K, F, const N: usize>(mut self, sparse: SparseUpdate, k: &K, element: F) -> Done
    where
        F: Fn(&K, T, T, [T; N]) -> (T, [T; N]),
    {
        const { assert!(N <= MAX_ARRAY_SLOTS) };
        let Workspace { zeros, scratch, wide } = self.workspace;
        let len = self.value.len();
        let (value, gradient) = match (self.gradient, sparse) {
            (Some(gradient), _) => (self.value, gradient),
            (None, SparseUpdate::Rows) => {
                self.fused.decay_first(self.value);
                return Done { averaged: false };
            }
            (None, SparseUpdate::Dense) => (self.value, &*zeros.first(len)),
            (None, SparseUpdate::Moments) => {
                self.fused = self.fused.decay_first(self.value);
                // The value stays, so a later pass of the engine averages it.
                self.average = None;
                let scratch = scratch.first(len);
                scratch.copy_from_slice(self.value);
                (scratch, &*zeros.first(len))
            }
        };
        if let Some(packed) = &mut self.packed {
            if !wide.are_lent()
                && let Some(slots) = packed.take_all::<N>()
            {
                return self.fused.run_packed(k, &element, value, gradient, slots);
            }
            if packed.any_first(N) {
                packed.lend(wide, self.slots.as_mut());
            }
        }
        // Cut, although they have this length: the processor would wait for a whole copy of what was just written.
        let state = array::from_fn(|slot| &mut self.slots.take(slot)[..len]);
        self.fused.run(k, element, value, gradient, state, self.average)
    }
}

/// A kernel that is one function of each element.
#[derive(Debug, Clone, Copy)]
pub struct Elementwise<K, F, const N: usize> {
    coefficients: K,
    element: F,
    sparse: SparseUpdate,
}

/// Makes a [`Kernel`] from a function of one element with a state of `N` array slots.
///
/// `element` gets the coefficients, the value `w`, its gradient `g` and the state, and returns the new value and the
/// new state. It should be generic over [`Real`](crate::rule::Real).
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

/// Makes weight decay a part of the gradient, `g := g + lambda w` (an L2 penalty), before `element` sees it. The
/// coefficients of the function that is returned are lambda and the coefficients of `element`.
///
/// # Examples
///
/// ```
/// use opt_core::rule::coupled_decay;
///
/// let descend = coupled_decay(|rate: &f64, w: f64, g: f64, []: [f64; 0]| (w - rate * g, []));
/// assert_eq!(descend(&(0.5, 0.25), 4.0, 1.0, []).0, 4.0 - 0.25 * (1.0 + 0.5 * 4.0));
/// ```
#[expect(clippy::type_complexity, reason = "the type of an element function, with lambda beside its coefficients")]
pub fn coupled_decay<E: Real, K, F, const N: usize>(element: F) -> impl Fn(&(E, K), E, E, [E; N]) -> (E, [E; N])
where
    F: Fn(&K, E, E, [E; N]) -> (E, [E; N]),
{
    move |(lambda, k), w, g, slots| element(k, w, g + *lambda * w, slots)
}

impl<K, F, const N: usize> Elementwise<K, F, N> {
    /// Sets how rows are treated that a sparse gradient does not touch.
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
    fn update(&self, block: Block<'_, T>) -> Done {
        block.elementwise(self.sparse, &self.coefficients, &self.element)
    }

    fn visits_untouched_rows(&self) -> bool {
        self.sparse != SparseUpdate::Rows
    }
}
