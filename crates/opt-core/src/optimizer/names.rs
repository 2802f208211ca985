//! The names that variables may have beside the entries of the state.

use std::collections::{HashMap, HashSet};

use super::Optimizer;
use super::accumulator::{ACCUMULATED, ACCUMULATOR};
use super::records::Record;
use super::rulings::Ruling;
use super::slots::places;
use crate::error::Error;
use crate::master::Master;
use crate::real::Scalar;
use crate::rule::UpdateRule;

/// The name of the step counter in the state.
pub const ITERATIONS: &str = "iterations";

/// The name of the number of micro-steps that wait to be applied; in the state with
/// [`Accumulate`](crate::Accumulate).
pub const MICRO_STEP: &str = "micro_step";

/// The name of the loss scale; in the state with a dynamic [`LossScale`](crate::LossScale).
pub const LOSS_SCALE: &str = "loss_scale";

/// The name of the number of good steps since the loss scale has changed; in the state beside [`LOSS_SCALE`].
pub const GOOD_STEPS: &str = "good_steps";

/// The name of the metadata in a checkpoint.
pub const METADATA: &str = "__metadata__";

/// A variable that is not known yet.
#[derive(Debug, Clone, Copy)]
pub(super) struct NewName<'n> {
    pub(super) name: &'n str,
    /// Whether the variable is in 16 bits, and may have a master.
    pub(super) is_half: bool,
}

impl<R: UpdateRule<T>, T: Scalar> Optimizer<R, T> {
    /// Checks that a checkpoint can hold variables of these names beside the [state](Self::state). No variable may have
    /// the name of an entry: `iterations`, a shared slot, or `a/momentum` if there is a variable `a` with a slot
    /// `momentum`. Nor may one be called `__metadata__`, which is a name of the file format.
    ///
    /// Steps check the names of new variables in the same way. Programs that save call this for the variables that the
    /// optimizer does not know.
    ///
    /// # Errors
    ///
    /// [`Error::NameTaken`], and [`Error::DuplicateVariable`] for a name that is given twice.
    pub fn check_names<'n>(&self, names: impl IntoIterator<Item = &'n str>) -> Result<(), Error> {
        let mut all = HashSet::new();
        let mut new = Vec::new();
        for name in names {
            if !all.insert(name) {
                return Err(Error::DuplicateVariable { name: name.to_owned() });
            }
            if self.records.get(name).is_none() {
                new.push(NewName { name, is_half: false });
            }
        }
        self.check_new_names(&new)
    }

    /// Checks the names of all known variables again: the rule has new slots.
    pub(super) fn check_known_names(&self) -> Result<(), Error> {
        let known = self.records.iter().map(|record| NewName { name: &record.name, is_half: record.is_half() });
        self.check_new_names(&known.collect::<Vec<_>>())
    }

    /// Checks the names of variables that are not known yet, all different.
    pub(super) fn check_new_names(&self, new: &[NewName<'_>]) -> Result<(), Error> {
        let half: HashMap<&str, bool> = new.iter().map(|variable| (variable.name, variable.is_half)).collect();
        // Whether there is a variable, known or new, with a slot.
        let has_slot = |variable: &str, slot: &str| {
            let known = || self.records.get(variable).map(Record::is_half);
            half.get(variable).copied().or_else(known).is_some_and(|is_half| !Master::SLOTS.contains(&slot) || is_half)
        };
        let slots = self.slots_of_variables();
        let taken = |name: &str, owner: String| Err(Error::NameTaken { name: name.to_owned(), owner });
        let mut entry = String::new();
        for &NewName { name, is_half } in new {
            if let Some(owner) = self.owner(name) {
                return taken(name, owner);
            }
            for &slot in &slots {
                let owner = |variable: &str| format!("the slot {slot:?} of variable {variable:?}");
                let variable = name.strip_suffix(slot).and_then(|rest| rest.strip_suffix('/'));
                if let Some(variable) = variable.filter(|variable| has_slot(variable, slot)) {
                    return taken(name, owner(variable));
                }
                entry.clear();
                entry.extend([name, "/", slot]);
                if (!Master::SLOTS.contains(&slot) || is_half) && self.records.get(&entry).is_some() {
                    return taken(&entry, owner(name));
                }
                if let Some(shared) = self.owner(&entry) {
                    return taken(&entry, shared);
                }
            }
        }
        Ok(())
    }

    /// The owner of a name that belongs to no variable.
    fn owner(&self, name: &str) -> Option<String> {
        match name {
            ITERATIONS => Some("the step counter".to_owned()),
            METADATA => Some("the file format".to_owned()),
            MICRO_STEP if self.options.accumulate.is_some() => Some("the number of micro-steps".to_owned()),
            LOSS_SCALE | GOOD_STEPS if self.scaling.is_dynamic() => Some("the loss scale".to_owned()),
            _ => {
                let is_shared = self.shared_names().any(|shared| shared == name);
                is_shared.then(|| "a shared slot".to_owned())
            }
        }
    }

    /// The names of the shared slots in the state: those of a group's rule have the group's name in front.
    fn shared_names(&self) -> impl Iterator<Item = String> {
        let of_ruling = |ruling: &Ruling<T>| {
            let shared = places(&ruling.slots).filter(|(_, place)| place.is_none());
            shared.map(|(slot, _)| self.shared_name(ruling, slot.name())).collect::<Vec<_>>()
        };
        self.groups.rulings().iter().flat_map(of_ruling)
    }

    /// The name of a shared slot in the state.
    pub(super) fn shared_name(&self, ruling: &Ruling<T>, slot: &str) -> String {
        match ruling.group {
            0 => slot.to_owned(),
            group => format!("{}/{slot}", self.groups.get(group).name),
        }
    }

    /// The names of the slots of variables, whether or not there are masters now. With groups, all names count for
    /// every variable: its group may not be known yet.
    fn slots_of_variables(&self) -> Vec<&str> {
        let mut names = self.slot_names();
        names.extend(self.options.master.slot().filter(|_| !self.has_halves()));
        if self.options.accumulate.is_some() {
            names.extend([ACCUMULATOR, ACCUMULATED]);
        }
        names
    }
}
