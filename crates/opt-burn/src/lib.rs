#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod context;
mod error;
mod host;
mod names;
mod optimizer;
mod rule;
mod stepped;
mod values;

pub use error::{Error, Refused};
pub use optimizer::{BurnOptimizer, Rate, Resumed};
pub use rule::{Rule, RuleState};
pub use stepped::{Copies, Stepped};
pub use values::ModuleValues;
