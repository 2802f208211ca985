//! Adam and AdamW, in the forms of Keras's two generations, PyTorch and optax.
//!
//! [`Adam`] and [`AdamW`] hold the hyperparameters; [`opt_core::Optimizer`] does the rest.
//!
//! ```
//! use opt_adam::AdamW;
//! use opt_core::{Exclude, Optimizer, Variable};
//!
//! let (mut kernel, mut bias) = ([4.0_f64, -3.0], [0.0]);
//! let exclude = Exclude::names(["bias"]);
//! let mut opt = Optimizer::builder(AdamW::new(0.1)).weight_decay(0.01).exclude_from_weight_decay(exclude).build()?;
//! for _ in 0..400 {
//!     let valley = [kernel[0] - 1.0, 100.0 * (kernel[1] - 2.0)]; // long and narrow, with its floor at [1, 2]
//!     let slope = [bias[0] - 5.0];
//!     opt.apply_gradients([
//!         Variable::new("kernel", &mut kernel).gradient(&valley),
//!         Variable::new("bias", &mut bias).gradient(&slope),
//!     ])?;
//! }
//! // Decay holds the kernel back a little, along the floor more than across it.
//! assert!((0.9..1.0).contains(&kernel[0]) && (1.9..2.0).contains(&kernel[1]), "{kernel:?}");
//! assert!((bias[0] - 5.0).abs() < 1e-2, "{bias:?}");
//! # Ok::<(), opt_core::Error>(())
//! ```
//!
//! * `config.rs`: hyperparameters, their ranges and defaults, dialects, configurations
//! * `rule.rs`: the formula, which both classes share

#![forbid(unsafe_code)]

mod config;
mod rule;

pub use config::{Adam, AdamW};
