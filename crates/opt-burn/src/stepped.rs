//! The result of a step.

use opt_core::StepReport;

/// A module after a step, with the report.
#[derive(Debug)]
#[must_use = "it owns the module"]
#[non_exhaustive]
pub struct Stepped<M> {
    /// The module; unchanged, if the step was skipped or only accumulated its gradients.
    pub module: M,
    /// The report of the engine.
    pub report: StepReport,
    /// The tensors that could not be updated or read where they were.
    pub copies: Copies,
    /// The number of gradients that belong to no parameter of the module. They were dropped.
    pub unused_gradients: usize,
}

/// Tensors that were copied in a step. In an ordinary training loop on the CPU, no parameter is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Copies {
    /// Parameters whose numbers something else holds, too: a clone of the module, a tensor that was taken out of it, or
    /// a loss whose backward pass has not run.
    pub shared: usize,
    /// Parameters that are parts or transposed views of other tensors. They are copied in their first step only.
    pub scattered: usize,
    /// Gradients that are not in row-major order, as some backward passes leave them: transposed or broadcast.
    pub gradients: usize,
    /// Copies from another device and back to it, with [`offload`](crate::BurnOptimizer::offload): one for each
    /// gradient, two for each parameter.
    pub offloaded: usize,
    /// The bytes of all these copies.
    pub bytes: usize,
}

impl Copies {
    /// The number of tensors that were copied.
    #[must_use]
    pub fn tensors(&self) -> usize {
        self.shared + self.scattered + self.gradients + self.offloaded
    }
}
