//! A training: the loop, its checkpoints, its times.

use std::error::Error;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use burn_core::module::Module;
use burn_core::tensor::Device;
use burn_optim::GradientsParams;
use indicatif::{ProgressBar, ProgressStyle};
use opt_burn::ModuleValues;
use opt_checkpoint::{CheckpointDir, SaveOptions};
use optimizers::{Gradient, Gradients};

use crate::data::{Digits, batch};
use crate::model::Network;
use crate::optim::{Choice, Optim};

/// The settings of all trainings.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) epochs: u64,
    pub(crate) batch: usize,
    pub(crate) learning_rate: f64,
    pub(crate) seed: u64,
    pub(crate) out: PathBuf,
}

/// A training that has ended.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) name: String,
    /// The mean training loss of each epoch.
    pub(crate) losses: Vec<f64>,
    /// The part of the test images whose digit is recognised.
    pub(crate) correct: f64,
    /// The same with averaged weights.
    pub(crate) averaged: Option<f64>,
    /// A number that differs if a bit of the weights does.
    pub(crate) fingerprint: u64,
    time: Time,
}

/// The time that this process has spent; resumed trainings have spent more.
#[derive(Debug, Default)]
struct Time {
    training: Duration,
    steps: Vec<Duration>,
    images: usize,
}

impl Run {
    /// `None`, if the training had ended before.
    pub(crate) fn images_a_second(&self) -> Option<f64> {
        (self.time.images > 0).then(|| self.time.images as f64 / self.time.training.as_secs_f64())
    }

    /// The median time of the optimizer's step.
    pub(crate) fn step_microseconds(&self) -> Option<f64> {
        let mut steps = self.time.steps.clone();
        steps.sort();
        steps.get(steps.len() / 2).map(|step| step.as_secs_f64() * 1e6)
    }
}

/// A training in progress.
struct Training<'s> {
    settings: &'s Settings,
    name: String,
    device: Device,
    digits: Digits,
    optim: Optim,
    checkpoints: CheckpointDir,
    losses: Vec<f64>,
    time: Time,
    bar: ProgressBar,
}

/// Trains a network, from its newest checkpoint on if there is one.
pub(crate) fn train(choice: Choice, settings: &Settings) -> Result<Run, Box<dyn Error>> {
    let (mut training, mut model) = Training::start(choice, settings)?;
    for epoch in training.losses.len() as u64..settings.epochs {
        model = training.epoch(epoch, model)?;
        training.save(&model)?;
    }
    training.bar.finish_and_clear();
    training.evaluate(&model)
}

impl<'s> Training<'s> {
    fn start(choice: Choice, settings: &'s Settings) -> Result<(Self, Network), Box<dyn Error>> {
        let device = Device::flex().autodiff();
        device.seed(settings.seed);
        let (digits, model) = (Digits::load(), Network::new(&device));
        let steps = settings.epochs * (digits.training.len() / settings.batch) as u64;
        let optim = choice.make(settings.learning_rate, steps)?;
        let checkpoints = CheckpointDir::create(settings.out.join(choice.name()))?;
        let bar = progress_bar(choice, steps);
        let (losses, time, name) = (Vec::new(), Time::default(), choice.name());
        let mut training = Self { settings, name, device, digits, optim, checkpoints, losses, time, bar };
        let model = training.resume(model)?;
        Ok((training, model))
    }

    fn resume(&mut self, model: Network) -> Result<Network, Box<dyn Error>> {
        let Optim::Ours(optim) = &mut self.optim else { return Ok(model) };
        let resumed = optim.resume(&self.checkpoints, model)?;
        if let Some(checkpoint) = resumed.checkpoint {
            self.losses = serde_json::from_value(checkpoint.loaded.extra)?;
            self.bar.suspend(|| eprintln!("{}: resumed after epoch {}", self.name, self.losses.len()));
        }
        Ok(resumed.module)
    }

    fn epoch(&mut self, epoch: u64, mut model: Network) -> Result<Network, Box<dyn Error>> {
        let started = Instant::now();
        let batches = self.digits.batches(self.settings.batch, self.settings.seed, epoch, &self.device);
        let (count, mut sum) = (batches.len() as u64, 0.0);
        self.bar.set_position(epoch * count);
        for (step, batch) in (epoch * count..).zip(batches) {
            let loss = model.loss(batch);
            sum += f64::from(loss.clone().into_scalar::<f32>());
            let grads = GradientsParams::from_grads(loss.backward(), &model);
            let begun = Instant::now();
            model = self.optim.step(step, model, grads)?;
            self.time.steps.push(begun.elapsed());
            self.bar.inc(1);
        }
        self.time.training += started.elapsed();
        self.time.images += count as usize * self.settings.batch;
        self.losses.push(sum / count as f64);
        self.bar.set_message(format!("loss {:.5}", sum / count as f64));
        Ok(model)
    }

    /// Saves the training, and its losses with it.
    fn save(&mut self, model: &Network) -> Result<(), Box<dyn Error>> {
        if let Optim::Ours(optim) = &self.optim {
            let options = SaveOptions::new().extra(serde_json::to_value(&self.losses)?);
            optim.save_with(options, &mut self.checkpoints, model)?;
        }
        Ok(())
    }

    fn evaluate(self, model: &Network) -> Result<Run, Box<dyn Error>> {
        let test = batch(self.digits.test.iter(), &self.device.inner());
        let averaged = match &self.optim {
            Optim::Ours(optim) => Some(optim.averaged(model)?.valid().correct(test.clone())),
            Optim::Burns(..) => None,
        };
        let fingerprint = fingerprint(&ModuleValues::read(model)?);
        let correct = model.valid().correct(test);
        Ok(Run { name: self.name, losses: self.losses, correct, averaged, fingerprint, time: self.time })
    }
}

fn progress_bar(choice: Choice, steps: u64) -> ProgressBar {
    const TEMPLATE: &str = "{prefix:12} [{wide_bar}] {pos}/{len} steps, {eta} left, {msg:14}";
    let style = ProgressStyle::with_template(TEMPLATE).expect("the template is valid").progress_chars("=> ");
    ProgressBar::new(steps).with_style(style).with_prefix(choice.name())
}

/// FNV-1a over the bits of all weights.
fn fingerprint(values: &ModuleValues) -> u64 {
    let dense = values.gradients().into_iter().filter_map(|(_, gradient)| match gradient {
        Gradient::Dense(view) => Some(view.array()?.iter().map(|number| number.to_bits()).collect::<Vec<_>>()),
        Gradient::Sparse { .. } => None,
    });
    dense
        .flatten()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, bits| (hash ^ u64::from(bits)).wrapping_mul(0x0100_0000_01b3))
}
