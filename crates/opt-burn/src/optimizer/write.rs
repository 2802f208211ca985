//! The second traversal of a step: updates the parameters, one after the other.

use burn_core::module::{ModuleMapper, Param, ParamId};
use burn_core::tensor::Tensor;
use opt_core::{PendingStep, StepReport, UpdateRule};

use super::Parameter;
use crate::context::Context;
use crate::error::Error;
use crate::host::{Host, Unread};
use crate::stepped::Copies;

/// Updates the parameters of a module.
pub(super) struct Writer<'w, 'o, 'g, R: UpdateRule<f32>> {
    step: PendingStep<'o, 'g, R, f32>,
    /// The parameters in the order of the step.
    parameters: &'w [Parameter],
    /// The place that the next parameter has in this order, if the module gives them in the same order again.
    next: usize,
    copies: Copies,
    error: Option<Error>,
}

impl<'w, 'o, 'g, R: UpdateRule<f32>> Writer<'w, 'o, 'g, R> {
    pub(super) fn new(step: PendingStep<'o, 'g, R, f32>, parameters: &'w [Parameter], copies: Copies) -> Self {
        Self { step, parameters, next: 0, copies, error: None }
    }

    pub(super) fn finish(self) -> Result<(StepReport, Copies), Error> {
        match self.error {
            Some(error) => Err(error),
            None => Ok((self.step.finish()?, self.copies)),
        }
    }

    /// The place of a parameter in the step; `None` if it will not be changed.
    fn place(&mut self, id: ParamId) -> Option<usize> {
        let is_next = self.parameters.get(self.next).is_some_and(|parameter| parameter.id == id);
        let place = if is_next { Some(self.next) } else { self.parameters.iter().position(|known| known.id == id) };
        self.next = place.map_or(self.next, |place| place + 1);
        place.filter(|&place| self.step.writes(place))
    }

    /// The updated tensor. After an error, the tensor as it was.
    fn update<const D: usize>(&mut self, place: usize, tensor: Tensor<D>) -> Tensor<D> {
        let context = Context::of(&tensor);
        let Parameter { name, id } = &self.parameters[place];
        let mut host = match Host::to_change(tensor, &mut self.copies) {
            Ok(host) => host,
            Err(unread) => {
                let Unread { tensor, reason } = *unread;
                self.error = Some(Error::Unreadable { parameter: name.clone(), reason: reason.to_string() });
                return context.restore(tensor, *id);
            }
        };
        let value = host.view_mut().expect("its type was checked");
        self.error = self.step.update(place, value).err().map(Error::from);
        context.restore(host.into_tensor(), *id)
    }
}

impl<R: UpdateRule<f32>> ModuleMapper for Writer<'_, '_, '_, R> {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        if self.error.is_some() {
            return param;
        }
        let Some(place) = self.place(param.id) else { return param };
        let (id, tensor, mapper) = param.consume();
        Param::from_mapped_value(id, self.update(place, tensor), mapper)
    }
}
