//! A report about optimizers on a GPU: `cargo xtask gpu`.
//!
//! The program `gpu-report` reads nothing but its arguments, so that it can be built on one machine and run on another.
//!
//! * `parity.rs`: trainings on the CPU and on the device, compared bit for bit
//! * `ledger.rs`: a device without memory, which counts the bytes that a step moves
//! * `contestants.rs`: what is timed
//! * `speed.rs`: the times
//! * `torch.rs`, `torch.py`: the times of PyTorch's optimizers on the same GPU
//! * `report.rs`: everything in its order
//! * `results.rs`, `table.rs`: the results as JSON and as Markdown

#![forbid(unsafe_code)]

#[cfg(test)]
use {opt_conformance as _, tempfile as _};

mod contestants;
mod ledger;
mod parity;
pub mod report;
mod results;
mod speed;
mod table;
mod torch;
mod weights;
