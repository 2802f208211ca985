//! The optimizer of a module.

mod averages;
mod checkpoints;
mod rate;
mod read;
mod write;

use std::collections::HashMap;

use burn_core::module::{Module, ParamId};
use burn_optim::GradAdaptor;
use opt_core::{Optimizer, OptimizerBuilder, StepOptions, UpdateRule};

pub use checkpoints::Resumed;
pub use rate::Rate;
use read::{Found, Owners, Reader};
use write::Writer;

use crate::error::{Error, Refused};
use crate::stepped::Stepped;
use crate::values::ModuleValues;

/// An optimizer of `opt-core` for burn modules.
///
/// It takes the place of burn's `ModuleOptimizer` in a training loop. The engine sees the whole module at once, and
/// knows each parameter by its path (`encoder.0.weight`). So everything that
/// [`OptimizerBuilder`] offers is available: clipping by the global norm, groups by name, averages, accumulation, loss
/// scaling, schedules, refusing or skipping gradients that are not finite, moments in 16 bits. Parameters in bfloat16
/// and float16 get a master in 32 bits.
///
/// # Examples
///
/// ```
/// use burn_core::module::Param;
/// use burn_core::tensor::{Device, Tensor};
/// use burn_optim::GradientsParams;
/// use opt_burn::BurnOptimizer;
/// use optimizers::{Nadam, Optimizer};
///
/// let device = Device::default().autodiff();
/// let mut module = Param::<Tensor<1>>::from_data([3.0, -2.0], &device);
/// let mut optim = BurnOptimizer::new(Optimizer::builder(Nadam::new(0.1)).global_clipnorm(1.0))?;
/// for _ in 0..100 {
///     let loss = module.val().square().sum();
///     let grads = GradientsParams::from_grads(loss.backward(), &module);
///     let stepped = optim.step(None, module, grads)?;
///     assert_eq!(stepped.copies.tensors(), 0); // updated in place
///     module = stepped.module;
/// }
/// assert!(module.val().abs().max().into_scalar::<f32>() < 0.2);
/// # Ok::<(), opt_burn::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct BurnOptimizer<R> {
    engine: Optimizer<R, f32>,
    offload: bool,
    /// The parameters of the last step, in their order.
    parameters: Vec<Parameter>,
    /// The parameters of all steps, by name.
    owners: HashMap<String, ParamId>,
}

/// A parameter of a module.
#[derive(Debug, Clone, PartialEq)]
struct Parameter {
    name: String,
    id: ParamId,
}

impl<R: UpdateRule<f32>> BurnOptimizer<R> {
    /// Makes an optimizer from the options of a builder.
    ///
    /// # Errors
    ///
    /// As [`OptimizerBuilder::build`]: names the first option that is out of range.
    pub fn new(builder: OptimizerBuilder<R, f32>) -> Result<Self, Error> {
        Ok(builder.build()?.into())
    }

    /// Allows parameters on other devices than burn's CPU backend `flex`, such as GPUs. Each step then copies gradients
    /// and parameters to the CPU, updates them there, and copies the parameters back; [`Copies`](crate::Copies) counts it. The state
    /// of the optimizer stays in the memory of the CPU, so that the device has more room for the model. Without this
    /// call, such parameters are refused with [`Error::Device`].
    ///
    /// J. Ren et al., "ZeRO-Offload: Democratizing billion-scale model training", arXiv:2101.06840.
    #[must_use]
    pub fn offload(mut self) -> Self {
        self.offload = true;
        self
    }

    /// Applies one step to a module.
    ///
    /// `learning_rate` takes the place of the optimizer's own for this step: a number, or what a scheduler of burn
    /// returns. Groups with a rate of their own keep it. With `None`, the step uses the optimizer's own rate or
    /// schedule.
    ///
    /// Parameters without a gradient are not touched. Parameters keep their ids, whether they require gradients, their
    /// strategy of gradient checkpointing, and the functions that are applied where they are loaded and saved.
    ///
    /// # Errors
    ///
    /// An error gives the module back. Unless it says otherwise, nothing has changed then: names, shapes, types and the
    /// learning rate are checked before the first parameter is touched.
    ///
    /// # Panics
    ///
    /// If the rule panics. The module is then lost, and the optimizer refuses further steps with
    /// [`opt_core::Error::Poisoned`].
    pub fn step<M: Module>(
        &mut self,
        learning_rate: impl Into<Rate>,
        module: M,
        gradients: impl Into<GradAdaptor>,
    ) -> Result<Stepped<M>, Refused<M>> {
        let mut options = StepOptions::new();
        let rate = learning_rate.into();
        if let Some(error) = rate.groups(&module) {
            return Err(Refused::new(module, error));
        }
        options.learning_rate = rate.base();
        self.step_with(options, module, gradients)
    }

    /// As [`step`](Self::step), with all options that a single step can have.
    ///
    /// # Errors
    ///
    /// As [`step`](Self::step).
    ///
    /// # Panics
    ///
    /// As [`step`](Self::step).
    pub fn step_with<M: Module>(
        &mut self,
        options: StepOptions,
        module: M,
        gradients: impl Into<GradAdaptor>,
    ) -> Result<Stepped<M>, Refused<M>> {
        let mut reader = Reader::new(gradients.into(), self.offload, &mut self.parameters);
        module.visit(&mut reader);
        let read = match reader.finish() {
            Ok(read) => read,
            Err(error) => return Err(self.refuse(module, error)),
        };
        if let Some(error) = read.has_new_names.then(|| self.new_names(&read.found)).and_then(Result::err) {
            return Err(self.refuse(module, error));
        }
        let descriptions =
            self.parameters.iter().zip(&read.found).map(|(parameter, found)| found.describe(&parameter.name));
        let step = match self.engine.begin_with(descriptions, options) {
            Ok(step) => step,
            Err(error) => return Err(Refused::new(module, error)),
        };
        let mut writer = Writer::new(step, &self.parameters, read.copies);
        let module = module.map(&mut writer);
        let unused_gradients = read.unused_gradients;
        match writer.finish() {
            Ok((report, copies)) => Ok(Stepped { module, report, copies, unused_gradients }),
            Err(error) => Err(Refused::new(module, error)),
        }
    }

    /// Checks the parameters of a module that was not the one of the last step.
    fn new_names(&mut self, found: &[Found]) -> Result<(), Error> {
        let mut paths = HashMap::new();
        for (Parameter { name, id }, found) in self.parameters.iter().zip(found) {
            if let Some((first, has_gradient)) = paths.insert(*id, (name, found.has_gradient()))
                && (has_gradient || found.has_gradient())
            {
                return Err(Error::SharedParameter { first: first.clone(), second: name.clone() });
            }
            if self.owners.get(name).is_some_and(|owner| owner != id) {
                return Err(Error::AnotherParameter { parameter: name.clone() });
            }
        }
        self.owners.extend(self.parameters.iter().map(|parameter| (parameter.name.clone(), parameter.id)));
        Ok(())
    }

    /// The names of a refused step are checked again in the next one.
    fn refuse<M>(&mut self, module: M, error: Error) -> Refused<M> {
        self.parameters.clear();
        Refused::new(module, error)
    }

    /// Tells that the parameters of this module take the place of those of the same paths: after a model was loaded
    /// into a new module, whose parameters have new ids. The optimizer keeps its state.
    pub fn follow<M: Module>(&mut self, module: &M) {
        self.parameters.clear();
        let mut owners = Owners::default();
        module.visit(&mut owners);
        self.owners = owners.by_name;
    }

    /// Applies accumulated gradients before all micro-steps of a step are there, at the end of an epoch. If there are
    /// none, nothing changes. All parameters are copied once.
    ///
    /// # Errors
    ///
    /// As [`step`](Self::step).
    pub fn flush<M: Module>(&mut self, module: M) -> Result<Stepped<M>, Refused<M>> {
        let flushed = |optimizer: &mut Optimizer<R, f32>, values: &mut ModuleValues| optimizer.flush(values);
        let (module, (report, copies)) = self.on_values(module, flushed)?;
        Ok(Stepped { module, report, copies, unused_gradients: 0 })
    }

    /// The engine: its state, its averages, its configuration.
    #[must_use]
    pub fn engine(&self) -> &Optimizer<R, f32> {
        &self.engine
    }

    /// The engine, to change it: another learning rate, frozen groups. [`ModuleValues`] lends it the numbers of a
    /// module.
    #[must_use]
    pub fn engine_mut(&mut self) -> &mut Optimizer<R, f32> {
        &mut self.engine
    }

    /// The engine alone.
    #[must_use]
    pub fn into_engine(self) -> Optimizer<R, f32> {
        self.engine
    }
}

/// An optimizer that was read from a configuration, or used elsewhere before.
impl<R> From<Optimizer<R, f32>> for BurnOptimizer<R> {
    fn from(engine: Optimizer<R, f32>) -> Self {
        Self { engine, offload: false, parameters: Vec::new(), owners: HashMap::new() }
    }
}
