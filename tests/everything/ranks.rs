//! Ranks as threads, each with gradients of its own: replicas, with whole or sharded state.

use std::io::Cursor;

use opt_conformance::problem::{Gradient, Rng};
use optimizers::checkpoint::{Checkpoint, SaveOptions};
use optimizers::mesh::{Distributed, Mesh};
use optimizers::{Accumulate, Ema, Group, LossScale, MomentStorage, Nadam, Optimizer, Outcome};

use super::alone::{Bits, Run, call};
use super::oracle::Done;
use super::script::{FROZEN, HEAD, Rule, Script, VARIABLES, cast, named, with};

/// An optimizer of a rank; with `shards`, the ranks divide the state among themselves.
fn optimizer(script: &Script, mesh: &Mesh, shards: bool) -> Optimizer<Rule, f64> {
    let distributed = Distributed::new(mesh).mean_gradients_over(["batch"]).bucket_bytes(100);
    let distributed = if shards { distributed.shard_state_over("batch") } else { distributed };
    script.builder().distributed(distributed.build().unwrap()).build().unwrap()
}

/// A new optimizer with the state of another one.
fn resumed(script: &Script, mesh: &Mesh, shards: bool, run: &mut Run<Rule, f64>) -> Optimizer<Rule, f64> {
    let mut next = optimizer(script, mesh, shards);
    let names: Vec<String> = run.opt.variables().map(|(name, _)| name.to_owned()).collect();
    let (is_frozen, rate) = (run.opt.groups()[1].frozen, run.opt.groups()[3].learning_rate);
    let mut variables = named(&mut run.values);
    variables.retain(|variable| names.iter().any(|name| name == variable.name()));
    variables.sort_by_key(|variable| names.iter().position(|name| name == variable.name()));
    next.unfreeze(FROZEN).unwrap();
    if !variables.is_empty() {
        next.add_variables(&mut variables).unwrap();
    }
    next.set_weights(run.opt.weights()).unwrap();
    next.set_group_learning_rate(HEAD, rate).unwrap();
    if is_frozen {
        next.freeze(FROZEN).unwrap();
    }
    next
}

/// The training on ranks, compared with the oracle after each call; returns each rank's values.
fn train(seed: u64, ranks: usize, shards: bool, resumes: bool) -> Vec<Vec<Bits>> {
    let script = Script::new(seed);
    let of_ranks: Vec<Script> = (0..ranks as u64).map(|rank| script.of_rank(rank)).collect();
    let ends = Mesh::threads(&[("batch", ranks)], |mesh| {
        let rank = mesh.coordinates()[0];
        let own = &of_ranks[rank];
        let mut run = Run { opt: optimizer(&script, mesh, shards), values: script.start() };
        let mut oracle = script.oracle();
        let mut trace = Vec::new();
        for number in 0..own.calls.len() {
            if resumes {
                run.opt = resumed(&script, mesh, shards, &mut run);
            }
            let context = format!("seed {seed}, call {number}, rank {rank} of {ranks}, shards {shards}");
            let done = match run.call(own, number) {
                Outcome::Accumulated { .. } => Done::Added,
                Outcome::Applied => Done::Stepped,
                _ => Done::Overflowed,
            };
            assert_eq!(done, call(&mut oracle, &of_ranks, number), "{context}");
            if shards {
                run.compare_values(&oracle, 1e-13, &context);
            } else {
                run.compare(&oracle, 1e-13, &context);
            }
            trace.push(run.bits());
        }
        trace
    });
    ends.unwrap()
}

/// What all ranks have: everything but sums of their own gradients, and but shards of the state.
fn common(bits: &Bits, shards: bool) -> Bits {
    let is_common = |name: &str| {
        let of_rank = name.ends_with("/accumulator") || name.ends_with("/accumulated");
        !of_rank && (!shards || VARIABLES.iter().any(|(variable, _)| *variable == name))
    };
    bits.iter().filter(|(name, _)| is_common(name)).cloned().collect()
}

fn ranks_agree(shards: bool) {
    for ranks in [2, 4] {
        for seed in 0..6 {
            let through = train(seed, ranks, shards, false);
            for rank in &through {
                for (of_rank, of_first) in rank.iter().zip(&through[0]) {
                    assert_eq!(common(of_rank, shards), common(of_first, shards), "seed {seed} on {ranks} ranks");
                }
            }
            assert!(train(seed, ranks, shards, true) == through, "resumed, seed {seed} on {ranks} ranks");
        }
    }
}

#[test]
fn replicas() {
    ranks_agree(false);
}

#[test]
fn sharded_state() {
    ranks_agree(true);
}

/// Gradients that are the same on all ranks need no sum, but the state is sharded.
#[test]
fn sharded_state_with_the_same_gradients() {
    for seed in 0..4 {
        let script = Script::new(seed);
        let ends = Mesh::threads(&[("batch", 2)], |mesh| {
            let distributed = Distributed::new(mesh).same_gradients_over(["batch"]).shard_state_over("batch");
            let builder = script.builder::<f64>().distributed(distributed.build().unwrap());
            let mut run = Run { opt: builder.build().unwrap(), values: script.start() };
            let mut oracle = script.oracle();
            for number in 0..script.calls.len() {
                run.call(&script, number);
                call(&mut oracle, std::slice::from_ref(&script), number);
                run.compare_values(&oracle, 1e-13, &format!("seed {seed}, call {number}"));
            }
            run.values
        });
        let ends = ends.unwrap();
        assert!(ends[0] == ends[1], "seed {seed}");
    }
}

/// Buckets that are summed while others are applied: the same bits, also of rules with a number for all variables.
#[test]
fn overlap_changes_no_bit() {
    let run = |overlaps: bool| {
        let ends = Mesh::threads(&[("batch", 2)], |mesh| {
            let distributed = Distributed::new(mesh).mean_gradients_over(["batch"]).bucket_bytes(100).overlap(overlaps);
            let mut opt = Optimizer::builder(Nadam::new(0.125))
                .group(Group::matching(HEAD).rule(Nadam::new(0.25).beta_1(0.5)))
                .group(Group::matching("bias$").learning_rate_scale(0.5))
                .weight_decay(0.25)
                .ema(Ema::new(0.5))
                .accumulate(Accumulate::mean(3))
                .loss_scale(LossScale::fixed(4.0))
                .distributed(distributed.build().unwrap())
                .build()
                .unwrap();
            let script = Script::new(0);
            let mut values = script.start::<f64>();
            let mut rng = Rng(40 + mesh.coordinates()[0] as u64);
            for _ in 0..10 {
                let dense = VARIABLES.map(|(_, shape)| Gradient::Dense(rng.array(shape)));
                let gradients = cast(&dense);
                opt.apply_gradients(with(&mut values, &gradients)).unwrap();
            }
            assert_eq!((opt.iterations(), opt.micro_step()), (3, 1));
            (values, opt.weights())
        });
        ends.unwrap()
    };
    let (plain, overlapped) = (run(false), run(true));
    assert!(plain == overlapped);
    assert!(plain[0].0 == plain[1].0, "the ranks agree");
}

/// Whoever loads a file on several ranks must not take the sum of one process on each of them.
#[test]
fn ranks_load_no_accumulated_gradients() {
    let script = Script::new(1);
    let mut alone = Run::<_, f64>::new(&script, 1, MomentStorage::Full);
    alone.call(&script, 0);
    assert_eq!(alone.opt.micro_step(), 1);
    let mut file = Cursor::new(Vec::new());
    SaveOptions::new().write(&mut file, &alone.opt, &named(&mut alone.values)).unwrap();
    let bytes = file.into_inner();
    let errors = Mesh::threads(&[("batch", 2)], |mesh| {
        let mut run = Run { opt: optimizer(&script, mesh, false), values: script.start() };
        let before = run.bits();
        let file = Checkpoint::from_bytes(bytes.clone()).unwrap();
        let error = file.load(&mut run.opt, &mut named(&mut run.values)).unwrap_err();
        assert_eq!(run.bits(), before);
        error.to_string()
    });
    for error in errors.unwrap() {
        assert!(error.contains("1 micro-steps wait to be applied"), "{error}");
    }
}
