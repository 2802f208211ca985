//! The rules that an optimizer uses, with their slots.

use std::collections::HashSet;
use std::sync::Arc;

use super::accumulator::{ACCUMULATED, ACCUMULATOR};
use crate::ema::Ema;
use crate::error::Error;
use crate::master::Master;
use crate::moments::{MAX_PACKED, MomentStorage};
use crate::real::Scalar;
use crate::rule::{MAX_ARRAY_SLOTS, SlotInit, SlotSpec, UpdateRule};

/// A rule that groups use: its slots, and the values of its shared slots.
#[derive(Debug, Clone)]
pub(crate) struct Ruling<T> {
    /// The rule of a group; `None` is the rule of the optimizer.
    rule: Option<Arc<dyn UpdateRule<T>>>,
    pub(crate) slots: Vec<SlotSpec>,
    /// The values of the shared slots, in the rule's order.
    pub(crate) shared: Vec<f64>,
    /// The group whose rule it is.
    pub(crate) group: usize,
}

impl<T: Scalar> Ruling<T> {
    pub(super) fn new<R: UpdateRule<T> + ?Sized>(
        rule: &R,
        own: Option<Arc<dyn UpdateRule<T>>>,
        group: usize,
        storage: MomentStorage,
    ) -> Result<Self, Error> {
        check_rule(rule)?;
        let slots = rule.slots();
        check_slots(rule.class_name(), &slots, storage)?;
        let shared = slots.iter().filter_map(|slot| match slot.init() {
            SlotInit::Shared(initial) => Some(initial),
            _ => None,
        });
        Ok(Self { rule: own, shared: shared.collect(), slots, group })
    }

    /// The rule; `default` is that of the optimizer.
    pub(crate) fn rule<'a, R: UpdateRule<T>>(&'a self, default: &'a R) -> &'a dyn UpdateRule<T> {
        self.rule.as_deref().unwrap_or(default)
    }

    /// The rule of the optimizer, with these slots.
    #[cfg(test)]
    pub(super) fn of_slots(slots: Vec<SlotSpec>) -> Self {
        Self { rule: None, slots, shared: Vec::new(), group: 0 }
    }
}

/// Checks a rule's hyperparameters, including the learning rate.
pub(super) fn check_rule<R: UpdateRule<T> + ?Sized, T: Scalar>(rule: &R) -> Result<(), Error> {
    rule.learning_rate().validate("learning_rate", 0.0..)?;
    Ok(rule.validate()?)
}

/// Checks the list of a rule's slots.
pub(super) fn check_slots(rule: &str, slots: &[SlotSpec], storage: MomentStorage) -> Result<(), Error> {
    let refuse = |problem| Err(Error::Slots { rule: rule.to_owned(), problem });
    let mut names = HashSet::from([Ema::SLOT, ACCUMULATOR, ACCUMULATED]);
    names.extend(Master::SLOTS);
    if let Some(slot) = slots.iter().find(|slot| !names.insert(slot.name())) {
        return refuse(format!("slot name {:?} is taken", slot.name()));
    }
    let moments = slots.iter().filter(|slot| slot.is_moment()).count();
    if storage != MomentStorage::Full && moments > MAX_PACKED {
        return refuse(format!("{moments} slots of moments, at most {MAX_PACKED} can be stored in fewer bits"));
    }
    let arrays = slots.iter().filter(|slot| matches!(slot.init(), SlotInit::Zeros | SlotInit::Ones | SlotInit::Copy));
    match arrays.count() {
        count if count > MAX_ARRAY_SLOTS => {
            refuse(format!("{count} array slots, at most {MAX_ARRAY_SLOTS} are possible"))
        }
        _ => Ok(()),
    }
}
