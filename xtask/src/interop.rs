//! `cargo xtask interop`: state that travels from Keras and PyTorch to this library and back.

mod case;
mod python;
mod table;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use case::Case;
use clap::Args;
use python::{Python, Side};
use table::{Row, Table};

use crate::cargo::Call;

/// The check of configurations, which each interpreter with a Keras makes.
const CONFIGURATIONS: &str = "tests/reference/check_configurations.py";

/// Options of the round trips.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// A virtual environment, or an interpreter, with Keras 2.15, Keras 3 or PyTorch; may be given several times.
    #[arg(long = "python", value_name = "VENV", required = true)]
    pythons: Vec<PathBuf>,
    /// Fails if no environment has a system.
    #[arg(long)]
    all: bool,
    /// Keeps all files in this new folder.
    #[arg(long, value_name = "FOLDER")]
    keep: Option<PathBuf>,
}

/// Runs all round trips; fails if any number differs.
pub(crate) fn run(root: &Path, options: &Options) -> anyhow::Result<ExitCode> {
    let pythons = options.pythons.iter().map(|path| Python::open(path, root)).collect::<anyhow::Result<Vec<_>>>()?;
    let folder = Folder::new(options.keep.as_deref())?;
    let mut table = Table::default();
    for side in Side::ALL {
        match pythons.iter().find(|python| python.has(side)) {
            Some(python) => trips(python, side, &folder.path.join(side.name()), &mut table)?,
            None => table.missing.push(side.package().to_owned()),
        }
    }
    let written = folder.path.join("configurations.jsonl");
    Call::new("run --quiet -p tests --bin configurations --").arg(written.display().to_string()).run()?;
    for python in pythons.iter().filter(|python| [Side::Keras2, Side::Keras3].iter().any(|side| python.has(*side))) {
        python.call(&root.join(CONFIGURATIONS), &[&written])?;
    }
    print!("{table}");
    Ok(if table.passed(options.all) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// All cases of a system: there, here, and there again.
fn trips(python: &Python, side: Side, folder: &Path, table: &mut Table) -> anyhow::Result<()> {
    python.trips("train", side, folder)?;
    let mut places: Vec<PathBuf> = std::fs::read_dir(folder)
        .with_context(|| format!("nothing in {}", folder.display()))?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<_, _>>()?;
    places.sort();
    let mut stays = Vec::new();
    for place in &places {
        let case = Case::read(place)?;
        let stay = case.here(place);
        stays.push((case, stay));
    }
    let returned = python.trips("return", side, folder);
    for (place, (case, stay)) in places.iter().zip(stays) {
        let mut row = Row::new(python.label(side), &case);
        match stay {
            Ok(stay) => {
                row.here = Some(stay.error);
                row.back = case::back(place, &stay.after).ok();
            }
            Err(error) => row.problem = Some(format!("{error:#}")),
        }
        if row.problem.is_none()
            && row.back.is_none()
            && let Err(error) = &returned
        {
            row.problem = Some(format!("{error:#}"));
        }
        table.rows.push(row);
    }
    Ok(())
}

/// Where the files are.
struct Folder {
    path: PathBuf,
    keep: bool,
}

impl Folder {
    fn new(kept: Option<&Path>) -> anyhow::Result<Self> {
        let temporary = || std::env::temp_dir().join(format!("interop-{}", std::process::id()));
        let path = kept.map_or_else(temporary, Path::to_owned);
        std::fs::create_dir(&path).with_context(|| format!("cannot make the folder {}", path.display()))?;
        Ok(Self { path: path.canonicalize()?, keep: kept.is_some() })
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if !self.keep
            && let Err(error) = std::fs::remove_dir_all(&self.path)
        {
            eprintln!("cannot remove {}: {error}", self.path.display());
        }
    }
}
