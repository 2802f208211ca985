//! The first traversal of a step: reads the module, and takes its gradients. Nothing is changed.

use std::collections::HashMap;

use burn_core::module::{ModuleVisitor, Param, ParamId};
use burn_core::tensor::{DType, Device, Shape, Tensor};
use burn_optim::GradAdaptor;
use opt_core::Description;

use super::Parameter;
use crate::error::Error;
use crate::host::{Host, is_host, trained};
use crate::names::Path;
use crate::stepped::Copies;

/// A parameter, as the engine gets it.
#[derive(Debug)]
pub(super) struct Found {
    shape: Shape,
    dtype: opt_core::state::DType,
    gradient: Option<Host>,
}

impl Found {
    pub(super) fn has_gradient(&self) -> bool {
        self.gradient.is_some()
    }

    pub(super) fn describe<'f>(&'f self, name: &'f str) -> Description<'f, f32> {
        let description = Description::new(name, &self.shape).dtype(self.dtype);
        match &self.gradient {
            Some(gradient) => description.gradient(gradient.view().expect("its type was checked")),
            None => description,
        }
    }
}

/// What the first traversal has read.
#[derive(Debug)]
pub(super) struct Read {
    pub(super) found: Vec<Found>,
    /// Whether these are other parameters than those of the last step.
    pub(super) has_new_names: bool,
    pub(super) copies: Copies,
    pub(super) unused_gradients: usize,
}

/// Reads the parameters of a module.
pub(super) struct Reader<'r> {
    gradients: GradAdaptor,
    offload: bool,
    path: Path,
    /// The parameters of the last step, which become those of this one.
    parameters: &'r mut Vec<Parameter>,
    read: Read,
    error: Option<Error>,
}

impl<'r> Reader<'r> {
    pub(super) fn new(gradients: GradAdaptor, offload: bool, parameters: &'r mut Vec<Parameter>) -> Self {
        let found = Vec::with_capacity(parameters.len());
        let read = Read { found, has_new_names: false, copies: Copies::default(), unused_gradients: 0 };
        Self { gradients, offload, path: Path::default(), parameters, read, error: None }
    }

    pub(super) fn finish(mut self) -> Result<Read, Error> {
        if self.parameters.len() > self.read.found.len() {
            self.parameters.truncate(self.read.found.len());
            self.read.has_new_names = true;
        }
        self.read.unused_gradients = match &self.gradients {
            GradAdaptor::Single(gradients) => gradients.len(),
            GradAdaptor::Multi(gradients) => gradients.grads.iter().map(|(gradients, _)| gradients.len()).sum(),
        };
        match self.error {
            Some(error) => Err(error),
            None => Ok(self.read),
        }
    }

    fn look<const D: usize>(&mut self, param: &Param<Tensor<D>>) -> Result<(), Error> {
        // Without a gradient, a parameter that was never used may stay without numbers.
        if !param.is_initialized() {
            return Ok(());
        }
        let gradient = match &mut self.gradients {
            GradAdaptor::Single(gradients) => gradients.remove::<D>(param.id),
            GradAdaptor::Multi(gradients) => gradients.remove::<D>(param.id).map(|(sum, _)| sum),
        };
        let gradient = gradient.map(|gradient| self.gradient(param, gradient)).transpose()?;
        let Some(dtype) = trained(param.dtype()) else {
            return if gradient.is_some() { Err(self.element_type(param.dtype())) } else { Ok(()) };
        };
        self.name(param);
        self.read.found.push(Found { shape: param.shape(), dtype, gradient });
        Ok(())
    }

    fn gradient<const D: usize>(&mut self, param: &Param<Tensor<D>>, gradient: Tensor<D>) -> Result<Host, Error> {
        let device = param.device();
        if !self.offload && !is_host(&device) {
            return Err(self.device(device));
        }
        let gradient = Host::to_read(gradient, &mut self.read.copies).map_err(|unread| Error::Unreadable {
            parameter: self.path.name().to_owned(),
            reason: unread.reason.to_string(),
        })?;
        if let Some(device) = gradient.away().filter(|_| !self.offload) {
            return Err(self.device(device.clone()));
        }
        match trained(gradient.dtype()) {
            Some(_) => Ok(gradient),
            None => Err(self.element_type(gradient.dtype())),
        }
    }

    fn device(&self, device: Device) -> Error {
        Error::Device { parameter: self.path.name().to_owned(), device: format!("{:?}", device.inner()) }
    }

    fn element_type(&self, dtype: DType) -> Error {
        Error::ElementType { parameter: self.path.name().to_owned(), dtype }
    }

    /// Compares the parameter with the one that was at this place in the last step.
    fn name<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let name = self.path.name();
        match self.parameters.get_mut(self.read.found.len()) {
            Some(known) if known.id == param.id && known.name == name => return,
            Some(other) => *other = Parameter { name: name.to_owned(), id: param.id },
            None => self.parameters.push(Parameter { name: name.to_owned(), id: param.id }),
        }
        self.read.has_new_names = true;
    }
}

impl ModuleVisitor for Reader<'_> {
    fn enter_module(&mut self, name: &str, _container_type: &str) {
        self.path.enter(name);
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.exit();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if self.error.is_none() {
            self.error = self.look(param).err();
        }
    }
}

/// Reads only the names of parameters.
#[derive(Debug, Default)]
pub(super) struct Owners {
    path: Path,
    pub(super) by_name: HashMap<String, ParamId>,
}

impl ModuleVisitor for Owners {
    fn enter_module(&mut self, name: &str, _container_type: &str) {
        self.path.enter(name);
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.exit();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.by_name.insert(self.path.name().to_owned(), param.id);
    }
}
