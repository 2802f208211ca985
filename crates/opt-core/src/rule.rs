//! The contract between update rules and the engine.
//!
//! A rule consists of hyperparameters, a list of [slots](SlotSpec), a few numbers computed once a step, and one pure
//! function of one element. The engine does everything else: it counts, allocates, clips, decays, averages and checks.

mod block;
mod fused_loop;
mod slot;
mod workspace;

pub use block::{Block, BlockParts, Elementwise, SparseUpdate, coupled_decay, elementwise};
pub use fused_loop::Done;
pub(crate) use fused_loop::{Constants, Fused};
pub(crate) use slot::ArraySlots;
pub use slot::{MAX_ARRAY_SLOTS, SlotInit, SlotSpec};
pub use workspace::Workspace;

use crate::config::Hyperparameters;
pub use crate::loops::BLOCK;
pub use crate::real::Real;
use crate::real::Scalar;

/// A first-order update rule over elements of type `T`: the formula, in addition to its [`Hyperparameters`].
///
/// The trait is object safe: `Box<dyn UpdateRule<T>>` is a rule, too. Rules hold hyperparameters only. They have no
/// step counter and no state of their own: the engine keeps their state in slots.
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
    /// The slots of the rule, in the order in which `weights` lists them. The list must not change after `build()`.
    fn slots(&self) -> Vec<SlotSpec>;

    /// Computes the coefficients of a step, which are the same for all elements. `shared` holds the [shared
    /// slots](SlotSpec::shared) in their order; values written to it become part of the state.
    fn begin_step<'a>(&'a self, step: &Step, shared: &mut [f64]) -> Box<dyn Kernel<T> + 'a>;

    /// The learning rate of a step (counted from 0), from the value of the hyperparameter at this step: after changes
    /// that the rule itself makes, such as a built-in warmup. By default, the rule makes none.
    fn adjusted_learning_rate(&self, learning_rate: f64, step: u64) -> f64 {
        let _ = step;
        learning_rate
    }

    /// The learning rate of a step (counted from 0). Rules implement
    /// [`adjusted_learning_rate`](Self::adjusted_learning_rate) instead.
    fn learning_rate_at(&self, step: u64) -> f64 {
        self.adjusted_learning_rate(self.learning_rate().at(step), step)
    }

    /// Whether the rule needs [`VariableStep::gradient_square_sum`].
    fn needs_gradient_norm(&self) -> bool {
        false
    }

    /// The order in which `weights` lists the slots.
    fn weights_order(&self) -> WeightsOrder {
        WeightsOrder::BySlot
    }
}

/// The inverse-time decay of Keras's legacy generation: the learning rate of a step (counted from 0), divided by
/// `1 + decay * step`.
///
/// # Examples
///
/// ```
/// use opt_core::rule::inverse_time_decay;
///
/// assert_eq!([0, 2, 6].map(|step| inverse_time_decay(1.0, 0.5, step)), [1.0, 0.5, 0.25]);
/// ```
#[must_use]
pub fn inverse_time_decay(learning_rate: f64, decay: f64, step: u64) -> f64 {
    learning_rate / (1.0 + decay * step as f64)
}

/// The order of slots in `weights`. Shared slots are listed where the rule declares them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WeightsOrder {
    /// Slot by slot, each over all variables: m of `a`, m of `b`, v of `a`, v of `b`.
    #[default]
    BySlot,
    /// Variable by variable, each with all its slots: m of `a`, v of `a`, m of `b`, v of `b`. Slots that are
    /// [listed last](SlotSpec::listed_last) follow, slot by slot.
    ByVariable,
}

/// The place of a step in the run, and its learning rate.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct Step {
    /// The number of steps applied before this one.
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

    /// The number of the step, counted from 1 as in papers.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.iteration + 1
    }
}

/// The update of one step: the coefficients of the step are fixed, and the elements follow.
///
/// The engine calls [`begin_variable`](Self::begin_variable) once for each variable that has a gradient, then
/// [`update`](Self::update) for the blocks of the variable, in any order and on any thread.
pub trait Kernel<T: Scalar>: Send + Sync {
    /// Computes the numbers that are the same for all elements of one variable. `scalars` holds its [scalar
    /// slots](SlotSpec::scalar) in their order; values written to it become part of the state.
    fn begin_variable(&self, variable: &VariableStep<'_>, scalars: &mut [f64]) -> VariableScalars {
        let _ = (variable, scalars);
        VariableScalars::default()
    }

    /// Updates the elements of one block. Returns the [`Done`] of [`Block::elementwise`], or of [`Block::done`] after
    /// loops of its own.
    fn update(&self, block: Block<'_, T>) -> Done;

    /// Whether [`update`](Self::update) is also called for rows that a sparse gradient does not touch.
    fn visits_untouched_rows(&self) -> bool;
}

/// A variable in the middle of a step.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct VariableStep<'a> {
    /// The variable's name.
    pub name: &'a str,
    /// The sum of the squared elements of its gradient, after clipping. Present if the rule
    /// [needs](UpdateRule::needs_gradient_norm) it. For a sparse gradient, gradients of the same row are summed first.
    pub gradient_square_sum: Option<f64>,
}

/// Numbers that a kernel computes once for a variable and reads in each block of the variable.
pub type VariableScalars = [f64; 4];

#[deny(clippy::missing_trait_methods, reason = "every method must be forwarded")]
impl<T: Scalar, R: UpdateRule<T> + ?Sized> UpdateRule<T> for Box<R> {
    fn slots(&self) -> Vec<SlotSpec> {
        (**self).slots()
    }
    fn begin_step<'a>(&'a self, step: &Step, shared: &mut [f64]) -> Box<dyn Kernel<T> + 'a> {
        (**self).begin_step(step, shared)
    }
    fn adjusted_learning_rate(&self, learning_rate: f64, step: u64) -> f64 {
        (**self).adjusted_learning_rate(learning_rate, step)
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
