//! The engine's loops over slices, before and after the rule. They are compiled for several instruction sets, with the
//! same bits on each.

mod buffer;
pub(crate) mod dispatch;
mod prefetch;
#[cfg(feature = "limit-simd")]
pub mod simd;
pub(crate) mod slices;

pub use buffer::BLOCK;
pub(crate) use buffer::Buffer;
pub(crate) use dispatch::dispatched;
pub use prefetch::prefetch;

use crate::real::Scalar;

/// A factor as a product of two, to be applied one after the other: a very small factor alone would lose digits in 32
/// bits.
pub(crate) fn factors<T: Scalar>(scale: f64) -> [T; 2] {
    const SMALL: f64 = 1e-30;
    const PART: f64 = 1.0 / (1_u128 << 64) as f64;
    let [first, second] = if scale.abs() < SMALL { [PART, scale / PART] } else { [scale, 1.0] };
    [T::literal(first), T::literal(second)]
}

/// An element of a gradient, clipped by value and scaled.
pub(crate) fn clipped<T: Scalar>(g: T, limit: Option<f64>, [first, second]: [T; 2]) -> T {
    clamp(g, limit.map(T::literal)) * first * second
}

/// Clips an element by value; NaN stays NaN.
#[inline(always)]
pub(crate) fn clamp<T: Scalar>(g: T, limit: Option<T>) -> T {
    match limit {
        Some(limit) => g.clamped(limit),
        None => g,
    }
}

dispatched! {
    /// Clips by value, to `-limit..=limit`.
    pub(crate) fn clip_by_value<T: Scalar>(to: &mut [T], from: &[T], limit: T) {
        to.iter_mut().zip(from).for_each(|(to, &g)| *to = clamp(g, Some(limit)));
    }
}

dispatched! {
    /// Multiplies by both factors, one after the other.
    pub(crate) fn scale<T: Scalar>(to: &mut [T], from: &[T], factors: [T; 2]) {
        let [first, second] = factors;
        to.iter_mut().zip(from).for_each(|(to, &g)| *to = g * first * second);
    }
}

dispatched! {
    /// Adds a multiple: `sum += factor * last`.
    pub(crate) fn add<T: Scalar>(sum: &mut [T], last: &[T], factor: T) {
        sum.iter_mut().zip(last).for_each(|(sum, &g)| *sum = *sum + factor * g);
    }
}

dispatched! {
    /// As [`add`], into another slice: `to = sum + factor * last`.
    pub(crate) fn sum<T: Scalar>(to: &mut [T], sum: &[T], last: &[T], factor: T) {
        to.iter_mut().zip(sum).zip(last).for_each(|((to, &sum), &g)| *to = sum + factor * g);
    }
}

dispatched! {
    /// Decoupled weight decay: `w -= w * factor`.
    pub(crate) fn decay<T: Scalar>(value: &mut [T], factor: T) {
        value.iter_mut().for_each(|w| *w = *w - *w * factor);
    }
}

dispatched! {
    /// Exponential moving average: `average = keep * average + take * w`.
    pub(crate) fn average<T: Scalar>(average: &mut [T], value: &[T], rates: [T; 2], flush_below: T) {
        let [keep, take] = rates;
        let values = average.iter_mut().zip(value);
        values.for_each(|(average, &w)| *average = (keep * *average + take * w).flushed(flush_below));
    }
}

/// The number of independent partial sums. It is fixed, so that the order of additions does not depend on the width of
/// vectors.
const LANES: usize = 32;

/// The sum of squares in 64 bits. The order of additions depends on the length alone.
pub(crate) fn square_sum<T: Scalar>(values: &[T], limit: Option<f64>) -> f64 {
    match limit {
        None => squares::<T, false>(values, T::zero()),
        Some(limit) => squares::<T, true>(values, T::literal(limit)),
    }
}

dispatched! {
    /// Reads four quarters side by side: where a loop only reads, processors prefetch faster from four places than from
    /// one.
    fn squares<T: Scalar; CLIP: bool>(values: &[T], limit: T) -> f64 {
        let mut lanes = [0.0_f64; LANES];
        let (chunks, rest) = values.as_chunks::<LANES>();
        let (front, behind) = chunks.split_at(chunks.len() / 4 * 4);
        let (left, right) = front.split_at(front.len() / 2);
        let ((first, second), (third, fourth)) = (left.split_at(left.len() / 2), right.split_at(right.len() / 2));
        for (((first, second), third), fourth) in first.iter().zip(second).zip(third).zip(fourth) {
            add_squares::<T, CLIP>(&mut lanes, first, limit);
            add_squares::<T, CLIP>(&mut lanes, second, limit);
            add_squares::<T, CLIP>(&mut lanes, third, limit);
            add_squares::<T, CLIP>(&mut lanes, fourth, limit);
        }
        behind.iter().for_each(|chunk| add_squares::<T, CLIP>(&mut lanes, chunk, limit));
        add_squares::<T, CLIP>(&mut lanes, rest, limit);
        // Adds one half to the other, again and again. Adding the sums one by one would take as long as a thousand
        // elements.
        let mut width = LANES;
        while width > 1 {
            width /= 2;
            let (front, back) = lanes.split_at_mut(width);
            front.iter_mut().zip(back).for_each(|(front, back)| *front += *back);
        }
        lanes[0]
    }
}

/// Adds the squares of up to [`LANES`] elements.
#[inline(always)]
fn add_squares<T: Scalar, const CLIP: bool>(lanes: &mut [f64; LANES], values: &[T], limit: T) {
    for (lane, &g) in lanes.iter_mut().zip(values) {
        let g: f64 = clamp(g, CLIP.then_some(limit)).as_();
        *lane += g * g;
    }
}

dispatched! {
    /// Whether no element is infinite or NaN.
    pub(crate) fn all_finite<T: Scalar>(values: &[T]) -> bool {
        values.iter().fold(true, |finite, g| finite & g.is_finite())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_square_sum_does_not_overflow_in_f32() {
        assert_eq!(square_sum(&[1e25_f32, 1e25], None), 2.0 * (f64::from(1e25_f32) * f64::from(1e25_f32)));
    }

    #[test]
    fn clamping_keeps_nan_and_limits_infinities() {
        let mut to = [0.0; 4];
        clip_by_value(&mut to, &[f64::NAN, f64::INFINITY, -5.0, 0.25], 0.5);
        assert!(to[0].is_nan());
        assert_eq!(to[1..], [0.5, -0.5, 0.25]);
    }

    /// In 32 bits, 1e-40 has 5 digits, and 1e-30 / 2^64 has none.
    #[test]
    fn small_factors_and_small_gradients_keep_their_digits() {
        let close = |got: f32, want: f32| (got - want).abs() <= 4.0 * f32::EPSILON * want;
        assert!(close(clipped(1e38, None, factors(1.234_567_8e-40)), 1.234_567_8e-2));
        assert!(close(clipped(1e-30, None, factors(0.5)), 5e-31));
        assert_eq!((factors(1e-30), factors(-0.5)), ([1e-30_f64, 1.0], [-0.5, 1.0]));
    }

    #[test]
    fn every_element_counts() {
        // Miri would take minutes for all of them.
        let every = if cfg!(miri) { 12 } else { 1 };
        for len in (0..70).chain([127, 128, 131, 160, 257]).step_by(every) {
            let ones = vec![1.0_f32; len];
            assert_eq!(square_sum(&ones, None), len as f64);
            for bad in 0..len {
                let mut values = ones.clone();
                values[bad] = f32::NEG_INFINITY;
                assert!(!all_finite(&values));
                assert_eq!(square_sum(&values, Some(2.0)), len as f64 + 3.0);
            }
            assert!(all_finite(&ones));
        }
    }
}
