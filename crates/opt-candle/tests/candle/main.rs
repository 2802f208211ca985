//! Tests of the adapter. One program: each would compile the engine anew.

mod candle_adamw;
mod golden;
mod memory;
mod resume;
mod steps;
