//! Optimizers on a device mesh: they equal those of one process, and faults end on all ranks.

mod checkpoints;
mod cost;
mod equality;
mod faults;
mod problem;
mod property;
mod run;
mod state;
