//! The state that the optimizer keeps for each variable.

use std::collections::HashMap;
use std::{iter, mem};

use half::bf16;
use ndarray::{ArrayD, ArrayViewD, IxDyn};
use smallvec::SmallVec;

use super::StateValue;
use super::accumulator::Accumulator;
use super::form::{Form, in_order};
use super::slots::{SlotPlace, places};
use super::step::storage::AnyValue;
use crate::master::Master;
use crate::moments::MomentStorage;
use crate::precision::master::MasterSlot;
use crate::precision::packed::PackedSlot;
use crate::precision::stochastic;
use crate::real::{DType, Scalar};
use crate::rule::{SlotInit, SlotSpec};

/// One variable: its name, its shape and its slots.
#[derive(Debug, Clone)]
pub(crate) struct Record<T> {
    pub(crate) name: String,
    /// The shape, and the order of axes in which slots are stored: the memory order of the variable when it was first
    /// seen.
    pub(crate) form: Form,
    /// The array slots in full; an empty vector where the slot is in `packed`.
    pub(crate) arrays: SmallVec<[Vec<T>; 2]>,
    /// The array slots in fewer bits, at the same places as in `arrays`; `None` where the slot is stored in full.
    pub(crate) packed: Vec<Option<PackedSlot>>,
    /// The hash of the name, by which the roundings of variables differ.
    pub(crate) hash: u64,
    pub(crate) scalars: Vec<f64>,
    pub(crate) average: Option<Vec<T>>,
    /// The gradients of earlier micro-steps, of the whole variable as this rank gives it.
    pub(crate) accumulator: Accumulator<T>,
    /// The element type of the variable.
    pub(crate) dtype: DType,
    /// The master of a variable in 16 bits.
    pub(crate) master: MasterSlot<T>,
    /// Whether decoupled weight decay applies.
    pub(crate) decays: bool,
    /// The group that the variable belongs to.
    pub(crate) group: usize,
    /// The number of the last call in which the variable was given.
    pub(crate) seen_in: u64,
}

/// A variable that is not known yet.
pub(crate) struct NewVariable<'v, T> {
    pub(crate) name: String,
    pub(crate) form: Form,
    pub(crate) dtype: DType,
    /// The number of elements.
    pub(crate) len: usize,
    /// Copies the variable, in stored order.
    pub(crate) value: &'v dyn Fn() -> Vec<T>,
    /// Whether decoupled weight decay applies.
    pub(crate) decays: bool,
    /// The group that the variable belongs to.
    pub(crate) group: usize,
}

/// The numbers of one slot.
enum Contents<T> {
    Full(Vec<T>),
    Packed(PackedSlot),
    Scalar(f64),
    /// A shared slot is not in a record.
    Shared,
}

impl<T: Scalar> Contents<T> {
    /// The initial value of a slot of this many elements; `copy` copies the variable.
    fn initial(slot: &SlotSpec, storage: MomentStorage, len: usize, copy: &dyn Fn() -> Vec<T>) -> Self {
        let packed = |init| PackedSlot::filled(slot, storage, packed_initial(Some(init)), len);
        if let Some(packed) = Some(slot.init()).filter(|_| slot.is_moment()).and_then(packed) {
            return Self::Packed(packed);
        }
        match slot.init() {
            SlotInit::Shared(_) => Self::Shared,
            SlotInit::Scalar(initial) => Self::Scalar(initial),
            SlotInit::Zeros => Self::Full(vec![T::zero(); len]),
            SlotInit::Ones => Self::Full(vec![T::literal(1.0); len]),
            SlotInit::Copy => Self::Full(copy()),
        }
    }
}

/// The shape of one number for each row; at least one number.
pub(crate) fn row_shape(shape: &[usize]) -> Vec<usize> {
    shape.first().map(|&rows| rows.max(1)).into_iter().collect()
}

/// An array of this shape.
fn shaped<'a, T>(shape: &[usize], values: Vec<T>) -> StateValue<'a, T> {
    rows(shape, values).into()
}

fn rows<E>(shape: &[usize], values: Vec<E>) -> ArrayD<E> {
    ArrayD::from_shape_vec(IxDyn(shape), values).expect("as many as the shape has")
}

/// The initial number of a slot in fewer bits.
fn packed_initial(init: Option<SlotInit>) -> bf16 {
    if init == Some(SlotInit::Ones) { bf16::ONE } else { bf16::ZERO }
}

/// The slots that new variables get.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NewSlots<'s> {
    pub(crate) specs: &'s [SlotSpec],
    pub(crate) averages: bool,
    /// How variables in 16 bits keep their masters.
    pub(crate) master: Master,
    pub(crate) fill: Fill,
}

/// What new slots are filled with.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Fill {
    /// Their initial values.
    Initial,
    /// Nothing yet: the caller replaces all of them before any is read.
    Later,
}

impl<T: Scalar> Record<T> {
    pub(crate) fn new(variable: NewVariable<'_, T>, new: &NewSlots<'_>, storage: MomentStorage) -> Self {
        let NewVariable { name, form, dtype, len, value, decays, group } = variable;
        let (len, copy): (usize, &dyn Fn() -> Vec<T>) = match new.fill {
            Fill::Initial => (len, value),
            Fill::Later => (0, &Vec::new),
        };
        let mut record = Self {
            hash: stochastic::hash(&name),
            name,
            form,
            arrays: SmallVec::new(),
            packed: Vec::new(),
            scalars: Vec::new(),
            average: new.averages.then(copy),
            accumulator: Accumulator::None,
            dtype,
            master: if dtype == T::DTYPE { MasterSlot::none() } else { MasterSlot::new(new.master, copy()) },
            decays,
            group,
            seen_in: 0,
        };
        for slot in new.specs {
            record.push(slot, Contents::initial(slot, storage, len, copy));
        }
        record
    }

    /// Adds a slot behind the others.
    fn push(&mut self, slot: &SlotSpec, contents: Contents<T>) {
        match contents {
            Contents::Full(array) => self.arrays.push(array),
            Contents::Packed(array) => {
                self.packed.resize(self.arrays.len(), None);
                self.packed.push(Some(array));
                self.arrays.push(Vec::new());
            }
            Contents::Scalar(number) => self.scalars.push(number),
            Contents::Shared => debug_assert!(matches!(slot.init(), SlotInit::Shared(_))),
        }
    }

    /// Gives a slot its initial value; `slots` are those of the variable's rule, `value` is the variable's, in stored
    /// order. The master is the caller's.
    pub(crate) fn restart(&mut self, place: SlotPlace, slots: &[SlotSpec], value: &[T]) {
        let init = places(slots).find(|(_, of_slot)| *of_slot == Some(place)).map(|(slot, _)| slot.init());
        match (place, init) {
            (SlotPlace::Average, _) => self.average = Some(value.to_vec()),
            (SlotPlace::Master | SlotPlace::Accumulator | SlotPlace::Accumulated, _) => {}
            (SlotPlace::Scalar(scalar), Some(SlotInit::Scalar(initial))) => self.scalars[scalar] = initial,
            (SlotPlace::Scalar(_), _) => {}
            (SlotPlace::Array(array), init) => match (self.packed.get_mut(array).and_then(Option::as_mut), init) {
                (Some(packed), init) => packed.fill(packed_initial(init)),
                (None, Some(SlotInit::Copy)) => self.arrays[array] = value.to_vec(),
                (None, Some(SlotInit::Ones)) => self.arrays[array].fill(T::literal(1.0)),
                (None, _) => self.arrays[array].fill(T::zero()),
            },
        }
    }

    /// Fills the slots that are copies of the variable, if its numbers were not there when the record was made; `slots`
    /// are those of the variable's rule.
    pub(crate) fn copy_variable(&mut self, slots: &[SlotSpec], value: &AnyValue<'_, T>) {
        if self.is_half() {
            self.master.restart(&value.to_vec());
        }
        if let Some(average) = &mut self.average {
            *average = value.to_vec();
        }
        for (slot, place) in places(slots).filter(|(slot, _)| slot.init() == SlotInit::Copy) {
            debug_assert!(!slot.is_moment(), "a moment does not start as a copy");
            if let Some(SlotPlace::Array(array)) = place {
                self.arrays[array] = value.to_vec();
            }
        }
    }

    /// Changes the list of slots: known ones keep their values, new ones get their initial values.
    pub(crate) fn change_slots(&mut self, old: &[SlotSpec], new: &[SlotSpec], storage: MomentStorage) {
        let len = self.shape().iter().product();
        let arrays = mem::take(&mut self.arrays).into_iter();
        let packed = mem::take(&mut self.packed).into_iter().map(Some).chain(iter::repeat(None));
        let mut arrays = arrays.zip(packed.map(Option::flatten));
        let mut scalars = mem::take(&mut self.scalars).into_iter();
        let contents = |slot: &SlotSpec| match slot.init() {
            SlotInit::Shared(_) => Some(Contents::Shared),
            SlotInit::Scalar(_) => scalars.next().map(Contents::Scalar),
            _ => arrays.next().map(|(full, packed)| packed.map_or(Contents::Full(full), Contents::Packed)),
        };
        let mut known: Vec<(&SlotSpec, Option<Contents<T>>)> = old.iter().zip(old.iter().map(contents)).collect();
        for slot in new {
            let kept = known.iter_mut().find(|(known, _)| *known == slot).and_then(|(_, contents)| contents.take());
            // A new slot is no copy: the caller has refused that.
            self.push(slot, kept.unwrap_or_else(|| Contents::initial(slot, storage, len, &Vec::new)));
        }
    }

    /// Notes that the list of this call has the variable. Returns its group.
    #[inline(always)]
    pub(crate) fn see(&mut self, call: u64) -> usize {
        self.seen_in = call;
        self.group
    }

    pub(crate) fn shape(&self) -> &[usize] {
        &self.form.shape
    }

    /// An array slot, viewed with the axes in the variable's order.
    fn view<'a, E>(&self, slot: &'a [E]) -> ArrayViewD<'a, E> {
        self.form.view(slot)
    }

    /// The value of a slot, with the axes in the variable's order.
    pub(crate) fn slot(&self, place: SlotPlace) -> StateValue<'_, T> {
        match place {
            SlotPlace::Array(array) => match self.packed.get(array) {
                Some(Some(PackedSlot::Bf16(numbers))) => StateValue::Bf16(self.view(numbers).into()),
                Some(Some(PackedSlot::Float8(slot))) => StateValue::Bf16(rows(self.shape(), slot.to_bf16()).into()),
                _ => self.view(&self.arrays[array]).into(),
            },
            SlotPlace::Scalar(scalar) => StateValue::Scalar(self.scalars[scalar]),
            SlotPlace::Average => self.view(self.average.as_deref().unwrap_or_default()).into(),
            SlotPlace::Master => match self.master.corrections() {
                Some(corrections) => StateValue::Bf16(rows(self.shape(), corrections).into()),
                None => self.view(self.master.full()).into(),
            },
            SlotPlace::Accumulator => match &self.accumulator {
                Accumulator::Dense(sum) => self.form.whole().view(sum).into(),
                _ => shaped(self.form.given(), self.accumulated().0),
            },
            SlotPlace::Accumulated => shaped(&row_shape(self.form.given()), self.accumulated().1),
        }
    }

    /// The accumulated gradient, row by row, and the marks of its rows.
    fn accumulated(&self) -> (Vec<T>, Vec<T>) {
        let shape = self.form.given();
        self.accumulator.to_arrays(shape.iter().product(), row_shape(shape).into_iter().product())
    }

    /// Assigns the accumulated gradient and the marks of its rows, which follow it.
    pub(crate) fn assign_accumulated(&mut self, place: SlotPlace, values: ArrayD<T>) {
        if place == SlotPlace::Accumulator {
            self.accumulator = Accumulator::Dense(self.to_stored(values));
            return;
        }
        let marks: Vec<T> = values.into_iter().collect();
        if !Accumulator::are_dense(&marks) {
            self.make_row_major();
        }
        if let Accumulator::Dense(sum) = mem::take(&mut self.accumulator) {
            self.accumulator = Accumulator::from_arrays(sum, &marks);
        }
    }

    /// Whether the variable is in 16 bits, and therefore has a master.
    pub(crate) fn is_half(&self) -> bool {
        self.dtype != T::DTYPE
    }

    /// An array slot as it is stored, to change.
    pub(crate) fn array_mut(&mut self, place: SlotPlace) -> Option<&mut Vec<T>> {
        match place {
            SlotPlace::Array(array) => self.arrays.get_mut(array),
            SlotPlace::Average => self.average.as_mut(),
            SlotPlace::Master => Some(self.master.full_mut()),
            SlotPlace::Scalar(_) | SlotPlace::Accumulator | SlotPlace::Accumulated => None,
        }
    }

    /// An array slot in fewer bits, to change; it is stored row by row.
    pub(crate) fn packed_mut(&mut self, place: SlotPlace) -> Option<&mut PackedSlot> {
        let SlotPlace::Array(array) = place else { return None };
        self.packed.get_mut(array)?.as_mut()
    }

    /// Takes numbers with the axes in the variable's order, and returns them as an array slot stores them. Numbers that
    /// are in stored order already are not copied.
    pub(crate) fn to_stored(&self, values: ArrayD<T>) -> Vec<T> {
        if self.form.axes.is_some() || !values.is_standard_layout() {
            return in_order(values.view(), self.form.axes.as_deref()).iter().copied().collect();
        }
        let count = values.len();
        let (mut numbers, offset) = values.into_raw_vec_and_offset();
        numbers.drain(..offset.unwrap_or(0));
        numbers.truncate(count);
        numbers
    }

    /// Changes the slots to be stored row by row.
    pub(crate) fn make_row_major(&mut self) {
        if self.form.axes.is_some() {
            // A slot that is filled later is still empty.
            let row_major = |slot: &Vec<T>| match slot.is_empty() {
                true => Vec::new(),
                false => self.view(slot).iter().copied().collect::<Vec<_>>(),
            };
            let arrays = self.arrays.iter().map(row_major).collect();
            let average = self.average.as_ref().map(row_major);
            if let Accumulator::Dense(sum) = &self.accumulator {
                self.accumulator = Accumulator::Dense(self.form.whole().view(sum).iter().copied().collect());
            }
            (self.arrays, self.average, self.form.axes) = (arrays, average, None);
        }
    }
}

/// All variables, in the order in which they were first seen.
#[derive(Debug, Clone)]
pub(crate) struct Records<T> {
    records: Vec<Record<T>>,
    places: HashMap<String, usize>,
    /// Places by name. Sums over variables run in this order, whatever the order of the list is.
    by_name: Vec<usize>,
    /// The number of elements of all variables together.
    elements: usize,
    /// The number of lists of variables so far.
    calls: u64,
    storage: MomentStorage,
}

impl<T: Scalar> Records<T> {
    pub(crate) fn new(storage: MomentStorage) -> Self {
        Self { records: Vec::new(), places: HashMap::new(), by_name: Vec::new(), elements: 0, calls: 0, storage }
    }

    /// Whether slots are stored row by row, whatever the memory order of the variable is. Stochastic rounding depends
    /// on the place of an element, which must not change when a run is restored.
    pub(crate) fn are_row_major(&self) -> bool {
        self.storage != MomentStorage::Full
    }

    pub(crate) fn len(&self) -> usize {
        self.records.len()
    }

    /// The number of elements of all variables together.
    pub(crate) fn elements(&self) -> usize {
        self.elements
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Record<T>> {
        self.records.iter()
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Record<T>> {
        self.records.iter_mut()
    }

    pub(crate) fn as_mut_slice(&mut self) -> &mut [Record<T>] {
        &mut self.records
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Record<T>> {
        self.place(name, 0).map(|place| &self.records[place])
    }

    pub(crate) fn at(&self, place: usize) -> &Record<T> {
        &self.records[place]
    }

    pub(crate) fn at_mut(&mut self, place: usize) -> &mut Record<T> {
        &mut self.records[place]
    }

    /// The place of a variable; tries `guess` first.
    pub(crate) fn place(&self, name: &str, guess: usize) -> Option<usize> {
        match self.records.get(guess) {
            Some(record) if record.name == name => Some(guess),
            _ => self.places.get(name).copied(),
        }
    }

    /// Whether the variable at this place has this name, these shapes (its own, and that of its gradient), and no
    /// particulars: its numbers and its slots are in row-major order and in the element type of the optimizer. Also,
    /// that the list of this call has not had it yet.
    #[inline(always)]
    pub(crate) fn is_usual(&self, place: usize, call: u64, name: &str, shapes: [&[usize]; 2]) -> bool {
        self.records.get(place).is_some_and(|record| {
            let Form { shape, axes: None, whole: None } = &record.form else { return false };
            // Shapes are short: a call to compare memory would take longer.
            let is_same = |other: &[usize]| other.len() == shape.len() && other.iter().zip(shape).all(|(a, b)| a == b);
            record.name == name && record.dtype == T::DTYPE && record.seen_in != call && shapes.into_iter().all(is_same)
        })
    }

    /// The places of all variables, in the order of their names.
    pub(crate) fn by_name(&self) -> &[usize] {
        &self.by_name
    }

    /// Counts a new list of variables, and returns its number.
    pub(crate) fn next_call(&mut self) -> u64 {
        self.calls += 1;
        self.calls
    }

    /// Makes the slots of a new variable. The caller must call [`sort_names`](Self::sort_names) afterwards.
    pub(crate) fn add(&mut self, variable: NewVariable<'_, T>, slots: &NewSlots<'_>) {
        self.elements += variable.len;
        self.places.insert(variable.name.clone(), self.records.len());
        self.records.push(Record::new(variable, slots, self.storage));
    }

    /// Forgets the variables at these places, which are sorted.
    pub(crate) fn remove(&mut self, places: &[usize]) {
        let mut place = 0..;
        self.records.retain(|_| place.next().is_none_or(|place| places.binary_search(&place).is_err()));
        self.places = self.records.iter().enumerate().map(|(place, record)| (record.name.clone(), place)).collect();
        self.elements = self.records.iter().map(|record| record.shape().iter().product::<usize>()).sum();
        self.sort_names();
    }

    /// Sorts all names again.
    pub(crate) fn sort_names(&mut self) {
        self.by_name = (0..self.records.len()).collect();
        self.by_name.sort_by(|&a, &b| self.records[a].name.cmp(&self.records[b].name));
    }
}
