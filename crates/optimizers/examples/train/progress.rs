//! Progress of the training, on standard error.

use std::io::{self, Write};

use indicatif::{ProgressBar, ProgressStyle};

use crate::checkpoints::Resumed;
use crate::table;
use crate::training::{Epoch, Run};

const TEMPLATE: &str = "{prefix:16} [{wide_bar}] {pos}/{len} epochs, {eta} left, {msg:12}";

/// A bar that counts the epochs of all optimizers; without a terminal, a line for each optimizer.
#[derive(Debug)]
pub(crate) struct Progress(ProgressBar);

impl Progress {
    pub(crate) fn new(optimizers: usize, epochs: u32) -> Self {
        let style = ProgressStyle::with_template(TEMPLATE).expect("the template is valid").progress_chars("=> ");
        Self(ProgressBar::new(optimizers as u64 * u64::from(epochs)).with_style(style))
    }

    pub(crate) fn start(&self, name: &str) {
        self.0.set_prefix(name.to_owned());
    }

    /// Prints the point from which a training resumes.
    pub(crate) fn resumed(&self, name: &str, resumed: &Resumed) {
        let Resumed { path, epochs, iterations, rejected } = resumed;
        self.0.inc(*epochs as u64);
        self.0.suspend(|| {
            let mut err = io::stderr();
            // A closed standard error is no reason to stop.
            for rejected in rejected {
                let _ = writeln!(err, "{name}: passed over {rejected}");
            }
            let _ = writeln!(err, "{name}: resumed from {}, epoch {epochs}, step {iterations}", path.display());
        });
    }

    pub(crate) fn epoch(&self, epoch: Epoch) {
        self.0.set_message(format!("loss {}", table::loss(epoch.training_loss)));
        self.0.inc(1);
    }

    pub(crate) fn done(&self, run: &Run) {
        if self.0.is_hidden() {
            let (loss, percent) = (table::loss(run.last().training_loss), 100.0 * run.last().test_accuracy);
            // A closed standard error is no reason to stop.
            let _ = writeln!(io::stderr(), "{}: loss {loss}, {percent:.2} % right", run.name);
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
