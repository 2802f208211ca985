//! What is timed: contestants of the other benchmarks, and the bytes that their steps move on a device.

use std::time::Instant;

use anyhow::Context;
use benches::contestants::{Builder, Contestant, contestants};
use benches::shapes::Shape;
use opt_core::state::DType;
use opt_gpu::{Device, GpuOptimizer};
use optimizers::UpdateRule;

use crate::ledger::Ledger;
use crate::weights::Weights;

/// The contestants of the other benchmarks that take part.
const NAMES: [&str; 9] =
    ["sgd", "momentum", "adam", "adamw", "nadam", "radam", "novograd", "lookahead-radam", "clip-adam"];

/// Those with moments, or with everything in 16 bits.
const NARROW: [&str; 3] = ["adamw-bf16", "adamw-half", "adamw-half-24"];

/// The contestant that gets a weight decay, and its name then.
const DECAYED: (&str, &str) = ("adam-ema", "adam-ema-decay");

/// A contestant on a device.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) name: &'static str,
    contestant: Contestant<f32>,
}

/// What a step moves, on average over a cycle of steps.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Traffic {
    /// Bytes for each parameter.
    pub(crate) bytes: f64,
    pub(crate) launches: f64,
}

/// An optimizer of any rule on a device.
pub(crate) type Boxed<D> = GpuOptimizer<Box<dyn UpdateRule<f32>>, D>;

/// All contestants, in the order of the table.
pub(crate) fn entries() -> anyhow::Result<Vec<Entry>> {
    let all = contestants::<f32>();
    let named = NAMES.map(|name| (name, name)).into_iter().chain([DECAYED]).chain(NARROW.map(|name| (name, name)));
    let entry = |(of, name)| {
        let contestant = *all.iter().find(|contestant| contestant.name == of).with_context(|| format!("no {of}"))?;
        Ok(Entry { name, contestant })
    };
    named.map(entry).collect()
}

impl Entry {
    fn builder(&self) -> Builder<f32> {
        let builder = self.contestant.builder();
        if self.name == DECAYED.1 { builder.weight_decay(0.01) } else { builder }
    }

    pub(crate) fn build_on<D: Device>(&self, device: &D) -> Result<Boxed<D>, opt_gpu::Error> {
        GpuOptimizer::new(self.builder().build()?, device)
    }

    /// The type of weights and gradients.
    pub(crate) fn dtype(&self) -> DType {
        if self.contestant.traffic.halves { DType::Bf16 } else { DType::F32 }
    }

    /// The number of steps in which each kind of step occurs.
    pub(crate) fn cycle(&self) -> usize {
        self.contestant.traffic.cycle()
    }

    /// An optimizer past its first steps, on a device that computes nothing.
    fn on_ledger(&self, ledger: &Ledger, weights: &Weights<Ledger>, warm_up: usize) -> anyhow::Result<Boxed<Ledger>> {
        let mut optimizer = self.build_on(ledger)?;
        for _ in 0..warm_up {
            optimizer.apply_gradients(weights.variables())?;
        }
        Ok(optimizer)
    }

    /// The seconds that a step takes on the host: the median of several cycles.
    pub(crate) fn host_seconds(&self, shape: &Shape, warm_up: usize) -> anyhow::Result<f64> {
        const CYCLES: usize = 15;
        let ledger = Ledger::default();
        let weights = Weights::zeros(&ledger, shape, self.dtype())?;
        let mut optimizer = self.on_ledger(&ledger, &weights, warm_up)?;
        let mut seconds = Vec::with_capacity(CYCLES);
        for _ in 0..CYCLES {
            let start = Instant::now();
            for _ in 0..self.cycle() {
                optimizer.apply_gradients(weights.variables())?;
            }
            seconds.push(start.elapsed().as_secs_f64() / self.cycle() as f64);
        }
        seconds.sort_by(f64::total_cmp);
        Ok(seconds[CYCLES / 2])
    }

    /// What a step moves, once a rule is past its first steps.
    pub(crate) fn traffic(&self, shape: &Shape, warm_up: usize) -> anyhow::Result<Traffic> {
        let ledger = Ledger::default();
        let weights = Weights::zeros(&ledger, shape, self.dtype())?;
        let mut optimizer = self.on_ledger(&ledger, &weights, warm_up)?;
        ledger.take();
        for _ in 0..self.cycle() {
            optimizer.apply_gradients(weights.variables())?;
        }
        let (moved, cycle) = (ledger.take(), self.cycle() as f64);
        let bytes = moved.bytes as f64 / (shape.params() as f64 * cycle);
        Ok(Traffic { bytes, launches: moved.launches as f64 / cycle })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::speed::WARM_UP;

    /// A large tensor: the gradient of a norm is never in a cache.
    #[test]
    fn steps_move_no_more_than_they_must() {
        let shape = Shape::single(10_000_000);
        for entry in entries().unwrap() {
            let Traffic { bytes, launches } = entry.traffic(&shape, WARM_UP).unwrap();
            let least = entry.contestant.traffic.min_bytes_per_param(&shape, 4);
            let is_least = (bytes - least).abs() < 1e-9;
            assert!(is_least, "{}: {bytes} bytes, the least is {least}", entry.name);
            let has_norm = ["novograd", "clip-adam"].contains(&entry.name);
            assert_eq!(launches, if has_norm { 2.0 } else { 1.0 }, "{}", entry.name);
        }
    }

    #[test]
    fn tensors_share_a_launch() {
        let adam = &entries().unwrap()[2];
        assert_eq!((adam.name, adam.cycle()), ("adam", 1));
        let traffic = adam.traffic(&Shape::many(100, 1_000), WARM_UP).unwrap();
        assert_eq!(traffic, Traffic { bytes: 28.0, launches: 1.0 });
    }
}
