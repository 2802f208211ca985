//! Recorded runs of the reference systems, end to end through the umbrella crate and its registry.

use opt_conformance::golden::{Case, File};
use opt_conformance::replay::Registries;
use opt_conformance::{Verdict, golden_folder, replay};

fn registries() -> Registries {
    Registries { float32: optimizers::registry(), float64: optimizers::registry() }
}

fn cases(file: &str) -> Vec<Case> {
    File::read(&golden_folder().join(file)).unwrap_or_else(|error| panic!("{error}")).cases
}

fn all_pass(file: &str, count: usize) {
    let cases = cases(file);
    assert_eq!(cases.len(), count, "{file}");
    for case in cases {
        assert_eq!(replay(&case, &registries()), Verdict::Passed, "{file}: {}", case.name());
    }
}

#[test]
fn sgd() {
    all_pass("sgd.json", 20);
}

#[test]
fn sgd_legacy() {
    all_pass("sgd_legacy.json", 10);
}

#[test]
fn schedules() {
    all_pass("schedules.json", 14);
}

#[test]
fn nadam() {
    all_pass("nadam.json", 10);
}

#[test]
fn adam() {
    all_pass("adam.json", 29);
}

#[test]
fn radam() {
    all_pass("radam.json", 15);
}

#[test]
fn novograd() {
    all_pass("novograd.json", 15);
}

#[test]
fn lookahead() {
    all_pass("lookahead.json", 12);
}

/// Rules of the same name in other libraries.
#[test]
fn dialects() {
    all_pass("dialects_adam.json", 27);
    all_pass("dialects_nadam.json", 4);
    all_pass("dialects_novograd.json", 6);
    all_pass("dialects_radam.json", 5);
    all_pass("dialects_sgd.json", 6);
}

/// Runs that start from a state of another system.
#[test]
fn restored() {
    all_pass("restore_keras2.json", 45);
    all_pass("restore_keras3.json", 21);
    all_pass("restore_pytorch.json", 32);
}

#[test]
fn keras3() {
    all_pass("keras3.json", 23);
}

/// Runs of PyTorch and optax.
#[test]
fn groups() {
    all_pass("groups.json", 35);
}

#[test]
fn accumulation() {
    all_pass("accumulation.json", 16);
}

#[test]
fn loss_scale() {
    all_pass("loss_scale.json", 11);
}

/// On threads, shard for shard.
#[test]
fn dtensor_sgd() {
    all_pass("dtensor_sgd.json", 9);
}

/// A changed shard, and a changed place of a shard, are found.
#[test]
fn a_changed_shard_is_found() {
    let sharded = || match cases("dtensor_sgd.json").into_iter().find(|case| case.name() == "row_sharded") {
        Some(Case::Optimizer(case)) => *case,
        other => panic!("{other:?}"),
    };
    let fails = |case, what: &str| match replay(&Case::Optimizer(Box::new(case)), &registries()) {
        Verdict::Failed(reason) => assert!(reason.contains(what), "{reason}"),
        other => panic!("{what}: {other:?}"),
    };
    let mut shard = sharded();
    shard.shards.as_mut().unwrap().get_mut("kernel").unwrap()[2][3] += 1e-3;
    fails(shard, "rank 2: shard 2 of \"kernel\": element 3");
    let mut slot = sharded();
    slot.slot_shards.as_mut().unwrap().get_mut("bias").unwrap().get_mut("momentum").unwrap()[1][0] += 1e-3;
    fails(slot, "rank 1: shard 1 of slot \"momentum\" of \"bias\": element 0");
    let mut swapped = sharded();
    swapped.shards.as_mut().unwrap().get_mut("kernel").unwrap().swap(0, 1);
    fails(swapped, "rank 0: shard 0");
    let mut crowded = sharded();
    crowded.mesh = Some(vec![("x".to_owned(), 1 << 40), ("y".to_owned(), 1 << 40)]);
    fails(crowded, "at most 64 are replayed on threads");
    let mut whole = sharded();
    whole.steps[1].expect.variables[0][20] += 1e-3;
    fails(whole, "step 2: variable \"kernel\": element 20");
    let mut layout = sharded();
    layout.variables[1].layout = Some(vec![Some("pipeline".to_owned())]);
    fails(layout, "no dimension \"pipeline\"");
}

/// Checks the check: the replay finds every number that is changed a little.
#[test]
fn a_changed_number_is_found() {
    let everything = || match cases("sgd.json").into_iter().find(|case| case.name() == "everything") {
        Some(Case::Optimizer(case)) => *case,
        other => panic!("{other:?}"),
    };
    let fails = |change: &dyn Fn(&mut opt_conformance::golden::OptimizerCase), what: &str| {
        let mut case = everything();
        change(&mut case);
        match replay(&Case::Optimizer(Box::new(case)), &registries()) {
            Verdict::Failed(reason) => assert!(reason.contains(what), "{reason}"),
            other => panic!("{what}: {other:?}"),
        }
    };
    fails(&|case| case.steps[2].expect.variables[0][3] += 1e-6, "step 3: variable \"kernel\": element 3");
    fails(&|case| case.steps[2].expect.variables[0][3] = f64::NAN, "step 3: variable \"kernel\": element 3");
    fails(&|case| case.steps[5].expect.iterations = Some(7), "step 6: iterations");
    fails(&|case| case.steps[0].gradients.truncate(2), "step 1: 2 gradients");
    fails(&|case| case.weights.as_mut().unwrap().truncate(3), "weights: got 7");
    fails(&|case| case.weights.as_mut().unwrap()[1].shape.reverse(), "weight 1");
    fails(&|case| case.finalized.as_mut().unwrap()[1][0] += 1e-6, "finalized variable \"bias\": element 0");
    fails(&|case| case.optimizer["config"]["momentum"] = 0.5.into(), "step 1: variable \"kernel\"");
    fails(&|case| case.optimizer["class_name"] = "Adagrad".into(), "unknown class \"Adagrad\"");
    fails(&|case| case.dtype = "float16".into(), "float16");
    fails(
        &|case| {
            let slot = case.steps[1].expect.slots.get_mut("bias").unwrap().remove("momentum").unwrap();
            case.steps[1].expect.slots.get_mut("bias").unwrap().insert("moment".to_owned(), slot);
        },
        "unknown slot \"moment\"",
    );
}
