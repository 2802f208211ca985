//! Rectified Adam, exact to TensorFlow Addons.

#![forbid(unsafe_code)]
