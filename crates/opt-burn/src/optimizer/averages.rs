//! A module with averages instead of its own values.

use burn_core::module::{Module, ModuleMapper, Param};
use burn_core::tensor::Tensor;
use opt_core::state::StateValue;
use opt_core::{Optimizer, UpdateRule};

use super::BurnOptimizer;
use crate::context::Context;
use crate::error::Error;
use crate::host::Host;
use crate::names::Path;

/// The slot of averages.
const AVERAGE: &str = "average";

impl<R: UpdateRule<f32>> BurnOptimizer<R> {
    /// A module with the averages in place of its own values, to evaluate it or to keep it. The module itself goes on
    /// to be trained. Parameters that have never had a gradient keep their values, and share their memory with those of
    /// the module.
    ///
    /// The averages are those of [`Ema`](opt_core::Ema), set by [`ema`](opt_core::OptimizerBuilder::ema).
    ///
    /// # Errors
    ///
    /// [`opt_core::Error::NoAverages`] without averaging; [`opt_core::Error::UnknownVariable`] if the optimizer knows
    /// no parameter of the module.
    ///
    /// # Examples
    ///
    /// ```
    /// use burn_core::module::Param;
    /// use burn_core::tensor::{Device, Tensor};
    /// use burn_optim::GradientsParams;
    /// use opt_burn::BurnOptimizer;
    /// use optimizers::{Ema, Optimizer, Sgd};
    ///
    /// let device = Device::default().autodiff();
    /// let mut module = Param::<Tensor<1>>::from_data([4.0], &device);
    /// let mut optim = BurnOptimizer::new(Optimizer::builder(Sgd::new(1.0)).ema(Ema::new(0.5)))?;
    /// for _ in 0..2 {
    ///     let grads = GradientsParams::from_grads(module.val().backward(), &module);
    ///     module = optim.step(None, module, grads)?.module;
    /// }
    /// let averaged = optim.averaged(&module)?;
    /// assert_eq!(module.val().into_scalar::<f32>(), 2.0);
    /// assert_eq!(averaged.val().into_scalar::<f32>(), 2.75); // of 4, 3 and 2
    /// # Ok::<(), opt_burn::Error>(())
    /// ```
    pub fn averaged<M: Module>(&self, module: &M) -> Result<M, Error> {
        if !self.engine.has_averages() {
            return Err(opt_core::Error::NoAverages.into());
        }
        let mut mapper =
            Averaging { engine: &self.engine, path: Path::default(), first: None, found: false, error: None };
        let averaged = module.clone().map(&mut mapper);
        match mapper {
            Averaging { error: Some(error), .. } => Err(error),
            Averaging { found: false, first: Some(name), .. } => Err(opt_core::Error::UnknownVariable { name }.into()),
            _ => Ok(averaged),
        }
    }
}

/// Replaces values by averages.
struct Averaging<'a, R> {
    engine: &'a Optimizer<R, f32>,
    path: Path,
    /// The name of the first parameter.
    first: Option<String>,
    /// Whether a parameter has an average.
    found: bool,
    error: Option<Error>,
}

impl<R: UpdateRule<f32>> Averaging<'_, R> {
    fn average<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Result<Param<Tensor<D>>, Error> {
        let name = self.path.name();
        self.first.get_or_insert_with(|| name.to_owned());
        let Ok(StateValue::Array(average)) = self.engine.slot(name, AVERAGE) else { return Ok(param) };
        self.found = true;
        let (id, tensor, mapper) = param.consume();
        let context = Context::of(&tensor);
        let host = Host::of(tensor)
            .map_err(|unread| Error::Unreadable { parameter: name.to_owned(), reason: unread.reason.to_string() })?;
        if host.shape() != average.shape() {
            let (expected, found) = (average.shape().to_vec(), host.shape().to_vec());
            return Err(opt_core::Error::VariableShape { variable: name.to_owned(), expected, found }.into());
        }
        let averaged = host.like(average.iter().copied());
        Ok(Param::from_mapped_value(id, context.restore(averaged.into_tensor(), id), mapper))
    }
}

impl<R: UpdateRule<f32>> ModuleMapper for Averaging<'_, R> {
    fn enter_module(&mut self, name: &str, _container_type: &str) {
        self.path.enter(name);
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.exit();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        if self.error.is_some() || !param.is_initialized() {
            return param;
        }
        let unchanged = param.clone();
        self.average(param).unwrap_or_else(|error| {
            self.error = Some(error);
            unchanged
        })
    }
}
