//! The three cyclical schedules.

use approx::assert_relative_eq;
use opt_schedules::{
    Configurable, ExponentialCyclicalLearningRate, ScaleMode, Schedule, Triangular2CyclicalLearningRate,
    TriangularCyclicalLearningRate,
};

/// The formula of TensorFlow Addons: the wave without its scale, and the number of the cycle.
fn textbook(step: u64, step_size: u64) -> (f64, f64) {
    let cycle = (1.0 + step as f64 / (2 * step_size) as f64).floor();
    let x = (step as f64 / step_size as f64 - 2.0 * cycle + 1.0).abs();
    ((1.0 - x).max(0.0), cycle)
}

fn assert_values(schedule: &dyn Schedule, want: &[f64]) {
    for (step, want) in want.iter().enumerate() {
        assert_relative_eq!(schedule.value(step as u64), *want, max_relative = 1e-13);
    }
}

#[test]
fn known_values() {
    let triangular = TriangularCyclicalLearningRate::new(0.1, 1.0, 4);
    assert_values(&triangular, &[0.1, 0.325, 0.55, 0.775, 1.0, 0.775, 0.55, 0.325, 0.1, 0.325]);
    let exponential = ExponentialCyclicalLearningRate::new(0.1, 1.0, 4).gamma(0.9);
    assert_values(&exponential, &[0.1, 0.3025, 0.4645, 0.592075, 0.69049, 0.49858075]);
}

#[test]
fn peaks_of_triangular2_halve() {
    let rate = Triangular2CyclicalLearningRate::new(0.1, 1.0, 4);
    for (step, want) in [(4, 1.0), (12, 0.55), (20, 0.325), (28, 0.2125), (8, 0.1), (16, 0.1)] {
        assert_relative_eq!(rate.value(step), want, max_relative = 1e-14);
    }
}

#[test]
fn all_follow_the_formula_in_both_modes() {
    for step in 0..100 {
        let (wave, cycle) = textbook(step, 7);
        for (mode, x) in [(ScaleMode::Cycle, cycle), (ScaleMode::Iterations, step as f64)] {
            let value = |scale: f64| 0.1 + 0.9 * wave * scale;
            let triangular = TriangularCyclicalLearningRate::new(0.1, 1.0, 7).scale_mode(mode);
            assert_relative_eq!(triangular.value(step), value(1.0), max_relative = 1e-13);
            let triangular2 = Triangular2CyclicalLearningRate::new(0.1, 1.0, 7).scale_mode(mode);
            assert_relative_eq!(triangular2.value(step), value(0.5_f64.powf(x - 1.0)), max_relative = 1e-13);
            let exponential = ExponentialCyclicalLearningRate::new(0.1, 1.0, 7).gamma(0.9).scale_mode(mode);
            assert_relative_eq!(exponential.value(step), value(0.9_f64.powf(x)), max_relative = 1e-13);
        }
    }
}

#[test]
fn ends_of_a_cycle_are_exact_at_huge_steps() {
    for step_size in [1, 3, (1 << 24) + 1, (1 << 53) + 1] {
        let rate = TriangularCyclicalLearningRate::new(0.1, 0.7, step_size);
        let halves = u64::MAX / step_size;
        let even = halves - halves % 2;
        assert_eq!([0, step_size, even * step_size].map(|step| rate.value(step)), [0.1, 0.7, 0.1], "{step_size}");
        assert_eq!(rate.value((even - 1) * step_size), 0.7, "{step_size}");
    }
}

#[test]
fn a_step_size_whose_double_does_not_fit_still_works() {
    let step_size = u64::MAX / 2 + 1;
    let rate = TriangularCyclicalLearningRate::new(0.0, 1.0, step_size);
    assert_eq!([0, step_size / 2, step_size].map(|step| rate.value(step)), [0.0, 0.5, 1.0]);
    assert_eq!(TriangularCyclicalLearningRate::new(0.25, 1.0, u64::MAX).value(u64::MAX), 1.0);
}

#[test]
fn scales_that_vanish_or_grow_stay_finite() {
    let triangular2 = Triangular2CyclicalLearningRate::new(0.1, 1.0, 2);
    assert_eq!(triangular2.value(u64::MAX), 0.1, "the height is 0 but for rounding");
    let growing = ExponentialCyclicalLearningRate::new(0.1, 1.0, 2).gamma(2.0);
    assert_relative_eq!(growing.value(2), 0.1 + 0.9 * 4.0, max_relative = 1e-14);
    assert_relative_eq!(growing.value(u64::MAX), 0.9 * (0.5 * f64::MAX), max_relative = 1e-14);
    assert_eq!(growing.value(u64::MAX - 3), 0.1, "the end of a cycle");
}

#[test]
fn a_wave_may_go_down() {
    let momentum = TriangularCyclicalLearningRate::new(0.95, 0.85, 2);
    assert!(momentum.validate().is_ok());
    assert_eq!([0, 2, 4].map(|step| momentum.value(step)), [0.95, 0.85, 0.95]);
    assert_relative_eq!(momentum.value(1), 0.9, max_relative = 1e-14);
}
