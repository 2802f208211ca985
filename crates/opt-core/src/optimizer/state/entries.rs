//! The entries of the state, in Keras's order, and their names.

use super::super::{ITERATIONS, Optimizer, SlotPlace};
use super::StateKind;
use crate::ema::Ema;
use crate::moments::MomentStorage;
use crate::precision::MASTER;
use crate::real::Scalar;
use crate::rule::{SlotInit, SlotSpec, UpdateRule, WeightsOrder};

/// The place where the optimizer keeps an entry of the state.
#[derive(Debug, Clone, Copy)]
pub(super) enum Entry {
    Iterations,
    /// A shared slot.
    Shared(usize),
    /// A slot of the variable with this index.
    Of(usize, SlotPlace),
}

impl Entry {
    /// The index of the variable.
    pub(super) fn variable(self) -> Option<usize> {
        match self {
            Self::Iterations | Self::Shared(_) => None,
            Self::Of(variable, _) => Some(variable),
        }
    }
}

impl<R: UpdateRule<T>, T: Scalar> Optimizer<R, T> {
    /// The entries of the state.
    pub(super) fn entries(&self) -> Vec<Entry> {
        self.entries_of(self.records.len(), |variable| self.records.at(variable).is_half())
    }

    /// The entries for this number of variables, some of which have masters.
    pub(super) fn entries_of(&self, variables: usize, has_master: impl Fn(usize) -> bool) -> Vec<Entry> {
        let mut entries = vec![Entry::Iterations];
        let of_all = |place| (0..variables).map(move |variable| Entry::Of(variable, place));
        if self.options.use_ema {
            entries.extend(of_all(SlotPlace::Average));
        }
        let with_master = (0..variables).filter(|variable| has_master(*variable));
        entries.extend(with_master.map(|variable| Entry::Of(variable, SlotPlace::Master)));
        let mut shared = 0;
        let mut variable_by_variable = Vec::new();
        let mut last = Vec::new();
        for ((_, place), slot) in self.places().zip(&self.slots) {
            match place {
                None => {
                    entries.push(Entry::Shared(shared));
                    shared += 1;
                }
                Some(place) if self.rule.weights_order() == WeightsOrder::BySlot => entries.extend(of_all(place)),
                Some(place) if slot.is_listed_last() => last.push(place),
                Some(place) => variable_by_variable.push(place),
            }
        }
        let slots_of = |variable| variable_by_variable.iter().map(move |place| Entry::Of(variable, *place));
        entries.extend((0..variables).flat_map(slots_of));
        entries.extend(last.into_iter().flat_map(of_all));
        entries
    }

    /// The name of an entry of the state.
    pub(super) fn entry_name(&self, entry: Entry) -> String {
        self.entry_name_of(entry, |variable| &self.records.at(variable).name)
    }

    /// The name of an entry, if the variables have these names.
    pub(super) fn entry_name_of<'n>(&self, entry: Entry, variable_name: impl Fn(usize) -> &'n str) -> String {
        match entry {
            Entry::Iterations => ITERATIONS.to_owned(),
            Entry::Shared(shared) => {
                let mut names = self.places().filter(|(_, place)| place.is_none());
                names.nth(shared).map_or("", |(slot, _)| slot).to_owned()
            }
            Entry::Of(variable, place) => {
                let slot = match place {
                    SlotPlace::Average => Ema::SLOT,
                    SlotPlace::Master => MASTER,
                    own => self.places().find(|(_, place)| *place == Some(own)).map_or("", |(slot, _)| slot),
                };
                format!("{}/{slot}", variable_name(variable))
            }
        }
    }

    /// The kind of an entry, if the variables have these shapes.
    pub(super) fn kind_of<'s>(&self, entry: Entry, shape: impl Fn(usize) -> &'s [usize]) -> StateKind {
        match entry {
            Entry::Iterations => StateKind::Iterations,
            Entry::Shared(_) | Entry::Of(_, SlotPlace::Scalar(_)) => StateKind::Scalar,
            Entry::Of(variable, SlotPlace::Array(array)) if self.is_in_bf16(array) => {
                StateKind::Bf16(shape(variable).to_vec())
            }
            Entry::Of(variable, _) => StateKind::Array(shape(variable).to_vec()),
        }
    }

    /// Whether an array slot, by its index in the records, is stored in bfloat16.
    pub(in super::super) fn is_in_bf16(&self, array: usize) -> bool {
        let is_array = |slot: &&SlotSpec| !matches!(slot.init(), SlotInit::Scalar(_) | SlotInit::Shared(_));
        let slot = self.slots.iter().filter(is_array).nth(array);
        self.options.moments != MomentStorage::Full && slot.is_some_and(SlotSpec::is_moment)
    }
}
