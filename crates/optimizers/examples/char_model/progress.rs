//! Progress of the trainings, on standard error.

use std::io::{self, Write};

use indicatif::{ProgressBar, ProgressStyle};

use crate::training::Run;

const TEMPLATE: &str = "{prefix:28} [{wide_bar}] {pos}/{len} steps, {eta} left, {msg:12}";

/// A bar that counts the steps of all trainings; without a terminal, a line for each training.
#[derive(Debug)]
pub(crate) struct Progress(ProgressBar);

impl Progress {
    pub(crate) fn new(steps: u64) -> Self {
        let style = ProgressStyle::with_template(TEMPLATE).expect("the template is valid").progress_chars("=> ");
        Self(ProgressBar::new(steps).with_style(style))
    }

    pub(crate) fn start(&self, name: &str, seed: u64) {
        self.0.set_prefix(format!("{name}, seed {seed}"));
    }

    pub(crate) fn step(&self, loss: f64) {
        if !self.0.is_hidden() {
            self.0.set_message(format!("loss {loss:.4}"));
        }
        self.0.inc(1);
    }

    pub(crate) fn done(&self, name: &str, seed: u64, run: &Run) {
        if self.0.is_hidden() {
            // A closed standard error is no reason to stop.
            let _ = writeln!(io::stderr(), "{name}, seed {seed}: training loss {:.4}", run.training_loss);
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
