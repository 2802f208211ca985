//! The arrays on their way between the host and a device.

use std::mem;

use ndarray::Array1;

use super::super::Optimizer;
use super::super::accumulator::Accumulator;
use super::super::records::{Record, Records};
use super::super::slots::SlotPlace;
use super::step::{SPARSE_SUM, master_array, on_device};
use super::{Backend, HostSide, Initial, NewArray, NewState, Stored, without_gradients};
use crate::description::Description;
use crate::dtype::DType;
use crate::error::Error;
use crate::master::Master;
use crate::real::Scalar;
use crate::rule::{Step, UpdateRule};
use crate::state::StateValue;
use crate::trace::{Array, Tape, Untraceable};

/// The end of the name of the marks of a variable's sum: see `ACCUMULATED`.
const MARKS: &str = "/accumulated";

impl<R: UpdateRule<T>, T: Scalar> HostSide<R, T> {
    /// Moves the arrays of an optimizer to a device. Its variables are the caller's.
    ///
    /// # Errors
    ///
    /// [`Error::Untraceable`] for a rule that cannot be recorded, for moments in 8 bits, and on several ranks;
    /// [`Error::OnDevice`] for accumulated sparse gradients; [`Error::Poisoned`] and [`Error::SwappedIn`]. If the
    /// device fails.
    pub fn new<B: Backend<T>>(optimizer: Optimizer<R, T>, backend: &mut B) -> Result<Self, B::Error> {
        optimizer.ready()?;
        for group in 0..optimizer.groups.len() {
            let ruling = optimizer.groups.ruling_of(group);
            let rule = ruling.rule(&optimizer.rule);
            let tape = Tape::start(T::DTYPE);
            let is_generic = rule.begin_traced(&Step::new(0, 0.0), &mut ruling.shared.clone()).is_some();
            drop(tape);
            let reason = match () {
                () if !is_generic => Untraceable::NotGeneric,
                () if optimizer.options.ranks.is_some() => Untraceable::Ranks,
                () if optimizer.shares_exponents(group) => Untraceable::Moments,
                () => continue,
            };
            let (variable, rule) = ("*".to_owned(), rule.class_name().to_owned());
            return Err(Error::Untraceable { variable, rule, reason }.into());
        }
        let mut host = Self { optimizer };
        host.upload(backend)?;
        Ok(host)
    }

    /// Moves the arrays of the records to the device.
    fn upload<B: Backend<T>>(&mut self, backend: &mut B) -> Result<(), B::Error> {
        let sparse = self.optimizer.records.iter().find(|record| matches!(record.accumulator, Accumulator::Rows(..)));
        if let Some(record) = sparse {
            return Err(on_device(&record.name, SPARSE_SUM).into());
        }
        let master = self.optimizer.options.master;
        for (place, record) in self.optimizer.records.iter_mut().enumerate() {
            record.make_row_major();
            let sum = match &mut record.accumulator {
                Accumulator::Dense(sum) => Some(mem::take(sum)),
                _ => None,
            };
            let arrays = arrays_of(record, master).into_iter();
            let arrays = arrays.map(|StoredArray { array, dtype, place }| NewArray {
                array,
                dtype,
                initial: Initial::Numbers(take_numbers(record, place)),
            });
            let arrays = arrays.collect();
            let len = record.shape().iter().product();
            backend.admit(NewState { place, position: None, len, arrays, sum })?;
        }
        Ok(())
    }

    /// Copies all arrays from the device into the records, calls a function, and empties the records again.
    fn filled<B: Backend<T>, V>(
        &mut self,
        backend: &mut B,
        look: impl FnOnce(&mut Optimizer<R, T>) -> V,
    ) -> Result<V, B::Error> {
        let read = self.download(backend);
        let seen = read.map(|()| look(&mut self.optimizer));
        let master = self.optimizer.options.master;
        for record in self.optimizer.records.iter_mut() {
            for StoredArray { place, .. } in arrays_of(record, master) {
                put_numbers(record, place, Vec::new());
            }
            if let Accumulator::Dense(sum) = &mut record.accumulator {
                *sum = Vec::new();
            }
        }
        seen
    }

    fn download<B: Backend<T>>(&mut self, backend: &mut B) -> Result<(), B::Error> {
        let master = self.optimizer.options.master;
        for (number, record) in self.optimizer.records.iter_mut().enumerate() {
            for StoredArray { array, place, .. } in arrays_of(record, master) {
                put_numbers(record, place, backend.read(number, Stored::Array(array))?);
            }
            if let Accumulator::Dense(sum) = &mut record.accumulator {
                *sum = backend.read(number, Stored::Sum)?;
            }
        }
        Ok(())
    }

    /// Shows the optimizer as it is on the host, with its arrays, which are copied for this call: to save a checkpoint,
    /// or to read slots.
    ///
    /// # Errors
    ///
    /// If the device fails.
    pub fn with_optimizer<B: Backend<T>, V>(
        &mut self,
        backend: &mut B,
        look: impl FnOnce(&Optimizer<R, T>) -> V,
    ) -> Result<V, B::Error> {
        self.filled(backend, |optimizer| look(optimizer))
    }

    /// Moves the arrays back to the host.
    ///
    /// # Errors
    ///
    /// If the device fails.
    pub fn into_optimizer<B: Backend<T>>(mut self, backend: &mut B) -> Result<Optimizer<R, T>, B::Error> {
        self.download(backend)?;
        Ok(self.optimizer)
    }

    /// Replaces all state: as [`Optimizer::restore`], for variables that are described.
    ///
    /// # Errors
    ///
    /// As there; nothing has then changed. If the device fails, later calls are refused with [`Error::Poisoned`].
    pub fn restore<'a, 'w, B: Backend<T>, V: Into<StateValue<'w, T>>>(
        &mut self,
        variables: impl IntoIterator<Item = Description<'a, T>>,
        weights: impl IntoIterator<Item = V>,
        backend: &mut B,
    ) -> Result<(), B::Error>
    where
        T: 'a + 'w,
    {
        let weights: Vec<StateValue<'w, T>> = weights.into_iter().map(Into::into).collect();
        let variables: Vec<_> = variables.into_iter().collect();
        self.refuse_sparse_sums(&variables, &weights)?;
        self.optimizer.restore_for(without_gradients(variables)?, weights)?;
        self.optimizer.poisoned = true;
        if let Err(error) = self.upload(backend) {
            // Some arrays are those of before, some are new.
            self.optimizer.records = Records::new(self.optimizer.options.moments);
            return Err(error);
        }
        self.optimizer.poisoned = false;
        Ok(())
    }

    /// Refuses state with sums of sparse gradients, before it is assigned.
    fn refuse_sparse_sums(&self, variables: &[Description<'_, T>], weights: &[StateValue<'_, T>]) -> Result<(), Error> {
        let waits = self.optimizer.options.accumulate.is_some()
            && matches!(weights.get(1), Some(StateValue::Scalar(micro_step)) if *micro_step > 0.0);
        let described = variables.iter().map(|variable| (variable.name(), variable.shape(), variable.element_type()));
        for (entry, value) in self.optimizer.state_of(described, waits).iter().zip(weights) {
            if let (Some(variable), StateValue::Array(marks)) = (entry.name.strip_suffix(MARKS), value) {
                let marks: Vec<T> = marks.iter().copied().collect();
                if !Accumulator::are_dense(&marks) && marks.iter().any(|mark| !mark.is_zero()) {
                    return Err(on_device(variable, SPARSE_SUM));
                }
            }
        }
        Ok(())
    }
}

/// An array of a record that is stored on the device.
struct StoredArray {
    array: Array,
    dtype: DType,
    place: SlotPlace,
}

/// The arrays of a record, in the order of [`NewState::arrays`].
fn arrays_of<T: Scalar>(record: &Record<T>, master: Master) -> Vec<StoredArray> {
    let slots = (0..record.arrays.len()).map(|slot| {
        let is_packed = record.packed.get(slot).is_some_and(Option::is_some);
        let dtype = if is_packed { DType::Bf16 } else { T::DTYPE };
        StoredArray { array: Array::Slot(slot as u8), dtype, place: SlotPlace::Array(slot) }
    });
    let average = StoredArray { array: Array::Average, dtype: T::DTYPE, place: SlotPlace::Average };
    let master = master_array::<T>(master).filter(|_| record.is_half());
    let master = master.map(|(array, dtype)| StoredArray { array, dtype, place: SlotPlace::Master });
    slots.chain(record.average.is_some().then_some(average)).chain(master).collect()
}

/// Takes the numbers of an array out of a record that is stored row by row.
fn take_numbers<T: Scalar>(record: &mut Record<T>, place: SlotPlace) -> Vec<T> {
    let narrow = match record.slot(place) {
        StateValue::Bf16(numbers) => Some(numbers.iter().map(|number| T::from_f32(number.to_f32())).collect()),
        _ => None,
    };
    match narrow {
        Some(numbers) => {
            put_numbers(record, place, Vec::new());
            numbers
        }
        None => record.array_mut(place).map(mem::take).unwrap_or_default(),
    }
}

/// Puts numbers into an array of a record, row by row. They are numbers of the type in which it is stored.
fn put_numbers<T: Scalar>(record: &mut Record<T>, place: SlotPlace, numbers: Vec<T>) {
    if let Some(packed) = record.packed_mut(place) {
        packed.assign(numbers.into_iter());
    } else if place == SlotPlace::Master && record.master.has_corrections() {
        record.master.assign_corrections(&Array1::from(numbers).into_dyn().into());
    } else if let Some(array) = record.array_mut(place) {
        *array = numbers;
    }
}
