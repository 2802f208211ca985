//! One cycle.

use std::f64::consts::PI;

use approx::assert_relative_eq;
use opt_schedules::{Anneal, OneCycle, Schedule};

/// The phases as PyTorch lists them: where each ends, and between which rates it goes.
fn phases(total: f64, part: f64, three: bool) -> Vec<(f64, [f64; 2])> {
    let (high, first) = (0.8, 0.8 / 10.0);
    let end = first / 50.0;
    let rise = (part * total - 1.0, [first, high]);
    if three {
        vec![rise, (2.0 * part * total - 2.0, [high, first]), (total - 1.0, [first, end])]
    } else {
        vec![rise, (total - 1.0, [high, end])]
    }
}

fn textbook(step: f64, phases: &[(f64, [f64; 2])], anneal: Anneal) -> f64 {
    let mut start = 0.0;
    for (index, (end, [from, to])) in phases.iter().enumerate() {
        if step <= *end || index == phases.len() - 1 {
            let part = (step - start) / (end - start);
            return match anneal {
                Anneal::Cosine => to + (from - to) / 2.0 * ((PI * part).cos() + 1.0),
                Anneal::Linear => (to - from) * part + from,
            };
        }
        start = *end;
    }
    f64::NAN
}

#[test]
fn every_setting_follows_a_walk_through_the_phases() {
    for (total, part) in [(10, 0.3), (20, 0.25), (37, 0.41), (16, 0.75), (9, 0.0), (12, 1.0), (1, 0.3)] {
        for three in [false, true] {
            for anneal in [Anneal::Cosine, Anneal::Linear] {
                let rate = OneCycle::new(0.8, total).pct_start(part).div_factor(10.0).final_div_factor(50.0);
                let rate = rate.anneal_strategy(anneal).three_phase(three);
                for step in 0..total {
                    let want = textbook(step as f64, &phases(total as f64, part, three), anneal);
                    assert_relative_eq!(rate.value(step), want, max_relative = 1e-11);
                }
            }
        }
    }
}

#[test]
fn defaults_are_those_of_pytorch() {
    let rate = OneCycle::new(1.0, 10);
    for (step, want) in [(0, 0.04), (1, 0.52), (2, 1.0), (9, 4e-6)] {
        assert_relative_eq!(rate.value(step), want, max_relative = 1e-12);
    }
}

#[test]
fn the_last_value_stays() {
    let rate = OneCycle::new(1.0, 20).div_factor(4.0).final_div_factor(8.0);
    assert_eq!([19, 20, 1_000, u64::MAX].map(|step| rate.value(step)), [0.03125; 4]);
    let only_up = rate.pct_start(1.0);
    assert_eq!([0, 19, 20, u64::MAX].map(|step| only_up.value(step)), [0.25, 1.0, 1.0, 1.0]);
}

#[test]
fn a_rise_without_length_is_at_its_peak() {
    let rate = OneCycle::new(1.0, 4).pct_start(0.25);
    assert_eq!(rate.value(0), 1.0);
    assert_eq!(rate.three_phase(true).value(0), 1.0);
    assert_eq!(OneCycle::new(1.0, 1).pct_start(1.0).value(0), 1.0);
}

#[test]
fn three_phases_return_to_the_first_rate() {
    let rate = OneCycle::new(1.0, 20).pct_start(0.25).div_factor(4.0).final_div_factor(4.0).three_phase(true);
    for anneal in [Anneal::Cosine, Anneal::Linear] {
        let rate = rate.clone().anneal_strategy(anneal);
        assert_eq!([0, 4, 8, 19].map(|step| rate.value(step)), [0.25, 1.0, 0.25, 0.0625]);
    }
}

#[test]
fn huge_cycles_end_where_they_should() {
    for total in [(1 << 24) + 1, (1 << 53) + 1, u64::MAX] {
        let rate = OneCycle::new(1.0, total).div_factor(4.0).final_div_factor(8.0);
        assert_eq!([0, total - 1, u64::MAX].map(|step| rate.value(step)), [0.25, 0.03125, 0.03125]);
    }
}
