//! The order of a step that several ranks make together: check, agree, reduce, measure, admit, write, gather.
//!
//! Why in this order:
//!
//! * Ranks first agree (one gather), so that one that has to refuse a step, or would do something else, stops all of
//!   them before anything has changed; and so that later calls match on all ranks.
//! * Gradients are reduced before they are measured and clipped: a clip is of the whole gradient, not of one rank's.
//! * Then each rank cuts values and gradients down to the part that it owns, and makes an ordinary step over these parts.
//!   Only the norms need a sum over the ranks, in which each element counts once.
//! * What each rank has updated is gathered last. A rank that is lost before the update has changed nothing on the
//!   others; one that is lost after it leaves variables that are not whole, so the optimizer is then poisoned.

mod agreement;
mod buckets;
mod gather;
pub(super) mod global_norms;
mod overlap;
pub(super) mod shards;

use buckets::Reducing;
pub(super) use shards::own_parts;

use super::Optimizer;
use super::step::input::Input;
use crate::collective::Distribution;
use crate::error::Error;
use crate::real::Scalar;
use crate::report::StepReport;
use crate::rule::UpdateRule;
use crate::variable::Variable;

impl<R: UpdateRule<T>, T: Scalar> Optimizer<R, T> {
    /// One step. Calls between ranks, in this order: the agreement; a sum for each bucket of dense gradients and one
    /// gather for all sparse ones, where there are replicas to reduce over; one sum of norms, if any stage needs them;
    /// one gather of what was updated, where state is sharded.
    pub(super) fn step_on<'a>(
        &mut self,
        ranks: &dyn Distribution,
        variables: impl Iterator<Item = Variable<'a, T>>,
    ) -> Result<StepReport, Error> {
        let checked = self.check(variables);
        let (start, mut inputs) = self.agree(ranks, checked)?;
        let reducing = Reducing::new(&inputs, ranks.bucket_bytes(), std::mem::take(&mut self.buckets));
        if ranks.overlaps() && reducing.buckets() > 1 && self.can_overlap(&inputs) {
            return self.overlapped(inputs, reducing, &start);
        }
        let reduced = reducing.finish(&inputs)?;
        let rows = shards::rows(&inputs, &reduced);
        let report = self.apply(shards::own_parts_reduced(&mut inputs, &reduced, &rows), &start)?;
        self.buckets = reduced.into_buckets();
        if report.is_applied() {
            let exchanged = gather::gather_parts(inputs.iter_mut().filter(|input| input.gradient.is_some()));
            // Other ranks' parts are missing: the variables are not whole.
            self.poisoned = exchanged.is_err();
            exchanged?;
        }
        Ok(report)
    }

    /// Refuses unless all ranks agree, where each rank has a part of the slots only.
    pub(super) fn agree_on_slots<'a>(
        &self,
        inputs: Result<Vec<Input<'a, T>>, Error>,
    ) -> Result<Vec<Input<'a, T>>, Error> {
        match self.options.ranks.as_ref().filter(|ranks| ranks.shards_state()) {
            None => inputs,
            Some(ranks) => Ok(self.agree(&**ranks, inputs.map(|inputs| ((), inputs)))?.1),
        }
    }

    /// Gathers what other ranks have read from their parts of slots.
    pub(super) fn exchange_slots(&mut self, inputs: &mut [Input<'_, T>]) -> Result<(), Error> {
        if self.options.ranks.as_ref().is_some_and(Distribution::shards_state) {
            let exchanged = gather::gather_parts(inputs.iter_mut());
            self.poisoned = exchanged.is_err();
            exchanged?;
        }
        Ok(())
    }
}
