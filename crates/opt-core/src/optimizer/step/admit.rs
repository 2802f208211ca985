//! The first phase that changes state: new variables get their slots.

use super::super::Optimizer;
use super::super::records::{Fill, NewSlots, NewVariable, Records};
use super::input::Input;
use crate::real::Scalar;
use crate::rule::UpdateRule;

impl<R: UpdateRule<T>, T: Scalar> Optimizer<R, T> {
    /// Makes the slots of new variables.
    pub(in crate::optimizer) fn admit(&mut self, inputs: &mut [Input<'_, T>], fill: Fill) {
        let (options, groups) = (&self.options, &self.groups);
        let slots = |group: usize| NewSlots {
            specs: groups.slots_of(group),
            averages: options.use_ema && groups.averages(group),
            master: options.master,
            fill,
        };
        add_records(&mut self.records, inputs, slots, |name| options.weight_decay.applies_to(name));
    }
}

/// Makes records for the inputs that are new, in the order of the list.
pub(super) fn add_records<'s, T: Scalar>(
    records: &mut Records<T>,
    inputs: &mut [Input<'_, T>],
    slots: impl Fn(usize) -> NewSlots<'s>,
    decays: impl Fn(&str) -> bool,
) {
    let known = records.len();
    // New variables have places after the last record.
    let first = inputs.partition_point(|input| input.place < known);
    for input in &mut inputs[first..] {
        let Some(form) = input.new.take() else { continue };
        debug_assert_eq!(input.place, records.len());
        let Input { name, value, group, .. } = input;
        let group = *group;
        let name = name.to_string();
        let dtype = value.dtype(T::DTYPE);
        let decays = decays(&name);
        let len = value.len();
        let variable = NewVariable { name, form: *form, dtype, len, value: &|| value.to_vec(), decays, group };
        records.add(variable, &slots(group));
    }
    if records.len() > known {
        records.sort_names();
    }
}
