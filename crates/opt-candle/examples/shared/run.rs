//! A training: its loop, its checkpoints, its progress.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use candle_core::Tensor;
use candle_nn::VarMap;
use indicatif::{ProgressBar, ProgressStyle};
use optimizers::Hyper;
use optimizers::checkpoint::CheckpointDir;
use serde_json::{Value, json};

use super::step_time::{self, median};
use super::trained::schedule;
use super::weights::fingerprint;
use super::{Args, Random, Result, Trained, plot};

const TEMPLATE: &str = "[{wide_bar}] {pos}/{len} steps, {eta} left, {msg}";

/// Evaluations and checkpoints of a run.
const EVALUATIONS: u64 = 20;

/// A model and its data.
pub(crate) trait Task {
    /// The name of the program's folder.
    const NAME: &str;
    /// What a step trains on.
    const UNIT: &str;
    /// How many of them.
    const UNITS_A_STEP: usize;

    /// The loss of a random batch of the training data.
    fn loss(&self, random: &mut Random) -> Result<Tensor>;

    /// The loss of the test data.
    fn test_loss(&self) -> Result<f64>;
}

/// The losses after some steps.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Point {
    pub(crate) step: u64,
    /// The mean of the training losses since the point before.
    pub(crate) training: f64,
    /// The loss of the test data, of the averages if there are some.
    pub(crate) test: f64,
}

/// A training at a step.
pub(crate) struct Run<'r> {
    args: &'r Args,
    varmap: &'r VarMap,
    steps: u64,
    folder: PathBuf,
    checkpoints: CheckpointDir,
    progress: ProgressBar,
    random: Random,
    step: u64,
    points: Vec<Point>,
    /// The training losses since the last point.
    losses: Vec<f64>,
    step_times: Vec<Duration>,
}

impl<'r> Run<'r> {
    /// Opens the folder of a run.
    pub(crate) fn new<T: Task>(args: &'r Args, varmap: &'r VarMap, default_steps: u64) -> Result<Self> {
        let folder = args.folder(T::NAME);
        if args.fresh && folder.exists() {
            fs::remove_dir_all(&folder)?;
        }
        let steps = args.steps(default_steps);
        Ok(Self {
            args,
            varmap,
            steps,
            checkpoints: CheckpointDir::create(folder.join("checkpoints"))?,
            folder,
            progress: ProgressBar::new(steps).with_style(ProgressStyle::with_template(TEMPLATE)?.progress_chars("=> ")),
            random: Random::new(args.seed),
            step: 0,
            points: Vec::new(),
            losses: Vec::new(),
            step_times: Vec::new(),
        })
    }

    /// The learning rate over the steps.
    pub(crate) fn schedule(&self) -> optimizers::schedules::LinearWarmup {
        schedule(self.args.learning_rate, self.steps)
    }

    /// Trains to the last step, from the last checkpoint on if there is one; then prints a summary.
    pub(crate) fn train<T: Task, O: Trained>(mut self, task: &T, mut opt: O) -> Result<()> {
        if let Some(extra) = opt.resume(&self.checkpoints)? {
            self.restore(&extra).ok_or("the checkpoint is of another program")?;
            self.progress.suspend(|| eprintln!("resumed at step {}", self.step));
        }
        let (start, first, schedule) = (Instant::now(), self.step, Hyper::from(self.schedule()));
        while self.step < self.steps {
            opt.set_rate(schedule.at(self.step));
            let loss = task.loss(&mut self.random)?;
            let grads = loss.backward()?;
            let before_step = Instant::now();
            opt.step(&grads)?;
            self.after_step(&loss, before_step.elapsed())?;
            if self.step.is_multiple_of((self.steps / EVALUATIONS).max(1)) || self.step == self.steps {
                self.evaluate(task, &mut opt)?;
            }
        }
        self.progress.finish_and_clear();
        let units = (self.step - first) as f64 * T::UNITS_A_STEP as f64;
        self.summary(task, units / start.elapsed().as_secs_f64(), T::UNIT)
    }

    fn after_step(&mut self, loss: &Tensor, step_time: Duration) -> Result<()> {
        self.step += 1;
        self.losses.push(f64::from(loss.to_scalar::<f32>()?));
        self.step_times.push(step_time);
        self.progress.set_position(self.step);
        Ok(())
    }

    /// Evaluates the model, and saves a checkpoint.
    fn evaluate<T: Task, O: Trained>(&mut self, task: &T, opt: &mut O) -> Result<()> {
        let training = self.losses.iter().sum::<f64>() / self.losses.len() as f64;
        let test = opt.averaged(|| task.test_loss())?;
        self.losses.clear();
        self.points.push(Point { step: self.step, training, test });
        let extra = self.extra();
        opt.save(&mut self.checkpoints, extra)?;
        self.progress.set_message(format!("loss {training:.4}, test {test:.4}"));
        if self.progress.is_hidden() {
            eprintln!("step {}: loss {training:.4}, test {test:.4}", self.step);
        }
        Ok(())
    }

    fn summary<T: Task>(&mut self, task: &T, units_a_second: f64, unit: &str) -> Result<()> {
        let Some(last) = self.points.last().copied() else { return Ok(()) };
        let svg = self.folder.join("losses.svg");
        plot::write(&svg, T::NAME, &self.points)?;
        println!("steps {}, training loss {:.4}, test loss {:.4}", last.step, last.training, last.test);
        println!("fingerprint of the weights {:016x}", fingerprint(self.varmap)?);
        if !self.step_times.is_empty() {
            println!("{units_a_second:.0} {unit} a second, optimizer {:.3?} a step", median(&mut self.step_times));
            let grads = task.loss(&mut self.random)?.backward()?;
            let (ours, candle) = step_time::compare(self.varmap, &grads)?;
            println!("in turns: opt-candle AdamW {ours:.3?}, candle_nn AdamW {candle:.3?} a step");
        }
        println!("wrote {}", svg.display());
        Ok(())
    }

    /// What the rest of the run depends on, beside variables and state.
    fn extra(&self) -> Value {
        let bits = |point: &Point| json!([point.step, point.training.to_bits(), point.test.to_bits()]);
        let points: Vec<_> = self.points.iter().map(bits).collect();
        json!({ "step": self.step, "random": self.random.state(), "points": points })
    }

    fn restore(&mut self, extra: &Value) -> Option<()> {
        let point = |value: &Value| {
            let [step, training, test] = [0, 1, 2].map(|place| value.get(place).and_then(Value::as_u64));
            Some(Point { step: step?, training: f64::from_bits(training?), test: f64::from_bits(test?) })
        };
        self.step = extra["step"].as_u64()?;
        self.random = Random::new(extra["random"].as_u64()?);
        self.points = extra["points"].as_array()?.iter().map(point).collect::<Option<_>>()?;
        Some(())
    }
}
