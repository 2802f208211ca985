//! The state as a list in Keras's order: what Keras calls `get_weights` and `set_weights`.

use super::super::slots::places;
use super::super::{Optimizer, SlotPlace, SwappedIn};
use super::entries::Entry;
use super::{StateEntry, StateKind, StateValue};
use crate::config::Interval;
use crate::error::Error;
use crate::loss_scale::LossScale;
use crate::precision::master::CORRECTIONS;
use crate::real::Scalar;
use crate::rule::UpdateRule;

impl<R: UpdateRule<T>, T: Scalar> Optimizer<R, T> {
    /// A copy of all state besides the variables. In this order:
    ///
    /// * `iterations`; with accumulation, `micro_step`; with a dynamic loss scale, `loss_scale` and `good_steps`;
    /// * with averaging, the average of each variable; the slot of [`Master`](crate::Master) of each variable in 16 bits;
    /// * between micro-steps, the accumulated gradient of each variable, `accumulator`, and which rows have one,
    ///   `accumulated`;
    /// * slot by slot, in the order of the rule, the shared number or the slot of each variable. (A rule may ask for
    ///   its slots [variable by variable](crate::rule::WeightsOrder) instead.) The slots of the rules of
    ///   [groups](crate::Group) follow, in the order of the groups, for the variables that have this rule.
    ///
    /// Slots in bfloat16 are widened.
    ///
    /// A run depends on nothing else than this list, the configuration and the variables. [`state`](Self::state) gives
    /// the same list without a copy.
    #[doc(alias = "get_weights")]
    #[must_use]
    pub fn weights(&self) -> Vec<StateEntry<StateValue<'static, T>>> {
        let listed = self.listed();
        let widened = |entry: Entry| self.named(entry, &listed, self.peek(entry).to_widened());
        self.entries_of(&listed, self.micro_step > 0).into_iter().map(widened).collect()
    }

    /// Replaces all state by a list in the order of [`weights`](Self::weights).
    ///
    /// The variables must be known from earlier steps, or from [`add_variables`](Self::add_variables).
    ///
    /// A slot that is stored in [fewer bits](crate::MomentStorage) accepts numbers in bfloat16 or wider ones, which are
    /// rounded to nearest, ties to even. (Corrections of [masters](crate::Master) are whole numbers, and not
    /// rounded.) A list that [`weights`](Self::weights) returned is restored bit for bit.
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
        if let Some(SwappedIn { slot, .. }) = &self.swapped_in {
            return Err(Error::SwappedIn { slot: slot.clone() });
        }
        let given: Vec<StateValue<'w, T>> = weights.into_iter().map(Into::into).collect();
        let listed = self.listed();
        // The number of micro-steps comes second, and tells whether there are accumulated gradients.
        let accumulated = self.options.accumulate.is_some()
            && matches!(given.get(1), Some(StateValue::Scalar(micro_step)) if *micro_step > 0.0);
        let entries = self.entries_of(&listed, accumulated);
        if given.len() != entries.len() {
            return Err(Error::WeightCount { expected: entries.len(), found: given.len() });
        }
        for (index, (value, entry)) in given.iter().zip(&entries).enumerate() {
            let expected = self.kind_of(*entry, &listed);
            if !accepts(&expected, &value.kind()) {
                let name = self.entry_name(*entry, &listed);
                let found = value.kind().to_string();
                return Err(Error::WeightMismatch { index, name, expected: expected.to_string(), found });
            }
            self.check_range(index, *entry, value)?;
        }
        self.discard_accumulated();
        for (value, entry) in given.into_iter().zip(entries) {
            self.assign(entry, value);
        }
        self.poisoned = false;
        Ok(())
    }

    /// Refuses numbers that the slot of an entry cannot have.
    fn check_range(&self, index: usize, entry: Entry, value: &StateValue<'_, T>) -> Result<(), Error> {
        if let (Some(range), StateValue::Scalar(number)) = (self.range_of(entry), value)
            && !(range.contains(*number) && (entry.is_a_scale() || number.fract() == 0.0))
        {
            let name = self.entry_name(entry, &self.listed());
            return Err(Error::WeightRange { index, name, found: *number, expected: format!("numbers in {range}") });
        }
        let slot = match entry {
            Entry::Iterations | Entry::MicroStep | Entry::LossScale | Entry::GoodSteps => None,
            Entry::Of(_, SlotPlace::Average | SlotPlace::Master | SlotPlace::Accumulator | SlotPlace::Accumulated) => {
                None
            }
            Entry::Shared(ruling, shared) => {
                let slots = &self.groups.rulings()[ruling].slots;
                places(slots).filter(|(_, place)| place.is_none()).nth(shared).map(|(slot, _)| slot)
            }
            Entry::Of(variable, place) => self.slot_at(self.records.at(variable).group, place),
        };
        if let Entry::Of(variable, SlotPlace::Master) = entry
            && let Some(found) = self.records.at(variable).master.wrong_correction(value)
        {
            let name = self.entry_name(entry, &self.listed());
            let expected = format!("whole numbers in {}", Interval::from(CORRECTIONS));
            return Err(Error::WeightRange { index, name, found, expected });
        }
        if let (Entry::Of(_, SlotPlace::Accumulated), StateValue::Array(marks)) = (entry, value)
            && let Some(found) = wrong_mark(marks.iter().map(|mark| mark.as_()))
        {
            let name = self.entry_name(entry, &self.listed());
            let expected = "0 and 1, or 2 in all rows, or 3 in all rows".to_owned();
            return Err(Error::WeightRange { index, name, found, expected });
        }
        let Some(slot) = slot.filter(|slot| slot.is_limited()) else { return Ok(()) };
        let found = match value {
            StateValue::Iterations(_) => None,
            StateValue::Scalar(number) => Some(*number).filter(|number| !slot.allows(*number)),
            StateValue::Array(array) => array.iter().map(|number| number.as_()).find(|number| !slot.allows(*number)),
            StateValue::Bf16(array) => array.iter().map(|number| number.to_f64()).find(|number| !slot.allows(*number)),
        };
        match found {
            None => Ok(()),
            Some(found) => {
                let name = self.entry_name(entry, &self.listed());
                Err(Error::WeightRange { index, name, found, expected: slot.expected() })
            }
        }
    }

    /// The range of a number of the engine.
    fn range_of(&self, entry: Entry) -> Option<Interval> {
        let below = |steps: u64| Interval::from(0.0..=steps.saturating_sub(1) as f64);
        match entry {
            Entry::MicroStep => self.options.accumulate.map(|accumulate| below(accumulate.steps)),
            Entry::LossScale => Some(Interval::from(1.0..=LossScale::LARGEST)),
            Entry::GoodSteps => Some(Interval::from(0.0..=self.scaling.most_good_steps() as f64)),
            _ => None,
        }
    }

    /// The value of an entry, borrowed.
    pub(super) fn peek(&self, entry: Entry) -> StateValue<'_, T> {
        match entry {
            Entry::Iterations => StateValue::Iterations(self.iterations),
            Entry::MicroStep => StateValue::Scalar(self.micro_step as f64),
            Entry::LossScale => StateValue::Scalar(self.scaling.scale),
            Entry::GoodSteps => StateValue::Scalar(self.scaling.good_steps as f64),
            Entry::Shared(ruling, slot) => StateValue::Scalar(self.groups.rulings()[ruling].shared[slot]),
            Entry::Of(variable, place) => self.records.at(variable).slot(place),
        }
    }

    /// Assigns a value of an accepted kind.
    fn assign(&mut self, entry: Entry, value: StateValue<'_, T>) {
        match (entry, value) {
            (Entry::Iterations, StateValue::Iterations(count)) => self.iterations = count,
            (Entry::MicroStep, StateValue::Scalar(number)) => self.micro_step = number as u64,
            (Entry::LossScale, StateValue::Scalar(number)) => self.scaling.scale = number,
            (Entry::GoodSteps, StateValue::Scalar(number)) => self.scaling.good_steps = number as u64,
            (Entry::Shared(ruling, slot), StateValue::Scalar(number)) => {
                self.groups.ruling_mut(ruling).shared[slot] = number;
            }
            (Entry::Of(variable, SlotPlace::Scalar(slot)), StateValue::Scalar(number)) => {
                self.records.at_mut(variable).scalars[slot] = number;
            }
            (
                Entry::Of(variable, place @ (SlotPlace::Accumulator | SlotPlace::Accumulated)),
                StateValue::Array(array),
            ) => self.records.at_mut(variable).assign_accumulated(place, array.into_owned()),
            (Entry::Of(variable, place), value) => {
                let record = self.records.at_mut(variable);
                if place == SlotPlace::Master && record.master.assign_corrections(&value) {
                    return;
                }
                if let Some(packed) = record.packed_mut(place) {
                    match value {
                        StateValue::Bf16(array) => packed.assign_bf16(array.iter().copied()),
                        StateValue::Array(array) => packed.assign(array.iter().copied()),
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

/// The first of the marks of accumulated gradients that cannot stand beside those before it.
fn wrong_mark(mut marks: impl Iterator<Item = f64>) -> Option<f64> {
    let first = marks.next()?;
    let fits = |mark: f64| match first {
        2.0 | 3.0 => mark == first,
        _ => [0.0, 1.0].contains(&mark),
    };
    if fits(first) { marks.find(|mark| !fits(*mark)) } else { Some(first) }
}

/// Whether a value of one kind can be assigned to an entry of another kind.
fn accepts(entry: &StateKind, value: &StateKind) -> bool {
    match (entry, value) {
        (StateKind::Bf16(expected), StateKind::Array(found)) => expected == found,
        (expected, found) => expected == found,
    }
}
