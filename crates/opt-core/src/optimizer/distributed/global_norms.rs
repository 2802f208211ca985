//! Sums over the elements of whole variables: each element counts once, however often it is replicated.

use super::super::step::input::{Input, InputGradient};
use super::super::step::norms::{Norm, scaled_norm, square_sum};
use super::super::step::unique_rows::UniqueRows;
use crate::collective::{Collective, CollectiveError, Numbers, from_bytes, to_bytes};
use crate::error::Error;
use crate::real::Scalar;
use crate::report::NonFiniteGradient;

/// Whether this rank's elements of an input count in sums.
fn counts<T>(input: &Input<'_, T>) -> bool {
    input.placed.as_ref().is_none_or(|placed| placed.placement.counts)
}

/// Turns norms over this rank's elements into norms over whole variables, in one call.
pub(in crate::optimizer) fn sum_norms<T: Scalar>(
    world: &dyn Collective,
    inputs: &[Input<'_, T>],
    norms: &mut [Norm],
    check_finite: bool,
) -> Result<(), CollectiveError> {
    let own: Vec<Norm> =
        inputs.iter().zip(&*norms).map(|(input, norm)| if counts(input) { *norm } else { Norm::NONE }).collect();
    let mut numbers: Vec<f64> = own.iter().map(|norm| norm.square_sum).collect();
    if check_finite {
        // Every rank reports elements that are not finite, also if its elements do not count: replicas may differ.
        let not_finite = norms.iter().any(|norm| !norm.finite);
        numbers.push(f64::from(u8::from(not_finite)));
    }
    let mut sums: Vec<f64> = world.sum(Numbers::F64(numbers))?.into_elements();
    let finite = !check_finite || sums.pop().is_some_and(|ranks| ranks == 0.0);
    for (norm, square_sum) in norms.iter_mut().zip(sums) {
        *norm = Norm { square_sum, norm: square_sum.sqrt(), finite };
    }
    // Rare: squares are too large for 64 bits, on all ranks alike.
    if norms.iter().any(|norm| norm.square_sum.is_infinite()) {
        let answers = world.gather(to_bytes(own.iter().map(|norm| &norm.norm)))?;
        let by_rank: Vec<Vec<f64>> = answers.iter().map(|bytes| from_bytes(bytes)).collect();
        for (i, norm) in norms.iter_mut().enumerate().filter(|(_, norm)| norm.square_sum.is_infinite()) {
            norm.norm = scaled_norm(by_rank.iter().filter_map(|norms| norms.get(i)).copied());
        }
    }
    Ok(())
}

/// Turns sums over this rank's rows into sums over whole sparse gradients, in one call if there are any.
pub(in crate::optimizer) fn sum_rows<T: Scalar>(
    world: &dyn Collective,
    inputs: &[Input<'_, T>],
    unique: &mut [(usize, UniqueRows<T>)],
) -> Result<(), CollectiveError> {
    if unique.is_empty() {
        return Ok(());
    }
    let own = unique.iter().map(|(i, unique)| if counts(&inputs[*i]) { square_sum(&unique.values, None) } else { 0.0 });
    let sums: Vec<f64> = world.sum(Numbers::F64(own.collect()))?.into_elements();
    unique.iter_mut().zip(sums).for_each(|((_, unique), sum)| unique.square_sum = Some(sum));
    Ok(())
}

/// The first element on any rank that is infinite or NaN, in the order of the names of the variables, then of the
/// ranks. `found` is this rank's first: its place in `order`, and the element.
pub(in crate::optimizer) fn first_on_all_ranks<T>(
    world: &dyn Collective,
    found: Option<(usize, NonFiniteGradient)>,
    order: &[usize],
    inputs: &[Input<'_, T>],
) -> Result<Option<NonFiniteGradient>, Error> {
    let message = found.map(|(place, found)| {
        let index = whole_index(&inputs[order[place]], found.index);
        let numbers = [place as u64, found.value.to_bits()].into_iter().chain(index.into_iter().map(|i| i as u64));
        numbers.flat_map(u64::to_le_bytes).collect()
    });
    let answers = world.gather(message.unwrap_or_default())?;
    let numbers = answers.iter().map(|bytes| bytes.as_chunks().0.iter().map(|&x| u64::from_le_bytes(x)));
    let found = numbers.map(Iterator::collect::<Vec<u64>>).filter(|numbers| numbers.len() >= 2);
    // `min_by_key` takes the first of equal places.
    Ok(found.min_by_key(|numbers| numbers[0]).and_then(|numbers| {
        let variable = inputs[*order.get(numbers[0] as usize)?].name.to_string();
        let index = numbers[2..].iter().map(|&i| i as usize).collect();
        Some(NonFiniteGradient { variable, index, value: f64::from_bits(numbers[1]) })
    }))
}

/// The index in the whole variable. (The first index of a sparse gradient is a place in its list of rows.)
fn whole_index<T>(input: &Input<'_, T>, mut index: Vec<usize>) -> Vec<usize> {
    let Some(placed) = &input.placed else { return index };
    let placement = &placed.placement;
    let sparse = matches!(input.gradient, Some(InputGradient::Sparse(_)));
    for (axis, i) in index.iter_mut().enumerate().skip(usize::from(sparse)) {
        *i += placement.offset[axis];
        let part = placement.part.as_ref().filter(|part| part.axis == axis && !input.is_whole());
        *i += part.map_or(0, |part| part.range().start);
    }
    index
}
