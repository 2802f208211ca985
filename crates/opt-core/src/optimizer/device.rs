//! An optimizer whose arrays are on a device: the host's half, and what the device must do.

mod accumulate;
mod arrays;
mod plan;
mod slots;
mod step;

use std::fmt;
use std::sync::Arc;

use serde_json::Value;

use super::Optimizer;
use super::groups::GroupInfo;
use crate::config::ConfigError;
use crate::description::Description;
use crate::dtype::DType;
use crate::error::Error;
use crate::gradient::{Gradient, Indices};
use crate::hyper::Hyper;
use crate::precision::Any;
use crate::real::Scalar;
use crate::rule::UpdateRule;
use crate::trace::{Array, Draws, Update};
use crate::variable::Variable;
use crate::view::{Memory, Shape, View};

/// The device's half of an optimizer: the arrays, and what is done with them.
///
/// Variables are known by two numbers. The *position* of a variable is its place in the list of the current call. Its
/// *place* is its number among all variables that the optimizer knows; it never changes, and places are given without
/// gaps. Work is done in the order of the calls.
pub trait Backend<T> {
    /// The error of a call.
    type Error: From<Error>;

    /// Measures gradients.
    ///
    /// # Errors
    ///
    /// If the device fails.
    fn measure(&mut self, questions: &[Question]) -> Result<Vec<Measurement>, Self::Error>;

    /// Copies a gradient to the host, to find out which of its elements is not finite.
    ///
    /// # Errors
    ///
    /// If the device fails.
    fn gradient(&mut self, position: usize, place: usize, source: Source) -> Result<Vec<T>, Self::Error>;

    /// Makes the arrays of a variable, in place of those that were made for the same place before.
    ///
    /// # Errors
    ///
    /// If there is not enough memory, or the device fails.
    fn admit(&mut self, state: NewState<T>) -> Result<(), Self::Error>;

    /// Does for updates whatever can fail before the first of them runs.
    ///
    /// # Errors
    ///
    /// If a kernel cannot be made, or there is not enough memory.
    fn prepare(&mut self, updates: &[DeviceUpdate]) -> Result<(), Self::Error>;

    /// Runs updates of different variables, or of different elements of a variable. They were
    /// [prepared](Self::prepare) last.
    ///
    /// # Errors
    ///
    /// If the device fails. The optimizer then refuses further steps.
    fn update(&mut self, updates: &[DeviceUpdate]) -> Result<(), Self::Error>;

    /// Computes the sums of earlier gradients and `factor` times those of this call, beside the earlier sums.
    ///
    /// # Errors
    ///
    /// If there is not enough memory, or the device fails.
    fn total(&mut self, totals: &[Total], factor: f64) -> Result<(), Self::Error>;

    /// Replaces the sums of earlier gradients by the totals that were computed last.
    fn keep_totals(&mut self, totals: &[Total]);

    /// Copies an array to the host.
    ///
    /// # Errors
    ///
    /// If the device fails.
    fn read(&mut self, place: usize, array: Stored) -> Result<Vec<T>, Self::Error>;
}

/// Where the gradient of a variable is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// It was given in this call.
    Given,
    /// It is the total that [`Backend::total`] has computed in this call.
    Total,
    /// It is the sum of the gradients of earlier calls.
    Sum,
}

/// A question about a gradient.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Question {
    /// The position of the variable.
    pub position: usize,
    /// The place of the variable.
    pub place: usize,
    /// Where its gradient is.
    pub source: Source,
    /// Elements of a larger magnitude count as this number. NaN stays NaN.
    pub limit: Option<f64>,
}

/// The measurement of a gradient.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Measurement {
    /// The sum of the squares of the elements; infinite if it is too large.
    pub square_sum: f64,
    /// The root of the sum of squares, correct also if the sum is too large for 64 bits.
    pub norm: f64,
    /// Whether all elements are finite, before the limit.
    pub is_finite: bool,
}

/// The arrays of a new variable.
#[derive(Debug, Clone, PartialEq)]
pub struct NewState<T> {
    /// The place of the variable.
    pub place: usize,
    /// Its position in the list of this call; `None` if all state is replaced: then no array is a copy.
    pub position: Option<usize>,
    /// The number of its elements.
    pub len: usize,
    /// The array slots of its rule in their order, and then average and master, if there are any.
    pub arrays: Vec<NewArray<T>>,
    /// The sum of earlier gradients, if there is one.
    pub sum: Option<Vec<T>>,
}

/// A new array.
#[derive(Debug, Clone, PartialEq)]
pub struct NewArray<T> {
    /// Which one it is.
    pub array: Array,
    /// The type in which its numbers are stored. They are all numbers of that type.
    pub dtype: DType,
    /// What it starts with.
    pub initial: Initial<T>,
}

/// What a new array starts with.
#[derive(Debug, Clone, PartialEq)]
pub enum Initial<T> {
    /// The same number everywhere.
    Filled(f64),
    /// The numbers of the variable.
    Copy,
    /// These numbers, in row-major order.
    Numbers(Vec<T>),
}

/// An update of some elements of a variable.
#[derive(Debug, Clone)]
pub struct DeviceUpdate {
    /// The position of the variable.
    pub position: usize,
    /// The place of the variable.
    pub place: usize,
    /// Where its gradient is, if the update reads it.
    pub source: Source,
    /// The elements that are updated.
    pub elements: Elements,
    /// What happens to each of them. Updates of the same graph share it.
    pub update: Arc<Update>,
    /// The parameters, if they are not those of `update`.
    pub parameters: Option<Arc<[f64]>>,
    /// The random numbers of the variable, if the update rounds by them.
    pub draws: Draws,
}

/// Some elements of a variable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Elements {
    /// All elements.
    All,
    /// The rows that a sparse gradient names. Its numbers are those of these rows, one after the other.
    Rows,
    /// The rows that a sparse gradient does not name.
    OtherRows,
}

/// A sum of gradients over several calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Total {
    /// The position of the variable, which has a gradient in this call.
    pub position: usize,
    /// The place of the variable.
    pub place: usize,
    /// Whether there is a sum of earlier gradients.
    pub has_sum: bool,
}

/// An array that the device keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stored {
    /// One of the arrays of [`NewState::arrays`].
    Array(Array),
    /// The sum of the gradients of earlier calls.
    Sum,
}

/// A gradient on a device, as far as the host knows it.
#[derive(Debug, Clone, Copy)]
pub enum DeviceGradient<'a> {
    /// One number for each element of the variable.
    Dense,
    /// Numbers for these rows of the variable, which are all different.
    Rows(Indices<'a>),
}

/// The host's half of an optimizer whose arrays are on a device.
///
/// Made from an [`Optimizer`] by [`HostSide::new`], and turned back into one by [`into_optimizer`](Self::into_optimizer).
pub struct HostSide<R, T> {
    /// Its records have no arrays. A sum of earlier gradients is there, but empty.
    optimizer: Optimizer<R, T>,
}

impl<R, T> fmt::Debug for HostSide<R, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HostSide").field("iterations", &self.optimizer.iterations).finish_non_exhaustive()
    }
}

impl<R: UpdateRule<T>, T: Scalar> HostSide<R, T> {
    /// As [`Optimizer::iterations`].
    #[must_use]
    pub fn iterations(&self) -> u64 {
        self.optimizer.iterations()
    }

    /// As [`Optimizer::rule`].
    #[must_use]
    pub fn rule(&self) -> &R {
        self.optimizer.rule()
    }

    /// As [`Optimizer::learning_rate`].
    #[must_use]
    pub fn learning_rate(&self) -> f64 {
        self.optimizer.learning_rate()
    }

    /// As [`Optimizer::set_learning_rate`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn set_learning_rate(&mut self, learning_rate: impl Into<Hyper>) -> Result<(), Error> {
        self.optimizer.set_learning_rate(learning_rate)
    }

    /// As [`Optimizer::groups`].
    #[must_use]
    pub fn groups(&self) -> Vec<GroupInfo> {
        self.optimizer.groups()
    }

    /// As [`Optimizer::set_group_learning_rate`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn set_group_learning_rate(&mut self, group: &str, learning_rate: impl Into<Hyper>) -> Result<(), Error> {
        self.optimizer.set_group_learning_rate(group, learning_rate)
    }

    /// As [`Optimizer::freeze`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn freeze(&mut self, group: &str) -> Result<(), Error> {
        self.optimizer.freeze(group)
    }

    /// As [`Optimizer::unfreeze`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn unfreeze(&mut self, group: &str) -> Result<(), Error> {
        self.optimizer.unfreeze(group)
    }

    /// As [`Optimizer::loss_scale`].
    #[must_use]
    pub fn loss_scale(&self) -> f64 {
        self.optimizer.loss_scale()
    }

    /// As [`Optimizer::schedule_step`].
    #[must_use]
    pub fn schedule_step(&self) -> u64 {
        self.optimizer.schedule_step()
    }

    /// As [`Optimizer::micro_step`].
    #[must_use]
    pub fn micro_step(&self) -> u64 {
        self.optimizer.micro_step()
    }

    /// As [`Optimizer::discard_accumulated`].
    pub fn discard_accumulated(&mut self) {
        self.optimizer.discard_accumulated();
    }

    /// As [`Optimizer::has_averages`].
    #[must_use]
    pub fn has_averages(&self) -> bool {
        self.optimizer.has_averages()
    }

    /// As [`Optimizer::variables`].
    pub fn variables(&self) -> impl Iterator<Item = (&str, &[usize])> {
        self.optimizer.variables()
    }

    /// As [`Optimizer::to_config`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn to_config(&self) -> Result<Value, ConfigError> {
        self.optimizer.to_config()
    }
}

/// Variables without gradients.
fn without_gradients<'a, T: Scalar>(
    variables: impl IntoIterator<Item = Description<'a, T>>,
) -> Result<Vec<Variable<'a, T>>, Error> {
    variables.into_iter().enumerate().map(|(position, variable)| variable.into_variable(position)).collect()
}

/// A variable with a gradient that is not in the memory of this process.
fn described<'a, T: Scalar>(
    position: usize,
    (variable, gradient): (Description<'a, T>, Option<DeviceGradient<'a>>),
) -> Result<Variable<'a, T>, Error> {
    let view = |shape: Shape| View(Any::Full(Memory::Filled { data: [].as_slice(), shape }));
    let shape = variable.shape();
    let gradient = gradient.map(|gradient| match gradient {
        DeviceGradient::Dense => Gradient::Dense(view(shape.into())),
        DeviceGradient::Rows(indices) => {
            let rows = [indices.len()].into_iter().chain(shape.iter().skip(1).copied());
            Gradient::Sparse { indices, values: view(rows.collect()) }
        }
    });
    variable.optional_gradient(gradient).into_variable(position)
}
