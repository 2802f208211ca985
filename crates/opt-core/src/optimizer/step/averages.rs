//! Averages of variables that have no gradient in a step: Keras 3 updates them, too.

use super::super::SlotPlace;
use super::super::records::{Record, Records};
use super::input::Input;
use super::plan::StepPlan;
use super::storage::{AnyValue, Value};
use crate::ema::Ema;
use crate::precision::Any;
use crate::precision::extended::Extended;
use crate::real::Scalar;

/// The weights of the old average and of the value in the new average, and what happens to the result.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Averaging<T> {
    keep: T,
    take: T,
    flush_below: T,
    /// Whether the average then replaces the value.
    overwrite: bool,
}

/// Updates the averages of the inputs without a gradient. `plans` are those of the groups.
pub(crate) fn update_without_gradient<T: Scalar>(
    plans: &[StepPlan<'_, T>],
    inputs: &mut [Input<'_, T>],
    records: &mut Records<T>,
) {
    for Input { place, value, group, .. } in inputs.iter_mut().filter(|input| input.gradient.is_none()) {
        if let Some(averaging) = Averaging::of(&plans[*group]) {
            averaging.update(value, records.at_mut(*place));
        }
    }
}

impl<T: Scalar> Averaging<T> {
    /// The averages of a step, if there are any.
    fn of(plan: &StepPlan<'_, T>) -> Option<Self> {
        Some(Self::new(plan.fused.average?, plan.fused.flush_below, plan.overwrite))
    }

    /// The averages after this number of steps.
    pub(crate) fn at(ema: &Ema, iterations: u64, flush_below: T) -> Self {
        Self::new(ema.weights_at(iterations), flush_below, ema.overwrites_at(iterations + 1))
    }

    fn new([keep, take]: [T; 2], flush_below: T, overwrite: bool) -> Self {
        Self { keep, take, flush_below, overwrite }
    }

    /// Updates the average of one variable.
    pub(crate) fn update(self, value: &mut AnyValue<'_, T>, record: &mut Record<T>) {
        match value {
            Any::Full(value) => {
                let mut average = record.array_mut(SlotPlace::Average).into_iter().flatten();
                value.for_each(|w| average.next().into_iter().for_each(|average| self.element(w, average)));
            }
            Any::Bf16(value) => self.half(value, record),
            Any::F16(value) => self.half(value, record),
        }
    }

    fn half<H: Extended>(self, value: &mut Value<'_, H>, record: &mut Record<T>) {
        let Record { master, average: Some(average), .. } = record else { return };
        value.with_master(master, |master| {
            master.iter_mut().zip(average).for_each(|(w, average)| self.element(w, average));
        });
    }

    /// Updates the average of one element.
    pub(crate) fn element(self, w: &mut T, average: &mut T) {
        *average = (self.keep * *average + self.take * *w).flushed(self.flush_below);
        if self.overwrite {
            *w = *average;
        }
    }
}
