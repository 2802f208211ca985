//! What needs no process of its own, in one program.

mod checkpoints;
mod composition;
mod configuration;
mod forgetful;
mod golden;
mod half;
mod mesh;
mod moments;
mod resume;
mod sparse_cost;
mod state;
mod third_party;
