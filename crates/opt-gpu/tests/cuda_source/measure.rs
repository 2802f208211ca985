//! Measured gradients are compared with sums in 64 bits.

use opt_conformance::problem::Rng;
use opt_gpu::cuda::source;
use opt_gpu::cuda::tables::{self, Span};
use opt_gpu::device::{Element, Part, Question};
use optimizers::state::DType;

use crate::emulation::{Emulation, Memory, stored};

/// The elements of a part.
const PART: usize = 16_384;

struct Case<T> {
    numbers: Vec<T>,
    limit: Option<f64>,
}

/// Gradients that can be stored in a type.
fn cases<T: Element>(dtype: DType) -> Vec<Case<T>> {
    let mut rng = Rng(11);
    let mut numbers = |len: usize| -> Vec<T> { (0..len).map(|_| T::literal(rng.number())).collect() };
    let mut cases = Vec::new();
    for len in [0, 1, 3, 255, 1_021, PART - 1, PART, PART + 1, 2 * PART + 5_003] {
        for limit in [None, Some(0.3)] {
            cases.push(Case { numbers: numbers(len), limit });
        }
    }
    let [small, large, infinite] = [T::SMALLEST, T::LARGEST, T::literal(f64::INFINITY)];
    let smaller = small * T::literal(0.25);
    let minus = T::zero() - infinite;
    let special = [
        vec![T::zero(); 300],
        vec![smaller; 1_000],
        vec![small, smaller, T::zero()],
        vec![large; 2_000],
        vec![large, small, smaller, T::zero()],
        vec![T::literal(1.0), T::literal(f64::NAN), large],
        vec![infinite, T::literal(1.0)],
        vec![T::literal(f64::NAN), minus],
    ];
    let limits = [None, Some(0.3), Some(1e-30), Some(1e30)];
    cases.extend(special.iter().flat_map(|numbers| limits.map(|limit| Case { numbers: numbers.clone(), limit })));
    // Something special behind many ordinary numbers, in the last element of all.
    for last in [infinite, minus, T::literal(f64::NAN), large] {
        let mut numbers = numbers(PART + 777);
        numbers[PART + 776] = last;
        cases.extend([None, Some(0.25)].map(|limit| Case { numbers: numbers.clone(), limit }));
    }
    cases.iter_mut().flat_map(|case| &mut case.numbers).for_each(|number| *number = stored(dtype, *number));
    cases
}

/// The part, in the obvious order.
fn expected<T: Element>(numbers: &[T], limit: Option<f64>, exponent: i32) -> Part {
    let limit = limit.map_or(f64::INFINITY, |limit| T::literal(limit).as_());
    let square = |number: &T| {
        let magnitude: f64 = number.as_().abs();
        let limited = if magnitude > limit { limit } else { magnitude };
        (limited * 2_f64.powi(-exponent)).powi(2)
    };
    Part { sum: numbers.iter().map(square).sum(), exponent, is_finite: numbers.iter().all(|number| number.is_finite()) }
}

fn check<T: Element>(name: &str, dtype: DType) {
    let cases = cases::<T>(dtype);
    let mut emulation = Emulation::default();
    // The second time, no gradient is aligned; the third time, the same numbers are stored in full.
    for (dtype, shift) in [(dtype, 0), (dtype, 1), (T::DTYPE, 0)] {
        let kernel = emulation.measure(&source::measure(dtype));
        let mut memory = Memory::new();
        let spans: Vec<Span> = cases.iter().map(|case| memory.place(&[(dtype, &case.numbers)], shift, false)).collect();
        let questions = spans.iter().zip(&cases).map(|(gradient, case)| Question { gradient, limit: case.limit });
        let questions: Vec<Question<'_, Span>> = questions.collect();
        let words = tables::questions(dtype, &questions.iter().collect::<Vec<_>>());
        let chunks = tables::question_chunks(&words);
        emulation.launch(kernel, [4, 1], [&words, &chunks, &[]], 2 * chunks.len(), &memory);
    }
    let after = emulation.run(name);
    assert_eq!(after[0].results, after[1].results, "alignment changes bits");
    assert_eq!(after[0].results, after[2].results, "storage changes bits");
    let parts = tables::parts(&after[0].results);
    let mut got = parts.iter();
    for Case { numbers, limit } in &cases {
        for (number, part) in numbers.chunks(PART).enumerate() {
            let got = got.next().unwrap();
            let want = expected(part, *limit, got.exponent);
            let context =
                || format!("{:?}, limit {limit:?}, part {number}: {got:?}, not {want:?}", &part[..part.len().min(4)]);
            assert_eq!(got.is_finite, want.is_finite, "{}", context());
            let is_same = if want.sum.is_finite() {
                (got.sum - want.sum).abs() <= want.sum * 1e-12
            } else {
                got.sum.to_bits() == want.sum.to_bits() || (got.sum.is_nan() && want.sum.is_nan())
            };
            assert!(is_same, "{}", context());
            // Neither too large nor too small, unless it is infinite or 0.
            let has_numbers = part.iter().any(|number| *number != T::zero() && number.is_finite());
            assert!(!has_numbers || want.sum.is_nan() || want.sum >= 1e-100, "{}", context());
            assert!(!want.is_finite || want.sum <= 1e100, "{}", context());
        }
    }
    assert_eq!(got.next(), None);
}

#[test]
fn gradients_in_32_bits_are_measured() {
    check::<f32>("measure32", DType::F32);
}

#[test]
fn gradients_in_64_bits_are_measured() {
    check::<f64>("measure64", DType::F64);
}

#[test]
fn gradients_in_16_bits_are_measured_as_if_they_had_more() {
    check::<f32>("measure_bf16", DType::Bf16);
    check::<f32>("measure_f16", DType::F16);
}
