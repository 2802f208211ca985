//! Stochastic rounding to bfloat16: the random bits, and the loops that round and widen a slot.

use half::bf16;

use crate::loops::dispatched;
use crate::moments::MAX_PACKED;
use crate::real::Scalar;

/// The source of the roundings of one variable in one step.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Noise(u64);

impl Noise {
    /// `variable` is the [`hash`] of its name.
    pub(crate) fn new(seed: u64, step: u64, variable: u64) -> Self {
        Self::of_variable(of_step(seed, step), variable)
    }

    /// The source for the master: not that of moments with the same seed.
    pub(crate) fn of_master(seed: u64, step: u64, variable: u64) -> Self {
        Self::new(of_master(seed), step, variable)
    }

    /// As [`new`](Self::new), from the number [`of_step`].
    pub(crate) fn of_variable(of_step: u64, variable: u64) -> Self {
        Self(mixed(of_step.wrapping_add(variable)))
    }

    /// Random bits for a tile of elements, by its number.
    #[inline(always)]
    pub(crate) fn of_tile(self, tile: u64) -> [u64; 2] {
        let first = self.0.wrapping_add(tile.wrapping_mul(2));
        [mixed(first), mixed(first.wrapping_add(1))]
    }

    /// The sequences for elements from `place` on. They count in 32 bits: see [`before_turn`].
    pub(crate) fn at(self, place: usize) -> Sequences {
        let turn = mixed(self.0 ^ (place as u64 >> 32));
        let of_pair = |pair: u64| {
            let key = mixed(turn.wrapping_add(pair));
            [(place as u32).wrapping_add(key as u32), (key >> 32) as u32]
        };
        Sequences([of_pair(0), of_pair(1)])
    }
}

/// What the sources of all variables in a step have in common.
pub(crate) fn of_step(seed: u64, step: u64) -> u64 {
    mixed(mixed(seed).wrapping_add(step))
}

/// The seed for masters.
pub(crate) fn of_master(seed: u64) -> u64 {
    mixed(seed)
}

/// The number of elements from `place` on that can be rounded with the same [`Sequences`].
pub(crate) fn before_turn(place: usize) -> usize {
    usize::try_from((1_u64 << 32) - (place as u64 & 0xFFFF_FFFF)).unwrap_or(usize::MAX)
}

/// Random bits for the slots of a block. Two slots share 32 bits for each element.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sequences([[u32; 2]; MAX_PACKED / 2]);

impl Sequences {
    /// The numbers of a pair of slots: an element's place is added to the first one, the second one flips bits.
    pub(crate) fn pair(&self, pair: usize) -> [u32; 2] {
        self.0[pair]
    }

    /// The 16 random bits for an element of a slot.
    #[inline(always)]
    pub(crate) fn bits(&self, slot: usize, element: usize) -> u32 {
        let [first, flip] = self.0[slot / 2];
        let both = scrambled(first.wrapping_add(element as u32) ^ flip);
        if slot.is_multiple_of(2) { both >> 16 } else { both & 0xFFFF }
    }
}

/// A 64-bit hash of a name (FNV-1a); the same on every machine.
pub(crate) fn hash(name: &str) -> u64 {
    name.bytes().fold(0xCBF2_9CE4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3))
}

/// The output function of SplitMix64 (G. L. Steele, D. Lea, C. H. Flood, "Fast splittable pseudorandom number
/// generators", 2014).
#[inline(always)]
fn mixed(x: u64) -> u64 {
    let x = x.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ (x >> 31)
}

/// 32 bits from 32 bits; each input bit changes half of them (C. Wellons, "Prospecting for hash functions", 2018).
#[inline(always)]
fn scrambled(x: u32) -> u32 {
    let x = (x ^ (x >> 16)).wrapping_mul(0x7FEB_352D);
    let x = (x ^ (x >> 15)).wrapping_mul(0x846C_A68B);
    x ^ (x >> 16)
}

/// Rounds up or down, by 16 random bits that are added below the last digit that is kept.
#[inline(always)]
pub(crate) fn rounded(x: f32, random: u32) -> bf16 {
    // Numbers above 2^127 are never rounded up: finite numbers stay finite, and NaN stays NaN.
    const LARGE: u32 = 0x7F00_0000;
    let bits = x.to_bits();
    let random = if bits & LARGE == LARGE { 0 } else { random };
    bf16::from_bits((bits.wrapping_add(random) >> 16) as u16)
}

/// The exact number.
#[inline(always)]
pub(crate) fn widened<T: Scalar>(x: bf16) -> T {
    T::from_f32(f32::from_bits(u32::from(x.to_bits()) << 16))
}

dispatched! {
    /// Rounds a block of one slot.
    pub(crate) fn round<T: Scalar>(to: &mut [bf16], from: &[T], slot: usize, sequences: Sequences) {
        let len = to.len();
        let from = &from[..len];
        for i in 0..len {
            to[i] = rounded(from[i].to_f32(), sequences.bits(slot, i));
        }
    }
}

dispatched! {
    /// Widens a block of one slot, exactly.
    pub(crate) fn widen<T: Scalar>(to: &mut [T], from: &[bf16]) {
        to.iter_mut().zip(from).for_each(|(to, &from)| *to = widened(from));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(x: f32, seed: u64) -> f32 {
        let mut to = [bf16::ZERO];
        round(&mut to, &[x], 0, Noise::new(seed, 0, 0).at(0));
        to[0].to_f32()
    }

    #[test]
    fn what_fits_is_not_changed() {
        let exact =
            [0.0, -0.0, 1.0, -1.5, f32::INFINITY, f32::NEG_INFINITY, f32::from_bits(1 << 16), bf16::MAX.to_f32()];
        for x in exact {
            for seed in 0..50 {
                assert_eq!(stored(x, seed).to_bits(), x.to_bits(), "{x}");
            }
        }
        assert!((0..50).all(|seed| stored(f32::NAN, seed).is_nan()));
        assert!((0..50).all(|seed| stored(f32::from_bits(0xFFC0_0001), seed).is_nan()));
        assert!((0..50).all(|seed| stored(f32::MAX, seed).is_finite()));
        assert!((0..50).all(|seed| stored(-f32::MAX, seed).is_finite()));
    }

    /// The mean of many roundings is the number, within five standard deviations of a coin whose chance is the
    /// fraction.
    #[test]
    fn rounding_is_right_on_average() {
        let (count, ulp) = (if cfg!(miri) { 100 } else { 100_000 }, 1.0 / 128.0);
        for fraction in [0.01, 0.25, 0.5, 0.9] {
            for sign in [1.0, -1.0] {
                let x = (sign * (1.0 + fraction * ulp)) as f32;
                let mut to = vec![bf16::ZERO; count];
                round(&mut to, &vec![x; count], 1, Noise::new(3, 5, hash("w")).at(17));
                let mean = to.iter().map(|x| f64::from(x.to_f32())).sum::<f64>() / count as f64;
                let deviation = ulp * (fraction * (1.0 - fraction) / count as f64).sqrt();
                let close = (mean - f64::from(x)).abs() < 5.0 * deviation;
                assert!(close, "{x}: {mean}, {deviation:e}");
            }
        }
    }

    /// The result depends neither on the division into blocks nor on the overflow of the counter.
    #[test]
    fn the_place_decides() {
        let numbers: Vec<f32> = (0..500).map(|i| 1.0 + i as f32 * 1e-4).collect();
        for first in [0, 12_345, (1 << 32) - 200_usize] {
            let noise = Noise::new(1, 2, hash("kernel"));
            let mut whole = vec![bf16::ZERO; 500];
            let mut at = 0;
            while at < 500 {
                let end = (at + before_turn(first + at)).min(500);
                round(&mut whole[at..end], &numbers[at..end], 2, noise.at(first + at));
                at = end;
            }
            let mut parts = vec![bf16::ZERO; 500];
            for at in 0..500 {
                round(&mut parts[at..at + 1], &numbers[at..at + 1], 2, noise.at(first + at));
            }
            assert_eq!(whole, parts);
        }
    }

    /// Different seeds, steps, names, slots and places give different roundings.
    #[test]
    fn different_places_are_rounded_differently() {
        let numbers = vec![1.0_f32 + 1.0 / 256.0; 256];
        let bits = |noise: Noise, slot: usize, first: usize| {
            let mut to = vec![bf16::ZERO; 256];
            round(&mut to, &numbers, slot, noise.at(first));
            to
        };
        let all = [
            bits(Noise::new(1, 1, 1), 0, 0),
            bits(Noise::new(2, 1, 1), 0, 0),
            bits(Noise::new(1, 2, 1), 0, 0),
            bits(Noise::new(1, 1, 2), 0, 0),
            bits(Noise::new(1, 1, 1), 1, 0),
            bits(Noise::new(1, 1, 1), 2, 0),
            bits(Noise::new(1, 1, 1), 3, 0),
            bits(Noise::new(1, 1, 1), 0, 256),
            bits(Noise::new(1, 1, 1), 0, 1 << 32),
        ];
        for (i, a) in all.iter().enumerate() {
            for b in &all[..i] {
                let same = a.iter().zip(b).filter(|(a, b)| a == b).count();
                assert!((80..176).contains(&same), "{i}: {same} of 256 alike");
            }
        }
    }

    /// A run that resumes on another machine, or years later, draws the same bits: these are the published functions.
    #[test]
    fn random_bits_are_those_of_the_literature() {
        let fnv = ["", "a", "foobar"].map(hash);
        assert_eq!(fnv, [0xCBF2_9CE4_8422_2325, 0xAF63_DC4C_8601_EC8C, 0x8594_4171_F739_67E8]);
        assert_eq!([mixed(0), mixed(0x9E37_79B9_7F4A_7C15)], [0xE220_A839_7B1D_CDAF, 0x6E78_9E6A_A1B9_65F4]);
        assert_eq!([scrambled(0), scrambled(1), scrambled(0x1234_5678)], [0, 0x6889_90C0, 0xF5E7_1C96]);
        // Their combination is our own. Checkpoints depend on it.
        let sequences = Noise::new(1, 2, 3).at(5);
        assert_eq!([0, 1, 2, 3].map(|slot| sequences.bits(slot, 7)), [17_211, 8080, 28_115, 47_636]);
    }

    #[test]
    fn sequences_last_until_the_count_turns() {
        let turns = [0, 1, (1 << 32) - 1, 1 << 32, (5 << 32) + 3].map(before_turn);
        assert_eq!(turns, [1 << 32, (1 << 32) - 1, 1, 1 << 32, (1 << 32) - 3]);
    }

    #[test]
    fn widening_is_exact() {
        let every = if cfg!(miri) { 251 } else { 1 };
        let all: Vec<bf16> = (0..=u16::MAX).step_by(every).map(bf16::from_bits).collect();
        let mut wide = vec![0.0_f32; all.len()];
        widen(&mut wide, &all);
        assert!(wide.iter().zip(&all).all(|(wide, narrow)| wide.to_bits() == narrow.to_f32().to_bits()
            || (wide.is_nan() && narrow.is_nan())));
    }
}
