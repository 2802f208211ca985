//! What the engine does to each element around the rule, in the same loop: scale the gradient, decay the value, average
//! the result.

use std::array;
use std::mem;

use half::bf16;

use super::BLOCK;
use crate::loops;
use crate::loops::dispatch::dispatched;
use crate::precision::stochastic::{self, MAX_NARROW, Sequences};
use crate::real::Scalar;

/// What is left to do to a block around the rule. Whoever does a part takes it away.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Around<T> {
    /// Factors of the gradient, to be applied one after the other: see [`loops::factors`].
    pub(crate) scale: Option<[T; 2]>,
    /// Weight decay times learning rate.
    pub(crate) decay: Option<T>,
    /// How much the average keeps of itself, and takes of the value.
    pub(crate) average: Option<[T; 2]>,
    /// Slots of a smaller magnitude become 0.
    pub(crate) flush_below: T,
    /// Whether slots in 16 bits have been widened, and will be rounded by the engine.
    pub(crate) widened: bool,
}

impl<T: Scalar> Around<T> {
    /// Decays the value, if nobody has yet.
    pub(crate) fn settle_decay(&mut self, value: &mut [T]) {
        if let Some(decay) = self.decay.take() {
            loops::decay(value, decay);
        }
    }

    /// Updates the average, if nobody has yet.
    pub(crate) fn settle_average(&mut self, average: &mut [T], value: &[T]) {
        if let Some(rates) = self.average.take() {
            loops::average(average, value, rates, self.flush_below);
        }
    }

    /// Runs `element` with everything that is left around it; the average only if it is given.
    #[inline]
    pub(crate) fn run<K, F, const N: usize>(
        &mut self,
        k: &K,
        element: F,
        value: &mut [T],
        gradient: &[T],
        state: [&mut [T]; N],
        average: Option<&mut [T]>,
    ) where
        F: Fn(&K, T, T, [T; N]) -> (T, [T; N]),
    {
        let rates = average.is_some().then(|| self.average.take()).flatten();
        let (scale, decay) = (self.scale.take(), self.decay.take());
        let around = Constants {
            scale: scale.unwrap_or([T::literal(1.0); 2]),
            decay: decay.unwrap_or_default(),
            rates: rates.unwrap_or_default(),
            flush_below: self.flush_below,
        };
        let average = average.unwrap_or_default();
        match (scale, decay, rates) {
            (None, None, None) => {
                run::<T, K, F, N, false, false, false>(k, element, value, gradient, state, average, around);
            }
            (Some(_), None, None) => {
                run::<T, K, F, N, true, false, false>(k, element, value, gradient, state, average, around);
            }
            // A factor of 1 changes no bit.
            (_, Some(_), None) => {
                run::<T, K, F, N, true, true, false>(k, element, value, gradient, state, average, around);
            }
            (_, None, Some(_)) => {
                run::<T, K, F, N, true, false, true>(k, element, value, gradient, state, average, around);
            }
            (_, Some(_), Some(_)) => {
                run::<T, K, F, N, true, true, true>(k, element, value, gradient, state, average, around);
            }
        }
    }
}

impl<T: Scalar> Around<T> {
    /// As [`run`](Self::run), for slots that are all stored in 16 bits; the average is left to others.
    ///
    /// Returns whether it has been done: the slots `0..N` have to be all that there are.
    #[inline]
    pub(crate) fn run_narrow<K, F, const N: usize>(
        &mut self,
        k: &K,
        element: &F,
        value: &mut [T],
        gradient: &[T],
        narrow: &mut Narrow<'_>,
    ) -> bool
    where
        F: Fn(&K, T, T, [T; N]) -> (T, [T; N]),
    {
        if !narrow.are_first(N) {
            return false;
        }
        self.settle_decay(value);
        let state: [&mut [bf16]; N] = array::from_fn(|slot| mem::take(&mut narrow.slots[slot]));
        let (sequences, flush_below) = (narrow.sequences, self.flush_below);
        let scale = self.scale.take().unwrap_or([T::literal(1.0); 2]);
        run_narrow(k, element, value, gradient, state, scale, flush_below, sequences);
        true
    }
}

dispatched! {
    #[expect(clippy::too_many_arguments, reason = "a loop over all that there is")]
    fn run_narrow<T: Scalar, K, F: Fn(&K, T, T, [T; N]) -> (T, [T; N]); N: usize>(
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

/// The numbers of a loop.
#[derive(Clone, Copy)]
struct Constants<T> {
    scale: [T; 2],
    decay: T,
    rates: [T; 2],
    flush_below: T,
}

dispatched! {
    fn run<T: Scalar, K, F: Fn(&K, T, T, [T; N]) -> (T, [T; N]); N: usize, SCALE: bool, DECAY: bool, AVERAGE: bool>(
        k: &K,
        element: F,
        value: &mut [T],
        gradient: &[T],
        mut state: [&mut [T]; N],
        average: &mut [T],
        around: Constants<T>,
    ) {
        let Constants { scale: [first, second], decay, rates: [keep, take], flush_below } = around;
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

/// Slots of a block that are stored in 16 bits.
#[derive(Debug)]
pub(crate) struct Narrow<'a> {
    /// In the order of the slots; empty behind the last one.
    pub(crate) slots: [&'a mut [bf16]; MAX_NARROW],
    /// Which array slot of the block each of them is.
    pub(crate) places: [usize; MAX_NARROW],
    pub(crate) sequences: Sequences,
}

impl Narrow<'_> {
    /// The same for a shorter time, with the array slots from `start` on at the places from 0 on.
    pub(crate) fn shifted(&mut self, start: usize) -> Narrow<'_> {
        let slots = self.slots.each_mut().map(|slot| &mut **slot);
        Narrow { slots, places: self.places.map(|place| place.wrapping_sub(start)), sequences: self.sequences }
    }

    /// Whether the array slots `0..n` are these, and no others.
    fn are_first(&self, n: usize) -> bool {
        let len = self.slots.iter().take_while(|slot| !slot.is_empty()).count();
        len == n && self.places[..n].iter().enumerate().all(|(i, &place)| i == place)
    }

    /// Whether any of them is one of the array slots `0..n`.
    pub(crate) fn any_first(&self, n: usize) -> bool {
        self.slots.iter().zip(self.places).any(|(slot, place)| !slot.is_empty() && place < n)
    }

    /// Lends them in the element type; the engine takes them back when the rule is done with the block.
    pub(crate) fn lend<'w, T: Scalar>(
        &self,
        wide: &'w mut [Buffer<T>; MAX_NARROW],
        slots: &mut [&'w mut [T]],
        widened: &mut bool,
    ) {
        for ((narrow, &place), wide) in self.slots.iter().zip(&self.places).zip(wide) {
            if narrow.is_empty() {
                continue;
            }
            let wide = wide.first(narrow.len());
            if !*widened {
                stochastic::widen(wide, narrow);
            }
            // Places before the first one belong to a wrapper.
            if let Some(slot) = slots.get_mut(place) {
                *slot = wide;
            }
        }
        *widened = true;
    }

    /// Takes them back.
    pub(crate) fn round<T: Scalar>(&mut self, wide: &mut [Buffer<T>; MAX_NARROW]) {
        for (i, (narrow, wide)) in self.slots.iter_mut().zip(wide).enumerate() {
            if !narrow.is_empty() {
                stochastic::round(narrow, wide.first(narrow.len()), i, self.sequences);
            }
        }
    }
}

/// Buffers of one thread.
#[derive(Debug, Default)]
pub(crate) struct Workspace<T> {
    /// Never written: the gradient of untouched rows.
    pub(crate) zeros: Buffer<T>,
    /// Overwritten at will.
    pub(crate) scratch: Buffer<T>,
    /// Slots that are stored in 16 bits.
    pub(crate) wide: [Buffer<T>; MAX_NARROW],
}

/// Room for a block, made when it is first needed.
#[derive(Debug, Default)]
pub(crate) struct Buffer<T>(Vec<T>);

impl<T: Copy + Default> Buffer<T> {
    pub(crate) fn first(&mut self, len: usize) -> &mut [T] {
        if self.0.is_empty() {
            self.0.resize(BLOCK, T::default());
        }
        &mut self.0[..len]
    }
}
