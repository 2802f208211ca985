//! The first weights of a model, and a fingerprint of its weights.

use candle_core::{Tensor, Var};
use candle_nn::VarMap;

use super::{Random, Result};

/// Draws the weights of a model anew, from a seed.
///
/// Arrays of two or more axes get numbers of variance `1 / inputs`, biases get 0; other variables, such as the scales
/// of norms, keep what candle gave them.
pub(crate) fn draw_weights(varmap: &VarMap, seed: u64) -> Result<()> {
    let mut random = Random::new(seed);
    for (name, var) in sorted(varmap) {
        if let [_, inputs @ ..] = var.dims()
            && !inputs.is_empty()
        {
            let limit = (3.0 / inputs.iter().product::<usize>() as f32).sqrt();
            let numbers: Vec<f32> = (0..var.elem_count()).map(|_| limit * (2.0 * random.unit() - 1.0)).collect();
            var.set(&Tensor::from_vec(numbers, var.shape(), var.device())?)?;
        } else if name.ends_with("bias") {
            var.set(&var.zeros_like()?)?;
        }
    }
    Ok(())
}

/// A number that changes with any bit of the weights (FNV-1a).
pub(crate) fn fingerprint(varmap: &VarMap) -> Result<u64> {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for (_, var) in sorted(varmap) {
        for number in var.flatten_all()?.to_vec1::<f32>()? {
            hash = (hash ^ u64::from(number.to_bits())).wrapping_mul(0x0100_0000_01b3);
        }
    }
    Ok(hash)
}

/// The variables in the order of their names: a map has another order in each process.
fn sorted(varmap: &VarMap) -> Vec<(String, Var)> {
    let map = varmap.data().lock().expect("nothing panics while the map is locked");
    let mut vars: Vec<_> = map.iter().map(|(name, var)| (name.clone(), var.clone())).collect();
    vars.sort_by(|(a, _), (b, _)| a.cmp(b));
    vars
}
