//! The order of a step that several ranks make together: check, agree, reduce, measure, admit, write, gather.
//!
//! Why in this order:
//!
//! * Ranks first agree (one gather). If a rank must refuse the step, or is about to make another one, no rank has
//!   changed anything yet. After the agreement, the calls of all ranks match.
//! * Gradients are reduced before they are measured and clipped: clips apply to the whole gradient, not to the gradient
//!   of one rank.
//! * Then each rank cuts values and gradients down to the part that it updates, and makes an ordinary step over these
//!   parts. Only the norms need a sum over the ranks, in which each element counts once.
//! * The updated parts are gathered last. If a rank is lost before the update, the other ranks have changed nothing. If
//!   it is lost afterwards, their variables are incomplete, so the optimizer is poisoned.

mod agreement;
mod buckets;
mod gather;
pub(super) mod global_norms;
mod overlap;
pub(super) mod shards;

use buckets::Reducing;
pub(super) use shards::own_parts;

use super::Optimizer;
use super::step::check::Start;
use super::step::input::Input;
use crate::collective::Distribution;
use crate::error::Error;
use crate::real::Scalar;
use crate::report::StepReport;
use crate::rule::UpdateRule;
use crate::step_options::StepOptions;

impl<R: UpdateRule<T>, T: Scalar> Optimizer<R, T> {
    /// The phases after the check. The ranks communicate in this order: the agreement; a sum for each bucket of dense
    /// gradients and one gather for all sparse gradients, where there are replicas; one sum of norms, if a stage needs
    /// norms; one gather of the updated parts, where state is sharded.
    pub(super) fn apply_on(
        &mut self,
        ranks: &dyn Distribution,
        mut inputs: Vec<Input<'_, T>>,
        start: &Start,
    ) -> Result<StepReport, Error> {
        let reducing = Reducing::new(&inputs, ranks.bucket_bytes(), std::mem::take(&mut self.buckets));
        if ranks.overlaps() && reducing.buckets() > 1 && self.can_overlap(&inputs) {
            return self.overlapped(inputs, reducing, start);
        }
        let reduced = reducing.finish(&inputs)?;
        let rows = shards::rows(&inputs, &reduced);
        let report = self.apply(shards::own_parts_reduced(&mut inputs, &reduced, &rows), start)?;
        self.buckets = reduced.into_buckets();
        if report.is_applied() {
            let writes_all = self.options.use_ema && self.options.ema.includes_all;
            let written = |input: &&mut Input<'_, T>| writes_all || input.gradient.is_some();
            let exchanged = gather::gather_parts(inputs.iter_mut().filter(written));
            // The parts of other ranks are missing: the variables are incomplete.
            self.poisoned = exchanged.is_err();
            exchanged?;
        }
        Ok(report)
    }

    /// Where state is sharded, refuses unless all ranks agree.
    pub(super) fn agree_on_slots<'a>(
        &self,
        inputs: Result<Vec<Input<'a, T>>, Error>,
    ) -> Result<Vec<Input<'a, T>>, Error> {
        match self.options.ranks.as_ref().filter(|ranks| ranks.shards_state()) {
            None => inputs,
            Some(ranks) => Ok(self.agree(&**ranks, inputs.map(|inputs| ((), inputs)), &StepOptions::default())?.1),
        }
    }

    /// Gathers the parts of slots that other ranks have read into variables.
    pub(super) fn exchange_slots(&mut self, inputs: &mut [Input<'_, T>]) -> Result<(), Error> {
        if self.options.ranks.as_ref().is_some_and(Distribution::shards_state) {
            let exchanged = gather::gather_parts(inputs.iter_mut());
            self.poisoned = exchanged.is_err();
            exchanged?;
        }
        Ok(())
    }
}
