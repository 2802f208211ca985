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
//! * A core waits for memory unless many requests are under way, and processors ask too late on their own. So each row
//!   of elements asks for the numbers that come a few rows later.
//! * Slices are cut to one length before the loop: bounds are then checked once, and the compiler can vectorise.

use std::array;
use std::mem;

use half::bf16;

use crate::loops::{self, dispatched, prefetch};
use crate::precision::float8;
use crate::precision::packed::Fusible;
use crate::precision::stochastic::{self, Sequences};
use crate::real::Scalar;

/// The number of elements after which the processor is told what comes next. The compiler vectorises loops over them.
const ROW: usize = 64;

/// How many elements ahead of the loop the processor is told to fetch.
const AHEAD: usize = 256;

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
    /// No stages.
    pub(crate) fn none() -> Self {
        Self { scale: None, decay: None, average: None, flush_below: T::zero() }
    }

    /// The factors of a gradient; none for a factor of 1.
    pub(crate) fn scale(factor: f64) -> Option<[T; 2]> {
        (factor != 1.0).then(|| loops::factors(factor))
    }

    /// The stages after a rule's loop: the average, if the loop has not done it; then it may replace the value.
    #[inline(always)]
    pub(crate) fn end(&self, done: &Done, value: &mut [T], average: &mut [T], overwrite: bool) {
        if let Some(rates) = self.average
            && !done.averaged
        {
            loops::average(average, value, rates, self.flush_below);
        }
        if overwrite {
            value.copy_from_slice(average);
        }
    }

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
        let constants = self.constants();
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

    /// As [`run`](Self::run), if all slots are stored in fewer bits. A later pass of the engine updates the average.
    #[inline]
    pub(crate) fn run_packed<K, F, const N: usize>(
        self,
        k: &K,
        element: &F,
        value: &mut [T],
        gradient: &[T],
        slots: Fusible<'_, N>,
    ) -> Done
    where
        F: Fn(&K, T, T, [T; N]) -> (T, [T; N]),
    {
        match slots {
            Fusible::Bf16(state, sequences) => {
                packed_loop(k, element, value, gradient, state, self.constants(), sequences);
            }
            // It has no denormal numbers.
            Fusible::Float8(state, formats, noise, first) => {
                float8::update(k, element, value, gradient, state, formats, self.constants(), noise, first);
            }
        }
        Done { averaged: false }
    }

    /// The numbers that a loop over all elements needs.
    pub(crate) fn constants(&self) -> Constants<T> {
        Constants {
            scale: self.scale.unwrap_or([T::literal(1.0); 2]),
            decay: self.decay.unwrap_or_default(),
            rates: self.average.unwrap_or_default(),
            flush_below: self.flush_below,
        }
    }
}

dispatched! {
    fn packed_loop<T: Scalar, K, F: Fn(&K, T, T, [T; N]) -> (T, [T; N]); N: usize>(
        k: &K,
        element: &F,
        value: &mut [T],
        gradient: &[T],
        mut state: [&mut [bf16]; N],
        constants: Constants<T>,
        sequences: Sequences,
    ) {
        let len = value.len();
        let gradient = &gradient[..len];
        for slot in &mut state {
            *slot = &mut mem::take(slot)[..len];
        }
        for i in 0..len {
            let (w, g) = constants.before_any(value[i], gradient[i]);
            let (w, s) = element(k, w, g, array::from_fn(|slot| stochastic::widened(state[slot][i])));
            value[i] = w;
            for slot in 0..N {
                let s = s[slot].flushed(constants.flush_below);
                state[slot][i] = stochastic::rounded(s.to_f32(), sequences.bits(slot, i));
            }
        }
    }
}

/// The constant numbers of a loop.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Constants<T> {
    scale: [T; 2],
    decay: T,
    rates: [T; 2],
    flush_below: T,
}

impl<T: Scalar> Constants<T> {
    /// An element of the value and its gradient, as the rule gets them.
    #[inline(always)]
    pub(crate) fn before<const SCALE: bool, const DECAY: bool>(&self, mut w: T, mut g: T) -> (T, T) {
        let Self { scale: [first, second], decay, .. } = *self;
        if SCALE {
            g = g * first * second;
        }
        if DECAY {
            w = w - w * decay;
        }
        (w, g)
    }

    /// As [`before`](Self::before), for loops that have no copy for each case: more code than that would take long to
    /// compile.
    #[inline(always)]
    pub(crate) fn before_any(&self, w: T, g: T) -> (T, T) {
        let [first, second] = self.scale;
        let decayed = w - w * self.decay;
        (if self.decay == T::zero() { w } else { decayed }, g * first * second)
    }
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
        let len = value.len();
        let gradient = &gradient[..len];
        for slot in &mut state {
            *slot = &mut mem::take(slot)[..len];
        }
        let average = if AVERAGE { &mut average[..len] } else { average };
        let (values, value) = value.as_chunks_mut::<ROW>();
        let (gradients, gradient) = gradient.as_chunks::<ROW>();
        let (averages, average) = average.as_chunks_mut::<ROW>();
        let mut rows: [&mut [[T; ROW]]; N] = array::from_fn(|_| Default::default());
        for slot in 0..N {
            (rows[slot], state[slot]) = mem::take(&mut state[slot]).as_chunks_mut::<ROW>();
            rows[slot] = &mut mem::take(&mut rows[slot])[..values.len()];
        }
        let averages = if AVERAGE { &mut averages[..values.len()] } else { averages };
        let Constants { rates: [keep, take], flush_below, .. } = constants;
        let update = |w: T, g: T, slots: [T; N], average: T| {
            let (w, g) = constants.before::<SCALE, DECAY>(w, g);
            let (w, slots) = element(k, w, g, slots);
            let average = if AVERAGE { (keep * average + take * w).flushed(flush_below) } else { average };
            (w, slots, average)
        };
        for (row, (value, gradient)) in values.iter_mut().zip(gradients).enumerate() {
            prefetch(value, AHEAD, ROW);
            prefetch(gradient, AHEAD, ROW);
            for slot in &rows {
                prefetch(&slot[row], AHEAD, ROW);
            }
            if AVERAGE {
                prefetch(&averages[row], AHEAD, ROW);
            }
            for i in 0..ROW {
                let old = if AVERAGE { averages[row][i] } else { T::zero() };
                let (w, s, new) = update(value[i], gradient[i], array::from_fn(|slot| rows[slot][row][i]), old);
                value[i] = w;
                for (slot, s) in rows.iter_mut().zip(s) {
                    slot[row][i] = s.flushed(flush_below);
                }
                if AVERAGE {
                    averages[row][i] = new;
                }
            }
        }
        let len = value.len();
        let gradient = &gradient[..len];
        for slot in &mut state {
            *slot = &mut mem::take(slot)[..len];
        }
        let average = if AVERAGE { &mut average[..len] } else { average };
        for i in 0..len {
            let old = if AVERAGE { average[i] } else { T::zero() };
            let (w, s, new) = update(value[i], gradient[i], array::from_fn(|slot| state[slot][i]), old);
            value[i] = w;
            for (slot, s) in state.iter_mut().zip(s) {
                slot[i] = s.flushed(flush_below);
            }
            if AVERAGE {
                average[i] = new;
            }
        }
    }
}
