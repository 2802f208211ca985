//! The adapter from outside: formulas, modules, copies, refusals, checkpoints, records, recorded runs.

mod averages;
mod checkpoints;
mod copies;
mod formulas;
mod modules;
mod recorded;
mod records;
mod refusals;
mod support;
