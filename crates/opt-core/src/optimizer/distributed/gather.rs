//! The gather at the end of a step: each rank receives the parts that the others have updated.

use std::sync::Arc;

use super::super::step::input::Input;
use super::shards::own_order;
use crate::collective::{Collective, CollectiveError, Part, append_bytes, read_bytes, width};
use crate::real::Scalar;

/// A variable, and its division into parts.
type Member<'i, 'v, T> = (Part, &'i mut Input<'v, T>);
/// A group of ranks, and the variables that it divides into parts.
type Sharing<'i, 'v, T> = (Arc<dyn Collective>, Vec<Member<'i, 'v, T>>);

/// Receives the parts that other ranks have updated: one call for each group of ranks.
pub(super) fn gather_parts<'i, 'v: 'i, T: Scalar>(
    inputs: impl Iterator<Item = &'i mut Input<'v, T>>,
) -> Result<(), CollectiveError> {
    let mut groups: Vec<Sharing<'i, 'v, T>> = Vec::new();
    for input in inputs {
        let Some(part) = input.placed.as_ref().and_then(|placed| placed.placement.part.clone()) else { continue };
        match groups.iter_mut().find(|(group, _)| Arc::ptr_eq(group, &part.group)) {
            Some((_, members)) => members.push((part, input)),
            None => groups.push((Arc::clone(&part.group), vec![(part, input)])),
        }
    }
    groups.into_iter().try_for_each(|(group, mut members)| gather(&*group, &mut members))
}

fn gather<T: Scalar>(group: &dyn Collective, members: &mut [Member<'_, '_, T>]) -> Result<(), CollectiveError> {
    let mut own = Vec::new();
    for (part, input) in members.iter_mut() {
        let Input { value, placed: Some(placed), .. } = &mut **input else { continue };
        let view = own_order(value, &placed.form, part.axis, part.range());
        match view.as_slice() {
            Some(slice) => append_bytes(&mut own, slice.iter()),
            None => append_bytes(&mut own, view.iter()),
        }
    }
    let answers = group.gather(own)?;
    for (rank, bytes) in answers.iter().enumerate().filter(|(rank, _)| *rank != group.rank()) {
        let mut rest = bytes.as_slice();
        for (part, input) in members.iter_mut() {
            let Input { value, placed: Some(placed), .. } = &mut **input else { continue };
            let mut view = own_order(value, &placed.form, part.axis, part.ranges[rank].clone());
            let (part, others) =
                rest.split_at_checked(view.len() * width::<T>()).ok_or(CollectiveError::Message { rank })?;
            rest = others;
            match view.as_slice_mut() {
                Some(slice) => read_bytes(slice.iter_mut(), part),
                None => read_bytes(view.iter_mut(), part),
            }
        }
    }
    Ok(())
}
