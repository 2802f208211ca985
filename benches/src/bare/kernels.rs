//! Loops over slices, compiled for several instruction sets.

use std::mem;

use multiversion::multiversion;
use num_traits::{One, WrappingAdd};
use optimizers::opt_core::prefetch;

/// A number that can be added.
pub trait Add: Copy + Send + Sync + std::ops::Add<Output = Self> + Default {}

impl Add for f32 {}
impl Add for f64 {}

/// A whole number that can be counted up.
pub(super) trait Count: Copy + WrappingAdd + One + Send + Sync {}

impl Count for u16 {}
impl Count for u8 {}

/// How many elements ahead the loops that prefetch ask for; as in the engine.
const DISTANCE: usize = 256;

/// The number of elements after which they ask.
const ROW: usize = 64;

/// Adds the gradient to the wide arrays, and 1 to the narrow ones, in one loop. `ahead`: the loop prefetches.
///
/// # Panics
///
/// If there are more arrays than any contestant has.
pub(super) fn add_to_all<T: Add, E: Count>(
    gradient: &[T],
    wide: &mut [&mut [T]],
    narrow: &mut [&mut [E]],
    ahead: bool,
) {
    macro_rules! dispatch {
        ($(($wide:literal, $narrow:literal)),*) => {
            match (wide.len(), narrow.len(), ahead) {
                $(
                    ($wide, $narrow, false) => add::<T, E, $wide, $narrow, false>(gradient, first(wide), first(narrow)),
                    ($wide, $narrow, true) => add::<T, E, $wide, $narrow, true>(gradient, first(wide), first(narrow)),
                )*
                (wide, narrow, _) => panic!("no bare loop over {wide} arrays and {narrow} of fewer bits"),
            }
        };
    }
    dispatch!(
        (1, 0),
        (2, 0),
        (3, 0),
        (4, 0),
        (5, 0),
        (6, 0),
        (7, 0),
        (1, 1),
        (2, 1),
        (3, 1),
        (4, 1),
        (5, 1),
        (6, 1),
        (1, 2),
        (2, 2),
        (3, 2),
        (4, 2),
        (5, 2),
        (6, 2)
    );
}

/// Adds a gradient to weights, both in 16 bits, and 1 to all other arrays, in one loop.
///
/// # Panics
///
/// If there are more arrays than any contestant has.
pub(super) fn add_halves<T: Add>(
    gradient: &[u16],
    weights: &mut [u16],
    wide: &mut [&mut [T]],
    tiny: &mut [&mut [u8]],
    one: T,
    ahead: bool,
) {
    macro_rules! dispatch {
        ($(($wide:literal, $tiny:literal)),*) => {
            match (wide.len(), tiny.len(), ahead) {
                $(
                    ($wide, $tiny, false) => {
                        halves::<T, $wide, $tiny, false>(gradient, weights, first(wide), first(tiny), one)
                    }
                    ($wide, $tiny, true) => {
                        halves::<T, $wide, $tiny, true>(gradient, weights, first(wide), first(tiny), one)
                    }
                )*
                (wide, tiny, _) => panic!("no bare loop over halves, {wide} arrays and {tiny} of one byte"),
            }
        };
    }
    dispatch!((0, 2), (0, 3), (1, 2), (1, 3), (2, 1), (3, 0));
}

#[multiversion(targets("x86_64+avx512f+avx512vl+avx512dq+avx512bw", "x86_64+avx2+fma"))]
fn halves<T: Add, const WIDE: usize, const TINY: usize, const AHEAD: bool>(
    gradient: &[u16],
    weights: &mut [u16],
    mut wide: [&mut [T]; WIDE],
    mut tiny: [&mut [u8]; TINY],
    one: T,
) {
    let len = gradient.len();
    let weights = &mut weights[..len];
    for array in &mut wide {
        *array = &mut mem::take(array)[..len];
    }
    for array in &mut tiny {
        *array = &mut mem::take(array)[..len];
    }
    for start in (0..len).step_by(if AHEAD { ROW } else { len.max(1) }) {
        if AHEAD {
            prefetch(gradient, start + DISTANCE, ROW);
            prefetch(weights, start + DISTANCE, ROW);
            wide.iter().for_each(|array| prefetch(array, start + DISTANCE, ROW));
            tiny.iter().for_each(|array| prefetch(array, start + DISTANCE, ROW));
        }
        for i in start..if AHEAD { len.min(start + ROW) } else { len } {
            weights[i] = weights[i].wrapping_add(gradient[i]);
            for array in &mut wide {
                array[i] = array[i] + one;
            }
            for array in &mut tiny {
                array[i] = array[i].wrapping_add(1);
            }
        }
    }
}

fn first<'a, E, const N: usize>(slices: &'a mut [&mut [E]]) -> [&'a mut [E]; N] {
    let mut slices = slices.iter_mut();
    std::array::from_fn(|_| slices.next().map(|slice| &mut **slice).unwrap_or_default())
}

#[multiversion(targets("x86_64+avx512f+avx512vl+avx512dq+avx512bw", "x86_64+avx2+fma"))]
fn add<T: Add, E: Count, const WIDE: usize, const NARROW: usize, const AHEAD: bool>(
    gradient: &[T],
    mut wide: [&mut [T]; WIDE],
    mut narrow: [&mut [E]; NARROW],
) {
    let len = gradient.len();
    for array in &mut wide {
        *array = &mut mem::take(array)[..len];
    }
    for array in &mut narrow {
        *array = &mut mem::take(array)[..len];
    }
    for start in (0..len).step_by(if AHEAD { ROW } else { len.max(1) }) {
        if AHEAD {
            prefetch(gradient, start + DISTANCE, ROW);
            wide.iter().for_each(|array| prefetch(array, start + DISTANCE, ROW));
            narrow.iter().for_each(|array| prefetch(array, start + DISTANCE, ROW));
        }
        for i in start..if AHEAD { len.min(start + ROW) } else { len } {
            for array in &mut wide {
                array[i] = array[i] + gradient[i];
            }
            for array in &mut narrow {
                array[i] = array[i].wrapping_add(&E::one());
            }
        }
    }
}

/// The number of independent sums, enough to keep vector units busy.
const LANES: usize = 128;

#[multiversion(targets("x86_64+avx512f+avx512vl+avx512dq+avx512bw", "x86_64+avx2+fma"))]
pub(super) fn sum<T: Add>(values: &[T]) -> T {
    let mut lanes = [T::default(); LANES];
    let (chunks, rest) = values.as_chunks::<LANES>();
    for chunk in chunks {
        for (lane, &value) in lanes.iter_mut().zip(chunk) {
            *lane = *lane + value;
        }
    }
    lanes.into_iter().chain(rest.iter().copied()).fold(T::default(), |sum, value| sum + value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_whole() {
        for len in [0, 1, LANES - 1, LANES, 5 * LANES + 3] {
            assert_eq!(sum(&vec![1.0_f32; len]), len as f32);
        }
    }

    #[test]
    fn narrow_arrays_are_touched_too() {
        for ahead in [false, true] {
            let (mut w, mut m, mut v) = ([1.0_f32; 200], [7_u16; 200], [9; 200]);
            add_to_all(&[0.5; 200], &mut [&mut w[..]], &mut [&mut m[..], &mut v[..]], ahead);
            assert_eq!((w, m, v), ([1.5; 200], [8; 200], [10; 200]));
        }
    }
}
