//! Slots: the state of a rule.

use std::borrow::Cow;
use std::mem;

use crate::config::Interval;
use crate::loops::slices::{block_of, split_off};

/// The largest number of array slots that a rule may have, including the rules that it wraps.
pub const MAX_ARRAY_SLOTS: usize = 8;

/// A named piece of state that the engine allocates, stores and restores for a rule.
#[derive(Debug, Clone, PartialEq)]
pub struct SlotSpec {
    name: Cow<'static, str>,
    init: SlotInit,
    moment: bool,
    range: Interval,
    whole: bool,
    free_of_learning_rate: bool,
    listed_last: bool,
}

/// The extent and the initial value of a slot.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum SlotInit {
    /// An array like the variable, of zeros.
    Zeros,
    /// An array like the variable, of ones.
    Ones,
    /// An array like the variable, and a copy of it.
    Copy,
    /// One number for each variable, in 64 bits.
    Scalar(f64),
    /// One number for all variables, in 64 bits.
    Shared(f64),
}

impl SlotSpec {
    /// An array like the variable that starts with zeros.
    #[must_use]
    pub fn zeros(name: impl Into<Cow<'static, str>>) -> Self {
        Self::new(name, SlotInit::Zeros)
    }

    /// An array like the variable that starts with ones.
    #[must_use]
    pub fn ones(name: impl Into<Cow<'static, str>>) -> Self {
        Self::new(name, SlotInit::Ones)
    }

    /// An array like the variable that starts as a copy of it.
    #[must_use]
    pub fn copy_of_variable(name: impl Into<Cow<'static, str>>) -> Self {
        Self::new(name, SlotInit::Copy)
    }

    /// One number for each variable.
    #[must_use]
    pub fn scalar(name: impl Into<Cow<'static, str>>, initial: f64) -> Self {
        Self::new(name, SlotInit::Scalar(initial))
    }

    /// One number for each variable that counts from 0 on.
    #[must_use]
    pub fn counter(name: impl Into<Cow<'static, str>>) -> Self {
        Self { whole: true, ..Self::scalar(name, 0.0).within(0.0..) }
    }

    /// One number for all variables, like Nadam's momentum cache.
    #[must_use]
    pub fn shared(name: impl Into<Cow<'static, str>>, initial: f64) -> Self {
        Self::new(name, SlotInit::Shared(initial))
    }

    fn new(name: impl Into<Cow<'static, str>>, init: SlotInit) -> Self {
        Self {
            name: name.into(),
            init,
            moment: false,
            range: Interval::FINITE,
            whole: false,
            free_of_learning_rate: false,
            listed_last: false,
        }
    }

    /// Marks the slot as an array of moments (velocities, averages of gradients or of their squares), which do not need
    /// all digits: [`MomentStorage`](crate::MomentStorage) applies to it. A second moment must also be said to be
    /// [`within`](Self::within) `0.0..`: it is then never rounded to 0.
    #[must_use]
    pub fn moment(mut self) -> Self {
        self.moment = true;
        self
    }

    /// Marks a velocity that does not contain the learning rate, as in PyTorch and optax. The numbers of such a slot
    /// and of one without the mark are not exchangeable: sign and scale differ.
    #[must_use]
    pub fn free_of_learning_rate(mut self, free: bool) -> Self {
        self.free_of_learning_rate = free;
        self
    }

    /// Whether the slot is a velocity that does not contain the learning rate.
    #[must_use]
    pub fn is_free_of_learning_rate(&self) -> bool {
        self.free_of_learning_rate
    }

    /// Lists the slot after all others, for all variables together, in
    /// [`WeightsOrder::ByVariable`](crate::rule::WeightsOrder::ByVariable), as Keras does with the `vhat` of AMSGrad: m
    /// of `a`, v of `a`, m of `b`, v of `b`, `vhat` of `a`, `vhat` of `b`.
    #[must_use]
    pub fn listed_last(mut self) -> Self {
        self.listed_last = true;
        self
    }

    /// Whether the slot is [listed after all others](Self::listed_last).
    #[must_use]
    pub fn is_listed_last(&self) -> bool {
        self.listed_last
    }

    /// Sets the range of the slot's numbers. State from a file that is outside cannot be state of this rule, and is
    /// refused. Any number is inside by default.
    ///
    /// NaN and infinities are refused only where both ends of the range are finite: elsewhere they are what a run that
    /// diverged has left.
    #[must_use]
    pub fn within(mut self, range: impl Into<Interval>) -> Self {
        self.range = range.into();
        self
    }

    /// Whether the slot is a second moment: an array of averages of squares, which are not negative.
    #[must_use]
    pub(crate) fn is_second_moment(&self) -> bool {
        self.moment && self.range == Interval::NOT_NEGATIVE
    }

    /// Whether there are numbers that cannot be state of this slot.
    pub(crate) fn is_limited(&self) -> bool {
        self.whole || self.range != Interval::FINITE
    }

    /// Whether a number can be state of this slot. Only where both ends of the range are known are NaN and infinities
    /// outside: elsewhere they are what a run that diverged has left.
    pub(crate) fn allows(&self, number: f64) -> bool {
        let Interval { low, high, .. } = self.range;
        let is_inside = match (low, high) {
            (Some(_), Some(_)) => self.range.contains(number),
            (Some(low), None) => number >= low || number.is_nan(),
            (None, Some(high)) => number <= high || number.is_nan(),
            (None, None) => true,
        };
        is_inside && (!self.whole || number.fract() == 0.0)
    }

    /// The numbers that the slot may have, in words.
    pub(crate) fn expected(&self) -> String {
        let kind = if self.whole { "whole numbers" } else { "numbers" };
        format!("{kind} in {}", self.range)
    }

    /// The same slot with another name.
    #[must_use]
    pub fn renamed(mut self, name: impl Into<Cow<'static, str>>) -> Self {
        self.name = name.into();
        self
    }

    /// Whether the slot is an array of moments.
    #[must_use]
    pub fn is_moment(&self) -> bool {
        self.moment
    }

    /// The slot's name, unique within the rule.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The extent and the initial value of the slot.
    #[must_use]
    pub fn init(&self) -> SlotInit {
        self.init
    }
}

/// A slice for each array slot of a rule. Slices are empty after the last slot, and where a slot is stored in fewer
/// bits.
#[derive(Debug)]
pub(crate) struct ArraySlots<'a, T> {
    slots: [&'a mut [T]; MAX_ARRAY_SLOTS],
    /// The number of slots.
    count: usize,
}

impl<T> Default for ArraySlots<'_, T> {
    fn default() -> Self {
        Self { slots: Default::default(), count: 0 }
    }
}

impl<'a, T> ArraySlots<'a, T> {
    /// Slices of any arrays.
    ///
    /// # Panics
    ///
    /// If there are more than [`MAX_ARRAY_SLOTS`].
    pub(crate) fn from_slices(slices: impl IntoIterator<Item = &'a mut [T]>) -> Self {
        let mut slots: [&mut [T]; MAX_ARRAY_SLOTS] = Default::default();
        let mut count = 0;
        for slice in slices {
            slots[count] = slice;
            count += 1;
        }
        Self { slots, count }
    }

    /// Whether all slots have this length.
    pub(crate) fn all_have(&self, len: usize) -> bool {
        self.slots[..self.count].iter().all(|slot| slot.len() == len)
    }

    /// Slices of whole arrays.
    #[inline(always)]
    pub(crate) fn of(arrays: &'a mut [Vec<T>]) -> Self {
        let mut slots = Self::default();
        slots.fill(arrays);
        slots
    }

    /// Fills empty slices with whole arrays.
    #[inline(always)]
    pub(crate) fn fill(&mut self, arrays: &'a mut [Vec<T>]) {
        self.count = arrays.len();
        self.slots.iter_mut().zip(arrays).for_each(|(slot, array)| *slot = array);
    }

    /// The elements `at..at + n` of each slot.
    pub(crate) fn block(&mut self, at: usize, n: usize) -> ArraySlots<'_, T> {
        let mut slots: [&mut [T]; MAX_ARRAY_SLOTS] = Default::default();
        for (slot, whole) in slots.iter_mut().zip(self.slots.iter_mut().take(self.count)) {
            *slot = block_of(whole, at, n);
        }
        ArraySlots { slots, count: self.count }
    }

    /// Splits each slot before an element.
    pub(crate) fn split_at(mut self, at: usize) -> (Self, Self) {
        let back = self.slots.each_mut().map(|slot| split_off(slot, at));
        let count = self.count;
        (self, Self { slots: back, count })
    }

    /// The slots from `start` on, borrowed for a shorter time.
    pub(crate) fn from(&mut self, start: usize) -> ArraySlots<'_, T> {
        let mut slots: [&mut [T]; MAX_ARRAY_SLOTS] = Default::default();
        for (to, from) in slots.iter_mut().zip(self.slots.iter_mut().skip(start)) {
            *to = from;
        }
        ArraySlots { slots, count: self.count.saturating_sub(start) }
    }

    /// Starts with the slot at `start`. The slots before it come last.
    #[inline]
    pub(crate) fn start_at(&mut self, start: usize) {
        self.slots.rotate_left(start.min(MAX_ARRAY_SLOTS));
    }

    /// Takes out the slot at an index, and leaves an empty slice.
    #[inline]
    pub(crate) fn take(&mut self, index: usize) -> &'a mut [T] {
        mem::take(&mut self.slots[index])
    }

    /// The slices.
    pub(crate) fn as_mut(&mut self) -> &mut [&'a mut [T]; MAX_ARRAY_SLOTS] {
        &mut self.slots
    }

    /// The slices.
    pub(crate) fn into_array(self) -> [&'a mut [T]; MAX_ARRAY_SLOTS] {
        self.slots
    }
}
