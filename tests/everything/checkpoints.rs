//! Through files, between any two calls.

use std::io::Cursor;

use optimizers::checkpoint::{Checkpoint, Element, SaveOptions};
use optimizers::{MomentStorage, Optimizer};

use super::alone::Run;
use super::script::{Script, named};

fn through_files<T: Element>(moments: MomentStorage) {
    for seed in 0..6 {
        let script = Script::new(seed);
        let mut control = Run::<_, T>::new(&script, 1, moments);
        let opt = script.builder().boxed().moments(moments).build().unwrap();
        let mut run = Run { opt, values: script.start() };
        for number in 0..script.calls.len() {
            let mut file = Cursor::new(Vec::new());
            let variables = named(&mut run.values);
            SaveOptions::new().write(&mut file, &run.opt, &variables).unwrap();
            let file = Checkpoint::from_bytes(file.into_inner()).unwrap();
            let mut next = Run {
                opt: Optimizer::from_config(file.config().unwrap(), &optimizers::registry()).unwrap(),
                values: script.values.iter().map(|value| value.mapv(|_| T::zero())).collect(),
            };
            file.load(&mut next.opt, &mut named(&mut next.values)).unwrap();
            run = next;
            assert_eq!(run.bits(), control.bits(), "seed {seed}, before call {number}");
            assert_eq!(run.call(&script, number), control.call(&script, number), "seed {seed}, call {number}");
            assert_eq!(run.bits(), control.bits(), "seed {seed}, after call {number}");
        }
    }
}

#[test]
fn in_32_bits() {
    through_files::<f32>(MomentStorage::Full);
}

#[test]
fn in_64_bits() {
    through_files::<f64>(MomentStorage::Full);
}

#[test]
fn with_moments_in_16_bits() {
    through_files::<f32>(MomentStorage::Bf16 { seed: 5 });
}
