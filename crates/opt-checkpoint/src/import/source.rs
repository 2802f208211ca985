//! The libraries that importers read, and the dialects in which an optimizer can go on with their state.

use std::path::Path;

use opt_core::config::Generation;
use opt_core::{Optimizer, UpdateRule};

use crate::element::Element;
use crate::error::Error;

/// A library.
#[derive(Debug, Clone, Copy)]
pub(super) struct Source {
    name: &'static str,
    /// Whether its velocity and moments are free of the learning rate.
    learning_rate_outside: bool,
}

/// Keras of both generations, and TensorFlow Addons.
pub(super) const KERAS: Source = Source { name: "Keras", learning_rate_outside: false };

/// PyTorch, and timm.
pub(super) const PYTORCH: Source = Source { name: "PyTorch", learning_rate_outside: true };

/// Whether the optimizer follows Keras 2.11 and later.
pub(super) fn is_new_generation<R: UpdateRule<T>, T: Element>(optimizer: &Optimizer<R, T>) -> bool {
    optimizer.rule().generation() == Generation::New
}

/// Refuses an optimizer of another dialect: its slots mean something else.
pub(super) fn check<R: UpdateRule<T>, T: Element>(
    path: &Path,
    optimizer: &Optimizer<R, T>,
    source: &Source,
) -> Result<(), Error> {
    // A schedule with code cannot be written, and tells nothing.
    let Ok(config) = optimizer.to_config() else { return Ok(()) };
    let outside = config.pointer("/config/learning_rate_outside").and_then(serde_json::Value::as_bool);
    let class = optimizer.rule().class_name();
    let has_velocity = ["SGD", "NovoGrad"].contains(&class);
    if has_velocity && outside.unwrap_or(false) != source.learning_rate_outside {
        let problem = format!("the state is {}'s, and the optimizer is {class} of another dialect", source.name);
        return Err(Error::Import { path: path.to_owned(), problem });
    }
    Ok(())
}
