//! The ways to store variables and state in the comparison, one line each.

use optimizers::schedules::CosineDecay;
use optimizers::{AdamW, DynOptimizer, Error, Lookahead, Master, MomentStorage, Optimizer};

use crate::training::Plan;

/// The type of a model's variables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Variables {
    F32,
    /// Variables and gradients in bfloat16.
    Bf16,
}

/// A name, the type of the variables, and the storage of moments and of masters, with a seed for their roundings.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Contestant {
    pub(crate) name: &'static str,
    pub(crate) variables: Variables,
    moments: fn(u64) -> MomentStorage,
    master: fn(u64) -> Master,
}

/// Add a line to add a contestant. The first one is the one that others are compared with.
pub(crate) const CONTESTANTS: [Contestant; 8] = [
    Contestant::new("f32", Variables::F32, in_full, full),
    Contestant::new("f32-moments-bf16", Variables::F32, in_16_bits, full),
    Contestant::new("f32-moments-float8", Variables::F32, in_8_bits, full),
    Contestant::new("bf16", Variables::Bf16, in_full, full),
    Contestant::new("bf16-moments-float8", Variables::Bf16, in_8_bits, full),
    Contestant::new("bf16-24-bits", Variables::Bf16, in_full, bits24),
    Contestant::new("bf16-24-bits-moments-float8", Variables::Bf16, in_8_bits, bits24),
    Contestant::new("bf16-alone", Variables::Bf16, in_full, none),
];

impl Contestant {
    const fn new(
        name: &'static str,
        variables: Variables,
        moments: fn(u64) -> MomentStorage,
        master: fn(u64) -> Master,
    ) -> Self {
        Self { name, variables, moments, master }
    }

    /// AdamW for a training with this plan.
    pub(crate) fn build(&self, plan: &Plan) -> Result<DynOptimizer, Error> {
        let Plan { steps, learning_rate, lookahead, seed, .. } = *plan;
        let rule = AdamW::pytorch(CosineDecay::with_warmup(0.0, learning_rate, steps / 10, steps));
        let builder =
            if lookahead { Optimizer::builder(Lookahead::new(rule)).boxed() } else { Optimizer::builder(rule).boxed() };
        builder.moments((self.moments)(seed)).master((self.master)(seed)).build()
    }
}

fn in_full(_seed: u64) -> MomentStorage {
    MomentStorage::Full
}

fn in_16_bits(seed: u64) -> MomentStorage {
    MomentStorage::Bf16 { seed }
}

fn in_8_bits(seed: u64) -> MomentStorage {
    MomentStorage::Float8 { seed }
}

fn full(_seed: u64) -> Master {
    Master::Full
}

fn bits24(seed: u64) -> Master {
    Master::Bits24 { seed }
}

fn none(seed: u64) -> Master {
    Master::None { seed }
}
