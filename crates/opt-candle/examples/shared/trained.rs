//! Optimizers as these programs use them: candle's trait, and what it does not have.

use candle_nn::{AdamW, Optimizer as _, ParamsAdamW, VarMap};
use opt_candle::CandleOptimizer;
use optimizers::checkpoint::{CheckpointDir, SaveOptions};
use optimizers::schedules::{CosineDecay, LinearWarmup};
use optimizers::{Ema, Optimizer};
use serde_json::Value;

use super::Result;

const WEIGHT_DECAY: f64 = 0.01;

/// Ours: cosine schedule with warmup, clipping by the global norm, averages.
pub(crate) fn ours(varmap: &VarMap, schedule: LinearWarmup) -> Result<CandleOptimizer<optimizers::AdamW>> {
    let builder = Optimizer::builder(optimizers::AdamW::pytorch(schedule)).global_clipnorm(1.0).ema(Ema::new(0.99));
    Ok(CandleOptimizer::from_varmap(varmap, builder)?)
}

/// candle's own.
pub(crate) fn plain(varmap: &VarMap, lr: f64) -> Result<AdamW> {
    Ok(AdamW::new(varmap.all_vars(), ParamsAdamW { lr, weight_decay: WEIGHT_DECAY, ..ParamsAdamW::default() })?)
}

/// Rises for a tenth of the steps, then falls to 0 as a cosine.
pub(crate) fn schedule(rate: f64, steps: u64) -> LinearWarmup {
    let warmup = (steps / 10).max(1);
    LinearWarmup::new(CosineDecay::new(rate, (steps - steps.min(warmup)).max(1)), warmup).start_value(rate / 100.0)
}

/// An optimizer of candle, with averages and checkpoints if it has some.
pub(crate) trait Trained: candle_nn::Optimizer {
    /// Called before each step with the rate of the schedule, for those that have no schedule.
    fn set_rate(&mut self, rate: f64);

    /// Evaluates the averages of the model.
    fn averaged<X>(&mut self, evaluate: impl FnOnce() -> Result<X>) -> Result<X>;

    /// Saves variables, state and what else the training needs.
    fn save(&mut self, folder: &mut CheckpointDir, extra: Value) -> Result<()>;

    /// Resumes from the last checkpoint, if there is one.
    fn resume(&mut self, folder: &CheckpointDir) -> Result<Option<Value>>;
}

impl Trained for CandleOptimizer<optimizers::AdamW> {
    fn set_rate(&mut self, _: f64) {}

    fn averaged<X>(&mut self, evaluate: impl FnOnce() -> Result<X>) -> Result<X> {
        let _averages = self.averages()?;
        evaluate()
    }

    fn save(&mut self, folder: &mut CheckpointDir, extra: Value) -> Result<()> {
        self.save_in(folder, SaveOptions::new().extra(extra))?;
        Ok(())
    }

    fn resume(&mut self, folder: &CheckpointDir) -> Result<Option<Value>> {
        Ok(self.resume_latest(folder)?.map(|resumed| resumed.loaded.extra))
    }
}

impl Trained for AdamW {
    fn set_rate(&mut self, rate: f64) {
        self.set_learning_rate(rate);
    }

    fn averaged<X>(&mut self, evaluate: impl FnOnce() -> Result<X>) -> Result<X> {
        evaluate()
    }

    fn save(&mut self, _: &mut CheckpointDir, _: Value) -> Result<()> {
        Ok(())
    }

    fn resume(&mut self, _: &CheckpointDir) -> Result<Option<Value>> {
        Ok(None)
    }
}
