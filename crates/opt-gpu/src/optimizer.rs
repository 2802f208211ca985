//! An optimizer whose arrays are on a device.

use std::collections::HashMap;
use std::fmt;
use std::ops::Deref;

use opt_core::device::{DeviceGradient, HostSide};
use opt_core::state::{StateEntry, StateValue};
use opt_core::{Description, Hyper, Optimizer, OptimizerBuilder, StepOptions, StepReport, UpdateRule};

use crate::arrays::{Arrays, Call};
use crate::device::{Device, Element};
use crate::error::Error;
use crate::variable::GpuVariable;

/// An [`Optimizer`] whose variables, gradients and state are on a device.
///
/// Made by [`BuildOn::build_on`], or from an optimizer that has run on the CPU. It does what that one does, with the
/// same errors and the same reports. What needs no arrays, such as the learning rate, the groups, the loss scale and
/// the configuration, is read through [`HostSide`].
///
/// All variables of the same update share a kernel. A step with dense gradients that needs no norm, and does not ask
/// whether gradients are finite, does not wait for the device.
///
/// What is possible on the CPU only is refused, and not done in another way: moments in 8 bits, several ranks, sparse
/// gradients that name a row twice or are accumulated, rules that cannot be [recorded](opt_core::trace).
pub struct GpuOptimizer<R, D: Device, T = f32> {
    host: HostSide<R, T>,
    arrays: Arrays<D>,
}

/// A list of variables, described for the engine.
type Described<'a, T> = Vec<(Description<'a, T>, Option<DeviceGradient<'a>>)>;

/// Builds optimizers on devices.
pub trait BuildOn<R> {
    /// As [`OptimizerBuilder::build`], with all state on a device, for variables in 32 bits. For 64 bits see
    /// [`GpuOptimizer::new`].
    ///
    /// # Errors
    ///
    /// As [`OptimizerBuilder::build`], and as [`GpuOptimizer::new`].
    fn build_on<D: Device>(self, device: &D) -> Result<GpuOptimizer<R, D>, Error>;
}

// Not for every element type: nothing else in a program tells which one it is.
impl<R: UpdateRule<f32>> BuildOn<R> for OptimizerBuilder<R> {
    fn build_on<D: Device>(self, device: &D) -> Result<GpuOptimizer<R, D>, Error> {
        GpuOptimizer::new(self.build()?, device)
    }
}

impl<R: UpdateRule<T>, D: Device, T: Element> GpuOptimizer<R, D, T> {
    /// Moves the state of an optimizer to a device. Its variables are moved by the caller:
    /// [`upload`](Device::upload).
    ///
    /// # Errors
    ///
    /// [`Unsupported`](crate::DeviceError::Unsupported) if the device does not compute in `T`;
    /// [`Untraceable`](opt_core::Error::Untraceable) and [`OnDevice`](opt_core::Error::OnDevice) for what is possible on
    /// the CPU only; if the device has not enough memory.
    pub fn new(optimizer: Optimizer<R, T>, device: &D) -> Result<Self, Error> {
        device.check(T::DTYPE)?;
        let mut arrays = Arrays::new(device.clone());
        let host = HostSide::new(optimizer, &mut Call::new(&mut arrays, &[]))?;
        Ok(Self { host, arrays })
    }

    /// The device.
    #[must_use]
    pub fn device(&self) -> &D {
        &self.arrays.device
    }

    /// Applies one step to a list of variables: as [`Optimizer::apply_gradients`].
    ///
    /// # Errors
    ///
    /// As there, and if a buffer has not the length or the type of its variable. If the device fails.
    pub fn apply_gradients<'a>(
        &mut self,
        variables: impl IntoIterator<Item = GpuVariable<'a, D>>,
    ) -> Result<StepReport, Error>
    where
        D: 'a,
    {
        self.apply_gradients_with(variables, StepOptions::default())
    }

    /// As [`apply_gradients`](Self::apply_gradients), with options of this call.
    ///
    /// # Errors
    ///
    /// As [`apply_gradients`](Self::apply_gradients); an error when an option is out of range.
    pub fn apply_gradients_with<'a>(
        &mut self,
        variables: impl IntoIterator<Item = GpuVariable<'a, D>>,
        options: StepOptions,
    ) -> Result<StepReport, Error>
    where
        D: 'a,
    {
        let variables: Vec<_> = variables.into_iter().collect();
        let described = self.described(&variables)?;
        self.host.step(described, &options, &mut Call::new(&mut self.arrays, &variables))
    }

    /// Applies the accumulated gradients before all micro-steps are there: as [`Optimizer::flush`].
    ///
    /// # Errors
    ///
    /// As [`apply_gradients`](Self::apply_gradients).
    pub fn flush<'a>(&mut self, variables: impl IntoIterator<Item = GpuVariable<'a, D>>) -> Result<StepReport, Error>
    where
        D: 'a,
    {
        self.over(variables, |host, described, call| host.flush(described, call))
    }

    /// Swaps an array slot, such as `average`, into variables, until [`swap_back`](Self::swap_back): as
    /// [`Optimizer::swap_slot`].
    ///
    /// # Errors
    ///
    /// As there. If the device fails.
    pub fn swap_slot<'a>(
        &mut self,
        slot: &str,
        variables: impl IntoIterator<Item = GpuVariable<'a, D>>,
    ) -> Result<(), Error>
    where
        D: 'a,
    {
        self.over(variables, |host, described, call| host.swap_slot(slot, described, call))
    }

    /// Gives the variables their own values back: as [`Optimizer::swap_back`].
    ///
    /// # Errors
    ///
    /// As there. If the device fails.
    pub fn swap_back<'a>(&mut self, variables: impl IntoIterator<Item = GpuVariable<'a, D>>) -> Result<(), Error>
    where
        D: 'a,
    {
        self.over(variables, |host, described, call| host.swap_back(described, call))
    }

    /// Writes an array slot into variables, permanently: as [`Optimizer::copy_slot`].
    ///
    /// # Errors
    ///
    /// As there. If the device fails.
    pub fn copy_slot<'a>(
        &mut self,
        slot: &str,
        variables: impl IntoIterator<Item = GpuVariable<'a, D>>,
    ) -> Result<(), Error>
    where
        D: 'a,
    {
        self.over(variables, |host, described, call| host.copy_slot(slot, described, call))
    }

    /// The optimizer as it is on the CPU, with its state, which is copied for this call: to save a checkpoint, or to
    /// read slots.
    ///
    /// # Errors
    ///
    /// If the device fails.
    pub fn with_optimizer<V>(&mut self, look: impl FnOnce(&Optimizer<R, T>) -> V) -> Result<V, Error> {
        self.host.with_optimizer(&mut Call::new(&mut self.arrays, &[]), look)
    }

    /// Moves the state back to the CPU.
    ///
    /// # Errors
    ///
    /// If the device fails.
    pub fn into_optimizer(mut self) -> Result<Optimizer<R, T>, Error> {
        self.host.into_optimizer(&mut Call::new(&mut self.arrays, &[]))
    }

    /// A copy of all state besides the variables: the entries of [`Optimizer::weights`].
    ///
    /// # Errors
    ///
    /// As there. If the device fails.
    pub fn state(&mut self) -> Result<Vec<StateEntry<StateValue<'static, T>>>, Error> {
        Ok(self.with_optimizer(|optimizer| optimizer.state().map(|_| optimizer.weights()))??)
    }

    /// Replaces all state: as [`Optimizer::restore`].
    ///
    /// # Errors
    ///
    /// As there; nothing has then changed. If the device fails, later calls are refused.
    pub fn restore<'a, 'w, V: Into<StateValue<'w, T>>>(
        &mut self,
        variables: impl IntoIterator<Item = GpuVariable<'a, D>>,
        state: impl IntoIterator<Item = V>,
    ) -> Result<(), Error>
    where
        D: 'a,
        T: 'w,
    {
        self.over(variables, |host, described, call| host.restore(described, state, call))
    }

    /// As [`Optimizer::set_learning_rate`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn set_learning_rate(&mut self, learning_rate: impl Into<Hyper>) -> Result<(), Error> {
        Ok(self.host.set_learning_rate(learning_rate)?)
    }

    /// As [`Optimizer::set_group_learning_rate`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn set_group_learning_rate(&mut self, group: &str, learning_rate: impl Into<Hyper>) -> Result<(), Error> {
        Ok(self.host.set_group_learning_rate(group, learning_rate)?)
    }

    /// As [`Optimizer::freeze`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn freeze(&mut self, group: &str) -> Result<(), Error> {
        Ok(self.host.freeze(group)?)
    }

    /// As [`Optimizer::unfreeze`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn unfreeze(&mut self, group: &str) -> Result<(), Error> {
        Ok(self.host.unfreeze(group)?)
    }

    /// As [`Optimizer::discard_accumulated`].
    pub fn discard_accumulated(&mut self) {
        self.host.discard_accumulated();
    }

    /// The variables, described.
    fn described<'v>(&self, variables: &'v [GpuVariable<'_, D>]) -> Result<Described<'v, T>, Error> {
        let described = variables.iter().map(|variable| variable.described(&self.arrays.device)).collect();
        self.check_apart(variables)?;
        described
    }

    /// Refuses variables whose memory is also that of another variable, or of a gradient: a kernel would read what it
    /// has changed.
    fn check_apart(&self, variables: &[GpuVariable<'_, D>]) -> Result<(), Error> {
        let device = &self.arrays.device;
        let mut values: HashMap<u64, &str> = HashMap::new();
        let shared = |variable: &str, other: String| Error::SharedBuffer { variable: variable.to_owned(), other };
        let with_elements = || variables.iter().filter(|variable| device.len(variable.value) > 0);
        for variable in with_elements() {
            let other = values.insert(device.address(variable.value)?, &variable.name);
            // The engine refuses a variable that is given twice.
            if let Some(other) = other.filter(|other| **other != variable.name) {
                return Err(shared(&variable.name, format!("variable {other:?}")));
            }
        }
        for (variable, gradient) in with_elements().filter_map(|of| Some((of, of.gradient.as_ref()?))) {
            if let Some(of) = values.get(&device.address(gradient.numbers)?) {
                return Err(shared(of, format!("the gradient of {:?}", variable.name)));
            }
        }
        Ok(())
    }

    /// Calls the engine with variables whose gradients it does not use.
    fn over<'a, V>(
        &mut self,
        variables: impl IntoIterator<Item = GpuVariable<'a, D>>,
        call: impl FnOnce(&mut HostSide<R, T>, Vec<Description<'_, T>>, &mut Call<'_, '_, D>) -> Result<V, Error>,
    ) -> Result<V, Error>
    where
        D: 'a,
    {
        let variables: Vec<_> = variables.into_iter().collect();
        let described = self.described(&variables)?.into_iter().map(|(variable, _)| variable).collect();
        call(&mut self.host, described, &mut Call::new(&mut self.arrays, &variables))
    }
}

impl<R, D: Device, T> Deref for GpuOptimizer<R, D, T> {
    type Target = HostSide<R, T>;

    fn deref(&self) -> &HostSide<R, T> {
        &self.host
    }
}

impl<R, D: Device, T> fmt::Debug for GpuOptimizer<R, D, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GpuOptimizer").field("host", &self.host).field("device", &self.arrays.device).finish()
    }
}
