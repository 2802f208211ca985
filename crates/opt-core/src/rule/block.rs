//! From a function of one element to a kernel over blocks.

use std::array;
use std::mem;
use std::ops::RangeFrom;

use multiversion::multiversion;

use super::{Kernel, Locals, MAX_ARRAY_SLOTS};
use crate::real::Scalar;

/// The largest number of elements in a block: value, gradient and all slots of it fit in the first-level caches.
pub const BLOCK: usize = 2048;

/// A piece of one variable, small enough for the cache, with its gradient and its slots.
#[derive(Debug)]
pub struct Block<'a, T> {
    /// The elements of the variable, at most [`BLOCK`] of them.
    pub value: &'a mut [T],
    /// Their gradient, clipped; `None` for rows that a sparse gradient does not touch.
    pub gradient: Option<&'a [T]>,
    /// The elements of the array slots, in the order of [`UpdateRule::slots`](super::UpdateRule::slots).
    pub slots: [&'a mut [T]; MAX_ARRAY_SLOTS],
    /// What [`Kernel::begin_variable`] returned for the variable.
    pub locals: &'a Locals,
    pub(crate) workspace: &'a mut Workspace<T>,
}

/// Buffers of one thread.
#[derive(Debug)]
pub(crate) struct Workspace<T> {
    /// Never written: the gradient of untouched rows.
    zeros: [T; BLOCK],
    /// Overwritten at will.
    scratch: [T; BLOCK],
}

impl<T: Scalar> Workspace<T> {
    pub(crate) fn new() -> Self {
        Self { zeros: [T::zero(); BLOCK], scratch: [T::zero(); BLOCK] }
    }
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

impl<T: Scalar> Block<'_, T> {
    /// The same block for a wrapped rule whose slots are the wrapper's from `slots.start` on.
    #[must_use]
    pub fn with_slots(&mut self, slots: RangeFrom<usize>) -> Block<'_, T> {
        let mut inner: [&mut [T]; MAX_ARRAY_SLOTS] = Default::default();
        for (to, from) in inner.iter_mut().zip(self.slots.iter_mut().skip(slots.start)) {
            *to = from;
        }
        Block {
            value: self.value,
            gradient: self.gradient,
            slots: inner,
            locals: self.locals,
            workspace: self.workspace,
        }
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
        let state = array::from_fn(|slot| mem::take(&mut self.slots[slot]));
        match (self.gradient, sparse) {
            (Some(gradient), _) => run(k, element, self.value, gradient, state),
            (None, SparseUpdate::Rows) => {}
            (None, SparseUpdate::Dense) => {
                let zeros = &self.workspace.zeros[..self.value.len()];
                run(k, element, self.value, zeros, state);
            }
            (None, SparseUpdate::Moments) => {
                let Workspace { zeros, scratch } = self.workspace;
                let scratch = &mut scratch[..self.value.len()];
                scratch.copy_from_slice(self.value);
                run(k, element, scratch, &zeros[..self.value.len()], state);
            }
        }
    }
}

#[multiversion(targets("x86_64+avx512f+avx512vl+avx512dq+avx512bw", "x86_64+avx2+fma"))]
fn run<T, K, F, const N: usize>(k: &K, element: F, value: &mut [T], gradient: &[T], mut state: [&mut [T]; N])
where
    T: Scalar,
    F: Fn(&K, T, T, [T; N]) -> (T, [T; N]),
{
    let len = value.len();
    let gradient = &gradient[..len];
    for slot in &mut state {
        *slot = &mut mem::take(slot)[..len];
    }
    for i in 0..len {
        let (w, s) = element(k, value[i], gradient[i], array::from_fn(|slot| state[slot][i]));
        value[i] = w;
        for (slot, s) in state.iter_mut().zip(s) {
            slot[i] = s;
        }
    }
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
