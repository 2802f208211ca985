//! A training: the loop, its checkpoints, its times.

use std::error::Error;
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use burn_core::module::Module;
use burn_core::tensor::Device;
use burn_optim::GradientsParams;
use indicatif::{ProgressBar, ProgressStyle};
use opt_burn::ModuleValues;
use opt_checkpoint::{CheckpointDir, SaveOptions};
use optimizers::Gradients;

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

/// Trains a network.
pub(crate) fn train(choice: Choice, settings: &Settings) -> Result<Run, Box<dyn Error>> {
    let device = Device::flex().autodiff();
    device.seed(settings.seed);
    let digits = Digits::load();
    let steps_an_epoch = (digits.training.len() / settings.batch) as u64;
    let mut optim = choice.make(settings.learning_rate, steps_an_epoch * settings.epochs)?;
    let mut model = Network::new(&device);
    let (mut losses, mut time): (Vec<f64>, _) = (Vec::new(), Time::default());
    let folder = settings.out.join(choice.name());
    fs::create_dir_all(&folder)?;
    let mut checkpoints = CheckpointDir::create(&folder)?;
    let bar = progress_bar(&choice, settings.epochs * steps_an_epoch);
    if let Optim::Ours(optim) = &mut optim {
        let resumed = optim.resume(&checkpoints, model)?;
        model = resumed.module;
        if let Some(checkpoint) = resumed.checkpoint {
            losses = serde_json::from_value(checkpoint.loaded.extra)?;
            bar.suspend(|| eprintln!("{}: resumed after epoch {}", choice.name(), losses.len()));
        }
    }
    for epoch in losses.len() as u64..settings.epochs {
        let started = Instant::now();
        let mut sum = 0.0;
        let batches = digits.batches(settings.batch, settings.seed, epoch, &device);
        bar.set_position(epoch * steps_an_epoch);
        for (step, batch) in (epoch * steps_an_epoch..).zip(batches) {
            let loss = model.loss(batch);
            sum += f64::from(loss.clone().into_scalar::<f32>());
            let grads = GradientsParams::from_grads(loss.backward(), &model);
            let begun = Instant::now();
            model = optim.step(step, model, grads)?;
            time.steps.push(begun.elapsed());
            bar.inc(1);
        }
        time.training += started.elapsed();
        time.images += steps_an_epoch as usize * settings.batch;
        losses.push(sum / steps_an_epoch as f64);
        bar.set_message(format!("loss {:.5}", losses.last().unwrap_or(&f64::NAN)));
        if let Optim::Ours(optim) = &optim {
            let options = SaveOptions::new().extra(serde_json::to_value(&losses)?);
            optim.save_with(options, &mut checkpoints, &model)?;
        }
    }
    bar.finish_and_clear();
    let test = batch(digits.test.iter(), &device.inner());
    let averaged = match &optim {
        Optim::Ours(optim) => Some(optim.averaged(&model)?.valid().correct(test.clone())),
        Optim::Burns(..) => None,
    };
    let (name, fingerprint) = (choice.name(), fingerprint(&ModuleValues::read(&model)?));
    let correct = model.valid().correct(test);
    Ok(Run { name, losses, correct, averaged, fingerprint, time })
}

fn progress_bar(choice: &Choice, steps: u64) -> ProgressBar {
    const TEMPLATE: &str = "{prefix:12} [{wide_bar}] {pos}/{len} steps, {eta} left, {msg:14}";
    let style = ProgressStyle::with_template(TEMPLATE).expect("the template is valid").progress_chars("=> ");
    ProgressBar::new(steps).with_style(style).with_prefix(choice.name())
}

/// FNV-1a over the bits of all weights.
fn fingerprint(values: &ModuleValues) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for (_, gradient) in values.gradients() {
        let optimizers::Gradient::Dense(view) = gradient else { continue };
        for number in view.array().iter().flatten() {
            hash = (hash ^ u64::from(number.to_bits())).wrapping_mul(0x0100_0000_01b3);
        }
    }
    hash
}
