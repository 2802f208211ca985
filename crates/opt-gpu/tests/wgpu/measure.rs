//! Sums of squares against sums in 64 bits.

use half::{bf16, f16};
use opt_conformance::problem::Rng;
use opt_core::state::DType;
use opt_gpu::device::{Device, Part, Question};
use opt_gpu::wgpu::WgpuDevice;

use crate::device;

/// The elements of a part.
const PART: usize = 16_384;

fn measure(device: &WgpuDevice, gradient: &[f32], limit: Option<f64>) -> Vec<Part> {
    let gradient = device.upload(gradient).unwrap();
    device.measure(&[Question { gradient: &gradient, limit }]).unwrap().remove(0)
}

/// The sum of numbers that are not negative, compensated (A. Neumaier, 1974).
fn sum(numbers: impl Iterator<Item = f64>) -> f64 {
    let (sum, lost) = numbers.fold((0.0_f64, 0.0), |(sum, lost), number| {
        let next = sum + number;
        let (large, small) = if sum > number { (sum, number) } else { (number, sum) };
        (next, lost + (large - next + small))
    });
    sum + lost
}

/// Compares parts with sums in 64 bits. Numbers of `f32`, squared, are far from the limits of `f64`.
fn compare(parts: &[Part], gradient: &[f32], limit: Option<f64>) -> f64 {
    assert_eq!(parts.len(), gradient.len().div_ceil(PART));
    let mut worst = 0.0_f64;
    for (part, elements) in parts.iter().zip(gradient.chunks(PART)) {
        let limited = elements.iter().map(|g| f64::from(*g).abs().min(limit.unwrap_or(f64::INFINITY)));
        let want = sum(limited.map(|g| g * g));
        let got = part.sum * 4_f64.powi(part.exponent);
        let error = if want == 0.0 { got } else { (got - want).abs() / want };
        let is_close = error < 1e-14;
        assert!(is_close, "{got:e} instead of {want:e}");
        assert_eq!(part.is_finite, elements.iter().all(|g| g.is_finite()));
        worst = worst.max(error);
    }
    worst
}

/// Numbers of 16 bits are measured as the same numbers of 32 bits.
#[test]
fn gradients_in_16_bits_have_the_same_sums() {
    let Some(device) = device() else { return };
    let bits: Vec<u16> = (0..=u16::MAX).chain(0..777).collect();
    let wide = |from: fn(u16) -> f32| bits.iter().map(|bits| from(*bits)).collect::<Vec<f32>>();
    let halves = [
        (DType::Bf16, wide(|bits| bf16::from_bits(bits).to_f32())),
        (DType::F16, wide(|bits| f16::from_bits(bits).to_f32())),
    ];
    for (dtype, wide) in halves {
        let buffer = device.allocate(&[dtype], bits.len()).unwrap();
        device.write(&buffer, 0, bytemuck::cast_slice(&bits)).unwrap();
        for limit in [None, Some(0.25), Some(1e-6)] {
            let got = device.measure(&[Question { gradient: &buffer, limit }]).unwrap().remove(0);
            assert_eq!(format!("{got:?}"), format!("{:?}", measure(&device, &wide, limit)), "{dtype:?}");
        }
    }
}

#[test]
fn sums_of_squares_are_those_of_64_bits() {
    let Some(device) = device() else { return };
    let mut rng = Rng(8);
    let mut worst = 0.0_f64;
    for magnitude in [1.0, 1e-45, 3e-42, 1e-38, 1e-20, 1e20, 1.7e38, 3.4e38] {
        for len in [0, 1, 63, 255, 257, PART - 1, PART, PART + 1, 3 * PART + 77] {
            let gradient: Vec<f32> = (0..len).map(|_| (rng.number() * magnitude) as f32).collect();
            for limit in [None, Some(0.3 * magnitude), Some(2.0 * magnitude), Some(0.0), Some(1e300)] {
                worst = worst.max(compare(&measure(&device, &gradient, limit), &gradient, limit));
            }
        }
    }
    println!("largest relative error {worst:e}");
}

#[test]
fn elements_of_all_magnitudes_count() {
    let Some(device) = device() else { return };
    let mut rng = Rng(9);
    for spread in [4, 12, 20, 40, 120] {
        let mut number = || rng.number() * 2_f64.powi(-(rng.below(spread) as i32));
        let gradient: Vec<f32> = (0..2 * PART + 5).map(|_| number() as f32).collect();
        compare(&measure(&device, &gradient, None), &gradient, None);
    }
    // Many small ones next to a large one.
    for small in [2_f32.powi(-8), 2_f32.powi(-15), 2_f32.powi(-16), 2_f32.powi(-17), 1.1e-5] {
        let mut gradient = vec![small; PART];
        gradient[777] = 1.5;
        compare(&measure(&device, &gradient, None), &gradient, None);
    }
    compare(&measure(&device, &[f32::MAX; PART], None), &[f32::MAX; PART], None);
}

#[test]
fn carries_pass_through_words_that_are_full() {
    let Some(device) = device() else { return };
    // Two squares whose sum is just above 2^48: in the kernel, only the carry of the lowest word fills the middle one.
    let fills = |(a, b): &(u64, u64)| ((a * a) >> 16) + ((b * b) >> 16) == (1 << 32) - 1 && a * a + b * b >= 1 << 48;
    let pairs = (1_u64 << 23..1 << 24).map(|a| (a, ((1 << 48) - a * a).isqrt() + 1));
    let (a, b) = pairs.filter(|(_, b)| *b >= 1 << 23).find(fills).unwrap();
    let mut gradient = [0.0; 257];
    gradient[0] = a as f32;
    gradient[256] = b as f32;
    compare(&measure(&device, &gradient, None), &gradient, None);
}

#[test]
fn what_is_not_finite_shows() {
    let Some(device) = device() else { return };
    for (special, limit, want) in [
        (f32::NAN, None, f64::NAN),
        (-f32::NAN, Some(0.5), f64::NAN),
        (f32::INFINITY, None, f64::INFINITY),
        (f32::NEG_INFINITY, Some(f64::INFINITY), f64::INFINITY),
        (f32::NEG_INFINITY, Some(0.5), 0.5),
        (f32::INFINITY, Some(1e200), f64::INFINITY),
    ] {
        let mut gradient = vec![0.5_f32; 2 * PART];
        gradient[PART + 1_001] = special;
        gradient[PART + 1_000] = 0.0;
        let parts = measure(&device, &gradient, limit);
        assert!(parts[0].is_finite && !parts[1].is_finite);
        let sum = parts[1].sum * 4_f64.powi(parts[1].exponent);
        match want {
            0.5 => assert_eq!(sum, 0.25 * (PART - 1) as f64),
            want => assert!(sum.is_nan() == want.is_nan() && (sum == want || want.is_nan()), "{sum} for {special}"),
        }
    }
    let both = measure(&device, &[f32::NAN, f32::INFINITY], Some(1.0))[0];
    assert!(both.sum.is_nan() && !both.is_finite);
    // The sum itself cannot be too large.
    let part = measure(&device, &[f32::INFINITY, 1.0], Some(1e200))[0];
    assert_eq!(part, Part { sum: (1e200 / 2_f64.powi(664)).powi(2), exponent: 664, is_finite: false });
}

#[test]
fn chunks_and_neighbours_change_no_bits() {
    let Some(device) = device() else { return };
    let mut rng = Rng(10);
    let mut gradient = |len: usize| -> Vec<f32> { (0..len).map(|_| rng.number() as f32).collect() };
    let gradients = [gradient(3 * PART + 1), gradient(0), gradient(5), gradient(PART)];
    let alone: Vec<Vec<Part>> = gradients.iter().map(|gradient| measure(&device, gradient, Some(0.7))).collect();
    for chunk in [64, 2 * PART + 64] {
        let device = device.clone().with_chunks_of(chunk);
        let buffers = gradients.each_ref().map(|gradient| device.upload(gradient).unwrap());
        let questions = buffers.each_ref().map(|gradient| Question { gradient, limit: Some(0.7) });
        assert_eq!(device.measure(&questions).unwrap(), alone);
    }
    assert!(device.measure(&[]).unwrap().is_empty());
}
