//! The slots of variables: their names, their places, their sizes.

use super::{Optimizer, Record, StateValue};
use crate::ema::Ema;
use crate::error::Error;
use crate::moments::MomentStorage;
use crate::precision::packed;
use crate::real::Scalar;
use crate::rule::{SlotInit, SlotSpec, UpdateRule};

/// Where a record stores a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SlotPlace {
    Array(usize),
    Scalar(usize),
    Average,
    /// Only variables in 16 bits have it.
    Master,
    /// The accumulated gradient, in the shape of the whole variable; 0 where there is none.
    Accumulator,
    /// For each row, whether it has an accumulated gradient, and of which kind.
    Accumulated,
}

/// The slots of a rule, in its order, each with its place in a record; a shared slot has none.
pub(crate) fn places(slots: &[SlotSpec]) -> impl Iterator<Item = (&SlotSpec, Option<SlotPlace>)> {
    let (mut arrays, mut scalars) = (0.., 0..);
    slots.iter().map(move |slot| {
        let place = match slot.init() {
            SlotInit::Shared(_) => None,
            SlotInit::Scalar(_) => scalars.next().map(SlotPlace::Scalar),
            SlotInit::Zeros | SlotInit::Ones | SlotInit::Copy => arrays.next().map(SlotPlace::Array),
        };
        (slot, place)
    })
}

impl<R: UpdateRule<T>, T: Scalar> Optimizer<R, T> {
    /// The names of the slots that variables have, the rule's first, then those of the rules of
    /// [groups](crate::Group). If there are variables in [16 bits](crate::Variable::half), the slot of
    /// [`Master`](crate::Master) comes last; only these variables have it.
    #[must_use]
    pub fn slot_names(&self) -> Vec<&str> {
        let mut names = Vec::new();
        for slots in self.groups.rulings().iter().map(|ruling| &ruling.slots) {
            let of_rule = places(slots).filter_map(|(slot, place)| place.map(|_| slot.name()));
            let new: Vec<&str> = of_rule.filter(|name| !names.contains(name)).collect();
            names.extend(new);
        }
        names.extend(self.options.use_ema.then_some(Ema::SLOT));
        names.extend(self.options.master.slot().filter(|_| self.has_halves()));
        names
    }

    /// A slot of a variable.
    ///
    /// # Errors
    ///
    /// When the variable is not known, or does not have such a slot.
    pub fn slot(&self, variable: &str, slot: &str) -> Result<StateValue<'_, T>, Error> {
        let record = self.records.get(variable).ok_or_else(|| Error::UnknownVariable { name: variable.to_owned() })?;
        Ok(record.slot(self.slot_place(record, slot).ok_or_else(|| self.unknown_slot(slot))?))
    }

    /// The number of bytes that the slots of all known variables take, accumulated gradients included.
    #[must_use]
    pub fn state_bytes(&self) -> usize {
        let bytes = |record: &Record<T>| {
            self.bytes_of(record.group, record.shape()) + record.master.bytes() + record.accumulator.bytes()
        };
        self.records.iter().map(bytes).sum()
    }

    /// The number of bytes that the slots of variables of these shapes would take, in the default group. Shared slots
    /// and the step counter take 8 bytes each, whatever the variables are. A variable in
    /// [16 bits](crate::Variable::half) takes more for each element: see [`Master`](crate::Master).
    pub fn state_bytes_of<S: AsRef<[usize]>>(&self, shapes: impl IntoIterator<Item = S>) -> usize {
        shapes.into_iter().map(|shape| self.bytes_of(0, shape.as_ref())).sum()
    }

    /// The bytes that the slots of a variable take in a group, without its master.
    fn bytes_of(&self, group: usize, shape: &[usize]) -> usize {
        let len = shape.iter().product::<usize>();
        let of_slot = |slot: &SlotSpec| match slot.init() {
            SlotInit::Shared(_) => 0,
            SlotInit::Scalar(_) => size_of::<f64>(),
            _ if slot.is_moment() => packed::bytes_of::<T>(self.options.moments, len),
            SlotInit::Zeros | SlotInit::Ones | SlotInit::Copy => len * size_of::<T>(),
        };
        let average = if self.averages(group) { len * size_of::<T>() } else { 0 };
        self.groups.slots_of(group).iter().map(of_slot).sum::<usize>() + average
    }

    /// Whether the variables of a group have averages.
    pub(super) fn averages(&self, group: usize) -> bool {
        self.options.use_ema && self.groups.averages(group)
    }

    /// The place of a slot of a variable; `None` if the variable does not have it.
    pub(super) fn slot_place(&self, record: &Record<T>, name: &str) -> Option<SlotPlace> {
        match name {
            Ema::SLOT => self.averages(record.group).then_some(SlotPlace::Average),
            _ if self.options.master.slot() == Some(name) => record.is_half().then_some(SlotPlace::Master),
            _ => {
                let mut slots = places(self.groups.slots_of(record.group));
                slots.find(|(slot, place)| place.is_some() && slot.name() == name)?.1
            }
        }
    }

    /// Refuses names of slots that no variable can have.
    pub(super) fn require_slot(&self, name: &str) -> Result<(), Error> {
        if self.slot_names().contains(&name) { Ok(()) } else { Err(self.unknown_slot(name)) }
    }

    pub(super) fn unknown_slot(&self, name: &str) -> Error {
        let known = self.slot_names().into_iter().map(str::to_owned).collect();
        Error::UnknownSlot { slot: name.to_owned(), known }
    }

    /// Whether an array slot of the variables of a group, by its place in their records, is shown in bfloat16: it is
    /// stored in fewer bits.
    pub(super) fn is_in_bf16(&self, group: usize, array: usize) -> bool {
        let mut slots = places(self.groups.slots_of(group));
        let slot = slots.find(|(_, place)| *place == Some(SlotPlace::Array(array)));
        self.options.moments != MomentStorage::Full && slot.is_some_and(|(slot, _)| slot.is_moment())
    }
}
