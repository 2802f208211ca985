//! The first phase that changes state: new variables get their slots.

use super::super::Optimizer;
use super::super::records::{Fill, NewSlots, NewVariable, Records};
use super::input::Input;
use crate::real::Scalar;
use crate::rule::UpdateRule;

impl<R: UpdateRule<T>, T: Scalar> Optimizer<R, T> {
    /// Makes the slots of new variables.
    pub(in crate::optimizer) fn admit(&mut self, inputs: &mut [Input<'_, T>], fill: Fill) {
        let weight_decay = &self.options.weight_decay;
        let slots = NewSlots { specs: &self.slots, averages: self.options.use_ema, fill };
        add_records(&mut self.records, inputs, &slots, |name| weight_decay.applies_to(name));
    }
}

/// Makes records for the inputs that are new, in the order of the list.
pub(super) fn add_records<T: Scalar>(
    records: &mut Records<T>,
    inputs: &mut [Input<'_, T>],
    slots: &NewSlots<'_>,
    decays: impl Fn(&str) -> bool,
) {
    let known = records.len();
    for input in inputs {
        let Some(form) = input.new.take() else { continue };
        debug_assert_eq!(input.place, records.len());
        let Input { name, value, .. } = input;
        let name = name.to_string();
        let dtype = value.dtype(T::DTYPE);
        let decays = decays(&name);
        records
            .add(NewVariable { name, form: *form, dtype, len: value.len(), value: &|| value.to_vec(), decays }, slots);
    }
    if records.len() > known {
        records.sort_names();
    }
}
