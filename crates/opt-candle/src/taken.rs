//! All variables at once, for calls of the engine that need a list.

use std::mem;

use candle_core::{CpuStorage, Tensor};
use opt_core::{Optimizer, UpdateRule, Variable, ViewMut};

use crate::copies::Copies;
use crate::element::{Element, slice_mut};
use crate::error::Error;
use crate::optimizer::CandleOptimizer;
use crate::storage::{host_copy, put_back, take, zeros};
use crate::variables::{Named, bytes};

impl<R: UpdateRule<T>, T: Element> CandleOptimizer<R, T> {
    /// Lends all variables to a function as a list, with the engine: for everything of the engine and of
    /// `opt-checkpoint` that takes a model, since a `Vec` of variables is a model.
    ///
    /// The numbers are moved out of the `Var`s meanwhile, without copies, and moved back at the end, also after a
    /// panic. Until then the `Var`s hold zeros, so nothing else may use the model, other threads included.
    ///
    /// # Errors
    ///
    /// The error of the function; an error of candle when variables on other devices could not be copied.
    ///
    /// # Examples
    ///
    /// ```
    /// use candle_core::{Device, Var};
    /// use opt_candle::CandleOptimizer;
    /// use optimizers::{Optimizer, RectifiedAdam};
    ///
    /// let w = Var::new(&[1.0_f32, 2.0], &Device::Cpu)?;
    /// let mut opt = CandleOptimizer::from_named([("w", w)], Optimizer::builder(RectifiedAdam::new(0.1)))?;
    /// opt.with_variables(|engine, mut variables| Ok(engine.add_variables(&mut variables)?))?;
    /// assert_eq!(opt.engine().weights().len(), 3);
    /// # Ok::<(), opt_candle::Error>(())
    /// ```
    pub fn with_variables<X>(
        &mut self,
        f: impl FnOnce(&mut Optimizer<R, T>, Vec<Variable<'_, T>>) -> Result<X, Error>,
    ) -> Result<X, Error> {
        let mut taken = Taken::leaving_zeros(self.variables.as_slice())?;
        let result = f(&mut self.engine, taken.variables()?);
        self.copies = taken.give_back()?;
        result
    }
}

/// Variables whose numbers have been moved out.
pub(crate) struct Taken<'v> {
    taken: Vec<One<'v>>,
}

struct One<'v> {
    named: &'v Named,
    /// The copy of a variable that is on another device.
    host: Option<Tensor>,
    /// The numbers; the variable, or its copy, holds others meanwhile.
    storage: CpuStorage,
}

impl<'v> Taken<'v> {
    /// Leaves zeros in the variables.
    pub(crate) fn leaving_zeros(variables: &'v [Named]) -> Result<Self, Error> {
        Self::leaving(variables.iter(), zeros)
    }

    /// Leaves copies in the variables, so that other threads read their old numbers meanwhile.
    pub(crate) fn leaving_copies(variables: impl Iterator<Item = &'v Named>) -> Result<Self, Error> {
        Self::leaving(variables, CpuStorage::clone)
    }

    fn leaving(
        variables: impl Iterator<Item = &'v Named>,
        substitute: fn(&CpuStorage) -> CpuStorage,
    ) -> Result<Self, Error> {
        let mut taken = Self { taken: Vec::with_capacity(variables.size_hint().0) };
        for named in variables {
            let host = named.by_copy.then(|| host_copy(&named.var)).transpose()?;
            let storage = take(host.as_ref().unwrap_or(&named.var), substitute)?;
            taken.taken.push(One { named, host, storage });
        }
        Ok(taken)
    }

    pub(crate) fn views<T: Element>(&mut self) -> Result<Vec<ViewMut<'_, T>>, Error> {
        self.taken.iter_mut().map(|One { named, storage, .. }| named.lent(slice_mut(storage))).collect()
    }

    fn variables<T: Element>(&mut self) -> Result<Vec<Variable<'_, T>>, Error> {
        let names: Vec<&'v str> = self.taken.iter().map(|one| one.named.name.as_str()).collect();
        let views = self.views()?;
        Ok(names.into_iter().zip(views).map(|(name, view)| Variable::new(name, view)).collect())
    }

    /// Moves the numbers back, and copies them to their devices.
    pub(crate) fn give_back(mut self) -> Result<Copies, Error> {
        let mut copies = Copies::default();
        for One { named, host, .. } in self.restore() {
            let Some(host) = host else { continue };
            named.var.set(&host.to_device(named.var.device())?)?;
            copies.bytes_to_host += bytes(&host);
            copies.bytes_to_device += bytes(&host);
        }
        Ok(copies)
    }

    /// Moves the numbers back, once.
    fn restore(&mut self) -> Vec<One<'v>> {
        let mut taken = mem::take(&mut self.taken);
        for One { named, host, storage } in &mut taken {
            // Cannot fail: the numbers were moved out in the same way.
            let _ = put_back(host.as_ref().unwrap_or(&named.var), storage);
        }
        taken
    }
}

/// After a panic or an error.
impl Drop for Taken<'_> {
    fn drop(&mut self) {
        self.restore();
    }
}
