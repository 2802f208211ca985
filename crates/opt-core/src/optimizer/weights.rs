//! The state as a list, in Keras's order.

use half::bf16;
use ndarray::ArrayD;

use super::state::StateValue;
use super::{Optimizer, Slot, SlotPlace};
use crate::ema::Ema;
use crate::error::Error;
use crate::precision::MASTER;
use crate::real::Scalar;
use crate::rule::{UpdateRule, WeightsOrder};

/// One entry of the state.
#[derive(Debug, Clone, PartialEq)]
pub struct Weight<T> {
    /// `iterations`, the name of a shared slot, or `variable/slot`.
    pub name: String,
    /// Its value.
    pub value: WeightValue<T>,
}

/// The value of one entry of the state.
#[derive(Debug, Clone, PartialEq)]
pub enum WeightValue<T> {
    /// The step counter.
    Iterations(u64),
    /// A shared slot, or a scalar slot of a variable.
    Scalar(f64),
    /// An array slot of a variable, in the variable's shape.
    Array(ArrayD<T>),
}

impl<T> From<Weight<T>> for WeightValue<T> {
    fn from(weight: Weight<T>) -> Self {
        weight.value
    }
}

impl<T: Scalar> WeightValue<T> {
    fn as_state(&self) -> StateValue<'_, T> {
        match self {
            Self::Iterations(count) => StateValue::Iterations(*count),
            Self::Scalar(number) => StateValue::Scalar(*number),
            Self::Array(array) => StateValue::Array(array.view()),
        }
    }
}

/// Where the state keeps an entry.
#[derive(Debug, Clone, Copy)]
pub(super) enum Entry {
    Iterations,
    /// A shared slot.
    Shared(usize),
    /// A slot of the variable at this place.
    Of(usize, SlotPlace),
}

impl Entry {
    /// The place of its variable.
    pub(super) fn variable(self) -> Option<usize> {
        match self {
            Self::Iterations | Self::Shared(_) => None,
            Self::Of(variable, _) => Some(variable),
        }
    }
}

impl<R: UpdateRule<T>, T: Scalar> Optimizer<R, T> {
    /// All state besides the variables: `iterations`; with averaging the average of each variable; the `master` of each
    /// variable in [16 bits](crate::Variable::half); then slot by slot, in the order of the rule, the shared number or the slot of each variable. (A rule may ask for its slots
    /// [variable by variable](crate::WeightsOrder) instead.)
    ///
    /// Together with the configuration and the variables this is everything that a run depends on.
    #[must_use]
    pub fn weights(&self) -> Vec<Weight<T>> {
        let weight = |entry| Weight { name: self.entry_name(entry), value: self.peek(entry).to_weight() };
        self.entries().into_iter().map(weight).collect()
    }

    /// Replaces all state by a list in the order of [`weights`](Self::weights).
    ///
    /// The variables must be known: from earlier steps, or from [`add_variables`](Self::add_variables).
    ///
    /// A slot that is kept in [bfloat16](crate::MomentStorage) gets numbers rounded to nearest, ties to even, with no
    /// error. What [`weights`](Self::weights) gave is representable and comes back to the bit; numbers of another
    /// optimizer, or of a run with moments in full, lose digits.
    ///
    /// # Errors
    ///
    /// When the list has another length, or an entry another kind or shape. Nothing is then assigned.
    pub fn set_weights<W: Into<WeightValue<T>>>(&mut self, weights: impl IntoIterator<Item = W>) -> Result<(), Error> {
        if let Some(slot) = &self.swapped_in {
            return Err(Error::SwappedIn { slot: slot.clone() });
        }
        let given: Vec<WeightValue<T>> = weights.into_iter().map(Into::into).collect();
        let entries = self.entries();
        if given.len() != entries.len() {
            return Err(Error::WeightCount { expected: entries.len(), found: given.len() });
        }
        if let Some(index) = given.iter().zip(&entries).position(|(given, entry)| !self.fits(*entry, given)) {
            let (entry, found) = (entries[index], given[index].as_state().kind().to_string());
            let expected = self.kind_of(entry, |record| self.records.at(record).shape()).to_string();
            return Err(Error::WeightMismatch { index, name: self.entry_name(entry), expected, found });
        }
        for (given, entry) in given.into_iter().zip(entries) {
            self.write(entry, given);
        }
        self.poisoned = false;
        Ok(())
    }

    /// The entries of the list.
    pub(super) fn entries(&self) -> Vec<Entry> {
        self.entries_of(self.records.len(), |record| self.records.at(record).is_half())
    }

    /// The entries that there would be for so many variables, some of which have masters.
    pub(super) fn entries_of(&self, records: usize, is_half: impl Fn(usize) -> bool) -> Vec<Entry> {
        let mut entries = vec![Entry::Iterations];
        let of_all = |place| (0..records).map(move |record| Entry::Of(record, place));
        if self.options.use_ema {
            entries.extend(of_all(SlotPlace::Average));
        }
        let halves = (0..records).filter(|record| is_half(*record));
        entries.extend(halves.map(|record| Entry::Of(record, SlotPlace::Master)));
        let (mut shared, mut own) = (0, Vec::new());
        for (_, place) in self.places() {
            match place {
                None => {
                    entries.push(Entry::Shared(shared));
                    shared += 1;
                }
                Some(place) if self.rule.weights_order() == WeightsOrder::BySlot => entries.extend(of_all(place)),
                Some(place) => own.push(place),
            }
        }
        entries.extend((0..records).flat_map(|record| own.iter().map(move |place| Entry::Of(record, *place))));
        entries
    }

    /// The name of an entry that there is.
    pub(super) fn entry_name(&self, entry: Entry) -> String {
        self.entry_name_of(entry, |record| &self.records.at(record).name)
    }

    /// The name of an entry, for variables of these names.
    pub(super) fn entry_name_of<'n>(&self, entry: Entry, name: impl Fn(usize) -> &'n str) -> String {
        let slot = |wanted| self.places().find(|(_, place)| *place == Some(wanted)).map_or("", |(slot, _)| slot);
        match entry {
            Entry::Iterations => "iterations".to_owned(),
            Entry::Shared(shared) => {
                let mut names = self.places().filter(|(_, place)| place.is_none());
                names.nth(shared).map_or("", |(slot, _)| slot).to_owned()
            }
            Entry::Of(record, SlotPlace::Average) => format!("{}/{}", name(record), Ema::SLOT),
            Entry::Of(record, SlotPlace::Master) => format!("{}/{MASTER}", name(record)),
            Entry::Of(record, place) => format!("{}/{}", name(record), slot(place)),
        }
    }

    pub(super) fn peek(&self, entry: Entry) -> StateValue<'_, T> {
        match entry {
            Entry::Iterations => StateValue::Iterations(self.iterations),
            Entry::Shared(slot) => StateValue::Scalar(self.shared[slot]),
            Entry::Of(record, place) => match self.records.at(record).slot(place) {
                Slot::Scalar(number) => StateValue::Scalar(number),
                Slot::Array(array) => StateValue::Array(array),
                Slot::Bf16(array) => StateValue::Bf16(array),
            },
        }
    }

    /// Whether a value has the kind and the shape of an entry.
    fn fits(&self, entry: Entry, value: &WeightValue<T>) -> bool {
        match (entry, value) {
            (Entry::Iterations, WeightValue::Iterations(_))
            | (Entry::Shared(_) | Entry::Of(_, SlotPlace::Scalar(_)), WeightValue::Scalar(_)) => true,
            (Entry::Of(_, SlotPlace::Scalar(_)), _) => false,
            (Entry::Of(record, _), WeightValue::Array(array)) => array.shape() == self.records.at(record).shape(),
            _ => false,
        }
    }

    /// Assigns a value that fits.
    fn write(&mut self, entry: Entry, value: WeightValue<T>) {
        match (entry, value) {
            (Entry::Iterations, WeightValue::Iterations(count)) => self.iterations = count,
            (Entry::Shared(slot), WeightValue::Scalar(number)) => self.shared[slot] = number,
            (Entry::Of(record, SlotPlace::Scalar(slot)), WeightValue::Scalar(number)) => {
                self.records.at_mut(record).scalars[slot] = number;
            }
            (Entry::Of(record, place), WeightValue::Array(array)) => {
                let record = self.records.at_mut(record);
                if let Some(packed) = record.packed_mut(place) {
                    packed.clear();
                    packed.extend(array.iter().map(|number| bf16::from_f32(number.to_f32())));
                    return;
                }
                let stored = record.to_stored(array);
                if let Some(slot) = record.array_mut(place) {
                    *slot = stored;
                }
            }
            _ => unreachable!("the value fits the entry"),
        }
    }
}
