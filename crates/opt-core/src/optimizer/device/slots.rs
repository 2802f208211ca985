//! Slots swapped or copied into variables that are on a device.

use std::sync::Arc;

use super::super::SlotPlace;
use super::super::step::input::Input;
use super::super::swap_in::{Move, SwappedIn};
use super::step::{on_device, position};
use super::{Backend, DeviceUpdate, Elements, HostSide, Source, without_gradients};
use crate::description::Description;
use crate::dtype::DType;
use crate::error::Error;
use crate::master::Master;
use crate::precision::Any;
use crate::real::Scalar;
use crate::rule::UpdateRule;
use crate::trace::{Array, Draws, Update};

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
        let needs_room = |input: &&Input<'_, T>| {
            let has_master = matches!(input.value, Any::Full(_)) || self.optimizer.options.master == Master::Full;
            !has_master && self.moved_array(input, slot).is_some()
        };
        if let Some(half) = inputs.iter().find(needs_room) {
            let what = "a slot that is swapped into a variable in 16 bits without a master in full";
            return Err(on_device(&half.name, what).into());
        }
        self.exchange(slot, &inputs, Move::Swap, backend)?;
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
        self.exchange(&slot, &inputs, Move::SwapBack, backend)?;
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
        self.exchange(slot, &inputs, Move::Copy, backend)
    }

    /// The variables that have slots, if there is this one and the variables hold their own values.
    fn with_slot<'a>(
        &mut self,
        slot: &str,
        variables: impl IntoIterator<Item = Description<'a, T>>,
    ) -> Result<Vec<Input<'a, T>>, Error> {
        self.optimizer.ready()?;
        self.optimizer.require_array(slot)?;
        let inputs = self.known(variables)?;
        self.optimizer.require_masters(slot, &inputs)?;
        Ok(inputs)
    }

    /// The variables that have slots.
    fn known<'a>(
        &mut self,
        variables: impl IntoIterator<Item = Description<'a, T>>,
    ) -> Result<Vec<Input<'a, T>>, Error> {
        self.optimizer.known(without_gradients(variables)?.into_iter())
    }

    /// Moves numbers between variables and a slot.
    fn exchange<B: Backend<T>>(
        &mut self,
        slot: &str,
        inputs: &[Input<'_, T>],
        way: Move,
        backend: &mut B,
    ) -> Result<(), B::Error> {
        let update = |input: &Input<'_, T>| {
            let array = self.moved_array(input, slot)?;
            Some(whole_update(input, Arc::new(self.moving(input.value.dtype(T::DTYPE), array, way))))
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

    /// The array that a slot of a variable is, if it has the slot, in full.
    fn moved_array(&self, input: &Input<'_, T>, slot: &str) -> Option<Array> {
        match self.optimizer.slot_place(self.optimizer.records.at(input.place), slot)? {
            SlotPlace::Array(array) if self.optimizer.is_in_bf16(input.group, array) => None,
            SlotPlace::Array(array) => Some(Array::Slot(array as u8)),
            SlotPlace::Average => Some(Array::Average),
            SlotPlace::Master => Some(Array::Master),
            _ => None,
        }
    }

    /// The update that moves an array of variables of this element type.
    fn moving(&self, dtype: DType, array: Array, way: Move) -> Update {
        let is_half = dtype != T::DTYPE;
        let copies = [(Array::Value, array), (array, Array::Value)];
        let storage = self.optimizer.half_storage(dtype);
        match way {
            Move::Copy => Update::copying(T::DTYPE, &copies[..1]).stored(&storage),
            Move::Swap | Move::SwapBack if !is_half => Update::copying(T::DTYPE, &copies),
            Move::Swap => Update::showing(T::DTYPE, dtype, array),
            // The master has kept the variable's own numbers.
            Move::SwapBack => Update::copying(T::DTYPE, &[(Array::Value, Array::Master)]).stored(&storage),
        }
    }
}

/// An update of a variable, besides steps.
pub(super) fn whole_update<T: Scalar>(input: &Input<'_, T>, update: Arc<Update>) -> DeviceUpdate {
    let (position, place, source, elements) = (position(input), input.place, Source::Given, Elements::All);
    DeviceUpdate { position, place, source, elements, update, parameters: None, draws: Draws::default() }
}
