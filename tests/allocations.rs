//! After the first steps, what a step allocates does not grow with its variables, and gradients are never written.

mod tensors;

use std::alloc::System;

use optimizers::{Ema, Lookahead, MomentStorage, NovoGrad, Optimizer, OptimizerBuilder, Sgd, UpdateRule};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, Stats, StatsAlloc};
use tensors::Tensors;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const MILLION: usize = 1 << 20;

/// What may differ for more than one thread: rayon's queue of jobs grows now and then, by a block.
const QUEUE: (usize, usize) = (8, 4096);

/// Pieces that a tensor is cut into for each thread, at most; blocks and bytes that each of them takes, at most.
const PIECES: usize = 16;
const PIECE: (usize, usize) = (4, 1024);

type Rule = Box<dyn UpdateRule<f32>>;
type Options = fn(OptimizerBuilder<Rule, f32>) -> OptimizerBuilder<Rule, f32>;

/// A name, a rule, and what the engine does around it.
type Setting = (&'static str, fn() -> Rule, Options);

/// What two steps allocate after four others; in the second one, Lookahead syncs.
fn allocated(builder: OptimizerBuilder<Rule, f32>, threads: usize, size: usize) -> [Stats; 2] {
    let mut opt = builder.threads(threads).build().unwrap();
    let (mut tensors, gradients) = (Tensors::new(&[size], 1), Tensors::new(&[size], 2));
    let untouched = gradients.clone();
    let mut step = || {
        let before = Region::new(&INSTRUMENTED_SYSTEM);
        opt.apply_gradients(tensors.with(&gradients)).unwrap();
        before.change()
    };
    let [_, _, _, _, fifth, sixth] = [(); 6].map(|()| step());
    let same = gradients.values[0].iter().zip(&untouched.values[0]).all(|(a, b)| a.to_bits() == b.to_bits());
    assert!(same, "a gradient was written");
    [fifth, sixth]
}

/// Fails if the steps differ by more than so many blocks and bytes.
#[track_caller]
fn assert_alike(what: &str, small: &[Stats; 2], large: &[Stats; 2], (blocks, bytes): (usize, usize)) {
    for (small, large) in small.iter().zip(large) {
        let alike = large.allocations.abs_diff(small.allocations) <= blocks
            && large.reallocations.abs_diff(small.reallocations) <= blocks
            && large.bytes_allocated.abs_diff(small.bytes_allocated) <= bytes;
        assert!(alike, "{what}: {small:?}, then {large:?}");
    }
}

/// One test, so that nobody else allocates.
#[test]
fn steps_allocate_the_same_for_any_size() {
    let momentum: fn() -> Rule = || Box::new(Sgd::new(0.1).momentum(0.5));
    let novograd: fn() -> Rule = || Box::new(NovoGrad::new(0.1));
    let lookahead: fn() -> Rule = || Box::new(Lookahead::new(Sgd::new(0.1).momentum(0.5)).sync_period(2));
    let settings: [Setting; 8] = [
        ("momentum", momentum, |builder| builder),
        ("global clip", momentum, |builder| builder.global_clipnorm(0.5)),
        ("clipnorm", momentum, |builder| builder.clipnorm(0.5)),
        ("ema", momentum, |builder| builder.ema(Ema::new(0.75))),
        ("bf16", momentum, |builder| builder.moments(MomentStorage::Bf16 { seed: 1 })),
        ("novograd", novograd, |builder| builder),
        ("lookahead", lookahead, |builder| builder),
        ("everything", lookahead, |builder| {
            builder.global_clipnorm(0.5).weight_decay(0.1).ema(Ema::new(0.75)).moments(MomentStorage::Bf16 { seed: 1 })
        }),
    ];
    for (name, rule, options) in settings {
        let run = |threads, size| allocated(options(Optimizer::new(rule())), threads, size);
        let large = run(1, 8 * MILLION);
        assert_alike(name, &run(1, MILLION), &large, (0, 0));
        // The most that any size takes.
        assert_alike(name, &[Stats::default(); 2], &large, (PIECES * PIECE.0, PIECES * PIECE.1));

        let large = run(2, 8 * MILLION);
        // As many pieces, then half of them.
        assert_alike(name, &run(2, 4 * MILLION), &large, QUEUE);
        assert_alike(name, &run(2, MILLION), &large, (PIECES * PIECE.0, PIECES * PIECE.1));
    }
}
