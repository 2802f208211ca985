//! The state by name: borrowed to be saved, and replaced as a whole.

use std::fmt;
use std::mem;

use half::bf16;
use ndarray::ArrayViewD;

use super::records::Records;
use super::weights::Entry;
use super::{Optimizer, SlotPlace, WeightValue};
use crate::error::Error;
use crate::moments::MomentStorage;
use crate::real::Scalar;
use crate::rule::{SlotInit, SlotSpec, UpdateRule};
use crate::variable::Variable;

/// One entry of the state, borrowed.
#[derive(Debug, Clone, PartialEq)]
pub struct StateEntry<'a, T> {
    /// `iterations`, the name of a shared slot, or `variable/slot`.
    pub name: String,
    /// Its value.
    pub value: StateValue<'a, T>,
}

/// The value of one entry of the state, borrowed.
#[derive(Debug, Clone, PartialEq)]
pub enum StateValue<'a, T> {
    /// The step counter.
    Iterations(u64),
    /// A shared slot, or a scalar slot of a variable.
    Scalar(f64),
    /// An array slot of a variable, in the variable's shape.
    Array(ArrayViewD<'a, T>),
    /// An array slot in 16 bits, in the variable's shape: see [`MomentStorage`].
    Bf16(ArrayViewD<'a, bf16>),
}

/// What an entry of the state is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StateKind {
    /// The step counter.
    Iterations,
    /// One number in 64 bits.
    Scalar,
    /// An array of the variable's element type and this shape.
    Array(Vec<usize>),
    /// An array in 16 bits, of this shape. A [`WeightValue`] for it is an array of the variable's element type.
    Bf16(Vec<usize>),
}

impl fmt::Display for StateKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Iterations => write!(f, "a step counter"),
            Self::Scalar => write!(f, "one number"),
            Self::Array(shape) | Self::Bf16(shape) => write!(f, "an array of shape {shape:?}"),
        }
    }
}

impl<T: Scalar> StateValue<'_, T> {
    /// What it is.
    #[must_use]
    pub fn kind(&self) -> StateKind {
        match self {
            Self::Iterations(_) => StateKind::Iterations,
            Self::Scalar(_) => StateKind::Scalar,
            Self::Array(array) => StateKind::Array(array.shape().to_vec()),
            Self::Bf16(array) => StateKind::Bf16(array.shape().to_vec()),
        }
    }

    pub(super) fn to_weight(&self) -> WeightValue<T> {
        match self {
            Self::Iterations(count) => WeightValue::Iterations(*count),
            Self::Scalar(number) => WeightValue::Scalar(*number),
            Self::Array(array) => WeightValue::Array(array.to_owned()),
            Self::Bf16(array) => WeightValue::Array(array.mapv(|number| T::from_f32(number.to_f32()))),
        }
    }
}

impl StateKind {
    /// What a [`WeightValue`] for it is.
    pub(super) fn of_weight(self) -> Self {
        match self {
            Self::Bf16(shape) => Self::Array(shape),
            kind => kind,
        }
    }
}

impl<R: UpdateRule<T>, T: Scalar> Optimizer<R, T> {
    /// The same list as [`weights`](Self::weights), without copying a number.
    ///
    /// # Errors
    ///
    /// [`Error::Poisoned`] and [`Error::SwappedIn`]: what would be read is not the state of a run.
    pub fn state(&self) -> Result<impl Iterator<Item = StateEntry<'_, T>>, Error> {
        self.ready()?;
        Ok(self.entries().into_iter().map(|(name, entry)| StateEntry { name, value: self.peek(entry) }))
    }

    /// The entries that the list would have if the optimizer knew just these variables, in this order, all of them of
    /// its element type.
    pub fn state_of<'v>(
        &self,
        variables: impl IntoIterator<Item = (&'v str, &'v [usize])>,
    ) -> Vec<(String, StateKind)> {
        let (names, shapes): (Vec<&str>, Vec<&[usize]>) = variables.into_iter().unzip();
        let kind = |entry| match entry {
            Entry::Iterations => StateKind::Iterations,
            Entry::Shared(_) | Entry::Of(_, SlotPlace::Scalar(_)) => StateKind::Scalar,
            Entry::Of(variable, SlotPlace::Array(array)) if self.is_packed(array) => {
                StateKind::Bf16(shapes[variable].to_vec())
            }
            Entry::Of(variable, _) => StateKind::Array(shapes[variable].to_vec()),
        };
        self.entries_of(&names, |_| false).into_iter().map(|(name, entry)| (name, kind(entry))).collect()
    }

    /// Whether an array slot, by its place in a record, is stored in 16 bits.
    fn is_packed(&self, array: usize) -> bool {
        let is_array = |slot: &&SlotSpec| !matches!(slot.init(), SlotInit::Scalar(_) | SlotInit::Shared(_));
        let slot = self.slots.iter().filter(is_array).nth(array);
        self.options.moments != MomentStorage::Full && slot.is_some_and(SlotSpec::is_moment)
    }

    /// Forgets all variables, gets to know these, and replaces all state by a list in the order of
    /// [`state_of`](Self::state_of) for them. The values of the variables are not changed. It also brings back an
    /// optimizer whose rule panicked.
    ///
    /// # Errors
    ///
    /// Anything wrong with names or shapes; a list of another length, or an entry of another kind or shape. All is then
    /// as it was.
    pub fn restore<'a, W: Into<WeightValue<T>>>(
        &mut self,
        variables: impl IntoIterator<Item = Variable<'a, T>>,
        weights: impl IntoIterator<Item = W>,
    ) -> Result<(), Error>
    where
        T: 'a,
    {
        let before = mem::replace(&mut self.records, Records::new(self.options.moments));
        let without_gradients = variables.into_iter().map(|variable| Variable { gradient: None, ..variable });
        let restored = self.resolved(without_gradients).and_then(|mut inputs| {
            self.admit(&mut inputs);
            self.set_weights(weights)
        });
        if restored.is_err() {
            self.records = before;
        }
        restored
    }
}
