//! NovoGrad: layer-wise normalised gradients with momentum, exact to TensorFlow Addons.

#![forbid(unsafe_code)]
