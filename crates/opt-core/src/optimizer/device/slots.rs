//! Slots swapped or copied into variables that are on a device.

use std::sync::Arc;

use super::super::SlotPlace;
use super::super::step::input::Input;
use super::super::swap_in::SwappedIn;
use super::step::position;
use super::{Backend, DeviceUpdate, Elements, HostSide, Source, without_gradients};
use crate::description::Description;
use crate::error::Error;
use crate::real::Scalar;
use crate::rule::UpdateRule;
use crate::trace::{Array, Update};

impl<R: UpdateRule<T>, T: Scalar> HostSide<R, T> {
    /// As [`Optimizer::swap_slot`](crate::Optimizer::swap_slot).
    ///
    /// # Errors
    ///
    /// As there. If the device fails, later calls are refused with [`Error::Poisoned`].
    pub fn swap_slot<'a, B: Backend<T>>(
        &mut self,
        slot: &str,
        variables: impl IntoIterator<Item = Description<'a, T>>,
        backend: &mut B,
    ) -> Result<(), B::Error> {
        let inputs = self.with_slot(slot, variables)?;
        self.exchange(slot, &inputs, true, backend)?;
        let places = inputs.iter().map(|input| input.place).collect();
        self.optimizer.swapped_in = Some(SwappedIn { slot: slot.to_owned(), places });
        Ok(())
    }

    /// As [`Optimizer::swap_back`](crate::Optimizer::swap_back).
    ///
    /// # Errors
    ///
    /// As there. If the device fails, later calls are refused with [`Error::Poisoned`].
    pub fn swap_back<'a, B: Backend<T>>(
        &mut self,
        variables: impl IntoIterator<Item = Description<'a, T>>,
        backend: &mut B,
    ) -> Result<(), B::Error> {
        if self.optimizer.poisoned {
            return Err(Error::Poisoned.into());
        }
        let Some(SwappedIn { slot, places }) = self.optimizer.swapped_in.clone() else { return Ok(()) };
        let inputs = self.known(variables)?;
        if inputs.iter().map(|input| input.place).ne(places) {
            return Err(Error::OtherSwapped { slot }.into());
        }
        self.exchange(&slot, &inputs, true, backend)?;
        self.optimizer.swapped_in = None;
        Ok(())
    }

    /// As [`Optimizer::copy_slot`](crate::Optimizer::copy_slot).
    ///
    /// # Errors
    ///
    /// As there. If the device fails, later calls are refused with [`Error::Poisoned`].
    pub fn copy_slot<'a, B: Backend<T>>(
        &mut self,
        slot: &str,
        variables: impl IntoIterator<Item = Description<'a, T>>,
        backend: &mut B,
    ) -> Result<(), B::Error> {
        let inputs = self.with_slot(slot, variables)?;
        self.exchange(slot, &inputs, false, backend)
    }

    /// The variables that have slots, if there is this one and the variables hold their own values.
    fn with_slot<'a>(
        &mut self,
        slot: &str,
        variables: impl IntoIterator<Item = Description<'a, T>>,
    ) -> Result<Vec<Input<'a, T>>, Error> {
        self.optimizer.ready()?;
        self.optimizer.require_array(slot)?;
        self.known(variables)
    }

    /// The variables that have slots.
    fn known<'a>(
        &mut self,
        variables: impl IntoIterator<Item = Description<'a, T>>,
    ) -> Result<Vec<Input<'a, T>>, Error> {
        self.optimizer.known(without_gradients(variables)?.into_iter())
    }

    /// Copies a slot into variables; with `both`, the slot gets the numbers of the variable.
    fn exchange<B: Backend<T>>(
        &mut self,
        slot: &str,
        inputs: &[Input<'_, T>],
        both: bool,
        backend: &mut B,
    ) -> Result<(), B::Error> {
        let update = |input: &Input<'_, T>| {
            let array = match self.optimizer.slot_place(self.optimizer.records.at(input.place), slot)? {
                SlotPlace::Array(array) => Array::Slot(array as u8),
                SlotPlace::Average => Array::Average,
                _ => return None,
            };
            let copies = [(Array::Value, array), (array, Array::Value)];
            let update = Arc::new(Update::copying(T::DTYPE, if both { &copies } else { &copies[..1] }));
            let (position, place, source) = (position(input), input.place, Source::Given);
            Some(DeviceUpdate { position, place, source, elements: Elements::All, update })
        };
        let updates: Vec<_> = inputs.iter().filter(|input| input.value.len() > 0).filter_map(update).collect();
        backend.prepare(&updates)?;
        // If the device fails halfway, nothing is known to be swapped in, and only new state helps.
        let swapped_in = self.optimizer.swapped_in.take();
        self.optimizer.poisoned = true;
        backend.update(&updates)?;
        self.optimizer.poisoned = false;
        self.optimizer.swapped_in = swapped_in;
        Ok(())
    }
}
