//! A step.

use std::mem;

use candle_core::Tensor;
use candle_core::backprop::GradStore;
use opt_core::{Description, PendingStep, StepOptions, StepReport, UpdateRule};

use crate::copies::Copies;
use crate::element::{Element, engine_dtype, slice_mut};
use crate::error::Error;
use crate::gradients::{Locked, locked, separate, viewed};
use crate::optimizer::CandleOptimizer;
use crate::storage::{host_copy, in_place};
use crate::taken::Taken;
use crate::variables::{Named, bytes};

/// From this number of elements on, the engine uses several threads.
const WORTH_THREADS: usize = 1 << 18;

impl<R: UpdateRule<T>, T: Element> CandleOptimizer<R, T> {
    /// Applies one step. Variables without a gradient stay as they are; gradients of other tensors are ignored.
    ///
    /// Variables are locked one at a time, so other threads may read the model meanwhile. They see each variable as it
    /// was before the step, or as it is afterwards. With [accumulation](opt_core::Accumulate), most calls
    /// only add the gradients to the sum of the earlier ones; `grads` and the loss's graph can then be dropped.
    ///
    /// # Errors
    ///
    /// As [`Optimizer::apply_gradients`](opt_core::Optimizer::apply_gradients); when a gradient has an element type
    /// that cannot be used. Variables and state are then unchanged. (With [offloading](crate::CandleBuilder::offload),
    /// see [`Error::Candle`].)
    pub fn step(&mut self, grads: &GradStore) -> Result<StepReport, Error> {
        self.step_with(grads, StepOptions::new())
    }

    /// As [`step`](Self::step), with options of this step.
    ///
    /// # Errors
    ///
    /// As [`step`](Self::step); when an option is out of range.
    pub fn step_with(&mut self, grads: &GradStore, mut options: StepOptions) -> Result<StepReport, Error> {
        self.variables.check_map()?;
        options.learning_rate = options.learning_rate.or(self.learning_rate);
        let mut copies = Copies::default();
        let gradients = separate(&self.variables, grads, &mut copies)?;
        let locked = locked(&gradients);
        let variables = self.variables.as_slice();
        let described: Vec<Description<'_, T>> = variables
            .iter()
            .zip(&locked)
            .map(|(named, gradient)| described(named, gradient))
            .collect::<Result<_, _>>()?;
        let mut step = self.engine.begin_with(described, options)?;
        lend_all(&mut step, variables, &mut copies)?;
        let report = step.finish()?;
        self.copies = copies;
        Ok(report)
    }

    /// Computes the gradients of a loss, and applies a step. Under [loss scaling](opt_core::LossScale) the loss is
    /// multiplied by the scale first: give the loss as it is.
    ///
    /// # Errors
    ///
    /// As [`step`](Self::step), and an error of candle when the loss has no gradient.
    pub fn backward_step(&mut self, loss: &Tensor) -> Result<StepReport, Error> {
        let scale = self.engine.loss_scale();
        let grads = if scale == 1.0 { loss.backward()? } else { (loss * scale)?.backward()? };
        self.step(&grads)
    }
}

fn described<'g, T: Element>(named: &'g Named, gradient: &'g Option<Locked<'_>>) -> Result<Description<'g, T>, Error> {
    let gradient = gradient.as_ref().map(|locked| viewed(named, locked)).transpose()?;
    let described = Description::new(named.name.as_str(), named.var.dims()).optional_gradient(gradient.map(Into::into));
    Ok(match engine_dtype(named.var.dtype()) {
        Some(dtype) => described.dtype(dtype),
        None => described,
    })
}

/// Lends all variables that the step writes: large ones in place, small ones together as soon as they are enough for
/// several threads.
fn lend_all<R: UpdateRule<T>, T: Element>(
    step: &mut PendingStep<'_, '_, R, T>,
    variables: &[Named],
    copies: &mut Copies,
) -> Result<(), Error> {
    let mut small = Vec::new();
    let mut elements = 0;
    for (i, named) in variables.iter().enumerate() {
        if !step.writes(i) {
            continue;
        }
        if named.by_copy || named.var.elem_count() >= WORTH_THREADS {
            update(step, i, named, copies)?;
            continue;
        }
        small.push(i);
        elements += named.var.elem_count();
        if elements >= WORTH_THREADS {
            update_together(step, &mem::take(&mut small), variables, copies)?;
            elements = 0;
        }
    }
    small.into_iter().try_for_each(|i| update(step, i, &variables[i], copies))
}

/// Lends small variables to the step together, so that it can use several threads.
fn update_together<R: UpdateRule<T>, T: Element>(
    step: &mut PendingStep<'_, '_, R, T>,
    small: &[usize],
    variables: &[Named],
    copies: &mut Copies,
) -> Result<(), Error> {
    let mut taken = Taken::leaving_copies(small.iter().map(|&i| &variables[i]))?;
    copies.bytes_on_host += small.iter().map(|&i| bytes(&variables[i].var)).sum::<usize>();
    let views = taken.views()?;
    Ok(step.update_all(small.iter().copied().zip(views))?)
}

/// Lends a variable to the step.
fn update<R: UpdateRule<T>, T: Element>(
    step: &mut PendingStep<'_, '_, R, T>,
    i: usize,
    named: &Named,
    copies: &mut Copies,
) -> Result<(), Error> {
    if !named.by_copy {
        return update_in_place(step, i, named, &named.var);
    }
    let host = host_copy(&named.var)?;
    update_in_place(step, i, named, &host)?;
    named.var.set(&host.to_device(named.var.device())?)?;
    copies.bytes_to_host += bytes(&host);
    copies.bytes_to_device += bytes(&host);
    Ok(())
}

fn update_in_place<R: UpdateRule<T>, T: Element>(
    step: &mut PendingStep<'_, '_, R, T>,
    i: usize,
    named: &Named,
    tensor: &Tensor,
) -> Result<(), Error> {
    in_place(tensor, |storage| Ok(step.update(i, named.lent(slice_mut(storage))?)?))?
}
