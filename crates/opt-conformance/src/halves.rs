//! Recorded steps of variables in 16 bits, and the types in which recorded arrays are stored.

use half::{bf16, f16};
use opt_core::model::Half;
use opt_core::state::DType;
use opt_core::trace::{Array, Graph, Narrow, Node, Operation, RecordedVariable};
use opt_core::{Ema, Gradient, Master, MomentStorage, Optimizer, Variable};
use optimizers::Adam;

/// How masters are stored.
pub const MASTERS: [Master; 3] = [Master::Full, Master::Bits24 { seed: 3 }, Master::None { seed: 3 }];

/// How moments are stored, but for those in 8 bits.
pub const MOMENTS: [MomentStorage; 2] = [MomentStorage::Full, MomentStorage::Bf16 { seed: 5 }];

/// Steps of variables in both types, with each storage of masters and moments, with dense and with sparse gradients.
///
/// # Panics
///
/// If they cannot be recorded.
#[must_use]
pub fn recorded_halves() -> Vec<(String, RecordedVariable)> {
    let mut steps = Vec::new();
    for (master, moments) in MASTERS.into_iter().flat_map(|master| MOMENTS.map(|moments| (master, moments))) {
        for is_sparse in [false, true] {
            let of =
                [record([bf16::ONE; 8], master, moments, is_sparse), record([f16::ONE; 8], master, moments, is_sparse)];
            steps.extend(
                of.into_iter().zip(["bf16", "f16"]).map(|(recorded, dtype)| {
                    (format!("{dtype}, {master:?}, {moments:?}, sparse: {is_sparse}"), recorded)
                }),
            );
        }
    }
    steps
}

fn record<H: Half>(mut w: [H; 8], master: Master, moments: MomentStorage, is_sparse: bool) -> RecordedVariable {
    let builder = Optimizer::<_, f32>::builder(Adam::new(0.125)).master(master).moments(moments);
    let mut optimizer = builder.weight_decay(0.0625).ema(Ema::new(0.75)).build().expect("the options are valid");
    let variable = Variable::half("w", (&mut w[..], &[4, 2][..]));
    let variable = match is_sparse {
        false => variable.gradient((&[0.5_f32; 8][..], &[4, 2][..])),
        true => variable.gradient(Gradient::sparse(&[2_usize, 0], (&[0.5_f32; 4][..], &[2, 2][..]))),
    };
    optimizer.record([variable]).expect("it can be recorded").remove(0)
}

/// The type in which an array of a graph is stored, as far as one sees it: from how it is rounded.
#[must_use]
pub fn stored_in(graph: &Graph, array: Array) -> DType {
    let node = graph.stores.iter().find(|(stored, _)| *stored == array).map(|(_, node)| graph.nodes[*node as usize]);
    match node {
        Some(Node::Binary(Operation::Bf16(Narrow::Correction) | Operation::F16(Narrow::Correction), ..)) => DType::I8,
        Some(Node::Binary(Operation::Moment | Operation::Bf16(Narrow::Nearest | Narrow::Part | Narrow::Alone), ..)) => {
            DType::Bf16
        }
        Some(Node::Binary(Operation::F16(Narrow::Nearest | Narrow::Part | Narrow::Alone), ..)) => DType::F16,
        _ => graph.dtype,
    }
}
