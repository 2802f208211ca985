//! The libraries that importers read, and the dialects in which an optimizer can go on with their state.

use std::path::Path;

use opt_core::config::Dialect;
use opt_core::rule::SlotSpec;
use opt_core::{Optimizer, UpdateRule};

use crate::element::Element;
use crate::error::Error;

/// A library.
#[derive(Debug, Clone, Copy)]
pub(super) struct Source {
    name: &'static str,
    dialects: &'static [Dialect],
}

/// Keras of both generations, and TensorFlow Addons.
pub(super) const KERAS: Source = Source { name: "Keras", dialects: &[Dialect::Keras, Dialect::KerasLegacy] };

/// PyTorch, and timm.
pub(super) const PYTORCH: Source = Source { name: "PyTorch", dialects: &[Dialect::Pytorch, Dialect::Nvidia] };

/// Whether the optimizer follows Keras 2.11 and later.
pub(super) fn is_new_generation<R: UpdateRule<T>, T: Element>(optimizer: &Optimizer<R, T>) -> bool {
    optimizer.rule().dialect() == Dialect::Keras
}

/// Refuses an optimizer of another dialect: its slots mean something else.
pub(super) fn check<R: UpdateRule<T>, T: Element>(
    path: &Path,
    optimizer: &Optimizer<R, T>,
    source: &Source,
) -> Result<(), Error> {
    let dialect = optimizer.rule().dialect();
    let refuse = |problem: String| Err(Error::Import { path: path.to_owned(), problem });
    if !source.dialects.contains(&dialect) {
        let (name, dialect) = (source.name, dialect.name());
        return refuse(format!(
            "the state is {name}'s, and the optimizer has the dialect {dialect:?}: build it by the constructor of that \
             library, such as Sgd::pytorch, or by the configuration that came with the state"
        ));
    }
    if let Some((group, _)) = optimizer.group_rules().next() {
        return refuse(format!(
            "group {group:?} has a rule of its own: {} has one optimizer for each rule, so import the state of each into an \
             optimizer of its own",
            source.name
        ));
    }
    // A rule of Keras's dialect may have been told to keep the learning rate outside of its velocity.
    let is_keras = source.dialects.contains(&Dialect::Keras);
    if is_keras && optimizer.rule().slots().iter().any(SlotSpec::is_free_of_learning_rate) {
        return refuse("the velocity of Keras contains the learning rate, that of the optimizer does not".to_owned());
    }
    Ok(())
}
