//! Adam with Nesterov momentum, exact to Keras's two generations.

#![forbid(unsafe_code)]
