//! The state as a list in Keras's order: what Keras calls `get_weights` and `set_weights`.

use half::bf16;

use super::super::{Optimizer, SlotPlace};
use super::entries::Entry;
use super::{StateEntry, StateKind, StateValue};
use crate::error::Error;
use crate::real::Scalar;
use crate::rule::{SlotSpec, UpdateRule};

impl<R: UpdateRule<T>, T: Scalar> Optimizer<R, T> {
    /// A copy of all state besides the variables: `iterations`; with averaging, the average of each variable; the
    /// `master` of each variable in 16 bits; then slot by slot, in the order of the rule, the shared number or the slot
    /// of each variable. (A rule may ask for its slots [variable by variable](crate::rule::WeightsOrder) instead.)
    /// Slots in bfloat16 are widened.
    ///
    /// A run depends on nothing else than this list, the configuration and the variables. [`state`](Self::state) gives
    /// the same list without a copy.
    #[doc(alias = "get_weights")]
    #[must_use]
    pub fn weights(&self) -> Vec<StateEntry<StateValue<'static, T>>> {
        let widened = |entry: Entry| self.named(entry, self.peek(entry).to_widened());
        self.entries().into_iter().map(widened).collect()
    }

    /// Replaces all state by a list in the order of [`weights`](Self::weights).
    ///
    /// The variables must be known from earlier steps, or from [`add_variables`](Self::add_variables).
    ///
    /// A slot that is stored in [bfloat16](crate::MomentStorage) accepts numbers of either type. Wider numbers are
    /// rounded to nearest, ties to even. A list that [`weights`](Self::weights) returned is restored bit for bit.
    ///
    /// # Errors
    ///
    /// When the list has another length, an entry has another kind or shape, or a number cannot be state of its slot
    /// ([`Error::WeightRange`]): a second moment is not negative, a product of momenta is in `[0, 1]`, a counter is
    /// whole. Nothing is then assigned.
    #[doc(alias = "load_state_dict")]
    pub fn set_weights<'w, V>(&mut self, weights: impl IntoIterator<Item = V>) -> Result<(), Error>
    where
        V: Into<StateValue<'w, T>>,
        T: 'w,
    {
        if let Some(slot) = &self.swapped_in {
            return Err(Error::SwappedIn { slot: slot.clone() });
        }
        let given: Vec<StateValue<'w, T>> = weights.into_iter().map(Into::into).collect();
        let entries = self.entries();
        if given.len() != entries.len() {
            return Err(Error::WeightCount { expected: entries.len(), found: given.len() });
        }
        for (index, (value, entry)) in given.iter().zip(&entries).enumerate() {
            let expected = self.kind_of(*entry, |variable| self.records.at(variable).shape());
            if !accepts(&expected, &value.kind()) {
                let name = self.entry_name(*entry);
                let found = value.kind().to_string();
                return Err(Error::WeightMismatch { index, name, expected: expected.to_string(), found });
            }
            self.check_range(index, *entry, value)?;
        }
        for (value, entry) in given.into_iter().zip(entries) {
            self.assign(entry, value);
        }
        self.poisoned = false;
        Ok(())
    }

    /// Refuses numbers that the slot of an entry cannot have.
    fn check_range(&self, index: usize, entry: Entry, value: &StateValue<'_, T>) -> Result<(), Error> {
        let place = match entry {
            Entry::Iterations | Entry::Of(_, SlotPlace::Average | SlotPlace::Master) => return Ok(()),
            Entry::Shared(shared) => self.slots_in(None).nth(shared),
            Entry::Of(_, place) => self.slots_in(Some(place)).next(),
        };
        let Some(slot) = place.filter(|slot| slot.is_limited()) else { return Ok(()) };
        let found = match value {
            StateValue::Iterations(_) => None,
            StateValue::Scalar(number) => Some(*number).filter(|number| !slot.allows(*number)),
            StateValue::Array(array) => array.iter().map(|number| number.as_()).find(|number| !slot.allows(*number)),
            StateValue::Bf16(array) => array.iter().map(|number| number.to_f64()).find(|number| !slot.allows(*number)),
        };
        match found {
            None => Ok(()),
            Some(found) => {
                Err(Error::WeightRange { index, name: self.entry_name(entry), found, expected: slot.expected() })
            }
        }
    }

    /// The slots at a place in a record; all shared slots, if there is no place.
    fn slots_in(&self, place: Option<SlotPlace>) -> impl Iterator<Item = &SlotSpec> {
        let places: Vec<_> = self.places().map(|(_, place)| place).collect();
        self.slots.iter().zip(places).filter(move |(_, of_slot)| *of_slot == place).map(|(slot, _)| slot)
    }

    /// The value of an entry, borrowed.
    pub(super) fn peek(&self, entry: Entry) -> StateValue<'_, T> {
        match entry {
            Entry::Iterations => StateValue::Iterations(self.iterations),
            Entry::Shared(slot) => StateValue::Scalar(self.shared[slot]),
            Entry::Of(variable, place) => self.records.at(variable).slot(place),
        }
    }

    /// An entry with its name.
    pub(super) fn named<V>(&self, entry: Entry, value: V) -> StateEntry<V> {
        StateEntry { name: self.entry_name(entry), value, variable: entry.variable() }
    }

    /// Assigns a value of an accepted kind.
    fn assign(&mut self, entry: Entry, value: StateValue<'_, T>) {
        match (entry, value) {
            (Entry::Iterations, StateValue::Iterations(count)) => self.iterations = count,
            (Entry::Shared(slot), StateValue::Scalar(number)) => self.shared[slot] = number,
            (Entry::Of(variable, SlotPlace::Scalar(slot)), StateValue::Scalar(number)) => {
                self.records.at_mut(variable).scalars[slot] = number;
            }
            (Entry::Of(variable, place), value) => {
                let record = self.records.at_mut(variable);
                if let Some(packed) = record.packed_mut(place) {
                    packed.clear();
                    match value {
                        StateValue::Bf16(array) => packed.extend(array.iter()),
                        StateValue::Array(array) => packed.extend(array.iter().map(|x| bf16::from_f32(x.to_f32()))),
                        _ => unreachable!("the kind was accepted"),
                    }
                } else if let StateValue::Array(array) = value {
                    let stored = record.to_stored(array.into_owned());
                    if let Some(slot) = record.array_mut(place) {
                        *slot = stored;
                    }
                }
            }
            _ => unreachable!("the kind was accepted"),
        }
    }
}

/// Whether a value of one kind can be assigned to an entry of another kind.
fn accepts(entry: &StateKind, value: &StateKind) -> bool {
    match (entry, value) {
        (StateKind::Bf16(expected), StateKind::Array(found)) => expected == found,
        (expected, found) => expected == found,
    }
}
