//! Any JSON as a file of recorded runs: it is read and replayed, and allocates memory in proportion to its length.

#![no_main]

use std::alloc::System;

use libfuzzer_sys::{fuzz_mutator, fuzz_target};
use opt_conformance::golden::File;
use opt_conformance::replay;
use opt_fuzz::{REGISTRIES, json};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| { json::mutate(data, size, max_size, seed) });

fuzz_target!(|data: &[u8]| {
    let before = Region::new(ALLOCATOR);
    let file = serde_json::from_slice::<File>(data);
    let asked = before.change().bytes_allocated;
    assert!(asked <= 65_536 + 512 * data.len(), "{asked} bytes to read {}", data.len());
    for case in file.iter().flat_map(|file| &file.cases) {
        // The replay may fail, because numbers were changed.
        let _verdict = replay(case, &REGISTRIES);
    }
});
