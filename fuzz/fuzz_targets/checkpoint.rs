//! Any bytes as a checkpoint: it is loaded as a whole, or refused without any change; memory is allocated in
//! proportion to its length.

#![no_main]

use std::alloc::System;
use std::fs;
use std::io::Cursor;
use std::sync::LazyLock;

use libfuzzer_sys::{fuzz_mutator, fuzz_target};
use opt_fuzz::trained::{ACCUMULATED, NADAM, NOVOGRAD, Trained};
use opt_fuzz::{REGISTRIES, forge};
use optimizers::UpdateRule;
use optimizers::checkpoint::{Checkpoint, CheckpointDir, Element, Error, LoadOptions, SaveOptions};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use tempfile::TempDir;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

static FOLDER: LazyLock<TempDir> = LazyLock::new(|| TempDir::new().expect("a temporary folder can be made"));

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| { forge::mutate(data, size, max_size, seed) });

fuzz_target!(|data: &[u8]| {
    let before = Region::new(ALLOCATOR);
    let opened = Checkpoint::from_bytes(data);
    let verified = opened.as_ref().is_ok_and(|checkpoint| checkpoint.verify().is_ok());
    let asked = before.change().bytes_allocated;
    // A buffer of 256 KiB for numbers, and copies of the header while it is parsed.
    assert!(asked <= (1 << 20) + 64 * data.len(), "{asked} bytes for a file of {}", data.len());
    let in_folder = latest(data);
    assert_eq!(in_folder, verified, "a file and its bytes are judged differently");
    let Ok(checkpoint) = opened else { return };
    let _counter = checkpoint.iterations();
    let _optimizers = (checkpoint.optimizer(&REGISTRIES.float32), checkpoint.optimizer(&REGISTRIES.float64));
    load_all_ways(&checkpoint, &NADAM, data.len());
    load_all_ways(&checkpoint, &NOVOGRAD, data.len());
    load_all_ways(&checkpoint, &ACCUMULATED, data.len());
});

/// Whether the file is the newest valid one of a folder.
fn latest(data: &[u8]) -> bool {
    let path = FOLDER.path().join("00000001-step-1.safetensors");
    fs::write(&path, data).expect("the folder can be written");
    let found = CheckpointDir::open(FOLDER.path()).open_latest_valid();
    found.is_ok_and(|latest| latest.is_some_and(|latest| latest.stored.path == path))
}

fn load_all_ways<R: UpdateRule<T> + Clone, T: Element>(checkpoint: &Checkpoint, start: &Trained<R, T>, length: usize) {
    type Options = fn() -> Result<LoadOptions<'static>, Error>;
    let ways: [Options; 5] = [
        || Ok(LoadOptions::new()),
        || Ok(LoadOptions::new().any_configuration()),
        || LoadOptions::new().only("v0"),
        || LoadOptions::new().except("^(iterations|u_product)$"),
        || LoadOptions::new().rename("v(.)", "v$1$1")?.rename("v([01])+", "v$1"),
    ];
    for (number, options) in ways.into_iter().enumerate() {
        let options = options().expect("the patterns are valid");
        let mut trained = start.clone();
        let before = Region::new(ALLOCATOR);
        let Trained { optimizer, variables } = &mut trained;
        let loaded = options.load(checkpoint, optimizer, variables);
        let asked = before.change().bytes_allocated;
        assert!(asked <= (1 << 20) + 64 * length, "{asked} bytes to load a file of {length}");
        match loaded {
            Err(_) => assert_eq!(trained.bits(), start.bits(), "refused, and half loaded"),
            Ok(_) if number == 0 => again(&trained, start),
            Ok(_) => {}
        }
        // A restored counter may be at its maximum.
        let _step = trained.step();
    }
    let mut variables = start.variables.clone();
    if checkpoint.load_variables(&mut variables).is_err() {
        assert_eq!(variables.bits(), start.variables.bits(), "refused, and half loaded");
    }
}

/// The loaded state, saved and loaded again, is the same.
fn again<R: UpdateRule<T> + Clone, T: Element>(trained: &Trained<R, T>, start: &Trained<R, T>) {
    let (mut file, saved, mut twin) = (Cursor::new(Vec::new()), trained.clone(), start.clone());
    SaveOptions::new().write(&mut file, &saved.optimizer, &saved.variables).expect("it can be saved");
    let checkpoint = Checkpoint::from_bytes(file.into_inner()).expect("it was just written");
    checkpoint.load(&mut twin.optimizer, &mut twin.variables).expect("it was just written");
    assert_eq!(twin.bits(), trained.bits());
}
