//! Tests of moments in 8 bits.

use half::slice::HalfFloatSliceExt;

use super::*;
use crate::precision::stochastic::hash;
use crate::rule::Fused;

const FORMATS: [Format; 2] = [Format::Signed, Format::Unsigned];

fn stored(format: Format, numbers: &[f32]) -> Vec<f32> {
    let mut slot = Float8::filled(format, bf16::ZERO, numbers.len());
    slot.assign(numbers.iter().copied());
    slot.to_bf16().to_f32_vec()
}

fn rounded(format: Format, numbers: &[f32], noise: Noise, first: usize) -> Vec<f32> {
    let mut slot = Float8::filled(format, bf16::ZERO, numbers.len());
    round(slot.bytes_mut(), numbers, format, 1, noise, first);
    slot.to_bf16().to_f32_vec()
}

/// Numbers of many magnitudes, the largest of each group among them.
fn numbers(format: Format, len: usize, largest: f32) -> Vec<f32> {
    let number = |i: usize| {
        let magnitude = largest * (-((i * 7919 % 1013) as f32) / 50.0).exp2();
        if format == Format::Signed && i.is_multiple_of(3) { -magnitude } else { magnitude }
    };
    (0..len).map(number).collect()
}

#[test]
fn lengths_are_those_of_the_bytes() {
    for len in 0..3 * TILE {
        let bytes = vec![0; bytes_of(len)];
        assert_eq!(len_of(&bytes), len);
        let tiles: Vec<usize> = bytes.chunks(BYTES).map(|tile| tile.len() - groups(tile)).collect();
        assert_eq!(tiles.iter().sum::<usize>(), len);
        assert!(tiles.iter().rev().skip(1).all(|&len| len == TILE));
    }
    assert_eq!((bytes_of(TILE), bytes_before(TILE), bytes_before(TILE - 1)), (TILE / 32 * 33, TILE / 32 * 33, 0));
}

/// Every code of every scale is restored, from the widened numbers: as for a run that resumes.
#[test]
fn every_code_is_restored() {
    for format in FORMATS {
        for scale in (SMALLEST..WILD).step_by(if cfg!(miri) { 60 } else { 1 }) {
            let mut wide = [0.0_f32; TILE];
            let mut tile = [scale; BYTES];
            tile[GROUPS..].iter_mut().zip(0..=u8::MAX).for_each(|(to, code)| *to = code);
            widen(&mut wide, &tile, format);
            assert!(wide.iter().all(|x| *x == 0.0 || x.is_normal()), "no number is denormal");
            assert!(wide.iter().all(|&x| bf16::from_f32(x).to_f32() == x), "all are numbers of bfloat16");
            assert_eq!(stored(format, &wide).map_bits(), wide.to_vec().map_bits(), "{format:?}, {scale}");
            let noise = Noise::new(1, 2, 3);
            assert_eq!(rounded(format, &wide, noise, 5).map_bits(), wide.to_vec().map_bits(), "{format:?}, {scale}");
        }
    }
}

trait Bits {
    fn map_bits(self) -> Vec<u32>;
}

impl Bits for Vec<f32> {
    fn map_bits(self) -> Vec<u32> {
        self.into_iter().map(f32::to_bits).collect()
    }
}

/// Four significant bits, whatever the number is, as long as it is not too small beside the largest of its group.
#[test]
fn numbers_keep_four_bits() {
    for (format, octaves) in FORMATS.into_iter().zip([15, 31]) {
        for largest in [1.0, 1.9, 3e-20, 2e30, f32::MAX] {
            for len in [1, 31, TILE, TILE + 100] {
                let numbers = numbers(format, len, largest);
                for (way, to) in [stored(format, &numbers), rounded(format, &numbers, Noise::new(1, 2, 3), 0)]
                    .into_iter()
                    .enumerate()
                {
                    for (i, (&to, &from)) in to.iter().zip(&numbers).enumerate() {
                        let tile = i / TILE * TILE;
                        let group = numbers[tile..len.min(tile + TILE)].iter().skip(i % GROUPS).step_by(GROUPS);
                        let of_group = group.fold(0.0_f32, |largest, x| x.abs().max(largest));
                        let digit = (from.abs() * [1.0 / 16.0, 1.0 / 8.0][way]).max(of_group * 0.5_f32.powi(octaves));
                        assert!((to - from).abs() <= digit * 1.0001, "{format:?}: {from} became {to}");
                        assert!(to.is_finite() && (to != 0.0 || format == Format::Signed));
                    }
                }
            }
        }
    }
}

#[test]
fn zeros_stay_zeros() {
    for format in FORMATS {
        for (len, place) in [(5, 3), (TILE, 100), (40, 39)] {
            let mut numbers = vec![0.0; len];
            assert_eq!(stored(format, &numbers), numbers);
            numbers[place] = 3.0;
            assert_eq!(stored(format, &numbers), numbers);
            assert_eq!(rounded(format, &numbers, Noise::new(1, 2, 3), 0), numbers);
        }
    }
    // What is too small for its group, or denormal.
    assert_eq!(stored(Format::Signed, &[1e-42, -1e-42]), [0.0, 0.0]);
    let mut small = vec![1e-30_f32; GROUPS + 1];
    small[0] = 1.0;
    assert_eq!(stored(Format::Signed, &small)[GROUPS], 0.0);
    assert!((1e-11..1e-9).contains(&stored(Format::Unsigned, &small)[GROUPS]));
    assert_eq!(stored(Format::Unsigned, &[1e-42, 1e-42]), [0.0, 0.0]);
}

/// The documented limits of numbers with four bits, beside the largest number that is unlucky with its scale.
#[test]
fn small_numbers_beside_large_ones_keep_four_bits() {
    let largest = 0.937_500_06_f32;
    for (format, limit) in FORMATS.into_iter().zip([16_384.0, 1_073_741_824.0]) {
        let mut numbers = vec![largest / limit; GROUPS + 1];
        numbers[0] = largest;
        for to in [stored(format, &numbers), rounded(format, &numbers, Noise::new(1, 2, 3), 0)] {
            assert!((to[GROUPS] / numbers[GROUPS] - 1.0).abs() <= 0.125, "{format:?}: {}", to[GROUPS]);
        }
    }
}

/// The mean of many roundings is the number, within five standard deviations of a coin whose chance is the
/// fraction.
#[test]
fn rounding_is_right_on_average() {
    let steps = if cfg!(miri) { 4 } else { 2_000 };
    for format in FORMATS {
        for fraction in [0.01, 0.3, 0.5, 0.95] {
            let x = 1.0 + fraction as f32 / 8.0;
            // The largest of each group is not rounded.
            let mut numbers = vec![x; TILE];
            numbers[..GROUPS].fill(1.875);
            let mut sum = 0.0;
            for step in 0..steps {
                let to = rounded(format, &numbers, Noise::new(3, step, hash("w")), 7);
                sum += to[GROUPS..].iter().map(|&x| f64::from(x)).sum::<f64>();
            }
            let count = (TILE - GROUPS) as f64 * steps as f64;
            let deviation = 0.125 * (fraction * (1.0 - fraction) / count).sqrt();
            assert!((sum / count - f64::from(x)).abs() < 5.0 * deviation, "{format:?}, {fraction}");
        }
    }
}

/// Elements of a tile, tiles, slots, steps and variables are rounded differently.
#[test]
fn different_places_are_rounded_differently() {
    let numbers = vec![1.0625_f32; TILE];
    let bits = |noise: Noise, slot: usize, first: usize| {
        let mut slot_of = Float8::filled(Format::Signed, bf16::ZERO, TILE);
        round(slot_of.bytes_mut(), &numbers, Format::Signed, slot, noise, first);
        slot_of.to_bf16()
    };
    let all = [
        bits(Noise::new(1, 1, 1), 0, 0),
        bits(Noise::new(2, 1, 1), 0, 0),
        bits(Noise::new(1, 2, 1), 0, 0),
        bits(Noise::new(1, 1, 2), 0, 0),
        bits(Noise::new(1, 1, 1), 1, 0),
        bits(Noise::new(1, 1, 1), 2, 0),
        bits(Noise::new(1, 1, 1), 3, 0),
        bits(Noise::new(1, 1, 1), 0, 1),
    ];
    for (i, a) in all.iter().enumerate() {
        assert!((0.4..0.6).contains(&(a.iter().filter(|x| x.to_f32() > 1.0).count() as f64 / TILE as f64)));
        assert!(all[..i].iter().all(|b| a != b), "{i}");
    }
}

/// What is not finite stays what it is, and the others of its group keep their order of magnitude.
#[test]
fn numbers_that_are_not_finite_stay() {
    for format in FORMATS {
        for wild in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            if format == Format::Unsigned && wild < 0.0 {
                continue;
            }
            // None of them is too small for a group.
            let mut numbers = numbers(format, TILE + 20, 1.0);
            numbers.iter_mut().for_each(|x| *x = x.abs().max(1e-3).copysign(*x));
            numbers[GROUPS] = wild;
            numbers[TILE + 1] = wild;
            for to in [stored(format, &numbers), rounded(format, &numbers, Noise::new(1, 2, 3), 0)] {
                for (i, (&to, &from)) in to.iter().zip(&numbers).enumerate() {
                    assert!(to.is_nan() == from.is_nan() && to.is_infinite() == from.is_infinite());
                    let is_alone = i < TILE && i.is_multiple_of(GROUPS) || i == TILE + 1 || i == TILE + 17;
                    let factor = if !is_alone {
                        1.2
                    } else if format == Format::Signed {
                        4.0
                    } else {
                        2.0
                    };
                    let close = (to / from).abs() <= factor && (from / to).abs() <= factor;
                    assert!(
                        !from.is_finite() || to.is_sign_positive() == from.is_sign_positive() && close,
                        "{from}: {to}"
                    );
                }
                assert_eq!(stored(format, &to).map_bits(), to.map_bits());
            }
            let mut slot = Float8::filled(format, bf16::ONE, TILE + 20);
            slot.assign(numbers.iter().copied());
            assert!(is_wild(scales(&slot.bytes_mut()[..BYTES])));
            slot.fill(bf16::ONE);
            assert!(!is_wild(scales(&slot.bytes_mut()[..BYTES])) && slot.to_bf16().iter().all(|&x| x == bf16::ONE));
        }
    }
}

/// A run that resumes on another machine, or years later, has the same bytes.
#[test]
fn bytes_are_those_of_earlier_versions() {
    let bytes = FORMATS.map(|format| {
        let numbers: Vec<f32> = (0..TILE + 40).map(|i| (i * 7919 % 1013) as f32 / 1024.0).collect();
        let mut slot = Float8::filled(format, bf16::ZERO, numbers.len());
        round(slot.bytes_mut(), &numbers, format, 0, Noise::new(1, 2, 3), 5);
        slot.bytes_mut().iter().fold(0_u64, |hash, &byte| hash.wrapping_mul(31).wrapping_add(byte.into()))
    });
    assert_eq!(bytes, [2_220_984_170_184_806_033, 1_048_315_575_546_240_785]);
}

/// What follows the last element of a short tile has no influence, and tiles with numbers that are not finite stay in
/// the loop.
#[test]
fn the_loop_does_what_widening_and_rounding_do() {
    let element = |_: &(), w: f32, g: f32, [m, v]: [f32; 2]| {
        // Not a number behind the last element, where all is zero.
        let m = 0.75 * m + g + 0.0 / g;
        (w - m, [m, 0.5 * v + g * g])
    };
    let noise = Noise::new(4, 5, 6);
    for len in [1, 2, 15, 16, 17, 31, 32, 33, 100, TILE - 1, TILE, TILE + 1, 3 * TILE, 5 * TILE + 77] {
        for wild in [None, Some(f32::NAN), Some(f32::NEG_INFINITY)] {
            let gradient: Vec<f32> = (0..len).map(|i| ((i * 7919 % 1013) as f32 - 506.5) / 64.0).collect();
            let mut old: Vec<f32> = gradient.iter().map(|g| g * g * g).collect();
            old[len / 2] = wild.unwrap_or(old[len / 2]);
            let mut slots = FORMATS.map(|format| Float8::filled(format, bf16::ZERO, len));
            slots[0].assign(old.iter().copied());
            slots[1].assign(old.iter().map(|x| x.abs()));
            let mut want = slots.clone();
            let (mut value, mut want_value) = (old.clone(), old.clone());

            let wide = want.each_mut().map(|slot| slot.to_bf16());
            let mut new = [vec![0.0; len], vec![0.0; len]];
            for i in 0..len {
                let [m, v] = wide.each_ref().map(|slot| slot[i].to_f32());
                let (w, [m, v]) = element(&(), want_value[i], gradient[i], [m, v]);
                want_value[i] = w;
                (new[0][i], new[1][i]) = (m, v);
            }
            for (number, (slot, new)) in want.iter_mut().zip(&new).enumerate() {
                round(&mut slot.bytes, new, FORMATS[number], number, noise, 9);
            }

            let bytes = slots.each_mut().map(Float8::bytes_mut);
            let constants = Fused::none().constants();
            update(&(), &element, &mut value, &gradient, bytes, FORMATS, constants, noise, 9);
            let is_same = |(got, want): (&f32, &f32)| got.to_bits() == want.to_bits() || got.is_nan() && want.is_nan();
            assert!(value.iter().zip(&want_value).all(is_same), "{len} values, {wild:?}");
            for (slot, want) in slots.iter().zip(&want) {
                assert_eq!(slot.bytes, want.bytes, "{len} {:?}, {wild:?}", slot.format);
            }
        }
    }
}
