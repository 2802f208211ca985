//! Rectified Adam: Adam that uses its second moment only when enough gradients have made it reliable.
//!
//! [`RectifiedAdam`] holds the hyperparameters; [`opt_core::Optimizer`] does the rest.
//!
//! ```
//! use opt_core::{Optimizer, Variable};
//! use opt_radam::RectifiedAdam;
//!
//! let mut w = [1.0_f64];
//! let mut opt = Optimizer::new(RectifiedAdam::new(0.25).total_steps(200).warmup_proportion(0.05))?;
//! assert_eq!(opt.learning_rate(), 0.025); // the first of 10 steps of warmup
//! for _ in 0..200 {
//!     let gradient = w; // of w^2 / 2
//!     opt.apply_gradients([Variable::new("w", &mut w).gradient(&gradient)])?;
//! }
//! assert!(w[0].abs() < 1e-3);
//! # Ok::<(), opt_core::Error>(())
//! ```
//!
//! * `config.rs`: hyperparameters, their ranges and defaults, dialects, configurations
//! * `rule.rs`: the formula

#![forbid(unsafe_code)]

mod config;
mod rule;

pub use config::{EpsilonPlacement, RectifiedAdam};
