//! All variables at once, for calls of the engine that need a list.

use std::mem;

use candle_core::{CpuStorage, DType, Tensor};
use opt_core::{Optimizer, UpdateRule, Variable};

use crate::copies::Copies;
use crate::element::{Element, slice_mut};
use crate::error::Error;
use crate::optimizer::CandleOptimizer;
use crate::step::lent;
use crate::storage::{exchange, host_copy};
use crate::variables::{Named, bytes};

impl<R: UpdateRule<T>, T: Element> CandleOptimizer<R, T> {
    /// Lends all variables to a function as a list, with the engine: for everything of the engine and of
    /// `opt-checkpoint` that takes a model, since a `Vec` of variables is a model.
    ///
    /// The numbers are moved out of the `Var`s meanwhile, without copies, and moved back at the end, also after a
    /// panic. Until then the `Var`s have no numbers: operations on them fail or panic, also on other threads.
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
        let mut taken = Taken::new(self.variables.as_slice())?;
        let result = f(&mut self.engine, taken.variables()?);
        self.copies = taken.give_back(Change::Written)?;
        result
    }

    /// As [`with_variables`](Self::with_variables), for functions that only read them.
    pub(crate) fn reading_variables<X>(
        &mut self,
        f: impl FnOnce(&Optimizer<R, T>, Vec<Variable<'_, T>>) -> Result<X, Error>,
    ) -> Result<X, Error> {
        let mut taken = Taken::new(self.variables.as_slice())?;
        let result = f(&self.engine, taken.variables()?);
        self.copies = taken.give_back(Change::Read)?;
        result
    }
}

/// Whether variables have to be copied back to their devices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    Read,
    Written,
}

/// Variables whose numbers have been moved out.
pub(crate) struct Taken<'v> {
    taken: Vec<One<'v>>,
}

struct One<'v> {
    named: &'v Named,
    /// The copy of a variable that is on another device.
    host: Option<Tensor>,
    /// The numbers; those of the variable or of its copy are empty meanwhile.
    storage: CpuStorage,
}

impl<'v> Taken<'v> {
    pub(crate) fn new(variables: &'v [Named]) -> Result<Self, Error> {
        let mut taken = Self { taken: Vec::with_capacity(variables.len()) };
        for named in variables {
            let host = named.by_copy.then(|| host_copy(&named.var)).transpose()?;
            let mut storage = empty(named.var.dtype());
            exchange(host.as_ref().unwrap_or(&named.var), &mut storage)?;
            taken.taken.push(One { named, host, storage });
        }
        Ok(taken)
    }

    pub(crate) fn variables<T: Element>(&mut self) -> Result<Vec<Variable<'_, T>>, Error> {
        let mut variables = Vec::with_capacity(self.taken.len());
        for One { named, storage, .. } in &mut self.taken {
            variables.push(Variable::new(named.name.as_str(), lent(named, slice_mut(storage))?));
        }
        Ok(variables)
    }

    /// Moves the numbers back, and copies them to other devices if they were written.
    pub(crate) fn give_back(mut self, change: Change) -> Result<Copies, Error> {
        let mut copies = Copies::default();
        for One { named, host, .. } in self.restore() {
            let Some(host) = host else { continue };
            copies.bytes_to_host += bytes(&host);
            if change == Change::Written {
                named.var.set(&host.to_device(named.var.device())?)?;
                copies.bytes_to_device += bytes(&host);
            }
        }
        Ok(copies)
    }

    /// Moves the numbers back, once.
    fn restore(&mut self) -> Vec<One<'v>> {
        let mut taken = mem::take(&mut self.taken);
        for One { named, host, storage } in &mut taken {
            // Cannot fail: the numbers were moved out in the same way.
            let _ = exchange(host.as_ref().unwrap_or(&named.var), storage);
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

fn empty(dtype: DType) -> CpuStorage {
    match dtype {
        DType::F64 => CpuStorage::F64(Vec::new()),
        DType::BF16 => CpuStorage::BF16(Vec::new()),
        DType::F16 => CpuStorage::F16(Vec::new()),
        _ => CpuStorage::F32(Vec::new()),
    }
}
