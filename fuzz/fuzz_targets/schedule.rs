//! Any JSON as a schedule: an accepted one has a finite value of at least 0 at every step, and is written back key
//! for key.

#![no_main]

use libfuzzer_sys::{fuzz_mutator, fuzz_target};
use opt_conformance::replay::same_json;
use opt_fuzz::{REGISTRIES, json};
use serde_json::Value;

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| { json::mutate(data, size, max_size, seed) });

fuzz_target!(|data: &[u8]| {
    let Ok(config) = serde_json::from_slice::<Value>(data) else { return };
    let schedules = REGISTRIES.float64.schedules();
    let Ok(schedule) = schedules.hyper(&config) else { return };
    let written = schedule.to_json().expect("nothing that was read holds code");
    assert!(same_json(&written, &config), "{config} comes back as {written}");
    let twin = schedules.hyper(&written).expect("what was written can be read");
    assert_eq!(twin.to_json().expect("as before"), written);
    for step in json::whole_numbers(&config) {
        let value = schedule.at(step);
        assert_eq!(value.to_bits(), twin.at(step).to_bits(), "{config} and {written} differ at {step}");
        // A plain number is checked by the rule that contains it.
        let valid = !schedule.is_scheduled() || (0.0..=f64::MAX).contains(&value);
        assert!(valid, "{config} is {value} at {step}");
    }
});
