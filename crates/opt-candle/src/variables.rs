//! The variables of an optimizer, checked once.

use std::collections::HashMap;
use std::fmt;
use std::sync::PoisonError;

use candle_core::{Tensor, Var};
use candle_nn::VarMap;
use opt_core::ViewMut;
use opt_core::model::AnySliceMut;

use crate::element::Element;
use crate::error::Error;
use crate::storage::address;

/// A variable and its name.
#[derive(Debug, Clone)]
pub(crate) struct Named {
    pub(crate) name: String,
    pub(crate) var: Var,
    /// Whether the numbers are copied for each call, because they are on another device.
    pub(crate) by_copy: bool,
}

impl Named {
    /// The numbers of the variable as the engine writes them.
    pub(crate) fn lent<'s, T: Element>(&self, slice: Option<AnySliceMut<'s>>) -> Result<ViewMut<'s, T>, Error> {
        let view = slice.and_then(|slice| ViewMut::from_any(slice, self.var.dims()).ok());
        view.ok_or_else(|| Error::VariableType {
            variable: self.name.clone(),
            found: self.var.dtype(),
            engine: T::DTYPE,
            trained: T::TAKEN,
        })
    }
}

/// Where variables may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Placement {
    /// On the CPU only.
    Cpu,
    /// On any device.
    Offload,
    /// As on another device, even if they are on the CPU: to test copies without one.
    #[cfg(test)]
    CopyAll,
}

/// The variables of an optimizer, in their order.
#[derive(Debug, Clone, Default)]
pub(crate) struct Variables {
    list: Vec<Named>,
    /// The addresses of the memory of all variables, sorted.
    addresses: Vec<usize>,
    source: Source,
}

/// Where the variables come from.
#[derive(Clone, Default)]
pub(crate) enum Source {
    /// The caller named each of them.
    #[default]
    Named,
    /// They are numbered, in the order of a list.
    Numbered,
    /// They are all variables of this map.
    Map(VarMap),
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Named => "Named",
            Self::Numbered => "Numbered",
            Self::Map(_) => "Map",
        })
    }
}

impl Variables {
    /// Checks variables: types, devices, and that each is listed once.
    pub(crate) fn new<T: Element>(
        named: impl IntoIterator<Item = (String, Var)>,
        placement: Placement,
    ) -> Result<Self, Error> {
        let list: Vec<Named> =
            named.into_iter().map(|(name, var)| checked::<T>(name, var, placement)).collect::<Result<_, _>>()?;
        let mut owners = HashMap::new();
        for Named { name, var, .. } in &list {
            if let Some(first) = owners.insert(address(var), name) {
                return Err(Error::SameVariable { first: first.clone(), second: name.clone() });
            }
        }
        let mut addresses: Vec<usize> = owners.into_keys().collect();
        addresses.sort_unstable();
        Ok(Self { list, addresses, source: Source::Named })
    }

    pub(crate) fn as_slice(&self) -> &[Named] {
        &self.list
    }

    /// The same variables, with their source.
    pub(crate) fn with_source(self, source: Source) -> Self {
        Self { source, ..self }
    }

    /// Refuses if the map has got variables since: nobody would train them.
    pub(crate) fn check_map(&self) -> Result<(), Error> {
        let Source::Map(map) = &self.source else { return Ok(()) };
        let map = map.data().lock().unwrap_or_else(PoisonError::into_inner);
        if map.len() == self.list.len() {
            return Ok(());
        }
        let is_new = |name: &&String| !self.list.iter().any(|named| named.name == **name);
        let variable = map.keys().filter(is_new).min().cloned().unwrap_or_default();
        Err(Error::NewVariable { variable })
    }

    /// Refuses checkpoints of variables whose numbers may belong to others in the next process.
    pub(crate) fn check_names(&self) -> Result<(), Error> {
        if matches!(self.source, Source::Numbered) { Err(Error::Numbered) } else { Ok(()) }
    }

    /// Whether a tensor on the CPU shares its memory with a variable.
    pub(crate) fn share_memory_with(&self, tensor: &Tensor) -> bool {
        self.addresses.binary_search(&address(tensor)).is_ok()
    }
}

fn checked<T: Element>(name: String, var: Var, placement: Placement) -> Result<Named, Error> {
    let found = var.dtype();
    if !T::TAKEN.contains(&found) {
        return Err(Error::VariableType { variable: name, found, engine: T::DTYPE, trained: T::TAKEN });
    }
    if !var.is_contiguous() {
        return Err(Error::NotContiguous { variable: name });
    }
    let by_copy = match placement {
        Placement::Cpu if !var.device().is_cpu() => {
            return Err(Error::VariableDevice { variable: name, device: var.device().location() });
        }
        Placement::Cpu => false,
        Placement::Offload => !var.device().is_cpu(),
        #[cfg(test)]
        Placement::CopyAll => true,
    };
    Ok(Named { name, var, by_copy })
}

/// The variables of a map, in the order of their names: the map itself has another order in each process.
pub(crate) fn sorted(map: &VarMap) -> Vec<(String, Var)> {
    let map = map.data().lock().unwrap_or_else(PoisonError::into_inner);
    let mut named: Vec<_> = map.iter().map(|(name, var)| (name.clone(), var.clone())).collect();
    named.sort_by(|(a, _), (b, _)| a.cmp(b));
    named
}

/// The bytes of a tensor's numbers.
pub(crate) fn bytes(tensor: &Tensor) -> usize {
    tensor.elem_count() * tensor.dtype().size_in_bytes()
}
