//! Lookahead around any update rule, exact to TensorFlow Addons; Ranger is Lookahead around RectifiedAdam.

#![forbid(unsafe_code)]
