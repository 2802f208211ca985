//! The contract between update rules and the engine.
//!
//! A rule is hyperparameters, a list of [slots](SlotSpec), a few numbers computed once a step, and one pure function
//! per element. Everything else (counting, allocating, clipping, decaying, averaging, checking) is the engine's.

mod block;
mod fused_loop;
mod slot;
mod workspace;

pub use block::{Block, BlockParts, Elementwise, SparseUpdate, elementwise};
pub use fused_loop::Done;
pub(crate) use fused_loop::Fused;
pub(crate) use slot::ArraySlots;
pub use slot::{MAX_ARRAY_SLOTS, SlotInit, SlotSpec};
pub(crate) use workspace::Workspace;

use crate::config::Hyperparameters;
pub use crate::loops::BLOCK;
pub use crate::real::Real;
use crate::real::Scalar;

/// A first-order update rule over elements of type `T`: the formula, on top of its [`Hyperparameters`].
///
/// The trait is object safe: `Box<dyn UpdateRule<T>>` is a rule, too. Rules hold hyperparameters only. They keep no
/// step counter and no state of their own: what they remember are slots.
///
/// # Examples
///
/// Signed gradient descent, complete:
///
/// ```
/// use opt_core::rule::{elementwise, Kernel, Real, SlotSpec, Step};
/// use opt_core::{Hyper, Optimizer, Scalar, UpdateRule, Variable, hyperparameters};
///
/// hyperparameters! {
///     /// Steps of the same length, whatever the gradient.
///     #[derive(Debug)]
///     pub struct SignSgd {
///         learning_rate: Hyper = 0.001, in 0.0.., "learning rate";
///     }
///     rule "SignSgd"
/// }
///
/// fn element<E: Real>(learning_rate: &E, w: E, g: E, []: [E; 0]) -> (E, [E; 0]) {
///     let magnitude = g.max(E::literal(0.0) - g).max(E::literal(1e-30));
///     (w - *learning_rate * (g / magnitude), [])
/// }
///
/// impl<T: Scalar> UpdateRule<T> for SignSgd {
///     fn slots(&self) -> Vec<SlotSpec> {
///         vec![]
///     }
///     fn begin_step(&self, step: &Step, _shared: &mut [f64]) -> Box<dyn Kernel<T>> {
///         Box::new(elementwise(T::literal(step.learning_rate), element))
///     }
/// }
///
/// let mut w = [1.0, 2.0];
/// let mut opt = Optimizer::new(SignSgd { learning_rate: 0.25.into() })?;
/// opt.apply_gradients([Variable::new("w", &mut w).gradient(&[3.0, -0.1])])?;
/// assert_eq!(w, [0.75, 2.25]);
/// # Ok::<(), opt_core::Error>(())
/// ```
pub trait UpdateRule<T: Scalar>: Hyperparameters {
    /// What the rule remembers, in the order of `weights`. Must not change after `build()`.
    fn slots(&self) -> Vec<SlotSpec>;

    /// Computes everything that is the same for all elements of a step. `shared` holds the
    /// [shared slots](SlotSpec::shared) in their order; what is written there becomes part of the state.
    fn begin_step<'a>(&'a self, step: &Step, shared: &mut [f64]) -> Box<dyn Kernel<T> + 'a>;

    /// The learning rate of a step (counted from 0), with whatever the rule itself does to it, like a built-in warmup.
    fn learning_rate_at(&self, step: u64) -> f64 {
        self.learning_rate().at(step)
    }

    /// Whether [`VariableStep::gradient_square_sum`] is wanted.
    fn needs_gradient_norm(&self) -> bool {
        false
    }

    /// In which order `weights` lists the slots.
    fn weights_order(&self) -> WeightsOrder {
        WeightsOrder::BySlot
    }
}

/// The order of slots in `weights`. Shared slots are listed where the rule declares them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WeightsOrder {
    /// Slot by slot, each over all variables: m of `a`, m of `b`, v of `a`, v of `b`.
    #[default]
    BySlot,
    /// Variable by variable, each with all its slots: m of `a`, v of `a`, m of `b`, v of `b`.
    ByVariable,
}

/// When a step happens.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct Step {
    /// How many steps have been applied before this one.
    pub iteration: u64,
    /// The learning rate of this step.
    pub learning_rate: f64,
}

impl Step {
    /// A step.
    #[must_use]
    pub fn new(iteration: u64, learning_rate: f64) -> Self {
        Self { iteration, learning_rate }
    }

    /// The step counted from 1, as papers do.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.iteration + 1
    }
}

/// One step of a rule: its coefficients are fixed, the elements follow.
///
/// The engine calls [`begin_variable`](Self::begin_variable) once for each variable that has a gradient, then
/// [`update`](Self::update) for its blocks, in any order and on any thread.
pub trait Kernel<T: Scalar>: Send + Sync {
    /// Computes what is the same for all elements of one variable. `scalars` holds its
    /// [scalar slots](SlotSpec::scalar) in their order; what is written there becomes part of the state.
    fn begin_variable(&self, variable: &VariableStep<'_>, scalars: &mut [f64]) -> VariableScalars {
        let _ = (variable, scalars);
        VariableScalars::default()
    }

    /// Updates the elements of one block. What it returns comes from the block: of [`Block::elementwise`], or of
    /// [`Block::done`] after loops of one's own.
    fn update(&self, block: Block<'_, T>) -> Done;

    /// Whether [`update`](Self::update) wants the rows, too, that a sparse gradient does not touch.
    fn visits_untouched_rows(&self) -> bool;
}

/// A variable in the middle of a step.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct VariableStep<'a> {
    /// The variable's name.
    pub name: &'a str,
    /// The sum of the squared elements of its gradient, after clipping; present if the rule
    /// [needs](UpdateRule::needs_gradient_norm) it. For a sparse gradient: after rows of the same index were summed.
    pub gradient_square_sum: Option<f64>,
}

/// Numbers that a kernel computes once for a variable and finds again in each of its blocks.
pub type VariableScalars = [f64; 4];

#[deny(clippy::missing_trait_methods, reason = "every method must be forwarded")]
impl<T: Scalar, R: UpdateRule<T> + ?Sized> UpdateRule<T> for Box<R> {
    fn slots(&self) -> Vec<SlotSpec> {
        (**self).slots()
    }
    fn begin_step<'a>(&'a self, step: &Step, shared: &mut [f64]) -> Box<dyn Kernel<T> + 'a> {
        (**self).begin_step(step, shared)
    }
    fn learning_rate_at(&self, step: u64) -> f64 {
        (**self).learning_rate_at(step)
    }
    fn needs_gradient_norm(&self) -> bool {
        (**self).needs_gradient_norm()
    }
    fn weights_order(&self) -> WeightsOrder {
        (**self).weights_order()
    }
}
