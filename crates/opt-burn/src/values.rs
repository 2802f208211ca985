//! The numbers of a module as a list of named variables.

use burn_core::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn_core::tensor::{Bool, Int, Tensor};
use opt_core::{Gradient, Gradients, Parameters, ViewMut};

use crate::context::Context;
use crate::error::{Error, Refused};
use crate::host::{Host, trained};
use crate::names::Path;
use crate::stepped::Copies;

/// The numbers of all float parameters of a module, with their paths as names: a model for everything in `opt-core` and
/// `opt-checkpoint` that takes [`Parameters`].
///
/// Reading copies nothing on burn's CPU backend: module and values share their memory until one of them is changed.
/// The running means and variances of normalization layers are among the numbers.
///
/// # Examples
///
/// A checkpoint in a file of its own:
///
/// ```
/// use burn_core::module::Param;
/// use burn_core::tensor::{Device, Tensor};
/// use opt_burn::{BurnOptimizer, ModuleValues};
/// use opt_checkpoint::Checkpoint;
/// use optimizers::{Optimizer, Sgd};
///
/// let folder = tempfile::tempdir()?;
/// let file = folder.path().join("training.safetensors");
/// let device = Device::default();
/// let module = |numbers: [f32; 2]| Param::<Tensor<1>>::from_data(numbers, &device);
/// let (old, new) = (module([1.0, 2.0]), module([0.0, 0.0]));
/// let mut optim = BurnOptimizer::new(Optimizer::builder(Sgd::new(0.1)))?;
/// opt_checkpoint::save(&file, optim.engine(), &ModuleValues::read(&old)?)?;
///
/// let mut values = ModuleValues::read(&new)?;
/// Checkpoint::open(&file)?.load(optim.engine_mut(), &mut values)?;
/// let new = values.write(new)?;
/// assert_eq!(new.val().into_data(), old.val().into_data());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct ModuleValues {
    values: Vec<Value>,
    left_out: Vec<String>,
}

/// A float parameter.
#[derive(Debug, Clone)]
struct Value {
    name: String,
    numbers: Host,
}

impl ModuleValues {
    /// Reads a module. Numbers on other devices are copied to the CPU.
    ///
    /// # Errors
    ///
    /// When numbers cannot be read from their device.
    pub fn read<M: Module>(module: &M) -> Result<Self, Error> {
        // Layers note new running means, and take them over at their next use, or here.
        drop(module.valid());
        let mut reader =
            ValueReader { path: Path::default(), read: Self { values: Vec::new(), left_out: Vec::new() }, error: None };
        module.visit(&mut reader);
        match reader.error {
            Some(error) => Err(error),
            None => Ok(reader.read),
        }
    }

    /// Writes the numbers into a module of the same structure: the one that was read, or another one.
    ///
    /// # Errors
    ///
    /// [`opt_core::Error::UnknownVariable`] for the first value that the module does not have, or of which it has
    /// another shape or type. The module is then unchanged.
    pub fn write<M: Module>(self, module: M) -> Result<M, Refused<M>> {
        let own = match Self::read(&module) {
            Ok(own) => own,
            Err(error) => return Err(Refused::new(module, error)),
        };
        let is_like = |(value, own): (&Value, &Value)| value.is_like(own);
        if own.values.len() != self.values.len() || !self.values.iter().zip(&own.values).all(is_like) {
            let known = |value: &&Value| !own.values.iter().any(|own| value.is_like(own));
            let name = self.values.iter().find(known).map(|value| value.name.clone()).unwrap_or_default();
            return Err(Refused::new(module, opt_core::Error::UnknownVariable { name }));
        }
        drop(own);
        let mut writer = ValueWriter(self.values.into_iter());
        Ok(module.map(&mut writer))
    }

    /// The paths of the parameters that are not among the values: integer, bool and quantized ones, and those in 64
    /// bits.
    #[must_use]
    pub fn left_out(&self) -> &[String] {
        &self.left_out
    }

    /// The copies that are made when all values are changed.
    pub(crate) fn copies(&self) -> Copies {
        let bytes = self.values.iter().map(|value| value.numbers.bytes()).sum();
        Copies { shared: self.values.len(), bytes, ..Copies::default() }
    }
}

impl Value {
    fn is_like(&self, other: &Self) -> bool {
        let (own, others) = (&self.numbers, &other.numbers);
        self.name == other.name && own.shape() == others.shape() && own.dtype() == others.dtype()
    }
}

/// The names are those of the module, wherever the values stand in a model.
impl Gradients<f32> for ModuleValues {
    fn visit<'a>(&'a self, _path: &opt_core::model::Path<'_>, visit: &mut dyn FnMut(String, Gradient<'a, f32>)) {
        for Value { name, numbers } in &self.values {
            visit(name.clone(), numbers.view().expect("its type was checked").into());
        }
    }
}

impl Parameters<f32> for ModuleValues {
    fn visit_mut<'a>(&'a mut self, _path: &opt_core::model::Path<'_>, visit: &mut dyn FnMut(String, ViewMut<'a, f32>)) {
        for Value { name, numbers } in &mut self.values {
            visit(name.clone(), numbers.view_mut().expect("its type was checked"));
        }
    }
}

/// Reads the numbers of a module.
struct ValueReader {
    path: Path,
    read: ModuleValues,
    error: Option<Error>,
}

impl ValueReader {
    fn leave_out(&mut self) {
        self.read.left_out.push(self.path.name().to_owned());
    }
}

impl ModuleVisitor for ValueReader {
    fn enter_module(&mut self, name: &str, _container_type: &str) {
        self.path.enter(name);
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.exit();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if self.error.is_some() {
            return;
        }
        if trained(param.dtype()).is_none() {
            return self.leave_out();
        }
        let name = self.path.name().to_owned();
        match Host::of(param.base()) {
            Ok(numbers) => self.read.values.push(Value { name, numbers }),
            Err(unread) => {
                self.error = Some(Error::Unreadable { parameter: name, reason: unread.reason.to_string() });
            }
        }
    }

    fn visit_int<const D: usize>(&mut self, _param: &Param<Tensor<D, Int>>) {
        self.leave_out();
    }

    fn visit_bool<const D: usize>(&mut self, _param: &Param<Tensor<D, Bool>>) {
        self.leave_out();
    }
}

/// Writes numbers into the module, whose structure was compared.
struct ValueWriter(std::vec::IntoIter<Value>);

impl ModuleMapper for ValueWriter {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        if trained(param.dtype()).is_none() {
            return param;
        }
        let Some(Value { numbers, .. }) = self.0.next() else { return param };
        let (id, tensor, mapper) = param.consume();
        let context = Context::of(&tensor);
        Param::from_mapped_value(id, context.restore(numbers.into_tensor(), id), mapper)
    }
}
