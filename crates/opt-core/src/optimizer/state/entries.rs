//! The entries of the state, in Keras's order, and their names.

use super::super::accumulator::{ACCUMULATED, ACCUMULATOR};
use super::super::records::row_shape;
use super::super::slots::places;
use super::super::{GOOD_STEPS, ITERATIONS, LOSS_SCALE, MICRO_STEP, Optimizer, SlotPlace};
use super::{StateEntry, StateKind};
use crate::ema::Ema;
use crate::master::Master;
use crate::real::Scalar;
use crate::rule::{SlotSpec, UpdateRule, WeightsOrder};

/// The place where the optimizer keeps an entry of the state.
#[derive(Debug, Clone, Copy)]
pub(super) enum Entry {
    Iterations,
    MicroStep,
    LossScale,
    GoodSteps,
    /// A shared slot: the place of its rule among the rulings, and its place among the rule's shared slots.
    Shared(usize, usize),
    /// A slot of the variable with this index.
    Of(usize, SlotPlace),
}

/// A variable whose state is listed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Listed<'v> {
    pub(super) name: &'v str,
    pub(super) shape: &'v [usize],
    /// The shape of the whole variable as this rank gives it.
    pub(super) whole: &'v [usize],
    pub(super) group: usize,
    pub(super) is_half: bool,
}

impl Entry {
    /// Whether the number need not be whole.
    pub(super) fn is_a_scale(self) -> bool {
        matches!(self, Self::LossScale)
    }

    /// The index of the variable.
    pub(super) fn variable(self) -> Option<usize> {
        match self {
            Self::Iterations | Self::MicroStep | Self::LossScale | Self::GoodSteps | Self::Shared(..) => None,
            Self::Of(variable, _) => Some(variable),
        }
    }
}

impl<R: UpdateRule<T>, T: Scalar> Optimizer<R, T> {
    /// The known variables.
    pub(super) fn listed(&self) -> Vec<Listed<'_>> {
        let listed = self.records.iter().map(|record| Listed {
            name: &record.name,
            shape: record.shape(),
            whole: record.form.given(),
            group: record.group,
            is_half: record.is_half(),
        });
        listed.collect()
    }

    /// The entries of the state for these variables: averages, masters and accumulated gradients of all of them, then
    /// the slots of the optimizer's rule, then those of the rules of groups, each for the variables that have this
    /// rule. `accumulated` tells whether micro-steps wait to be applied.
    pub(super) fn entries_of(&self, variables: &[Listed<'_>], accumulated: bool) -> Vec<Entry> {
        let mut entries = vec![Entry::Iterations];
        entries.extend(self.options.accumulate.map(|_| Entry::MicroStep));
        if self.scaling.is_dynamic() {
            entries.extend([Entry::LossScale, Entry::GoodSteps]);
        }
        let mut extend = |place: SlotPlace, has_it: &dyn Fn(&Listed<'_>) -> bool| {
            let with = variables.iter().enumerate().filter(|(_, variable)| has_it(variable));
            entries.extend(with.map(|(variable, _)| Entry::Of(variable, place)));
        };
        extend(SlotPlace::Average, &|variable| self.averages(variable.group));
        extend(SlotPlace::Master, &|variable| variable.is_half && self.options.master.slot().is_some());
        extend(SlotPlace::Accumulator, &|_| accumulated);
        extend(SlotPlace::Accumulated, &|_| accumulated);
        for (number, ruling) in self.groups.rulings().iter().enumerate() {
            let ruled = |variable: &&Listed<'_>| self.groups.ruled_by(variable.group) == number;
            let ruled: Vec<usize> = (0..variables.len()).filter(|&variable| ruled(&&variables[variable])).collect();
            let by_slot = ruling.rule(&self.rule).weights_order() == WeightsOrder::BySlot;
            let mut shared = 0..;
            let (mut variable_by_variable, mut last) = (Vec::new(), Vec::new());
            for (slot, place) in places(&ruling.slots) {
                match place {
                    None => entries.extend(shared.next().map(|shared| Entry::Shared(number, shared))),
                    Some(place) if by_slot => {
                        entries.extend(ruled.iter().map(|&variable| Entry::Of(variable, place)));
                    }
                    Some(place) if slot.is_listed_last() => last.push(place),
                    Some(place) => variable_by_variable.push(place),
                }
            }
            let slots_of = |&variable| variable_by_variable.iter().map(move |place| Entry::Of(variable, *place));
            entries.extend(ruled.iter().flat_map(slots_of));
            let of_ruled = |place| ruled.iter().map(move |&variable| Entry::Of(variable, place));
            entries.extend(last.into_iter().flat_map(of_ruled));
        }
        entries
    }

    /// The name of an entry.
    pub(super) fn entry_name(&self, entry: Entry, variables: &[Listed<'_>]) -> String {
        match entry {
            Entry::Iterations => ITERATIONS.to_owned(),
            Entry::MicroStep => MICRO_STEP.to_owned(),
            Entry::LossScale => LOSS_SCALE.to_owned(),
            Entry::GoodSteps => GOOD_STEPS.to_owned(),
            Entry::Shared(number, shared) => {
                let ruling = &self.groups.rulings()[number];
                let mut slots = places(&ruling.slots).filter(|(_, place)| place.is_none());
                let slot = slots.nth(shared).map_or("", |(slot, _)| slot.name());
                self.shared_name(ruling, slot)
            }
            Entry::Of(variable, place) => {
                let Listed { name, group, .. } = variables[variable];
                let slot = match place {
                    SlotPlace::Average => Ema::SLOT,
                    SlotPlace::Master => self.options.master.slot().unwrap_or_default(),
                    SlotPlace::Accumulator => ACCUMULATOR,
                    SlotPlace::Accumulated => ACCUMULATED,
                    _ => self.slot_at(group, place).map_or("", SlotSpec::name),
                };
                format!("{name}/{slot}")
            }
        }
    }

    /// The kind of an entry.
    pub(super) fn kind_of(&self, entry: Entry, variables: &[Listed<'_>]) -> StateKind {
        match entry {
            Entry::Iterations => StateKind::Iterations,
            Entry::MicroStep | Entry::LossScale | Entry::GoodSteps | Entry::Shared(..) => StateKind::Scalar,
            Entry::Of(_, SlotPlace::Scalar(_)) => StateKind::Scalar,
            Entry::Of(variable, place) => {
                let Listed { shape, whole, group, .. } = variables[variable];
                match place {
                    SlotPlace::Accumulator => StateKind::Array(whole.to_vec()),
                    SlotPlace::Accumulated => StateKind::Array(row_shape(whole)),
                    SlotPlace::Array(array) if self.is_in_bf16(group, array) => StateKind::Bf16(shape.to_vec()),
                    SlotPlace::Master if self.options.master != Master::Full => StateKind::Bf16(shape.to_vec()),
                    _ => StateKind::Array(shape.to_vec()),
                }
            }
        }
    }

    /// An entry with its name.
    pub(super) fn named<V>(&self, entry: Entry, variables: &[Listed<'_>], value: V) -> StateEntry<V> {
        StateEntry { name: self.entry_name(entry, variables), value, variable: entry.variable() }
    }

    /// The rule's slot at a place in the records of a group.
    pub(super) fn slot_at(&self, group: usize, place: SlotPlace) -> Option<&SlotSpec> {
        places(self.groups.slots_of(group)).find(|(_, of_slot)| *of_slot == Some(place)).map(|(slot, _)| slot)
    }
}
