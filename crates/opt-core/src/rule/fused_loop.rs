//! The fused loop: one pass over a block that scales the gradient, decays the value, runs the rule's function of one
//! element, and averages the result.
//!
//! Why it has this shape:
//!
//! * A step is bound by memory. Each number should be read once and written once, so the engine's stages happen in the
//!   rule's loop, in registers, and not in passes of their own.
//! * Stages that are off must cost nothing. So `SCALE`, `DECAY` and `AVERAGE` are constants of the loop, and each block
//!   chooses its copy of the loop once. Five copies serve all eight cases: a factor of 1 changes no bit.
//! * The loop is compiled for several instruction sets (`dispatched!`). Each operation is written alone, never as a
//!   fused multiply-add, so that all of them give the same bits.
//! * Slices are cut to one length before the loop: bounds are then checked once, and the compiler can vectorise.

use std::array;
use std::mem;

use half::bf16;

use crate::loops::{self, dispatched};
use crate::precision::packed::PackedBlock;
use crate::precision::stochastic::{self, Sequences};
use crate::real::Scalar;

/// The engine's stages for each element of a variable in one step. The value does not change: a loop that applies a
/// stage alone returns the stages that are left.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fused<T> {
    /// Two factors of the gradient, applied one after the other: see [`loops::factors`].
    pub(crate) scale: Option<[T; 2]>,
    /// Weight decay times learning rate.
    pub(crate) decay: Option<T>,
    /// The weights of the old average and of the value in the new average.
    pub(crate) average: Option<[T; 2]>,
    /// Slots whose magnitude is below this become 0.
    pub(crate) flush_below: T,
}

/// The proof that a block is done: [`Kernel::update`](super::Kernel::update) returns it.
#[derive(Debug)]
pub struct Done {
    /// Whether the same loop has also updated the average of the value.
    pub(crate) averaged: bool,
}

impl<T: Scalar> Fused<T> {
    /// Decays the value in a loop of its own. Returns the stages that are left.
    pub(crate) fn decay_first(self, value: &mut [T]) -> Self {
        let Some(decay) = self.decay else { return self };
        loops::decay(value, decay);
        Self { decay: None, ..self }
    }

    /// Runs `element` with all stages fused into one loop; the average only if it is given.
    #[inline]
    pub(crate) fn run<K, F, const N: usize>(
        &self,
        k: &K,
        element: F,
        value: &mut [T],
        gradient: &[T],
        state: [&mut [T]; N],
        average: Option<&mut [T]>,
    ) -> Done
    where
        F: Fn(&K, T, T, [T; N]) -> (T, [T; N]),
    {
        let rates = self.average.filter(|_| average.is_some());
        let constants = Constants {
            scale: self.scale.unwrap_or([T::literal(1.0); 2]),
            decay: self.decay.unwrap_or_default(),
            rates: rates.unwrap_or_default(),
            flush_below: self.flush_below,
        };
        let average = average.unwrap_or_default();
        match (self.scale, self.decay, rates) {
            (None, None, None) => {
                fused_loop::<T, K, F, N, false, false, false>(k, element, value, gradient, state, average, constants);
            }
            (Some(_), None, None) => {
                fused_loop::<T, K, F, N, true, false, false>(k, element, value, gradient, state, average, constants);
            }
            (_, Some(_), None) => {
                fused_loop::<T, K, F, N, true, true, false>(k, element, value, gradient, state, average, constants);
            }
            (_, None, Some(_)) => {
                fused_loop::<T, K, F, N, true, false, true>(k, element, value, gradient, state, average, constants);
            }
            (_, Some(_), Some(_)) => {
                fused_loop::<T, K, F, N, true, true, true>(k, element, value, gradient, state, average, constants);
            }
        }
        Done { averaged: rates.is_some() }
    }

    /// As [`run`](Self::run), if all slots are stored in 16 bits: `0..N` must be all slots. A later pass of the engine
    /// updates the average.
    #[inline]
    pub(crate) fn run_packed<K, F, const N: usize>(
        self,
        k: &K,
        element: &F,
        value: &mut [T],
        gradient: &[T],
        packed: &mut PackedBlock<'_>,
    ) -> Done
    where
        F: Fn(&K, T, T, [T; N]) -> (T, [T; N]),
    {
        let Self { scale, flush_below, .. } = self.decay_first(value);
        let state: [&mut [bf16]; N] = array::from_fn(|slot| mem::take(&mut packed.slots[slot]));
        let scale = scale.unwrap_or([T::literal(1.0); 2]);
        packed_loop(k, element, value, gradient, state, scale, flush_below, packed.sequences);
        Done { averaged: false }
    }
}

dispatched! {
    #[expect(clippy::too_many_arguments, reason = "a loop over all that there is")]
    fn packed_loop<T: Scalar, K, F: Fn(&K, T, T, [T; N]) -> (T, [T; N]); N: usize>(
        k: &K,
        element: &F,
        value: &mut [T],
        gradient: &[T],
        mut state: [&mut [bf16]; N],
        scale: [T; 2],
        flush_below: T,
        sequences: Sequences,
    ) {
        let [first, second] = scale;
        let len = value.len();
        let gradient = &gradient[..len];
        for slot in &mut state {
            *slot = &mut mem::take(slot)[..len];
        }
        for i in 0..len {
            let g = gradient[i] * first * second;
            let (w, s) = element(k, value[i], g, array::from_fn(|slot| stochastic::widened(state[slot][i])));
            value[i] = w;
            for slot in 0..N {
                state[slot][i] = stochastic::rounded(s[slot].flushed(flush_below).to_f32(), sequences.bits(slot, i));
            }
        }
    }
}

/// The constant numbers of a loop.
#[derive(Clone, Copy)]
struct Constants<T> {
    scale: [T; 2],
    decay: T,
    rates: [T; 2],
    flush_below: T,
}

dispatched! {
    fn fused_loop<T: Scalar, K, F: Fn(&K, T, T, [T; N]) -> (T, [T; N]); N: usize, SCALE: bool, DECAY: bool, AVERAGE: bool>(
        k: &K,
        element: F,
        value: &mut [T],
        gradient: &[T],
        mut state: [&mut [T]; N],
        average: &mut [T],
        constants: Constants<T>,
    ) {
        let Constants { scale: [first, second], decay, rates: [keep, take], flush_below } = constants;
        let len = value.len();
        let gradient = &gradient[..len];
        for slot in &mut state {
            *slot = &mut mem::take(slot)[..len];
        }
        let average = if AVERAGE { &mut average[..len] } else { average };
        for i in 0..len {
            let (mut w, mut g) = (value[i], gradient[i]);
            if SCALE {
                g = g * first * second;
            }
            if DECAY {
                w = w - w * decay;
            }
            let (w, s) = element(k, w, g, array::from_fn(|slot| state[slot][i]));
            value[i] = w;
            for (slot, s) in state.iter_mut().zip(s) {
                slot[i] = s.flushed(flush_below);
            }
            if AVERAGE {
                average[i] = (keep * average[i] + take * w).flushed(flush_below);
            }
        }
    }
}
