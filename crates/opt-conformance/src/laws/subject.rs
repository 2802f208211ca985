//! A rule without its type.

use std::fmt;

use opt_core::config::FromConfig;
use opt_core::{Registry, Scalar, UpdateRule};

/// A rule without its type, as laws need it: copies of the rule, and a registry that reads it from a configuration.
#[derive(Debug)]
pub struct Subject {
    pub(super) in_32_bits: Erased<f32>,
    pub(super) in_64_bits: Erased<f64>,
}

impl Subject {
    /// Takes a rule, and forgets its type.
    #[must_use]
    pub fn new<R: FromConfig<f32> + FromConfig<f64> + Clone>(rule: &R) -> Self {
        Self { in_32_bits: Erased::new(rule), in_64_bits: Erased::new(rule) }
    }
}

/// A rule for one element type.
pub(super) struct Erased<T> {
    copy: Box<dyn Fn() -> Box<dyn UpdateRule<T>> + Send + Sync>,
    /// A registry with the rule and every schedule.
    pub(super) registry: Registry<T>,
}

impl<T: Scalar> Erased<T> {
    fn new<R: FromConfig<T> + Clone>(rule: &R) -> Self {
        let rule = rule.clone();
        let mut registry = Registry::new();
        registry.register::<R>();
        opt_schedules::register(registry.schedules_mut());
        Self { copy: Box::new(move || Box::new(rule.clone())), registry }
    }

    /// A copy of the rule.
    pub(super) fn copy(&self) -> Box<dyn UpdateRule<T>> {
        (self.copy)()
    }
}

impl<T: Scalar> fmt::Debug for Erased<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Erased").field(&self.copy()).finish()
    }
}
