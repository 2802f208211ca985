//! Stochastic gradient descent with momentum and Nesterov momentum.
//!
//! [`Sgd`] holds the hyperparameters; [`opt_core::Optimizer`] does the rest.
//!
//! ```
//! use opt_core::{Optimizer, Variable};
//! use opt_sgd::Sgd;
//!
//! let mut w = [1.0_f64];
//! let mut opt = Optimizer::new(Sgd::new(0.1).momentum(0.9))?;
//! for _ in 0..2 {
//!     let gradient = w; // of w^2 / 2
//!     opt.apply_gradients([Variable::new("w", &mut w).gradient(&gradient)])?;
//! }
//! assert!((w[0] - (1.0 - 0.1 - 0.18)).abs() < 1e-15);
//! # Ok::<(), opt_core::Error>(())
//! ```
//!
//! * `config.rs`: hyperparameters, their ranges and defaults, configurations
//! * `rule.rs`: the formula

#![forbid(unsafe_code)]

mod config;
mod rule;

pub use config::Sgd;
