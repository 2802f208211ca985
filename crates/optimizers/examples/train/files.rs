//! The output files.

use std::fmt::Write;
use std::fs::{self, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use crate::failure::Failure;
use crate::plot;
use crate::training::{Epoch, Run};

/// The paths of the loss curves.
#[derive(Debug)]
pub(crate) struct Files {
    svg: PathBuf,
    csv: PathBuf,
}

impl Files {
    /// Makes the folder, and checks that both files can be written. Existing files stay unchanged.
    pub(crate) fn create(folder: &Path) -> Result<Self, Failure> {
        fs::create_dir_all(folder).map_err(|error| Failure::Write { path: folder.to_owned(), error })?;
        let files = Self { svg: folder.join("losses.svg"), csv: folder.join("losses.csv") };
        for path in files.paths() {
            let opened = OpenOptions::new().create(true).append(true).open(path);
            opened.map_err(|error| Failure::Write { path: path.to_owned(), error })?;
        }
        Ok(files)
    }

    pub(crate) fn paths(&self) -> [&Path; 2] {
        [&self.svg, &self.csv]
    }

    pub(crate) fn write(&self, runs: &[Run]) -> Result<(), Failure> {
        let svg = plot::svg(runs).map_err(|error| Failure::Plot(error.to_string()))?;
        for (path, text) in [(&self.svg, svg), (&self.csv, csv(runs))] {
            let written: io::Result<()> = fs::write(path, text);
            written.map_err(|error| Failure::Write { path: path.clone(), error })?;
        }
        Ok(())
    }
}

/// One line for each optimizer and epoch.
fn csv(runs: &[Run]) -> String {
    let mut text = "optimizer,epoch,training_loss,test_accuracy\n".to_owned();
    for run in runs {
        for (i, Epoch { training_loss, test_accuracy }) in run.epochs.iter().enumerate() {
            writeln!(text, "{},{i},{training_loss},{test_accuracy}", run.name).expect("a string has room");
        }
    }
    text
}
