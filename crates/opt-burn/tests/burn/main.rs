//! The adapter from outside: formulas, modules, copies, refusals, checkpoints, records, recorded runs.

mod averages;
mod checkpoints;
mod copies;
mod formulas;
mod modules;
#[cfg(feature = "test-ndarray")]
mod offload;
mod recorded;
mod records;
mod refusals;
mod support;
