//! Slots never hold denormal numbers, however long gradients stay 0, in any instruction set.

use loops::{OPTIONS, Rule, around, fits, levels, rules};
use opt_conformance::tensors::Tensors;
use optimizers::Scalar;
use optimizers::state::StateValue;
use optimizers::{Optimizer, OptimizerBuilder};

use super::limited::{Limited, side_by_side};

/// Sizes around the widths of vectors.
const SIZES: [usize; 4] = [1, 9, 33, 131];

/// Enough steps for a 64-bit number to decay from 1 by factors of 0.875, and for denormal numbers to decay to 0.
const STEPS: usize = 6000;

/// The numbers of all array slots, as bits. Adds the number of denormal ones to `denormal`.
///
/// Scalar slots of variables are left out: loops do not change them.
fn slots<T: Scalar>(opt: &Optimizer<Rule<T>, T>, denormal: &mut usize) -> Vec<u64> {
    let arrays = opt.weights().into_iter().filter_map(|weight| match weight.value {
        StateValue::Array(values) => Some(values.into_iter()),
        _ => None,
    });
    let is_denormal = |x: &T| *x != T::zero() && x.as_().abs() < T::SMALLEST.as_();
    arrays.flatten().inspect(|x| *denormal += usize::from(is_denormal(x))).map(|x| x.as_().to_bits()).collect()
}

/// Takes steps with gradients, then steps without. Returns the number of denormal numbers seen in slots, and the bits
/// at the end.
fn faded<T: Scalar>(rule: Rule<T>, options: &str, flush: bool) -> (usize, Vec<u64>) {
    let mut opt = around(rule, options).flush_denormals(flush).threads(1).build().unwrap();
    let (mut tensors, mut gradients) = (Tensors::<T>::new(&SIZES, 1), Tensors::new(&SIZES, 2));
    let tiny = T::literal(T::SMALLEST.as_() * 4.0);
    // Values decay, too: averages and slow weights follow them.
    let barely_normal = |w: &T| T::literal(T::SMALLEST.as_() * (1.0 + w.as_().abs()));
    tensors.values[1].iter_mut().for_each(|w| *w = barely_normal(w));
    gradients.values[1].fill(T::zero());
    let (mut denormal, mut last) = (0, Vec::new());
    for number in 0..STEPS {
        match number {
            2 => gradients.values.iter_mut().flatten().for_each(|g| *g = *g * tiny),
            5 => gradients.values.iter_mut().flatten().for_each(|g| *g = T::zero()),
            _ => {}
        }
        opt.apply_gradients(tensors.with(&gradients)).unwrap();
        if number < 8 || number % 10 == 0 || number + 1 == STEPS {
            last = slots(&opt, &mut denormal);
        }
    }
    last.extend(tensors.values.iter().flatten().map(|w| w.as_().to_bits()));
    (denormal, last)
}

fn all_fade<T: Scalar>(limited: &Limited) {
    let without: usize = rules::<T>().into_iter().map(|(_, rule)| faded(rule, "alone", false).0).sum();
    assert!(without > 100, "the data shows nothing: {without} denormal numbers without the switch");
    for options in OPTIONS.into_iter().filter(|options| fits::<T>(options)).filter(|o| !o.contains("clip")) {
        let one = |number| {
            let (name, rule) = rules::<T>().swap_remove(number);
            (name, faded(rule, options, true))
        };
        let run = |level| limited.run(level, || side_by_side(rules::<T>().len(), one));
        let results: Vec<_> = levels().into_iter().map(run).collect();
        for ((name, (denormal, bits)), (_, (_, first))) in results.iter().flat_map(|got| got.iter().zip(&results[0])) {
            assert_eq!(*denormal, 0, "{name}, {options}: denormal numbers in slots");
            assert!(bits == first, "{name}, {options}: instruction sets differ");
        }
    }
}

#[test]
fn slots_fade_to_zero() {
    let limited = Limited::begin();
    all_fade::<f32>(&limited);
    all_fade::<f64>(&limited);
}

/// Checks that the switch is on by default, and that it can be turned off.
#[test]
fn the_switch() {
    let _limited = Limited::begin();
    let slot = |flush: Option<bool>| {
        let builder = around::<f32>(Box::new(optimizers::Sgd::new(1.0).momentum(0.5)), "alone");
        let mut opt = flush.into_iter().fold(builder, OptimizerBuilder::flush_denormals).build().unwrap();
        let (mut tensors, mut gradients) = (Tensors::<f32>::new(&[1], 1), Tensors::new(&[1], 2));
        gradients.values[0][0] = f32::MIN_POSITIVE / 2.0;
        opt.apply_gradients(tensors.with(&gradients)).unwrap();
        let mut denormal = 0;
        slots(&opt, &mut denormal);
        denormal
    };
    assert_eq!([slot(None), slot(Some(true)), slot(Some(false))], [0, 0, 1]);
}
