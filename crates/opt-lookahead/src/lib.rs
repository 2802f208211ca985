//! Lookahead: k steps forward with any update rule, then one step back towards the start of these steps.
//!
//! [`Lookahead`] wraps a rule and is a rule itself; [`opt_core::Optimizer`] does the rest.
//!
//! ```
//! use opt_core::{Optimizer, Variable};
//! use opt_lookahead::Lookahead;
//! use opt_sgd::Sgd;
//!
//! let mut w = [10.0_f64];
//! let mut opt = Optimizer::new(Lookahead::new(Sgd::new(1.0)).sync_period(3))?;
//! for _ in 0..3 {
//!     opt.apply_gradients([Variable::new("w", &mut w).gradient(&[1.0])])?;
//! }
//! assert_eq!(w, [8.5]); // from 10 to 7, and half the way back
//! # Ok::<(), opt_core::Error>(())
//! ```
//!
//! # Ranger
//!
//! L. Wright's Ranger is Lookahead around RectifiedAdam, with these settings:
//!
//! ```
//! use opt_core::{Optimizer, Variable};
//! use opt_lookahead::Lookahead;
//! use opt_radam::RectifiedAdam;
//!
//! let ranger = Lookahead::new(RectifiedAdam::new(1e-3)).sync_period(6).slow_step_size(0.5);
//! let mut opt = Optimizer::new(ranger)?;
//! let mut w = [1.0_f64];
//! for _ in 0..5 {
//!     opt.apply_gradients([Variable::new("w", &mut w).gradient(&[1.0])])?;
//! }
//! assert!((w[0] - 0.995).abs() < 1e-12); // not yet rectified: 5 steps of 1e-3
//! # Ok::<(), opt_core::Error>(())
//! ```
//!
//! # Evaluation on the slow weights
//!
//! Between two synchronisations, w runs ahead of the slow weights, which are less noisy.
//! [`opt_core::Optimizer::swap_in`] puts the slow weights into a model for as long as the guard lives, as it does with
//! averages:
//!
//! ```
//! use opt_core::{Optimizer, Parameters, Variable};
//! use opt_lookahead::Lookahead;
//! use opt_sgd::Sgd;
//!
//! let mut model = vec![10.0_f64];
//! let mut opt = Optimizer::new(Lookahead::new(Sgd::new(1.0)).sync_period(3))?;
//! for _ in 0..4 {
//!     let variables = model.variables().into_iter().map(|variable| variable.gradient(&[1.0]));
//!     opt.apply_gradients(variables)?;
//! }
//! assert_eq!(model, [7.5]);
//! {
//!     let slow = opt.swap_in("slow", &mut model)?;
//!     assert_eq!(*slow, [8.5]); // evaluate here
//! }
//! assert_eq!(model, [7.5]); // and go on from here
//! # Ok::<(), opt_core::Error>(())
//! ```
//!
//! # Configurations
//!
//! [`register`] makes Lookahead known to a [registry](opt_core::Registry), around every rule that the registry knows.
//! `Lookahead<R>` itself is [`FromConfig`](opt_core::config::FromConfig) where `R` is: its configuration must then name
//! the class of `R`.
//!
//! * `config.rs`: hyperparameters, their ranges and defaults, configurations
//! * `config/inner.rs`: the configuration of the rule inside
//! * `rule.rs`: the formula

#![forbid(unsafe_code)]

mod config;
mod rule;

pub use config::{Lookahead, register};
