//! Overlap: one bucket of gradients is summed while the bucket before it is applied.

use super::super::Optimizer;
use super::super::records::Fill;
use super::super::step::check::Start;
use super::super::step::input::{Input, InputGradient};
use super::super::step::measure::Measured;
use super::buckets::{Reducing, replicas};
use super::shards::{own_part, own_parts, shaped};
use crate::collective::Pending;
use crate::error::Error;
use crate::precision::Any;
use crate::real::Scalar;
use crate::report::StepReport;
use crate::rule::UpdateRule;

impl<R: UpdateRule<T>, T: Scalar> Optimizer<R, T> {
    /// Whether no stage needs all gradients at once, so that each bucket can be applied as soon as it is summed.
    pub(super) fn can_overlap(&self, inputs: &[Input<'_, T>]) -> bool {
        let alone = |input: &Input<'_, T>| input.placed.as_ref().is_none_or(|placed| placed.placement.part.is_none());
        let dense = |input: &Input<'_, T>| !matches!(input.gradient, Some(InputGradient::Sparse(_)));
        !self.needs_norms() && inputs.iter().all(|input| alone(input) && dense(input))
    }

    /// Makes a step bucket by bucket. Before the first bucket is summed nothing has changed; an error after that leaves
    /// the step half applied.
    pub(super) fn overlapped(
        &mut self,
        mut inputs: Vec<Input<'_, T>>,
        mut reducing: Reducing<T>,
        start: &Start,
    ) -> Result<StepReport, Error> {
        let measured = Measured::default();
        // The rule sees each bucket as a list of its own. The shared slots must have the values from before the step
        // each time.
        let shared = self.groups.shared();
        let groups: Vec<_> = (0..reducing.buckets()).map(|bucket| reducing.group(bucket)).collect();
        let mut under_way = Some(groups[0].start_sum(reducing.fill(0, &inputs))?);
        let mut memory = Vec::with_capacity(groups.len());
        for bucket in 0..groups.len() {
            let next = groups.get(bucket + 1).map(|group| (group, reducing.fill(bucket + 1, &inputs)));
            let sums = under_way.take().map(Pending::wait).transpose()?;
            under_way = next.map(|(group, filled)| group.start_sum(filled)).transpose()?;
            let Some(sums) = sums else { break };
            let gradients = reducing.gradients(bucket, sums);
            if bucket == 0 {
                self.admit(&mut own_parts(&mut inputs), Fill::Initial);
                self.poisoned = true;
            }
            self.groups.set_shared(&shared);
            let mut ready = ready(&mut inputs, &reducing, bucket, &gradients);
            self.write_updates(&mut ready, 0, &[], &measured, start);
            memory.push(gradients);
        }
        self.poisoned = false;
        self.buckets = memory;
        Ok(self.finish(start.report.clone()))
    }
}

/// The inputs that can be updated after a bucket is summed: its members. With the first bucket come also all inputs
/// whose gradients are not reduced.
fn ready<'b, T: Scalar>(
    inputs: &'b mut [Input<'_, T>],
    reducing: &Reducing<T>,
    bucket: usize,
    gradients: &'b [T],
) -> Vec<Input<'b, T>> {
    let mut ready = Vec::new();
    for (i, input) in inputs.iter_mut().enumerate() {
        if let Some((_, range)) = reducing.members(bucket).find(|(member, _)| *member == i) {
            let gradient = input
                .placed
                .as_ref()
                .map(|placed| InputGradient::Dense(Any::Full(shaped(&gradients[range], &placed.form))));
            ready.push(own_part(input, gradient));
        } else if bucket == 0 && replicas(input).is_none() {
            ready.push(own_part(input, None));
        }
    }
    ready
}
