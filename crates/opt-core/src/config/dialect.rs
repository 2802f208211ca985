//! Dialects: the libraries whose arithmetic a rule can follow.

use serde_json::Value;

use super::{Choice, Config};

/// The library whose arithmetic a rule follows.
///
/// The same name means different formulas in different libraries: where the learning rate stands, how epsilon is added,
/// what `weight_decay` does, which counter corrects a bias. In a configuration the one key `dialect` stands for all of
/// these. Fields of a rule that change a single difference may be set beside it.
///
/// The key is written only where the form of the configuration does not tell the dialect: never for
/// [`Keras`](Self::Keras) and [`KerasLegacy`](Self::KerasLegacy). State of one dialect is not state of another: imports
/// name their source, and refuse an optimizer of another dialect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Dialect {
    /// Keras 2.11 and later, and Keras 3: averaging and weight decay belong to every optimizer.
    #[default]
    Keras,
    /// `OptimizerV2`, called `keras.optimizers.legacy` since 2.11, and TensorFlow Addons: the configuration has `decay`
    /// and no `use_ema`. Keras up to 2.2, whose learning rate is called `lr`, belongs to it, too.
    KerasLegacy,
    /// PyTorch. Steps are counted for each variable, not for the optimizer.
    Pytorch,
    /// optax.
    Optax,
    /// NVIDIA's program for Jasper, and timm.
    Nvidia,
    /// NVIDIA's apex.
    Apex,
}

impl Choice for Dialect {
    const CHOICES: &'static [(&'static str, Self)] = &[
        ("keras", Self::Keras),
        ("keras_legacy", Self::KerasLegacy),
        ("pytorch", Self::Pytorch),
        ("optax", Self::Optax),
        ("nvidia", Self::Nvidia),
        ("apex", Self::Apex),
    ];
}

impl Dialect {
    /// The key in configurations.
    pub(crate) const KEY: &str = "dialect";

    /// The name in configurations.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::CHOICES.iter().find(|(_, dialect)| *dialect == self).map_or("", |(name, _)| name)
    }

    /// Whether configurations are written in the form of Keras's legacy generation.
    #[must_use]
    pub fn is_legacy(self) -> bool {
        self == Self::KerasLegacy
    }

    /// Whether the form of a configuration tells the dialect, so that it has no key.
    #[must_use]
    pub(crate) fn is_told_by_form(self) -> bool {
        matches!(self, Self::Keras | Self::KerasLegacy)
    }

    /// The dialect that the form of a configuration tells.
    pub(crate) fn of_form(fields: &Config) -> Self {
        let legacy = match fields.get("is_legacy_optimizer") {
            Some(Value::Bool(legacy)) => *legacy,
            _ => ["decay", "lr"].iter().any(|key| fields.contains_key(*key)) && !fields.contains_key("use_ema"),
        };
        if legacy { Self::KerasLegacy } else { Self::Keras }
    }
}
