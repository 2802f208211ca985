//! What the engine does to each element around the rule, in the same loop: scale the gradient, decay the value, average
//! the result.

use std::array;
use std::mem;

use multiversion::multiversion;

use super::BLOCK;
use crate::real::Scalar;
use crate::stage;

/// What is left to do to a block around the rule. Whoever does a part takes it away.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Around<T> {
    /// Factors of the gradient, to be applied one after the other: see [`stage::factors`].
    pub(crate) scale: Option<[T; 2]>,
    /// Weight decay times learning rate.
    pub(crate) decay: Option<T>,
    /// How much the average keeps of itself, and takes of the value.
    pub(crate) average: Option<[T; 2]>,
    /// Slots of a smaller magnitude become 0.
    pub(crate) flush_below: T,
}

impl<T: Scalar> Around<T> {
    /// Nothing to do.
    pub(crate) fn none() -> Self {
        Self { scale: None, decay: None, average: None, flush_below: T::zero() }
    }

    /// Decays the value, if nobody has yet.
    pub(crate) fn settle_decay(&mut self, value: &mut [T]) {
        if let Some(decay) = self.decay.take() {
            stage::decay(value, decay);
        }
    }

    /// Updates the average, if nobody has yet.
    pub(crate) fn settle_average(&mut self, average: &mut [T], value: &[T]) {
        if let Some(rates) = self.average.take() {
            stage::average(average, value, rates, self.flush_below);
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

/// The numbers of a loop.
#[derive(Clone, Copy)]
struct Constants<T> {
    scale: [T; 2],
    decay: T,
    rates: [T; 2],
    flush_below: T,
}

#[multiversion(targets("x86_64+avx512f+avx512vl+avx512dq+avx512bw", "x86_64+avx2+fma"))]
fn run<T, K, F, const N: usize, const SCALE: bool, const DECAY: bool, const AVERAGE: bool>(
    k: &K,
    element: F,
    value: &mut [T],
    gradient: &[T],
    mut state: [&mut [T]; N],
    average: &mut [T],
    around: Constants<T>,
) where
    T: Scalar,
    F: Fn(&K, T, T, [T; N]) -> (T, [T; N]),
{
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

/// Buffers of one thread.
#[derive(Debug, Default)]
pub(crate) struct Workspace<T> {
    /// Never written: the gradient of untouched rows.
    pub(crate) zeros: Buffer<T>,
    /// Overwritten at will.
    pub(crate) scratch: Buffer<T>,
}

/// Room for a block, made when it is first needed.
#[derive(Debug, Default)]
pub(crate) struct Buffer<T>(Vec<T>);

impl<T: Scalar> Buffer<T> {
    pub(crate) fn first(&mut self, len: usize) -> &mut [T] {
        if self.0.is_empty() {
            self.0.resize(BLOCK, T::zero());
        }
        &mut self.0[..len]
    }
}
