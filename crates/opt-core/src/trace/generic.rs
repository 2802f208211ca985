//! Finds out, when a rule is compiled, whether it is generic over its element type.

use std::ops::Deref;

use super::{Traced, TracedKernel};
use crate::rule::{Step, UpdateRule};

/// A rule that is asked for the kernel of a recorded step. [`hyperparameters!`](crate::hyperparameters) asks.
///
/// A method call finds the method of this type first, if the rule can be recorded, and else that of [`OfOneType`].
#[derive(Debug)]
pub struct Probe<'a, R>(pub &'a R);

/// A rule that cannot be recorded.
#[derive(Debug)]
pub struct OfOneType;

impl<'a, R: UpdateRule<Traced>> Probe<'a, R> {
    /// Begins a recorded step.
    #[must_use]
    pub fn begin(&self, step: &Step, shared: &mut [f64]) -> Option<TracedKernel<'a>> {
        Some(self.0.begin_step(step, shared))
    }
}

impl OfOneType {
    /// No step can be recorded.
    #[must_use]
    pub fn begin<'a>(&self, _step: &Step, _shared: &mut [f64]) -> Option<TracedKernel<'a>> {
        None
    }
}

impl<R> Deref for Probe<'_, R> {
    type Target = OfOneType;

    fn deref(&self) -> &OfOneType {
        &OfOneType
    }
}
