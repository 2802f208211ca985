//! Masters of variables in 16 bits: in full, in 24 bits ([`extended`](super::extended)), or none.

use std::ops::RangeInclusive;

use half::bf16;

use super::extended::{Extended, join, round, split};
use super::stochastic::{Noise, Sequences, before_turn};
use crate::loops::Buffer;
use crate::master::Master;
use crate::optimizer::StateValue;
use crate::real::Scalar;

/// Corrections are whole numbers in this range.
pub(crate) const CORRECTIONS: RangeInclusive<f64> = -128.0..=127.0;

/// The master of a variable in 16 bits, row by row.
#[derive(Debug, Clone)]
pub(crate) struct MasterSlot<T> {
    storage: Master,
    /// The master in full. With other storages, the variable's own numbers while another slot is swapped in.
    full: Vec<T>,
    corrections: Vec<i8>,
}

impl<T: Scalar> MasterSlot<T> {
    /// No master: that of a variable in the element type.
    pub(crate) fn none() -> Self {
        Self { storage: Master::Full, full: Vec::new(), corrections: Vec::new() }
    }

    /// The master of a variable with these numbers.
    pub(crate) fn new(storage: Master, value: Vec<T>) -> Self {
        let mut slot = Self { storage, ..Self::none() };
        match storage {
            Master::Full => slot.full = value,
            _ => slot.restart(&value),
        }
        slot
    }

    /// The variable is the master.
    pub(crate) fn restart(&mut self, value: &[T]) {
        match self.storage {
            Master::Full => self.full = value.to_vec(),
            Master::Bits24 { .. } => self.corrections = vec![0; value.len()],
            Master::None { .. } => {}
        }
    }

    /// The number of bytes.
    pub(crate) fn bytes(&self) -> usize {
        size_of_val(&self.full[..]) + self.corrections.len()
    }

    /// The master in full, if it is stored so.
    pub(crate) fn full(&self) -> &[T] {
        &self.full
    }

    pub(crate) fn full_mut(&mut self) -> &mut Vec<T> {
        &mut self.full
    }

    /// Whether the master is in 24 bits.
    pub(crate) fn has_corrections(&self) -> bool {
        matches!(self.storage, Master::Bits24 { .. })
    }

    /// The corrections, exactly; `None` if there are none.
    pub(crate) fn corrections(&self) -> Option<Vec<bf16>> {
        self.has_corrections()
            .then(|| self.corrections.iter().map(|&correction| bf16::from_f32(f32::from(correction))).collect())
    }

    /// A number that cannot be a correction, if there is one among the new corrections.
    pub(crate) fn wrong_correction(&self, new: &StateValue<'_, T>) -> Option<f64> {
        let is_correction = |number: &f64| number.fract() == 0.0 && CORRECTIONS.contains(number);
        let given = if self.has_corrections() { new.to_f64() } else { Vec::new() };
        given.into_iter().find(|number| !is_correction(number))
    }

    /// Assigns checked corrections, row by row. Returns whether there are corrections.
    pub(crate) fn assign_corrections(&mut self, new: &StateValue<'_, T>) -> bool {
        if self.has_corrections() {
            self.corrections = new.to_f64().into_iter().map(|number| number as i8).collect();
        }
        self.has_corrections()
    }

    /// The master of all elements, for updates. `noise` is the source of the roundings of this seed.
    pub(crate) fn lend(&mut self, noise: impl FnOnce(u64) -> Noise) -> Masters<'_, T> {
        match self.storage {
            Master::Full => Masters::Full(&mut self.full),
            Master::Bits24 { seed } => Masters::Bits24(&mut self.corrections, noise(seed), 0),
            Master::None { seed } => Masters::None(noise(seed), 0),
        }
    }

    /// Takes the master out in full. [`close`](Self::close) takes it back.
    pub(crate) fn open<H: Extended>(&mut self, half: &[H]) -> Vec<T> {
        let mut full = std::mem::take(&mut self.full);
        full.resize(half.len(), T::zero());
        match self.storage {
            Master::Full => H::take_changed(&mut full, half),
            Master::Bits24 { .. } => join(&mut full, half, &self.corrections),
            Master::None { .. } => H::widen(&mut full, half),
        }
        full
    }

    /// Takes the master back, and rounds it into the variable, to nearest.
    pub(crate) fn close<H: Extended>(&mut self, full: Vec<T>, half: &mut [H]) {
        match self.storage {
            Master::Bits24 { .. } => {
                let unused = Noise::new(0, 0, 0).at(0);
                split::<T, H, false>(half, &mut self.corrections, &full, unused);
            }
            Master::Full | Master::None { .. } => H::round(half, &full),
        }
        if self.storage == Master::Full {
            self.full = full;
        }
    }
}

/// The master of a slice of a variable in 16 bits.
pub(crate) enum Masters<'a, T> {
    Full(&'a mut [T]),
    /// The corrections, the source of the roundings, and the place in the variable of the first element.
    Bits24(&'a mut [i8], Noise, usize),
    /// The source of the roundings, and the place in the variable of the first element.
    None(Noise, usize),
}

impl<T> Masters<'_, T> {
    /// Splits before an element.
    pub(crate) fn split_at(self, at: usize) -> (Self, Self) {
        match self {
            Self::Full(master) => {
                // Variables in the element type have no master.
                let (front, back) = master.split_at_mut(at.min(master.len()));
                (Self::Full(front), Self::Full(back))
            }
            Self::Bits24(corrections, noise, first) => {
                let (front, back) = corrections.split_at_mut(at);
                (Self::Bits24(front, noise, first), Self::Bits24(back, noise, first + at))
            }
            Self::None(noise, first) => (Self::None(noise, first), Self::None(noise, first + at)),
        }
    }
}

impl<T: Scalar> Masters<'_, T> {
    /// Lends the master of the elements `at..` to `change`, then rounds it into the variable. The lent numbers are in
    /// `buffer`, if they are not stored in full.
    #[inline]
    pub(crate) fn visit<H: Extended>(
        &mut self,
        at: usize,
        half: &mut [H],
        buffer: &mut Buffer<T>,
        change: impl FnOnce(&mut [T]),
    ) {
        match self {
            Self::Full(master) => {
                let master = &mut master[at..][..half.len()];
                H::take_changed(master, half);
                change(master);
                H::round(half, master);
            }
            Self::Bits24(corrections, noise, first) => {
                let corrections = &mut corrections[at..][..half.len()];
                let buffer = buffer.first(half.len());
                join(buffer, half, corrections);
                change(buffer);
                let ([half, late], [corrections, late_corrections], [buffer, late_buffer], [now, later]) =
                    turned(*noise, *first + at, half, corrections, buffer);
                split::<T, H, true>(half, corrections, buffer, now);
                split::<T, H, true>(late, late_corrections, late_buffer, later);
            }
            Self::None(noise, first) => {
                let buffer = buffer.first(half.len());
                H::widen(buffer, half);
                change(buffer);
                let ([half, late], _, [buffer, late_buffer], [now, later]) =
                    turned(*noise, *first + at, half, &mut [], buffer);
                round(half, buffer, now);
                round(late, late_buffer, later);
            }
        }
    }
}

/// Two parts of a slice.
type Parts<'a, E> = [&'a mut [E]; 2];

/// Splits elements from `place` on where random bits have to be drawn anew.
fn turned<'a, H, T>(
    noise: Noise,
    place: usize,
    half: &'a mut [H],
    corrections: &'a mut [i8],
    buffer: &'a mut [T],
) -> (Parts<'a, H>, Parts<'a, i8>, Parts<'a, T>, [Sequences; 2]) {
    let at = before_turn(place).min(half.len());
    let corrected = at.min(corrections.len());
    (
        half.split_at_mut(at).into(),
        corrections.split_at_mut(corrected).into(),
        buffer.split_at_mut(at).into(),
        [place, place + at].map(|place| noise.at(place)),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where slices are cut changes nothing, even where random bits are drawn anew.
    #[test]
    fn the_place_decides() {
        let first = (1 << 32) - 150;
        let bits = |blocks: &[usize]| {
            let (mut half, mut corrections) = (vec![bf16::ONE; 300], vec![0; 300]);
            let masters: Masters<'_, f32> = Masters::Bits24(&mut corrections, Noise::new(1, 2, 3), first);
            let (mut front, mut back) = masters.split_at(blocks[0]);
            let (one, other) = half.split_at_mut(blocks[0]);
            let add = |numbers: &mut [f32]| numbers.iter_mut().for_each(|w| *w += 1.234e-3);
            front.visit(0, one, &mut Buffer::default(), add);
            let mut at = 0;
            for &len in &blocks[1..] {
                back.visit(at, &mut other[at..at + len], &mut Buffer::default(), add);
                at += len;
            }
            (half, corrections)
        };
        assert_eq!(bits(&[300]), bits(&[100, 100, 100]));
        assert_eq!(bits(&[300]), bits(&[150, 1, 149]));
    }
}
