//! The step of a variable as a graph: recorded from the engine's own code, evaluated, printed.
//!
//! [`Optimizer::record`](crate::Optimizer::record) runs a step over numbers of the type [`Traced`], which record what
//! is done to them. Everything around the rule takes part: clip, weight decay, the rule with the rules that it wraps,
//! the average. So there is no second copy of a formula, nor of the order of the stages.
//!
//! A recording has two parts. The [`Graph`] is the structure: equal steps have equal graphs, whatever their learning
//! rates are. The parameters are the numbers that are the same for all elements.
//!
//! Arithmetic is in the element type of the graph. Moments and variables in 16 bits are numbers of that type which have
//! fewer digits, so reading and writing them is exact: where the engine rounds, the graph has an [operation](Narrow).
//!
//! # Which rules can be recorded
//!
//! Rules that [`hyperparameters!`](crate::hyperparameters) declares and that implement
//! [`UpdateRule`] for every element type: they need no line for this. A rule that looks at the numbers of elements
//! (compares or converts them), combines different elements, or treats an element by its place or by the length of its
//! block is refused: see [`Untraceable`].
//!
//! # Examples
//!
//! ```
//! use opt_core::{Optimizer, Variable};
//! use opt_core::trace::Array;
//! use opt_sgd::Sgd;
//!
//! let mut opt = Optimizer::new(Sgd::new(0.5).momentum(0.25))?;
//! let (mut w, g) = ([1.0_f64, 2.0], [3.0, 4.0]);
//! let recorded = opt.record([Variable::new("w", &mut w).gradient(&g)])?;
//! let new = recorded[0].update.evaluate(|array| match array {
//!     Array::Value => 1.0,
//!     Array::Gradient => 3.0,
//!     _ => 0.0,
//! });
//! opt.step(&mut w, &g)?;
//! assert_eq!(new, [(Array::Value, w[0]), (Array::Slot(0), -1.5)]);
//! # Ok::<(), opt_core::Error>(())
//! ```

mod c;
mod equations;
mod generic;
mod graph;
mod live;
mod narrow;
mod numbers;
mod print;
mod simplify;
mod stored;
mod tape;
mod term;

pub use c::C;
#[doc(hidden)]
pub use generic::{OfOneType, Probe};
pub use graph::{Array, Constant, Graph, Node, Operation, Update};
pub use narrow::{Draws, Narrow};
pub use numbers::Traced;
pub use print::Language;
pub(crate) use stored::Storage;
pub(crate) use tape::Tape;

#[cfg(doc)]
use crate::UpdateRule;
use crate::dtype::DType;
use crate::rule::Kernel;

/// The kernel of a recorded step.
pub type TracedKernel<'a> = Box<dyn Kernel<Traced> + 'a>;

/// The recorded step of one variable.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct RecordedVariable {
    /// The name of the variable.
    pub variable: String,
    /// The class name of the rule that updates it.
    pub rule: String,
    /// The number of steps applied before this one.
    pub iteration: u64,
    /// The learning rate of this step.
    pub learning_rate: f64,
    /// The names of the array slots: `slots[i]` is [`Array::Slot(i)`](Array::Slot).
    pub slots: Vec<String>,
    /// The random numbers of this step, if numbers in fewer bits are rounded by them.
    pub draws: Draws,
    /// The update of elements that have a gradient.
    pub update: Update,
    /// The update of elements in rows that a sparse gradient does not touch; `None` if the gradient is dense.
    pub untouched: Option<Update>,
}

/// The reason why a step cannot be recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Untraceable {
    /// The rule is written for one element type, or is not declared by
    /// [`hyperparameters!`](crate::hyperparameters) and has no
    /// [`begin_traced`](crate::config::Hyperparameters::begin_traced) of its own.
    #[error("it is not generic over its element type")]
    NotGeneric,
    /// The rule compares numbers of elements, so that elements take different ways.
    #[error("it compares numbers of elements")]
    Compared,
    /// The rule converts numbers of elements to another type.
    #[error("it converts numbers of elements to another type")]
    Converted,
    /// The update of an element depends on other elements.
    #[error("it combines different elements")]
    Mixed,
    /// Elements of a block are treated differently.
    #[error("it treats elements of a block differently")]
    ByPlace,
    /// Elements are treated by the length of their block.
    #[error("it treats elements by the length of their block")]
    ByLength,
    /// A number of another recording or of another thread is used.
    #[error("it uses numbers of another recording")]
    Foreign,
    /// Moments of the variable are stored in 8 bits, in groups of elements: see
    /// [`MomentStorage::Float8`](crate::MomentStorage::Float8).
    #[error("moments in 8 bits share exponents with other elements")]
    Moments,
    /// The variable is distributed over several ranks.
    #[error("a step on several ranks is not recorded yet")]
    Ranks,
}

/// Rounds a number to an element type.
fn rounded(dtype: DType, value: f64) -> f64 {
    if dtype == DType::F32 { f64::from(value as f32) } else { value }
}
