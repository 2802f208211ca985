//! Parts that ranks updated for each other, put together.

use std::sync::Arc;

use super::parts::own_order;
use crate::collective::{Collective, CollectiveError, Part, from_bytes, to_bytes};
use crate::optimizer::resolve::Input;
use crate::real::Scalar;

/// Fills in the parts that other ranks have updated: one call for each group of ranks.
pub(super) fn gather_parts<'i, 'v: 'i, T: Scalar>(
    inputs: impl Iterator<Item = &'i mut Input<'v, T>>,
) -> Result<(), CollectiveError> {
    let mut groups: Vec<(Arc<dyn Collective>, Vec<(Part, &mut Input<'v, T>)>)> = Vec::new();
    for input in inputs {
        let Some(part) = input.placement.as_ref().and_then(|placement| placement.part.clone()) else { continue };
        match groups.iter_mut().find(|(group, _)| Arc::ptr_eq(group, &part.group)) {
            Some((_, members)) => members.push((part, input)),
            None => groups.push((Arc::clone(&part.group), vec![(part, input)])),
        }
    }
    groups.into_iter().try_for_each(|(group, mut members)| gather(&*group, &mut members))
}

fn gather<T: Scalar>(group: &dyn Collective, members: &mut [(Part, &mut Input<'_, T>)]) -> Result<(), CollectiveError> {
    let mut own = Vec::new();
    for (part, input) in members.iter_mut() {
        let view = own_order(&mut input.value, input.axes.as_deref(), part.axis, part.range());
        own.extend(to_bytes(view.iter().copied()));
    }
    let answers = group.gather(own)?;
    for (rank, bytes) in answers.iter().enumerate().filter(|(rank, _)| *rank != group.rank()) {
        let mut elements = from_bytes::<T>(bytes).into_iter();
        for (part, input) in members.iter_mut() {
            let mut view = own_order(&mut input.value, input.axes.as_deref(), part.axis, part.ranges[rank].clone());
            if elements.len() < view.len() {
                return Err(CollectiveError::Message { rank });
            }
            view.iter_mut().zip(elements.by_ref()).for_each(|(to, from)| *to = from);
        }
    }
    Ok(())
}
