//! All tests that need no process of their own, in one program.

mod checkpoints;
mod composition;
mod configuration;
mod copies;
mod edges;
mod everything;
mod forgetful;
mod golden;
mod half;
mod masters;
mod mesh;
mod moments;
mod printed_c;
mod resume;
mod sparse_cost;
mod state;
mod third_party;
