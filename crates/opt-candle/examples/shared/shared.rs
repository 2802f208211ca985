//! Everything in the example programs that is not their model and data.

mod args;
mod plot;
mod random;
mod run;
mod step_time;
mod trained;
mod weights;

pub(crate) use args::{Args, Choice};
pub(crate) use random::Random;
pub(crate) use run::{Run, Task};
pub(crate) use trained::{Trained, ours, plain};
pub(crate) use weights::draw_weights;

/// Every error of these programs ends them.
pub(crate) type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;
