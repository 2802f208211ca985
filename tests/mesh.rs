//! Optimizers on a device mesh: they equal optimizers on one process, and a fault ends in an error on all ranks.

mod checkpoints;
mod cost;
mod equality;
mod faults;
mod problem;
mod property;
mod run;
mod state;
