//! Any JSON as the configuration of an optimizer: an accepted one is written back key for key, and takes steps.

#![no_main]

use libfuzzer_sys::{fuzz_mutator, fuzz_target};
use ndarray::{ArrayD, Axis, arr2};
use opt_conformance::problem::bits;
use opt_conformance::replay::same_json;
use opt_fuzz::{REGISTRIES, json};
use optimizers::{DynOptimizer, Scalar};
use optimizers::{Optimizer, Registry, Variable};
use serde_json::Value;

type Boxed<T> = DynOptimizer<T>;

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| { json::mutate(data, size, max_size, seed) });

fuzz_target!(|data: &[u8]| {
    let Ok(config) = serde_json::from_slice::<Value>(data) else { return };
    check(&config, &REGISTRIES.float32);
    check(&config, &REGISTRIES.float64);
});

fn check<T: Scalar>(config: &Value, registry: &Registry<T>) {
    let Ok(mut optimizer) = Optimizer::from_config(config, registry) else { return };
    let written = optimizer.to_config().expect("nothing that was read holds code");
    assert!(same_json(&written, config), "{config} comes back as {written}");
    let mut twin = Optimizer::from_config(&written, registry).expect("what was written can be read");
    assert_eq!(twin.to_config().expect("as before"), written);
    let (values, state) = steps(&mut optimizer);
    assert_eq!(steps(&mut twin), (values, state), "{config} and {written} do not do the same");
}

/// Four steps and their results; a step that is refused must be refused in both.
fn steps<T: Scalar>(optimizer: &mut Boxed<T>) -> (Vec<String>, Vec<u64>) {
    let (w, v) = (arr2(&[[1.0, -0.5], [0.25, 3.0], [0.0, 1e-3]]), arr2(&[[0.5]]));
    let gradient = arr2(&[[0.5, -0.25], [0.0, 2.0], [1e-5, -1.0]]);
    let (mut w, mut v): (ArrayD<T>, ArrayD<T>) = (w.mapv(T::literal).into_dyn(), v.mapv(T::literal).into_dyn());
    let gradient: ArrayD<T> = gradient.mapv(T::literal).into_dyn();
    let mut said = Vec::new();
    for step in 0..4_usize {
        let given = Variable::new("w", &mut w);
        let rows = [step % 3];
        let row = gradient.select(Axis(0), &rows);
        let given = if step % 2 == 0 { given.gradient(&gradient) } else { given.sparse_gradient(&rows, &row) };
        said.push(format!("{:?}", optimizer.apply_gradients([given, Variable::new("v", &mut v)])));
    }
    (said, [bits(&w), bits(&v)].concat())
}
