//! The state of an optimizer by name: to save and restore it, and to look at slots.
//!
//! [`Optimizer::state`](crate::Optimizer::state) lists the state, [`Optimizer::slot`](crate::Optimizer::slot) reads one
//! slot. [`Optimizer::weights`](crate::Optimizer::weights) and
//! [`Optimizer::set_weights`](crate::Optimizer::set_weights) correspond to Keras's `get_weights` and `set_weights`.

pub use crate::optimizer::{
    GOOD_STEPS, ITERATIONS, LOSS_SCALE, METADATA, MICRO_STEP, StateEntry, StateKind, StateValue,
};
pub use crate::real::DType;
