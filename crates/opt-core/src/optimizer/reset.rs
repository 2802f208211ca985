//! Slots that start anew, and slots that a rule gets in the middle of a run.

use std::mem;

use super::{Optimizer, SlotPlace, builder, distributed};
use crate::ema::Ema;
use crate::error::Error;
use crate::parameters::Parameters;
use crate::precision::MASTER;
use crate::real::Scalar;
use crate::rule::{SlotInit, SlotSpec, UpdateRule};

impl<R: UpdateRule<T>, T: Scalar> Optimizer<R, T> {
    /// Forgets the state of variables: they start anew with their next gradient, as if the optimizer had never seen
    /// them, and may have another shape. For an embedding with another number of rows, a layer that is trained from
    /// scratch again, or values that were loaded from elsewhere: averages and Lookahead's slow weights are copies of
    /// values that no longer exist.
    ///
    /// The step counter stays, and with it schedules and corrections that count the steps of the optimizer. Variables
    /// that the optimizer does not know are new anyway. [`weights`](Self::weights) lists the variables last when they
    /// come back.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownVariable`] when the optimizer knows none of the variables: the names are probably wrong.
    ///
    /// # Examples
    ///
    /// ```
    /// use opt_core::{Ema, Optimizer, Variable};
    /// use opt_sgd::Sgd;
    ///
    /// let mut opt = Optimizer::builder(Sgd::new(0.5)).ema(Ema::new(0.5)).build()?;
    /// let mut rows = vec![1.0, 2.0];
    /// opt.apply_gradients([Variable::new("rows", &mut rows).gradient(&[2.0, 2.0])])?;
    ///
    /// let mut rows = vec![8.0, 8.0, 8.0]; // one row more
    /// opt.reset(&mut [Variable::new("rows", &mut rows)])?;
    /// opt.apply_gradients([Variable::new("rows", &mut rows).gradient(&[2.0, 2.0, 2.0])])?;
    /// let average = opt.slot("rows", "average")?.to_f64();
    /// assert_eq!(average, [7.5; 3]); // of 8 and 7; without a trace of the old rows
    /// # Ok::<(), opt_core::Error>(())
    /// ```
    pub fn reset<P: Parameters<T> + ?Sized>(&mut self, model: &mut P) -> Result<(), Error> {
        self.ready()?;
        let variables = model.variables();
        let mut places: Vec<usize> =
            variables.iter().filter_map(|variable| self.records.place(variable.name(), 0)).collect();
        match variables.first() {
            Some(first) if places.is_empty() => Err(Error::UnknownVariable { name: first.name().to_owned() }),
            _ => {
                places.sort_unstable();
                self.records.remove(&places);
                Ok(())
            }
        }
    }

    /// Gives some slots of variables their initial values, by the names of [`slot_names`](Self::slot_names): zeros, or
    /// a copy of the variable as it is now. Variables that the optimizer does not know are new anyway.
    ///
    /// # Errors
    ///
    /// When there is no such slot, a shape is wrong, or the optimizer knows none of the variables. Nothing has then
    /// changed.
    ///
    /// # Examples
    ///
    /// ```
    /// use opt_core::{Ema, Optimizer, Variable};
    /// use opt_sgd::Sgd;
    ///
    /// let mut w = [0.0];
    /// let mut opt = Optimizer::builder(Sgd::new(1.0).momentum(0.5)).ema(Ema::new(0.5)).build()?;
    /// opt.apply_gradients([Variable::new("w", &mut w).gradient(&[1.0])])?;
    ///
    /// w = [4.9]; // values from elsewhere
    /// opt.reset_slots(&mut [Variable::new("w", &mut w)], &["average"])?;
    /// assert_eq!(opt.slot("w", "average")?.to_f64(), [4.9]);
    /// assert_eq!(opt.slot("w", "momentum")?.to_f64(), [-1.0]); // goes on
    /// # Ok::<(), opt_core::Error>(())
    /// ```
    pub fn reset_slots<P: Parameters<T> + ?Sized>(&mut self, model: &mut P, slots: &[&str]) -> Result<(), Error> {
        self.ready()?;
        let places = slots.iter().map(|slot| self.slot_place(slot)).collect::<Result<Vec<_>, _>>()?;
        let mut inputs = self.known(model.variables().into_iter())?;
        for input in distributed::own_parts(&mut inputs) {
            let record = self.records.at_mut(input.place);
            // The master first: it has the variable's value with all digits, and other slots may be copies of it.
            if record.is_half() && places.contains(&SlotPlace::Master) {
                record.master = input.value.to_vec();
            }
            let value = if record.is_half() { record.master.clone() } else { input.value.to_vec() };
            for place in &places {
                record.restart(*place, &self.slots, &value);
            }
        }
        Ok(())
    }

    /// The names of the slots that start as a copy of their variable: averages, masters, Lookahead's slow weights.
    #[must_use]
    pub fn copy_slots(&self) -> Vec<&str> {
        let is_copy = |slot: &&SlotSpec| slot.init() == SlotInit::Copy;
        let of_rule = self.slots.iter().filter(is_copy).map(SlotSpec::name);
        let average = self.options.use_ema.then_some(Ema::SLOT);
        of_rule.chain(average).chain(self.has_masters().then_some(MASTER)).collect()
    }

    /// Replaces the rule by one with other hyperparameters. The state stays. Slots that only the new rule has start
    /// with their initial values: momentum can be switched on in the middle of a run.
    ///
    /// # Errors
    ///
    /// When a hyperparameter is out of range; when a variable has the name of a new slot; when the new rule does not
    /// have a slot of the old one, whose state would be lost; when it has a new slot that is a copy of the variables,
    /// which are not here. The old rule then stays.
    ///
    /// # Examples
    ///
    /// ```
    /// use opt_core::{Optimizer, Variable};
    /// use opt_sgd::Sgd;
    ///
    /// let mut w = [0.0];
    /// let mut opt = Optimizer::new(Sgd::new(1.0))?;
    /// opt.apply_gradients([Variable::new("w", &mut w).gradient(&[1.0])])?;
    /// opt.set_rule(Sgd::new(1.0).momentum(0.5))?;
    /// for want in [-2.0, -3.5] {
    ///     opt.apply_gradients([Variable::new("w", &mut w).gradient(&[1.0])])?;
    ///     assert_eq!(w, [want]);
    /// }
    /// assert!(opt.set_rule(Sgd::new(1.0)).is_err()); // the velocity would be lost
    /// # Ok::<(), opt_core::Error>(())
    /// ```
    pub fn set_rule(&mut self, rule: R) -> Result<(), Error> {
        builder::check_rule(&rule)?;
        let slots = rule.slots();
        let refuse = |problem: String| Err(Error::Slots { rule: rule.class_name().to_owned(), problem });
        if let Some(lost) = self.slots.iter().find(|slot| !slots.contains(slot)) {
            return refuse(format!("has no slot {:?} like the optimizer's, whose state would be lost", lost.name()));
        }
        let is_new_copy = |slot: &&SlotSpec| slot.init() == SlotInit::Copy && !self.slots.contains(slot);
        if let Some(copy) = slots.iter().find(is_new_copy) {
            let name = copy.name();
            return refuse(format!("has a new slot {name:?}, a copy of the variables: build a new optimizer with it"));
        }
        if slots != self.slots {
            builder::check_slots(rule.class_name(), &slots, self.options.moments)?;
            let before = mem::replace(&mut self.slots, slots);
            if let Err(taken) = self.check_known_names() {
                self.slots = before;
                return Err(taken);
            }
            self.shared = with_new(&before, &self.slots, &self.shared);
            self.records.iter_mut().for_each(|record| record.change_slots(&before, &self.slots, self.options.moments));
        }
        self.rule = rule;
        Ok(())
    }
}

/// The shared slots of the new list, with the old values where there are any.
fn with_new(old: &[SlotSpec], new: &[SlotSpec], values: &[f64]) -> Vec<f64> {
    let initial = |slot: &SlotSpec| match slot.init() {
        SlotInit::Shared(initial) => Some(initial),
        _ => None,
    };
    let known: Vec<&SlotSpec> = old.iter().filter(|slot| initial(slot).is_some()).collect();
    let value = |slot: &SlotSpec| {
        let place = known.iter().position(|known| *known == slot);
        initial(slot).map(|initial| place.map_or(initial, |place| values[place]))
    };
    new.iter().filter_map(value).collect()
}
