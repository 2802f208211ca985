//! Adam with Nesterov momentum: the reference form, and the forms of Keras, PyTorch and optax with the same name.
//!
//! [`Nadam`] holds the hyperparameters; [`opt_core::Optimizer`] does the rest.
//!
//! ```
//! use opt_core::{Optimizer, Variable};
//! use opt_nadam::Nadam;
//!
//! let mut w = [4.0_f64, -3.0];
//! let mut opt = Optimizer::new(Nadam::new(0.1))?;
//! for _ in 0..200 {
//!     let gradient = [w[0] - 1.0, 100.0 * (w[1] - 2.0)]; // of a long and narrow valley with its floor at [1, 2]
//!     opt.apply_gradients([Variable::new("w", &mut w).gradient(&gradient)])?;
//! }
//! assert!((w[0] - 1.0).abs() < 1e-3 && (w[1] - 2.0).abs() < 1e-3);
//! # Ok::<(), opt_core::Error>(())
//! ```
//!
//! * `config.rs`: hyperparameters, their ranges and defaults, configurations
//! * `rule.rs`: the formula

#![forbid(unsafe_code)]

mod config;
mod rule;

pub use config::Nadam;
