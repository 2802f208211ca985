//! Trainings on the CPU and on the device, with the same gradients.

mod pair;
mod stored;
mod trainings;
mod units;

use opt_core::state::DType;
use opt_gpu::device::{Device, Element};
use serde::Serialize;

pub(crate) use pair::Difference;
use pair::Pair;
use trainings::{Trained, Training};

/// How far a step on the device may be from that of the CPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Promise {
    /// The same bits.
    Bits,
    /// Drivers may divide and take roots with an error: at most [`MOST_UNITS`].
    Units,
}

/// The largest difference that is allowed after a step that starts from the same bits, in units in the last place.
pub(crate) const MOST_UNITS: f64 = 4.0;

/// A training that was compared.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Compared {
    pub(crate) training: String,
    pub(crate) dtype: &'static str,
    pub(crate) steps: u64,
    /// The largest difference of a step; nothing if all bits are the same.
    pub(crate) difference: Option<Difference>,
    pub(crate) is_kept: bool,
}

impl Promise {
    fn allows(self, difference: Option<&Difference>) -> bool {
        match (self, difference) {
            (_, None) => true,
            (Self::Bits, Some(_)) => false,
            (Self::Units, Some(difference)) => difference.units <= MOST_UNITS,
        }
    }
}

/// Compares all trainings, in each element type in which the device computes.
pub(crate) fn compare<D: Device>(device: &D, promise: Promise) -> anyhow::Result<Vec<Compared>> {
    let mut all = in_type::<D, f32>(device, promise)?;
    if device.check(DType::F64).is_ok() {
        all.extend(in_type::<D, f64>(device, promise)?);
    }
    Ok(all)
}

fn in_type<D: Device, T: Trained>(device: &D, promise: Promise) -> anyhow::Result<Vec<Compared>> {
    let trainings = T::trainings();
    let compared = trainings.iter().filter(|training| promise == Promise::Bits || !training.rounds);
    compared.map(|training| one(device, training, promise)).collect()
}

fn one<D: Device, T: Element>(device: &D, training: &Training<T>, promise: Promise) -> anyhow::Result<Compared> {
    let mut pair = Pair::new(device, training.stored, || training.builder())?;
    let mut largest: Option<Difference> = None;
    for step in 0..training.steps {
        if let Some(found) = pair.step(&training.gradients(step))?
            && largest.as_ref().is_none_or(|largest| found.units > largest.units)
        {
            largest = Some(Difference { place: format!("step {step}, {}", found.place), ..found });
        }
    }
    let is_kept = promise.allows(largest.as_ref());
    let dtype = if T::DTYPE == DType::F64 { "f64" } else { "f32" };
    Ok(Compared { training: training.name.clone(), dtype, steps: training.steps, difference: largest, is_kept })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::Ledger;

    /// It cannot happen that nothing is compared.
    #[test]
    fn a_device_that_computes_nothing_fails() {
        let all = compare(&Ledger::default(), Promise::Bits).unwrap();
        assert!(all.iter().all(|compared| !compared.is_kept), "{all:#?}");
        assert!(all.iter().any(|compared| compared.dtype == "f64"));
        let in_units = compare(&Ledger::default(), Promise::Units).unwrap();
        assert_eq!(all.len() - in_units.len(), 27, "trainings in 16 bits");
    }

    #[test]
    fn promises_are_checked() {
        let of = |units| Difference { units, place: String::new() };
        for (promise, units, is_allowed) in [
            (Promise::Bits, 0.0, false),
            (Promise::Units, 0.0, true),
            (Promise::Units, 4.0, true),
            (Promise::Units, 4.5, false),
            (Promise::Units, f64::INFINITY, false),
            (Promise::Units, f64::NAN, false),
        ] {
            assert_eq!(promise.allows(Some(&of(units))), is_allowed, "{promise:?}, {units}");
        }
        assert!(Promise::Bits.allows(None));
    }
}
