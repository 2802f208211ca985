//! Slots in the place of variables: averages for evaluation, and for good at the end of training.

use std::mem;
use std::ops::Deref;

use super::resolve::{Input, resolve};
use super::{Optimizer, SlotPlace};
use crate::ema::Ema;
use crate::error::Error;
use crate::moments::MomentStorage;
use crate::parameters::Parameters;
use crate::real::Scalar;
use crate::rule::UpdateRule;
use crate::variable::Variable;

/// A model that holds a slot (such as the averages) instead of its own values; dropping the guard swaps them back.
///
/// Made by [`Optimizer::swap_in`]. The guard borrows model and optimizer, so that nothing can train in between.
#[derive(Debug)]
pub struct SlotGuard<'a, P, R, T>
where
    P: Parameters<T>,
    R: UpdateRule<T>,
    T: Scalar,
{
    model: &'a mut P,
    optimizer: &'a mut Optimizer<R, T>,
    place: SlotPlace,
}

impl<P: Parameters<T>, R: UpdateRule<T>, T: Scalar> Deref for SlotGuard<'_, P, R, T> {
    type Target = P;

    fn deref(&self) -> &P {
        self.model
    }
}

impl<P: Parameters<T>, R: UpdateRule<T>, T: Scalar> Drop for SlotGuard<'_, P, R, T> {
    fn drop(&mut self) {
        let Self { model, optimizer, place } = self;
        // The same list has just been accepted; a model that gives another one now keeps what it has, and the
        // optimizer goes on refusing steps.
        if optimizer.over_slots(model.variables().into_iter(), *place, mem::swap).is_ok() {
            optimizer.swapped_in = None;
        }
    }
}

impl<R: UpdateRule<T>, T: Scalar> Optimizer<R, T> {
    /// Writes the averages into the variables, for good: the end of a training with [`Ema`].
    ///
    /// # Errors
    ///
    /// [`Error::NoAverages`] without averaging; anything wrong with names or shapes. Variables are then as they were.
    pub fn finalize_variable_values<'a>(
        &mut self,
        variables: impl IntoIterator<Item = Variable<'a, T>>,
    ) -> Result<(), Error>
    where
        T: 'a,
    {
        if !self.options.use_ema {
            return Err(Error::NoAverages);
        }
        self.copy_slot(Ema::SLOT, variables)
    }

    /// Writes an array slot into the variables.
    ///
    /// # Errors
    ///
    /// When there is no such slot, it is no array of full precision, or anything is wrong with names or shapes. Variables are then as
    /// they were.
    pub fn copy_slot<'a>(
        &mut self,
        slot: &str,
        variables: impl IntoIterator<Item = Variable<'a, T>>,
    ) -> Result<(), Error>
    where
        T: 'a,
    {
        self.ready()?;
        let place = self.array_place(slot)?;
        self.over_slots(variables.into_iter(), place, |value, slot| *value = *slot)
    }

    /// Swaps an array slot into a model, until the guard is dropped.
    ///
    /// # Errors
    ///
    /// When there is no such slot, it is no array of full precision, or the model has variables that the optimizer has not seen. The
    /// model is then as it was.
    pub fn swap_in<'a, P: Parameters<T>>(
        &'a mut self,
        slot: &str,
        model: &'a mut P,
    ) -> Result<SlotGuard<'a, P, R, T>, Error> {
        self.ready()?;
        let place = self.array_place(slot)?;
        self.over_slots(model.variables().into_iter(), place, mem::swap)?;
        self.swapped_in = Some(slot.to_owned());
        Ok(SlotGuard { model, optimizer: self, place })
    }

    /// Swaps the averages into a model for evaluation, until the guard is dropped.
    ///
    /// # Errors
    ///
    /// [`Error::NoAverages`] without averaging; [`Error::UnknownVariable`] when the model has variables that the
    /// optimizer has not seen. The model is then as it was.
    ///
    /// # Examples
    ///
    /// The crate `optimizers` has one: `examples/averages.rs`.
    pub fn averages<'a, P: Parameters<T>>(&'a mut self, model: &'a mut P) -> Result<SlotGuard<'a, P, R, T>, Error> {
        if !self.options.use_ema {
            return Err(Error::NoAverages);
        }
        self.swap_in(Ema::SLOT, model)
    }

    fn array_place(&self, slot: &str) -> Result<SlotPlace, Error> {
        let place = self.slot_place(slot)?;
        let packed = self.options.moments != MomentStorage::Full
            && self.slots.iter().any(|spec| spec.name() == slot && spec.is_moment());
        if packed || matches!(place, SlotPlace::Scalar(_)) {
            let known = self.slot_names().into_iter().map(str::to_owned).collect();
            return Err(Error::UnknownSlot { slot: slot.to_owned(), known });
        }
        Ok(place)
    }

    /// Runs `change` over pairs of elements: of a variable and of its slot.
    fn over_slots<'a>(
        &mut self,
        variables: impl Iterator<Item = Variable<'a, T>>,
        place: SlotPlace,
        change: impl Fn(&mut T, &mut T),
    ) -> Result<(), Error>
    where
        T: 'a,
    {
        let without_gradients = variables.map(|variable| Variable { gradient: None, ..variable });
        let inputs = resolve(without_gradients, &mut self.records)?;
        if let Some(unknown) = inputs.iter().find(|input| input.place >= self.records.len()) {
            return Err(Error::UnknownVariable { name: unknown.name.to_string() });
        }
        for Input { place: record, mut value, .. } in inputs {
            let record = self.records.at_mut(record);
            let mut slot = record.array_mut(place).into_iter().flatten();
            value.for_each(|value| slot.next().into_iter().for_each(|slot| change(value, slot)));
        }
        Ok(())
    }
}
