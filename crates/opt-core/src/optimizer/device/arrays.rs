//! The arrays on their way between the host and a device.

use std::mem;

use super::super::Optimizer;
use super::super::accumulator::Accumulator;
use super::super::records::Records;
use super::step::{SPARSE_SUM, on_device};
use super::{Backend, HostSide, Initial, NewState, Stored, without_gradients};
use crate::description::Description;
use crate::error::Error;
use crate::moments::MomentStorage;
use crate::real::Scalar;
use crate::rule::{Step, UpdateRule};
use crate::state::StateValue;
use crate::trace::{Tape, Untraceable};

/// The end of the name of the marks of a variable's sum: see `ACCUMULATED`.
const MARKS: &str = "/accumulated";

impl<R: UpdateRule<T>, T: Scalar> HostSide<R, T> {
    /// Moves the arrays of an optimizer to a device. Its variables are the caller's.
    ///
    /// # Errors
    ///
    /// [`Error::Untraceable`] for a rule that cannot be recorded, for moments in fewer bits, for variables in 16 bits,
    /// and on several ranks; [`Error::OnDevice`] for accumulated sparse gradients; [`Error::Poisoned`] and
    /// [`Error::SwappedIn`]. If the device fails.
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
                () if optimizer.options.moments != MomentStorage::Full => Untraceable::Moments,
                () if optimizer.has_halves() => Untraceable::Half,
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
        for (place, record) in self.optimizer.records.iter_mut().enumerate() {
            record.make_row_major();
            let sum = match &mut record.accumulator {
                Accumulator::Dense(sum) => Some(mem::take(sum)),
                _ => None,
            };
            let mut arrays: Vec<_> = record.arrays.iter_mut().map(|array| Initial::Numbers(mem::take(array))).collect();
            let slots = arrays.len();
            arrays.extend(record.average.as_mut().map(|average| Initial::Numbers(mem::take(average))));
            let len = record.shape().iter().product();
            backend.admit(NewState { place, position: None, len, arrays, slots, sum })?;
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
        for record in self.optimizer.records.iter_mut() {
            record.arrays.iter_mut().for_each(|array| *array = Vec::new());
            record.average.iter_mut().for_each(|average| *average = Vec::new());
            if let Accumulator::Dense(sum) = &mut record.accumulator {
                *sum = Vec::new();
            }
        }
        seen
    }

    fn download<B: Backend<T>>(&mut self, backend: &mut B) -> Result<(), B::Error> {
        for (place, record) in self.optimizer.records.iter_mut().enumerate() {
            for (slot, array) in record.arrays.iter_mut().enumerate() {
                *array = backend.read(place, Stored::Slot(slot))?;
            }
            if let Some(average) = &mut record.average {
                *average = backend.read(place, Stored::Average)?;
            }
            if let Accumulator::Dense(sum) = &mut record.accumulator {
                *sum = backend.read(place, Stored::Sum)?;
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
        let described = variables.iter().map(|variable| (variable.name(), variable.shape(), T::DTYPE));
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
