//! The selection of the optimizers to train.

use std::fs;
use std::path::Path;

use optimizers::{DynOptimizer, Optimizer};

use crate::args::Args;
use crate::contestants::{Contestant, contestants};
use crate::failure::Failure;
use crate::precision::Precision;

/// An optimizer that will be trained.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) name: String,
    pub(crate) precision: Precision,
    pub(crate) optimizer: DynOptimizer,
}

/// The optimizers that the command line selects, for a training with this many steps.
pub(crate) fn entries(args: &Args, steps: u64) -> Result<Vec<Entry>, Failure> {
    match &args.config {
        Some(path) => Ok(vec![from_file(path)?]),
        None => from_names(&args.optimizers, steps),
    }
}

fn from_file(path: &Path) -> Result<Entry, Failure> {
    let path = path.to_owned();
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) => return Err(Failure::Read { path, error }),
    };
    let config = match serde_json::from_str(&text) {
        Ok(config) => config,
        Err(error) => return Err(Failure::Json { path, error }),
    };
    match Optimizer::from_config(&config, &optimizers::registry()) {
        Ok(optimizer) => Ok(Entry { name: class_name(&optimizer), precision: Precision::F32, optimizer }),
        Err(error) => Err(Failure::Config { path, error }),
    }
}

/// The contestants of these names and classes, in the order of the list; all of them if there are no names.
fn from_names(names: &[String], steps: u64) -> Result<Vec<Entry>, Failure> {
    let mut entries = all(steps)?;
    let is_called = |entry: &Entry, name: &str| {
        entry.name.eq_ignore_ascii_case(name) || class_name(&entry.optimizer).eq_ignore_ascii_case(name)
    };
    if let Some(name) = names.iter().find(|name| !entries.iter().any(|entry| is_called(entry, name))) {
        return Err(Failure::UnknownOptimizer { name: name.clone(), known: known(&entries) });
    }
    entries.retain(|entry| names.is_empty() || names.iter().any(|name| is_called(entry, name)));
    Ok(entries)
}

fn all(steps: u64) -> Result<Vec<Entry>, Failure> {
    let build = |contestant: Contestant| {
        let name = contestant.name.to_owned();
        match contestant.build(steps) {
            Ok(optimizer) => Ok(Entry { name, precision: contestant.precision, optimizer }),
            Err(error) => Err(Failure::Training { name, error }),
        }
    };
    contestants().into_iter().map(build).collect()
}

fn class_name(optimizer: &DynOptimizer) -> String {
    optimizer.rule().class_name().to_owned()
}

/// Class names first, then the names of the list.
fn known(entries: &[Entry]) -> String {
    let classes = optimizers::registry::<f32>().class_names().map(str::to_owned).collect::<Vec<_>>();
    let names = entries.iter().map(|entry| entry.name.clone());
    classes.into_iter().chain(names).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn select(names: &[&str]) -> Result<Vec<String>, Failure> {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        Ok(from_names(&names, 45)?.into_iter().map(|entry| entry.name).collect())
    }

    #[test]
    fn names_and_classes_of_any_case_select_each_optimizer_once() {
        assert_eq!(select(&["SGD-EMA", "sgd-plain", "sgd-ema"]).unwrap(), ["sgd-plain", "sgd-ema"]);
        assert_eq!(select(&[]).unwrap().len(), contestants().len());
        let of_class = select(&["sgd"]).unwrap();
        assert!(of_class.len() > 1 && of_class.iter().all(|name| name.starts_with("sgd-")), "{of_class:?}");
    }

    #[test]
    fn an_unknown_name_is_refused() {
        let failure = select(&["sgd", "lion"]).unwrap_err().to_string();
        assert!(failure.starts_with("unknown optimizer \"lion\", known are "), "{failure}");
        assert!(["SGD, ", "sgd-plain, ", "ranger"].iter().all(|name| failure.contains(name)), "{failure}");
    }
}
