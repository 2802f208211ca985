//! The ways to store variables and state in the comparison, one line each.

use optimizers::schedules::CosineDecay;
use optimizers::{AdamW, DynOptimizer, Error, Lookahead, MomentStorage, Optimizer};

use crate::training::Plan;

/// The type of a model's variables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Variables {
    F32,
    /// Variables and gradients in bfloat16; the optimizer keeps masters.
    Bf16,
}

/// A name, the type of the variables, and the storage of the moments with a seed for their roundings.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Contestant {
    pub(crate) name: &'static str,
    pub(crate) variables: Variables,
    moments: fn(u64) -> MomentStorage,
}

/// Add a line to add a contestant. The first one is the one that others are compared with.
pub(crate) const CONTESTANTS: [Contestant; 5] = [
    Contestant { name: "f32", variables: Variables::F32, moments: in_full },
    Contestant { name: "f32-moments-bf16", variables: Variables::F32, moments: in_16_bits },
    Contestant { name: "f32-moments-float8", variables: Variables::F32, moments: in_8_bits },
    Contestant { name: "bf16", variables: Variables::Bf16, moments: in_full },
    Contestant { name: "bf16-moments-float8", variables: Variables::Bf16, moments: in_8_bits },
];

impl Contestant {
    /// AdamW for a training with this plan.
    pub(crate) fn build(&self, plan: &Plan) -> Result<DynOptimizer, Error> {
        let Plan { steps, learning_rate, lookahead, seed, .. } = *plan;
        let rule = AdamW::pytorch(CosineDecay::with_warmup(0.0, learning_rate, steps / 10, steps));
        let builder =
            if lookahead { Optimizer::builder(Lookahead::new(rule)).boxed() } else { Optimizer::builder(rule).boxed() };
        builder.moments((self.moments)(seed)).build()
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
