//! A step that several ranks make together: they agree on what is to be done, reduce gradients, update, and exchange
//! what each of them has updated for all.

mod agreement;
mod buckets;
mod gather;
mod global_norms;
mod overlap;
mod shards;

use buckets::Reducing;
pub(super) use global_norms::{first_non_finite, sum_norms, sum_rows};
pub(super) use shards::{parts, place};

use super::Optimizer;
use super::step::check::Input;
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
        let begun = self.begin(variables);
        let (start, mut inputs) = self.agree(ranks, begun)?;
        let reducing = Reducing::new(&inputs, ranks.bucket_bytes(), std::mem::take(&mut self.buckets));
        if ranks.overlaps() && reducing.buckets() > 1 && self.can_overlap(&inputs) {
            return self.overlapped(inputs, reducing, start);
        }
        let reduced = reducing.finish(&inputs)?;
        let rows = shards::rows(&inputs, &reduced);
        let report = self.apply(shards::narrowed(&mut inputs, &reduced, &rows), start)?;
        self.buckets = reduced.into_buckets();
        if report.is_applied() {
            let exchanged = gather::gather_parts(inputs.iter_mut().filter(|input| input.gradient.is_some()));
            // Other ranks' parts are missing: the variables are not whole.
            self.poisoned = exchanged.is_err();
            exchanged?;
        }
        Ok(report)
    }

    /// Goes on only if all ranks can, where slots are in parts that only all ranks together have.
    pub(super) fn agree_on_slots<'a>(
        &self,
        inputs: Result<Vec<Input<'a, T>>, Error>,
    ) -> Result<Vec<Input<'a, T>>, Error> {
        match self.options.ranks.as_ref().filter(|ranks| ranks.shards_state()) {
            None => inputs,
            Some(ranks) => Ok(self.agree(&**ranks, inputs.map(|inputs| ((), inputs)))?.1),
        }
    }

    /// Fills in what other ranks have read from their parts of slots.
    pub(super) fn exchange_slots(&mut self, inputs: &mut [Input<'_, T>]) -> Result<(), Error> {
        if self.options.ranks.as_ref().is_some_and(Distribution::shards_state) {
            let exchanged = gather::gather_parts(inputs.iter_mut());
            self.poisoned = exchanged.is_err();
            exchanged?;
        }
        Ok(())
    }
}
