#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod averages;
mod builder;
mod candle_trait;
mod checkpoints;
mod copies;
mod element;
mod error;
mod gradients;
#[cfg(test)]
mod offload_tests;
mod optimizer;
mod step;
mod storage;
mod taken;
mod variables;

pub use averages::Averages;
pub use builder::CandleBuilder;
pub use copies::Copies;
pub use element::Element;
pub use error::Error;
pub use optimizer::CandleOptimizer;
