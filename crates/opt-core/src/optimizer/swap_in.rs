//! Slots swapped or copied into variables: averages for evaluation, or permanently at the end of training.

use std::mem;
use std::ops::Deref;

use super::records::Record;
use super::slots::places;
use super::step::input::Input;
use super::step::storage::Value;
use super::{Optimizer, SlotPlace, distributed};
use crate::ema::Ema;
use crate::error::Error;
use crate::master::Master;
use crate::parameters::Parameters;
use crate::precision::Any;
use crate::precision::extended::Extended;
use crate::real::Scalar;
use crate::rule::UpdateRule;
use crate::variable::Variable;

/// A model whose variables hold a slot (such as the averages) instead of their own values. Dropping the guard swaps
/// them back.
///
/// Made by [`Optimizer::swap_in`]. The guard borrows model and optimizer, so that no step can run meanwhile.
#[derive(Debug)]
#[must_use = "dropping the guard swaps the model's own values back in"]
pub struct SlotGuard<'a, P, R, T>
where
    P: Parameters<T> + ?Sized,
    R: UpdateRule<T>,
    T: Scalar,
{
    model: &'a mut P,
    optimizer: &'a mut Optimizer<R, T>,
}

impl<P: Parameters<T> + ?Sized, R: UpdateRule<T>, T: Scalar> Deref for SlotGuard<'_, P, R, T> {
    type Target = P;

    fn deref(&self) -> &P {
        self.model
    }
}

impl<P: Parameters<T> + ?Sized, R: UpdateRule<T>, T: Scalar> Drop for SlotGuard<'_, P, R, T> {
    fn drop(&mut self) {
        let Self { model, optimizer } = self;
        // The same list was accepted when the guard was made. If the model now gives another list, it keeps the values
        // that it holds, and the optimizer keeps refusing steps.
        drop(optimizer.swap_back(model.variables()));
    }
}

impl<R: UpdateRule<T>, T: Scalar> Optimizer<R, T> {
    /// Writes the averages into the variables permanently, at the end of a training with [`Ema`]. Variables that have
    /// never had a gradient keep their values.
    ///
    /// # Errors
    ///
    /// [`Error::NoAverages`] without averaging; an error when a name or a shape is wrong. Variables are then unchanged.
    pub fn finalize_variable_values<P: Parameters<T> + ?Sized>(&mut self, model: &mut P) -> Result<(), Error> {
        if !self.options.use_ema {
            return Err(Error::NoAverages);
        }
        self.copy_slot(Ema::SLOT, model)
    }

    /// Writes an array slot into the variables. Variables without slots keep their values. Variables in 16 bits get the
    /// slot rounded, their masters get it with the digits that they [have](crate::Master).
    ///
    /// # Errors
    ///
    /// When there is no such slot, the slot is not an array in full precision, or a name or a shape is wrong. Variables
    /// are then unchanged.
    pub fn copy_slot<P: Parameters<T> + ?Sized>(&mut self, slot: &str, model: &mut P) -> Result<(), Error> {
        self.ready()?;
        self.require_array(slot)?;
        self.over_slots(model.variables().into_iter(), slot, Move::Copy, None).map(drop)
    }

    /// Swaps an array slot into a model, until the guard is dropped. Variables without slots, which have never had a
    /// gradient, keep their values. Variables in 16 bits hold the slot rounded; neither the slot nor their
    /// masters lose a digit.
    ///
    /// # Errors
    ///
    /// When there is no such slot, the slot is not an array in full precision, or the optimizer knows none of the
    /// variables. The model is then unchanged.
    pub fn swap_in<'a, P: Parameters<T> + ?Sized>(
        &'a mut self,
        slot: &str,
        model: &'a mut P,
    ) -> Result<SlotGuard<'a, P, R, T>, Error> {
        self.swap_slot(slot, model.variables())?;
        Ok(SlotGuard { model, optimizer: self })
    }

    /// As [`swap_in`](Self::swap_in), for a list of variables and without a guard: until [`swap_back`](Self::swap_back)
    /// gets the same list, steps are refused with [`Error::SwappedIn`]. For adapters whose variables cannot stay
    /// borrowed.
    ///
    /// # Errors
    ///
    /// As [`swap_in`](Self::swap_in). The variables are then unchanged.
    ///
    /// # Examples
    ///
    /// ```
    /// use opt_core::{Ema, Error, Optimizer, Variable};
    /// use opt_sgd::Sgd;
    ///
    /// let mut w = [1.0];
    /// let mut opt = Optimizer::builder(Sgd::new(0.5)).ema(Ema::new(0.5)).build()?;
    /// opt.step(&mut w, &[2.0])?;
    /// opt.swap_slot("average", [Variable::new("value", &mut w)])?;
    /// assert_eq!(w, [0.5]);
    /// assert!(matches!(opt.step(&mut w, &[2.0]), Err(Error::SwappedIn { .. })));
    /// opt.swap_back([Variable::new("value", &mut w)])?;
    /// assert_eq!(w, [0.0]);
    /// # Ok::<(), Error>(())
    /// ```
    pub fn swap_slot<'a>(
        &mut self,
        slot: &str,
        variables: impl IntoIterator<Item = Variable<'a, T>>,
    ) -> Result<(), Error>
    where
        T: 'a,
    {
        self.ready()?;
        self.require_array(slot)?;
        let places = self.over_slots(variables.into_iter(), slot, Move::Swap, None)?;
        self.swapped_in = Some(SwappedIn { slot: slot.to_owned(), places });
        Ok(())
    }

    /// Gives the variables their own values back, after [`swap_slot`](Self::swap_slot). Does nothing if they hold them.
    ///
    /// # Errors
    ///
    /// [`Error::OtherSwapped`] when these are not the variables that were given to [`swap_slot`](Self::swap_slot).
    /// Nothing has then changed.
    pub fn swap_back<'a>(&mut self, variables: impl IntoIterator<Item = Variable<'a, T>>) -> Result<(), Error>
    where
        T: 'a,
    {
        let Some(swapped) = self.swapped_in.take() else { return Ok(()) };
        let places = self.over_slots(variables.into_iter(), &swapped.slot, Move::SwapBack, Some(&swapped.places));
        if places.is_err() {
            self.swapped_in = Some(swapped);
        }
        places.map(drop)
    }

    /// Whether the optimizer keeps averages: it was built with [`ema`](crate::OptimizerBuilder::ema).
    #[must_use]
    pub fn has_averages(&self) -> bool {
        self.options.use_ema
    }

    /// Swaps the averages into a model for evaluation, until the guard is dropped.
    ///
    /// # Errors
    ///
    /// [`Error::NoAverages`] without averaging; [`Error::UnknownVariable`] when the optimizer knows none of the
    /// variables. The model is then unchanged.
    ///
    /// # Examples
    ///
    /// See `examples/averages.rs` in the crate `optimizers`.
    #[doc(alias = "AveragedModel")]
    #[doc(alias = "SwapEMAWeights")]
    pub fn swap_in_averages<'a, P: Parameters<T> + ?Sized>(
        &'a mut self,
        model: &'a mut P,
    ) -> Result<SlotGuard<'a, P, R, T>, Error> {
        if !self.options.use_ema {
            return Err(Error::NoAverages);
        }
        self.swap_in(Ema::SLOT, model)
    }

    /// Refuses slots that are no arrays in full precision in any group.
    pub(super) fn require_array(&self, name: &str) -> Result<(), Error> {
        let is_array = |group: usize| match name {
            Ema::SLOT => self.averages(group),
            _ if self.is_full_master(name) => self.has_halves(),
            _ => places(self.groups.slots_of(group)).any(|(slot, place)| match place {
                Some(SlotPlace::Array(array)) => slot.name() == name && !self.is_in_bf16(group, array),
                _ => false,
            }),
        };
        if (0..self.groups.len()).any(is_array) { Ok(()) } else { Err(self.unknown_slot(name)) }
    }

    /// Whether a slot is the master in full, which is an array like the variable.
    fn is_full_master(&self, slot: &str) -> bool {
        self.options.master == Master::Full && self.options.master.slot() == Some(slot)
    }

    /// Refuses a master among variables some of which have none.
    pub(super) fn require_masters(&self, slot: &str, inputs: &[Input<'_, T>]) -> Result<(), Error> {
        let has_others = || inputs.iter().any(|input| matches!(input.value, Any::Full(_)));
        if self.is_full_master(slot) && has_others() { Err(self.unknown_slot(slot)) } else { Ok(()) }
    }

    /// The variables that have slots. Others have never had a gradient, but if none has slots the names are wrong.
    pub(super) fn known<'a>(
        &mut self,
        variables: impl Iterator<Item = Variable<'a, T>>,
    ) -> Result<Vec<Input<'a, T>>, Error> {
        let mut inputs = self.resolved(variables)?;
        match inputs.first() {
            Some(first) if first.new.is_some() => Err(Error::UnknownVariable { name: first.name.to_string() }),
            _ => {
                inputs.retain(|input| input.new.is_none());
                Ok(inputs)
            }
        }
    }

    /// Moves numbers between variables and their slots. Variables that do not have the slot as an array keep their
    /// values. Returns the places of the variables; `expected` are those that they must have.
    fn over_slots<'a>(
        &mut self,
        variables: impl Iterator<Item = Variable<'a, T>>,
        slot: &str,
        way: Move,
        expected: Option<&[usize]>,
    ) -> Result<Vec<usize>, Error>
    where
        T: 'a,
    {
        let places = |inputs: &[Input<'_, T>]| inputs.iter().map(|input| input.place).collect::<Vec<_>>();
        let inputs = self.known(variables).and_then(|inputs| match expected {
            Some(expected) if places(&inputs) != expected => Err(Error::OtherSwapped { slot: slot.to_owned() }),
            _ => Ok(inputs),
        });
        let mut inputs = self.agree_on_slots(inputs)?;
        self.require_masters(slot, &inputs)?;
        for Input { place: record, value, .. } in distributed::own_parts(&mut inputs) {
            let Some(place) = self.slot_place(self.records.at(record), slot) else { continue };
            let record = self.records.at_mut(record);
            match value {
                Any::Full(value) => way.full(value, record.array_mut(place).into_iter().flatten()),
                Any::Bf16(value) => way.half(value, record, place),
                Any::F16(value) => way.half(value, record, place),
            }
        }
        self.exchange_slots(&mut inputs)?;
        Ok(places(&inputs))
    }
}

/// A slot that is swapped into variables.
#[derive(Debug, Clone)]
pub(super) struct SwappedIn {
    pub(super) slot: String,
    /// The places of the variables.
    pub(super) places: Vec<usize>,
}

/// How numbers are moved between a variable and its slot.
#[derive(Debug, Clone, Copy)]
pub(super) enum Move {
    /// The slot is copied into the variable, permanently.
    Copy,
    /// The variable gets the slot, until it is swapped back.
    Swap,
    /// The variable gets its own values back.
    SwapBack,
}

impl Move {
    fn full<'s, T: Scalar>(self, mut value: Value<'_, T>, mut slot: impl Iterator<Item = &'s mut T>) {
        value.for_each(|value| match (self, slot.next()) {
            (Self::Copy, Some(slot)) => *value = *slot,
            (Self::Swap | Self::SwapBack, Some(slot)) => mem::swap(value, slot),
            (_, None) => {}
        });
    }

    /// Swaps a variable in 16 bits. The slot does not fit into 16 bits, so it stays where it is; the master remembers
    /// the variable's own value.
    fn half<H: Extended, T: Scalar>(self, mut value: Value<'_, H>, record: &mut Record<T>, place: SlotPlace) {
        let Record { arrays, average, master, .. } = record;
        let slot = match place {
            SlotPlace::Array(array) => arrays.get(array).map(Vec::as_slice),
            SlotPlace::Average => average.as_deref(),
            // The slot is the master itself.
            _ => None,
        };
        match self {
            Self::Copy => value.with_rows(|half| {
                let new = slot.map_or_else(|| mem::take(master.full_mut()), <[T]>::to_vec);
                master.close(new, half);
            }),
            Self::Swap => value.with_rows(|half| {
                let own = master.open(half);
                H::round(half, slot.unwrap_or(&own));
                *master.full_mut() = own;
            }),
            Self::SwapBack => value.with_rows(|half| {
                let own = mem::take(master.full_mut());
                master.close(own, half);
            }),
        }
    }
}
