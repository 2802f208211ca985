//! Slots that start anew, and slots that a rule gets in the middle of a run.

use std::collections::HashSet;
use std::mem;

use super::{Optimizer, SlotPlace, distributed, rulings};
use crate::ema::Ema;
use crate::error::Error;
use crate::master::Master;
use crate::parameters::Parameters;
use crate::precision::Any;
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
                self.forget_micro_steps();
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
        slots.iter().try_for_each(|slot| self.require_slot(slot))?;
        let mut inputs = self.known(model.variables().into_iter())?;
        for mut input in distributed::own_parts(&mut inputs) {
            let known = self.records.at(input.place);
            let places: Vec<SlotPlace> = slots.iter().filter_map(|slot| self.slot_place(known, slot)).collect();
            let record = self.records.at_mut(input.place);
            let mut value = input.value.to_vec();
            if record.is_half() && places.contains(&SlotPlace::Master) {
                record.master.restart(&value);
            } else {
                // The master has more digits, unless somebody has changed the variable.
                match &mut input.value {
                    Any::Bf16(half) => half.with_master(&mut record.master, |master| value.copy_from_slice(master)),
                    Any::F16(half) => half.with_master(&mut record.master, |master| value.copy_from_slice(master)),
                    Any::Full(_) => {}
                }
            }
            for place in &places {
                record.restart(*place, self.groups.slots_of(input.group), &value);
            }
        }
        Ok(())
    }

    /// The names of the slots that start as a copy of their variable: averages, masters, Lookahead's slow weights.
    #[must_use]
    pub fn copy_slots(&self) -> Vec<&str> {
        let is_copy = |slot: &&SlotSpec| slot.init() == SlotInit::Copy;
        let slots = self.groups.rulings().iter().flat_map(|ruling| &ruling.slots);
        let copies: HashSet<&str> =
            slots.filter(is_copy).map(SlotSpec::name).chain([Ema::SLOT]).chain(Master::SLOTS).collect();
        self.slot_names().into_iter().filter(|name| copies.contains(name)).collect()
    }

    /// Replaces the rule of the optimizer, which its default group uses, by one with other hyperparameters. The state
    /// stays. Slots that only the new rule has start with their initial values: momentum can be switched on in the
    /// middle of a run.
    ///
    /// # Errors
    ///
    /// When a hyperparameter is out of range; when the rule is of another class or dialect; when it does not have a
    /// slot of the old one, whose state would be lost; when it has a new slot that cannot start in mid-run, such as a
    /// copy of the variables or a counter; when a variable has the name of a new slot. The old rule then stays.
    ///
    /// A schedule of the new rule counts from the start of the run, as the old one did.
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
        rulings::check_rule(&rule)?;
        let slots = rule.slots();
        let refuse = |problem: String| Err(Error::Slots { rule: rule.class_name().to_owned(), problem });
        if rule.class_name() != self.rule.class_name() || rule.dialect() != self.rule.dialect() {
            let (class, dialect) = (self.rule.class_name(), self.rule.dialect().name());
            return refuse(format!("is not {class} of the dialect {dialect:?}, whose state the optimizer has"));
        }
        let known = &self.groups.rulings()[0].slots;
        if let Some(lost) = known.iter().find(|slot| !slots.contains(slot)) {
            let name = lost.name();
            return refuse(format!("does not have the slot {name:?} of the optimizer: its state would be lost"));
        }
        let can_start = |slot: &SlotSpec| matches!(slot.init(), SlotInit::Zeros | SlotInit::Ones);
        if let Some(other) = slots.iter().find(|slot| !can_start(slot) && !known.contains(slot)) {
            let name = other.name();
            return refuse(format!("has a new slot {name:?}, which cannot start in mid-run: build a new optimizer"));
        }
        if slots != *known {
            rulings::check_slots(rule.class_name(), &slots, self.options.moments)?;
            let before = mem::replace(&mut self.groups.ruling_mut(0).slots, slots);
            if let Err(taken) = self.check_known_names() {
                self.groups.ruling_mut(0).slots = before;
                return Err(taken);
            }
            let ruling = self.groups.ruling_mut(0);
            ruling.shared = kept(&before, &ruling.slots, &ruling.shared);
            let slots = &self.groups.rulings()[0].slots;
            let ruled = self.records.iter_mut().filter(|record| self.groups.ruled_by(record.group) == 0);
            ruled.for_each(|record| record.change_slots(&before, slots, self.options.moments));
        }
        self.rule = rule;
        Ok(())
    }
}

/// The values of shared slots, in the order of the new list, which has no others.
fn kept(old: &[SlotSpec], new: &[SlotSpec], values: &[f64]) -> Vec<f64> {
    let is_shared = |slot: &&SlotSpec| matches!(slot.init(), SlotInit::Shared(_));
    let known: Vec<&SlotSpec> = old.iter().filter(is_shared).collect();
    let value = |slot: &SlotSpec| known.iter().position(|known| *known == slot).map(|place| values[place]);
    new.iter().filter(is_shared).filter_map(value).collect()
}
