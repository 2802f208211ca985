//! The time of an optimizer's step, ours and candle's own, with the same gradients.

use std::time::{Duration, Instant};

use candle_core::Var;
use candle_core::backprop::GradStore;
use candle_nn::{Optimizer, VarMap};

use super::Result;
use super::trained::{ours, plain, schedule};

const ROUNDS: usize = 30;

/// The median time of a step of ours (with clipping and averages) and of candle's AdamW, which take turns on a copy of
/// the model.
pub(crate) fn compare(varmap: &VarMap, grads: &GradStore) -> Result<(Duration, Duration)> {
    let (copy, grads) = copied(varmap, grads)?;
    let mut ours = ours(&copy, schedule(1e-6, 1000))?;
    let mut plain = plain(&copy, 1e-6)?;
    let mut times = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        times.0.push(time(&mut ours, &grads)?);
        times.1.push(time(&mut plain, &grads)?);
    }
    Ok((median(&mut times.0), median(&mut times.1)))
}

fn time(optimizer: &mut impl Optimizer, grads: &GradStore) -> Result<Duration> {
    let start = Instant::now();
    optimizer.step(grads)?;
    Ok(start.elapsed())
}

/// The model with variables of its own, and the gradients of these.
fn copied(varmap: &VarMap, grads: &GradStore) -> Result<(VarMap, GradStore)> {
    let (copy, mut copied) = (VarMap::new(), GradStore::default());
    for (name, var) in &*varmap.data().lock().expect("nothing panics while the map is locked") {
        let new = Var::from_tensor(&var.as_detached_tensor())?;
        if let Some(grad) = grads.get(var) {
            copied.insert(&new, grad.clone());
        }
        copy.data().lock().expect("nobody else has it").insert(name.clone(), new);
    }
    Ok((copy, copied))
}

pub(crate) fn median(times: &mut [Duration]) -> Duration {
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}
