//! The state by name: borrowed to be saved, and replaced as a whole.

use std::fmt;
use std::mem;

use half::bf16;
use ndarray::ArrayViewD;

use super::records::{Fill, Records};
use super::weights::Entry;
use super::{Optimizer, SlotPlace, WeightValue, distributed};
use crate::error::Error;
use crate::moments::MomentStorage;
use crate::real::{DType, Scalar};
use crate::rule::{SlotInit, SlotSpec, UpdateRule};
use crate::variable::Variable;

/// One entry of the state, borrowed.
#[derive(Debug, Clone, PartialEq)]
pub struct StateEntry<'a, T> {
    /// `iterations`, the name of a shared slot, or `variable/slot`.
    pub name: String,
    /// Its value.
    pub value: StateValue<'a, T>,
    /// The place of its variable in [`Optimizer::variables`]; none for what is shared.
    pub variable: Option<usize>,
}

/// One entry that the state would have, without its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateSpec {
    /// `iterations`, the name of a shared slot, or `variable/slot`.
    pub name: String,
    /// What it is.
    pub kind: StateKind,
    /// The place of its variable in the list that was given; none for what is shared.
    pub variable: Option<usize>,
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

impl<R: UpdateRule<T>, T: Scalar> Optimizer<R, T> {
    /// The same list as [`weights`](Self::weights), without copying a number.
    ///
    /// # Errors
    ///
    /// [`Error::Poisoned`] and [`Error::SwappedIn`]: what would be read is not the state of a run.
    pub fn state(&self) -> Result<impl Iterator<Item = StateEntry<'_, T>>, Error> {
        self.ready()?;
        let borrowed = |entry: Entry| {
            let (name, value, variable) = (self.entry_name(entry), self.peek(entry), entry.variable());
            StateEntry { name, value, variable }
        };
        Ok(self.entries().into_iter().map(borrowed))
    }

    /// The entries that the list would have if the optimizer knew just these variables, in this order. On ranks that
    /// keep parts of slots, the shapes are those of this rank's parts.
    pub fn state_of<'v>(&self, variables: impl IntoIterator<Item = (&'v str, &'v [usize], DType)>) -> Vec<StateSpec> {
        let (mut names, mut shapes, mut halves) = (Vec::new(), Vec::new(), Vec::new());
        for (name, shape, dtype) in variables {
            names.push(name);
            shapes.push(shape);
            halves.push(dtype != T::DTYPE);
        }
        let spec = |entry: Entry| StateSpec {
            name: self.entry_name_of(entry, |variable| names[variable]),
            kind: self.kind_of(entry, |variable| shapes[variable]),
            variable: entry.variable(),
        };
        self.entries_of(names.len(), |variable| halves[variable]).into_iter().map(spec).collect()
    }

    /// What an entry is, for variables of these shapes.
    pub(super) fn kind_of<'s>(&self, entry: Entry, shape: impl Fn(usize) -> &'s [usize]) -> StateKind {
        match entry {
            Entry::Iterations => StateKind::Iterations,
            Entry::Shared(_) | Entry::Of(_, SlotPlace::Scalar(_)) => StateKind::Scalar,
            Entry::Of(variable, SlotPlace::Array(array)) if self.is_packed(array) => {
                StateKind::Bf16(shape(variable).to_vec())
            }
            Entry::Of(variable, _) => StateKind::Array(shape(variable).to_vec()),
        }
    }

    /// Whether an array slot, by its place in a record, is stored in 16 bits.
    pub(super) fn is_packed(&self, array: usize) -> bool {
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
        // Iterators that panic must not leave slots behind that hold nothing.
        let weights: Vec<WeightValue<T>> = weights.into_iter().map(Into::into).collect();
        let variables: Vec<Variable<'a, T>> = variables.into_iter().collect();
        let before = mem::replace(&mut self.records, Records::new(self.options.moments));
        let restored = self.resolved(variables.into_iter().map(Variable::without_gradient)).and_then(|mut inputs| {
            self.admit(&mut distributed::own_parts(&mut inputs), Fill::Later);
            self.set_weights(weights)
        });
        if restored.is_err() {
            self.records = before;
        }
        restored
    }
}
