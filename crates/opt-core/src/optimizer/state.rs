//! The state by name: borrowed for saving, and replaced as a whole.

mod entries;
mod value;
mod weights;

use std::mem;

use entries::{Entry, Listed};
pub use value::{StateEntry, StateKind, StateValue};

use super::records::{Fill, Records};
use super::{Optimizer, distributed};
use crate::error::Error;
use crate::parameters::Parameters;
use crate::real::{DType, Scalar};
use crate::rule::UpdateRule;
use crate::variable::Variable;

impl<R: UpdateRule<T>, T: Scalar> Optimizer<R, T> {
    /// The same list as [`weights`](Self::weights), borrowed: no number is copied, and slots in bfloat16 are not
    /// widened. Slots in 8 bits and corrections of [masters](crate::Master) are shown in bfloat16, in copies.
    ///
    /// # Errors
    ///
    /// [`Error::Poisoned`] and [`Error::SwappedIn`]: a run cannot resume from the state of such an optimizer.
    #[doc(alias = "state_dict")]
    pub fn state(&self) -> Result<impl Iterator<Item = StateEntry<StateValue<'_, T>>>, Error> {
        self.ready()?;
        let listed = self.listed();
        let entries = self.entries_of(&listed, self.micro_step > 0);
        Ok(entries.into_iter().map(move |entry| self.named(entry, &listed, self.peek(entry))))
    }

    /// The entries that the list would have if the optimizer knew exactly these variables, in this order. Where ranks
    /// keep shards of slots, the shapes are those of this rank's shards. `accumulated` tells whether the state was
    /// taken between [micro-steps](crate::Accumulate) whose gradients wait to be applied.
    pub fn state_of<'v>(
        &self,
        variables: impl IntoIterator<Item = (&'v str, &'v [usize], DType)>,
        accumulated: bool,
    ) -> Vec<StateEntry<StateKind>> {
        let variables: Vec<_> = variables.into_iter().collect();
        let listed = |&(name, shape, dtype): &(&'v str, &'v [usize], DType)| {
            let group = self.records.get(name).map(|record| record.group);
            let group = group.unwrap_or_else(|| self.groups.choose(name, shape));
            Listed { name, shape, whole: shape, group, is_half: dtype != T::DTYPE }
        };
        let listed: Vec<Listed<'_>> = variables.iter().map(listed).collect();
        let spec = |entry: Entry| StateEntry {
            name: self.entry_name(entry, &listed),
            value: self.kind_of(entry, &listed),
            variable: entry.variable(),
        };
        self.entries_of(&listed, accumulated).into_iter().map(spec).collect()
    }

    /// Forgets all variables, takes those of the model as known, and replaces all state by a list in the order of
    /// [`state_of`](Self::state_of) for the model. Does not change the values of the variables. An optimizer whose rule
    /// panicked can be used again after this call.
    ///
    /// # Errors
    ///
    /// When a name or a shape is wrong; when the list has another length, or an entry has another kind or shape.
    /// Everything is then unchanged.
    pub fn restore<'w, P, V>(&mut self, model: &mut P, weights: impl IntoIterator<Item = V>) -> Result<(), Error>
    where
        P: Parameters<T> + ?Sized,
        V: Into<StateValue<'w, T>>,
        T: 'w,
    {
        // The caller's iterator may panic. Collect first, so that no slots without values are left behind.
        let weights: Vec<StateValue<'w, T>> = weights.into_iter().map(Into::into).collect();
        self.restore_for(model.variables(), weights)
    }

    /// As [`restore`](Self::restore), for a list of variables.
    pub(super) fn restore_for<'v>(
        &mut self,
        variables: impl IntoIterator<Item = Variable<'v, T>>,
        weights: Vec<StateValue<'_, T>>,
    ) -> Result<(), Error>
    where
        T: 'v,
    {
        let before = mem::replace(&mut self.records, Records::new(self.options.moments));
        let restored = self.resolved(variables.into_iter()).and_then(|mut inputs| {
            self.admit(&mut distributed::own_parts(&mut inputs), Fill::Later);
            self.set_weights(weights)
        });
        if restored.is_err() {
            self.records = before;
        }
        restored
    }
}
