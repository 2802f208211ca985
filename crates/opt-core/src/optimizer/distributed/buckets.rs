//! Sums the gradients of replicas: dense gradients in buckets, sparse gradients by gathering indices and rows.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use ndarray::{ArrayD, ArrayViewD, IxDyn};

use super::super::form::{Form, in_order, inverse};
use super::super::step::input::{Input, InputGradient};
use super::super::step::storage::AnyValues;
use crate::collective::{Collective, CollectiveError, Numbers, Pending, Reduction, Replicas};
use crate::collective::{append_bytes, from_bytes};
use crate::real::Scalar;

/// Row indices and their values.
pub(super) type SparseRows<T> = (Vec<usize>, ArrayD<T>);

/// Dense gradients that are reduced in one call.
struct Bucket {
    group: Arc<dyn Collective>,
    /// The numbers of the inputs, each with the range of its elements in the bucket.
    members: Vec<(usize, Range<usize>, Reduction)>,
    len: usize,
}

/// Gradients that are being reduced, in buckets.
pub(super) struct Reducing<T> {
    buckets: Vec<Bucket>,
    /// Buffers of earlier steps, to be used again.
    memory: VecDeque<Vec<T>>,
}

/// Reduced gradients, by the numbers of the inputs.
pub(super) struct Reduced<T> {
    buckets: Vec<Vec<T>>,
    /// The bucket of each dense gradient, and the range of its elements in the bucket.
    dense: Vec<Option<(usize, Range<usize>)>>,
    sparse: Vec<Option<SparseRows<T>>>,
}

impl<T> Reduced<T> {
    /// The reduced dense gradient of an input, in row-major order.
    pub(super) fn dense(&self, input: usize) -> Option<&[T]> {
        let (bucket, range) = self.dense[input].as_ref()?;
        Some(&self.buckets[*bucket][range.clone()])
    }

    pub(super) fn sparse(&self, input: usize) -> Option<&SparseRows<T>> {
        self.sparse[input].as_ref()
    }

    pub(super) fn into_buckets(self) -> Vec<Vec<T>> {
        self.buckets
    }
}

/// The replicas of an input, if its gradient must be reduced.
pub(super) fn replicas<'i, T>(input: &'i Input<'_, T>) -> Option<&'i Replicas> {
    input.gradient.as_ref().and(input.placed.as_ref()?.placement.replicas.as_ref())
}

/// Every group that has gradients to reduce, in the order of their first variables.
fn groups<'i, T>(inputs: &'i [Input<'_, T>]) -> Vec<&'i Arc<dyn Collective>> {
    let mut groups: Vec<&Arc<dyn Collective>> = Vec::new();
    for replicas in inputs.iter().filter_map(replicas) {
        if !groups.iter().any(|group| Arc::ptr_eq(group, &replicas.group)) {
            groups.push(&replicas.group);
        }
    }
    groups
}

impl<T: Scalar> Reducing<T> {
    /// Plans buckets of about `bucket_bytes`. A gradient is never divided between buckets.
    pub(super) fn new(inputs: &[Input<'_, T>], bucket_bytes: usize, memory: Vec<Vec<T>>) -> Self {
        let capacity = (bucket_bytes / size_of::<T>()).max(1);
        let mut buckets: Vec<Bucket> = Vec::new();
        for group in groups(inputs) {
            let first = buckets.len();
            for (i, input) in inputs.iter().enumerate() {
                let Some(replicas) = replicas(input).filter(|replicas| Arc::ptr_eq(&replicas.group, group)) else {
                    continue;
                };
                if !is_dense(input) {
                    continue;
                }
                let len = input.value.len();
                let fits = buckets.len() > first && buckets.last().is_some_and(|last| last.len + len <= capacity);
                if !fits {
                    buckets.push(Bucket { group: Arc::clone(group), members: Vec::new(), len: 0 });
                }
                let last = buckets.last_mut().expect("there is one now");
                last.members.push((i, last.len..last.len + len, replicas.reduction));
                last.len += len;
            }
        }
        Self { buckets, memory: memory.into() }
    }

    pub(super) fn buckets(&self) -> usize {
        self.buckets.len()
    }

    /// The inputs of a bucket, each with the range of its elements.
    pub(super) fn members(&self, bucket: usize) -> impl Iterator<Item = (usize, Range<usize>)> {
        self.buckets[bucket].members.iter().map(|(input, range, _)| (*input, range.clone()))
    }

    /// The group that reduces a bucket.
    pub(super) fn group(&self, bucket: usize) -> Arc<dyn Collective> {
        Arc::clone(&self.buckets[bucket].group)
    }

    /// Fills a bucket with its gradients, one after the other.
    pub(super) fn fill(&mut self, bucket: usize, inputs: &[Input<'_, T>]) -> Numbers {
        let mut elements = self.memory.pop_front().unwrap_or_default();
        elements.clear();
        elements.reserve_exact(self.buckets[bucket].len);
        for (input, ..) in &self.buckets[bucket].members {
            let input = &inputs[*input];
            if let Some(InputGradient::Dense(values)) = &input.gradient
                && let Some(placed) = &input.placed
            {
                append(&mut elements, values, &placed.form);
            }
        }
        Numbers::from_elements(elements)
    }

    /// The gradients of a bucket from its sums, divided by the number of ranks where the reduction is a mean.
    pub(super) fn gradients(&self, bucket: usize, sums: Numbers) -> Vec<T> {
        let Bucket { group, members, .. } = &self.buckets[bucket];
        let mut elements: Vec<T> = sums.into_elements();
        let ranks = T::literal(group.ranks() as f64);
        for (_, range, _) in members.iter().filter(|(.., reduction)| *reduction == Reduction::Mean) {
            elements[range.clone()].iter_mut().for_each(|g| *g = *g / ranks);
        }
        elements
    }

    /// Reduces all buckets; fills one bucket while the bucket before it is being summed.
    pub(super) fn finish(mut self, inputs: &[Input<'_, T>]) -> Result<Reduced<T>, CollectiveError> {
        let groups: Vec<_> = (0..self.buckets()).map(|bucket| self.group(bucket)).collect();
        let mut sums = Vec::with_capacity(groups.len());
        let mut under_way: Option<Box<dyn Pending + '_>> = None;
        for (bucket, group) in groups.iter().enumerate() {
            let filled = self.fill(bucket, inputs);
            if let Some(pending) = under_way.take() {
                sums.push(pending.wait()?);
            }
            under_way = Some(group.start_sum(filled)?);
        }
        if let Some(pending) = under_way {
            sums.push(pending.wait()?);
        }
        let buckets = sums.into_iter().enumerate().map(|(bucket, sums)| self.gradients(bucket, sums)).collect();
        let mut dense = vec![None; inputs.len()];
        for bucket in 0..self.buckets() {
            self.members(bucket).for_each(|(input, range)| dense[input] = Some((bucket, range)));
        }
        Ok(Reduced { buckets, dense, sparse: gather_rows(inputs)? })
    }
}

fn is_dense<T>(input: &Input<'_, T>) -> bool {
    matches!(input.gradient, Some(InputGradient::Dense(_)))
}

/// Appends elements in row-major order, whatever the order of axes in memory.
fn append<T: Scalar>(elements: &mut Vec<T>, values: &AnyValues<'_, T>, form: &Form) {
    let stored = values.to_rows();
    match &form.axes {
        None => elements.extend_from_slice(&stored),
        Some(axes) => {
            let view = ArrayViewD::from_shape(IxDyn(&form.stored_shape()), &stored).expect("the shape was checked");
            elements.extend(in_order(view, Some(&inverse(axes))).iter().copied());
        }
    }
}

/// Gathers the rows of all sparse gradients: one call for each group.
fn gather_rows<T: Scalar>(inputs: &[Input<'_, T>]) -> Result<Vec<Option<SparseRows<T>>>, CollectiveError> {
    let mut gathered: Vec<Option<SparseRows<T>>> = inputs.iter().map(|_| None).collect();
    for group in groups(inputs) {
        let members: Vec<usize> = (0..inputs.len())
            .filter(|&i| !is_dense(&inputs[i]))
            .filter(|&i| replicas(&inputs[i]).is_some_and(|replicas| Arc::ptr_eq(&replicas.group, group)))
            .collect();
        if members.is_empty() {
            continue;
        }
        let message: Vec<u8> = members.iter().flat_map(|&i| rows_to_bytes(&inputs[i])).collect();
        let answers = group.gather(message)?;
        let mut rests: Vec<&[u8]> = answers.iter().map(Vec::as_slice).collect();
        for i in members {
            let mean = replicas(&inputs[i]).is_some_and(|replicas| replicas.reduction == Reduction::Mean);
            let Some(placed) = &inputs[i].placed else { continue };
            gathered[i] = Some(concatenated(&placed.form.shape, &mut rests, mean)?);
        }
    }
    Ok(gathered)
}

/// Serialises the number of rows, their indices and their values.
fn rows_to_bytes<T: Scalar>(input: &Input<'_, T>) -> Vec<u8> {
    let Some(InputGradient::Sparse(sparse)) = &input.gradient else { return Vec::new() };
    let mut bytes = (sparse.rows.len() as u64).to_le_bytes().to_vec();
    sparse.rows.iter().for_each(|&row| bytes.extend((row as u64).to_le_bytes()));
    append_bytes(&mut bytes, sparse.values.to_rows().iter());
    bytes
}

/// Concatenates the rows of all ranks, in the order of the ranks.
fn concatenated<T: Scalar>(shape: &[usize], rests: &mut [&[u8]], mean: bool) -> Result<SparseRows<T>, CollectiveError> {
    let width: usize = shape[1..].iter().product();
    let mut rows = Vec::new();
    let mut values = Vec::new();
    for (rank, rest) in rests.iter_mut().enumerate() {
        let unreadable = || CollectiveError::Message { rank };
        let count = take(rest, 8).and_then(|bytes| Some(u64::from_le_bytes(bytes.try_into().ok()?) as usize));
        let count = count.ok_or_else(unreadable)?;
        let indices = count.checked_mul(8).and_then(|bytes| take(rest, bytes)).ok_or_else(unreadable)?;
        rows.extend(indices.as_chunks().0.iter().map(|&row| u64::from_le_bytes(row) as usize));
        let bytes = count * width * crate::collective::width::<T>();
        values.extend(from_bytes::<T>(take(rest, bytes).ok_or_else(unreadable)?));
        if rows.iter().any(|&row| row >= shape[0]) {
            return Err(unreadable());
        }
    }
    if mean {
        let ranks = T::literal(rests.len() as f64);
        values.iter_mut().for_each(|g| *g = *g / ranks);
    }
    let mut shape = shape.to_vec();
    shape[0] = rows.len();
    let values = ArrayD::from_shape_vec(IxDyn(&shape), values).expect("as many values as rows ask for");
    Ok((rows, values))
}

fn take<'b>(rest: &mut &'b [u8], count: usize) -> Option<&'b [u8]> {
    let (front, back) = rest.split_at_checked(count)?;
    *rest = back;
    Some(front)
}
