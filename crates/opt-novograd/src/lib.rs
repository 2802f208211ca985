//! NovoGrad: momentum of layer-wise normalised gradients, with the arithmetic of TensorFlow Addons.
//!
//! [`NovoGrad`] holds the hyperparameters; [`opt_core::Optimizer`] does the rest.
//!
//! ```
//! use opt_core::{Optimizer, Variable};
//! use opt_novograd::NovoGrad;
//!
//! let step = |gradient: &[f64; 2]| {
//!     let mut w = [1.0, 2.0];
//!     let mut opt = Optimizer::new(NovoGrad::new(0.5).epsilon(0.0))?;
//!     opt.apply_gradients([Variable::new("w", &mut w).gradient(gradient)])?;
//!     Ok::<_, opt_core::Error>(w)
//! };
//! assert_eq!(step(&[3.0, 4.0])?, [1.0 - 0.5 * 0.6, 2.0 - 0.5 * 0.8]); // the norm is 5
//! assert_eq!(step(&[3.0e9, 4.0e9])?, step(&[3.0, 4.0])?); // the scale of a variable's gradients does not matter
//! # Ok::<(), opt_core::Error>(())
//! ```
//!
//! * `config.rs`: hyperparameters, their ranges and defaults, dialects, configurations
//! * `rule.rs`: the formula

#![forbid(unsafe_code)]

mod config;
mod rule;

pub use config::NovoGrad;
