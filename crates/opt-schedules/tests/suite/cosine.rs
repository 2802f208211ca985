//! Cosine decay, once and with restarts.

use std::f64::consts::PI;

use approx::assert_relative_eq;
use opt_core::Hyper;
use opt_schedules::{CosineDecay, CosineDecayRestarts, Schedule};

fn textbook(rate: f64, alpha: f64, height: f64, x: f64) -> f64 {
    rate * ((1.0 - alpha) * height * 0.5 * (1.0 + (PI * x).cos()) + alpha)
}

#[test]
fn decay_follows_half_a_cosine_and_stays() {
    let rate = CosineDecay::new(0.5, 6).alpha(0.1);
    for step in 0..20 {
        let x = step.min(6) as f64 / 6.0;
        assert_relative_eq!(rate.value(step), textbook(0.5, 0.1, 1.0, x), max_relative = 1e-14);
    }
}

#[test]
fn warmup_leads_to_its_target_and_decay_starts_there() {
    let rate = CosineDecay::new(0.5, 6).alpha(0.3).warmup(2.0, 5);
    for step in 0..5 {
        assert_relative_eq!(rate.value(step), 0.5 + 1.5 * step as f64 / 5.0, max_relative = 1e-14);
    }
    for step in 5..20 {
        let x = (step - 5).min(6) as f64 / 6.0;
        assert_relative_eq!(rate.value(step), textbook(2.0, 0.3, 1.0, x), max_relative = 1e-14);
    }
    assert_eq!([0, 5].map(|step| rate.value(step)), [0.5, 2.0]);
}

#[test]
fn a_warmup_without_steps_starts_at_the_target() {
    assert_eq!(CosineDecay::new(0.5, 6).warmup(2.0, 0).value(0), 2.0);
}

#[test]
fn ends_are_exact_at_any_length() {
    for decay_steps in [1, (1 << 24) + 1, (1 << 53) + 1, u64::MAX] {
        let rate = CosineDecay::new(0.7, decay_steps).alpha(0.5);
        assert_eq!([0, decay_steps, u64::MAX].map(|step| rate.value(step)), [0.7, 0.35, 0.35]);
        let warm = CosineDecay::new(0.1, 3).warmup(0.7, decay_steps);
        assert_eq!([0, decay_steps].map(|step| warm.value(step)), [0.1, 0.7]);
    }
}

/// The period of every step, by going through all of them.
fn restarts(first: f64, t_mul: f64) -> impl Iterator<Item = (i32, f64)> {
    let (mut i, mut start, mut length) = (0, 0.0, first);
    (0..).map(move |step| {
        while step as f64 >= start + length {
            (start, length, i) = (start + length, length * t_mul, i + 1);
        }
        (i, (step as f64 - start) / length)
    })
}

#[test]
fn restarts_follow_a_walk_through_all_periods() {
    for (first, t_mul) in
        [(6, 2.0), (6, 1.0), (1, 3.0), (8, 1.5), (7, 1.25), (1, 1.0), (100, 1.001), (3, 17.0), (500, 1.000000001)]
    {
        let rate = CosineDecayRestarts::new(0.5, first).t_mul(t_mul).m_mul(0.9).alpha(0.05);
        for (step, (i, x)) in restarts(first as f64, t_mul).take(3_000).enumerate() {
            let want = textbook(0.5, 0.05, 0.9_f64.powi(i), x);
            assert_relative_eq!(rate.value(step as u64), want, max_relative = 1e-11);
        }
    }
}

#[test]
fn every_doubling_restarts_at_its_own_step() {
    for first in [1_u64, 3, 1_000, (1 << 24) + 1] {
        let rate = CosineDecayRestarts::new(1.0, first).m_mul(0.5);
        for i in 0..20 {
            let start = first * ((1 << i) - 1);
            assert_eq!(rate.value(start), 0.5_f64.powi(i), "restart {i} of {first} first steps");
            if i > 1 {
                assert!(rate.value(start - 1) <= rate.value(start), "the step before restart {i} of {first}");
            }
        }
    }
}

#[test]
fn equal_periods_restart_exactly_at_huge_steps() {
    for first in [3, (1 << 24) + 1, (1 << 53) + 1] {
        let rate = CosineDecayRestarts::new(1.0, first).t_mul(1.0).alpha(0.25);
        let last = u64::MAX / first * first;
        assert_eq!([0, first, last].map(|step| rate.value(step)), [1.0; 3]);
        assert!(rate.value(last - 1) < 0.5, "the end of a period is low, whatever its number");
    }
}

#[test]
fn doubling_restarts_exactly_at_huge_steps() {
    // Both the boundary 2^i - 1 and 2^i - 2 are numbers in f64 up to i = 53.
    let rate = CosineDecayRestarts::new(1.0, 1).m_mul(0.5);
    for i in [25, 40, 53] {
        let start = (1_u64 << i) - 1;
        assert_eq!(rate.value(start), 0.5_f64.powi(i));
        assert!(rate.value(start - 1) < 0.5_f64.powi(i), "period {} ends before {start}", i - 1);
    }
}

#[test]
fn a_boundary_that_rounding_moves_is_still_a_whole_step() {
    // 10 + 11 = 21, but 10 (1.1^2 - 1) / (1.1 - 1) is a little more in f64.
    let rate = CosineDecayRestarts::new(1.0, 10).t_mul(1.1).m_mul(0.5);
    assert_eq!([0, 10, 21].map(|step| rate.value(step)), [1.0, 0.5, 0.25]);
    let rate = CosineDecayRestarts::new(1.0, 1_000).t_mul(1.2).m_mul(0.5);
    assert_eq!([1_000, 2_200, 3_640, 5_368].map(|step| rate.value(step)), [0.5, 0.25, 0.125, 0.0625]);
}

#[test]
fn factors_next_to_one_and_enormous_ones_give_a_position() {
    let nearly_one = CosineDecayRestarts::new(1.0, 1).t_mul(1.0 + f64::EPSILON);
    let equal = CosineDecayRestarts::new(1.0, 1).t_mul(1.0);
    assert_eq!([0, 1, 999].map(|step| nearly_one.value(step)), [0, 1, 999].map(|step| equal.value(step)));
    assert!((0.0..=1.0).contains(&nearly_one.value(u64::MAX)));

    let enormous = CosineDecayRestarts::new(1.0, 4).t_mul(1e300).m_mul(0.5);
    assert_eq!([0, 2, 4, u64::MAX].map(|step| enormous.value(step)), [1.0, 0.5, 0.5, 0.5]);
}

#[test]
fn m_mul_scales_only_what_is_above_the_floor() {
    let rate = CosineDecayRestarts::new(1.0, 4).m_mul(0.0).alpha(0.25);
    assert_eq!([0, 4, 100].map(|step| rate.value(step)), [1.0, 0.25, 0.25]);
    let growing = CosineDecayRestarts::new(1.0, 1).t_mul(1.0).m_mul(2.0);
    assert_eq!([0, 1, 2].map(|step| growing.value(step)), [1.0, 2.0, 4.0]);
    assert_eq!(growing.value(u64::MAX), f64::MAX, "growth stops before infinity");
}

/// The steps of the warmup count towards the total, whichever way it is said.
#[test]
fn warmup_counts_towards_the_total() {
    for (warmup_steps, total_steps) in [(0, 8), (2, 8), (7, 8), (100, 1_000)] {
        let rate = CosineDecay::with_warmup(0.125, 0.5, warmup_steps, total_steps);
        assert_eq!(rate, CosineDecay::new(0.125, total_steps - warmup_steps).warmup(0.5, warmup_steps));
        assert_eq!(rate.value(warmup_steps), 0.5);
        assert_eq!(rate.value(total_steps), 0.0);
        assert!(rate.value(total_steps - 1) > 0.0);
    }
    let all_warmup = Hyper::from(CosineDecay::with_warmup(0.0, 0.5, 8, 8)).validate("learning_rate", 0.0..);
    assert!(all_warmup.unwrap_err().to_string().starts_with("decay_steps is 0"));
}
