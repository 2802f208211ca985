//! After the first steps, a step allocates a few kilobytes, whatever the size of its variables, and never writes
//! gradients.

use std::alloc::System;

use opt_conformance::tensors::Tensors;
use optimizers::{Ema, Lookahead, MomentStorage, NovoGrad, Optimizer, OptimizerBuilder, Sgd, UpdateRule};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, Stats, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const MILLION: usize = 1 << 20;

/// The allowed difference with more than one thread: rayon's queue of jobs sometimes grows by a block.
const QUEUE: (usize, usize) = (8, 4096);

/// The largest number of additional slices for each thread if a tensor has twice the size: each slice is a quarter of a
/// thread's share of the rest, down to the smallest size that is worth a slice.
const MORE_PIECES: usize = 3;

/// The most blocks and bytes that a slice takes.
const PIECE: (usize, usize) = (2, 512);

/// The most blocks and bytes that everything else takes.
const ALL_ELSE: (usize, usize) = (64, 16_384);

type Rule = Box<dyn UpdateRule<f32>>;
type Options = fn(OptimizerBuilder<Rule, f32>) -> OptimizerBuilder<Rule, f32>;

/// A name, a rule, and the options of the engine.
type Setting = (&'static str, fn() -> Rule, Options);

/// The allocations of two steps after four others; in the second one, Lookahead synchronises.
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

/// Fails if the steps differ by more than the given numbers of blocks and bytes.
#[track_caller]
fn assert_alike(what: &str, small: &[Stats; 2], large: &[Stats; 2], (blocks, bytes): (usize, usize)) {
    for (small, large) in small.iter().zip(large) {
        let alike = large.allocations.abs_diff(small.allocations) <= blocks
            && large.reallocations.abs_diff(small.reallocations) <= blocks
            && large.bytes_allocated.abs_diff(small.bytes_allocated) <= bytes;
        assert!(alike, "{what}: {small:?}, then {large:?}");
    }
}

/// A single test, so that no other test allocates at the same time.
#[test]
fn steps_allocate_next_to_nothing_for_any_size() {
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
        for (threads, queue) in [(1, (0, 0)), (2, QUEUE)] {
            let [small, large] =
                [1, 8].map(|size| allocated(options(Optimizer::builder(rule())), threads, size * MILLION));
            // Three times twice the size: the number of slices grows with the logarithm of the size.
            let pieces = 3 * MORE_PIECES * threads;
            assert_alike(name, &small, &large, (pieces * PIECE.0 + queue.0, pieces * PIECE.1 + queue.1));
            assert_alike(name, &[Stats::default(); 2], &small, ALL_ELSE);
        }
    }
}
