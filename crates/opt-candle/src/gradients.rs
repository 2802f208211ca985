//! The gradients of a step, as they lie in candle's memory.

use candle_core::backprop::GradStore;
use candle_core::{Layout, Storage, StorageRef, Tensor};
use opt_core::View;

use crate::copies::Copies;
use crate::element::{Element, view};
use crate::error::Error;
use crate::storage::host_copy;
use crate::variables::{Named, Variables, bytes};

/// A gradient on the CPU whose memory no variable shares.
pub(crate) enum Separate<'g> {
    Given(&'g Tensor),
    Copied(Tensor),
}

impl Separate<'_> {
    fn tensor(&self) -> &Tensor {
        match self {
            Self::Given(tensor) => tensor,
            Self::Copied(tensor) => tensor,
        }
    }
}

/// A gradient, locked for reading.
pub(crate) type Locked<'g> = (StorageRef<'g>, &'g Layout);

/// The gradient of each variable, if it has one; copied where it cannot be read in place.
///
/// A gradient that shares its memory with a variable would be a deadlock: it is locked for reading while the variable
/// is locked for writing.
pub(crate) fn separate<'g>(
    variables: &Variables,
    grads: &'g GradStore,
    copies: &mut Copies,
) -> Result<Vec<Option<Separate<'g>>>, Error> {
    let of_variable = |named: &Named| {
        let Some(tensor) = grads.get(&named.var) else { return Ok(None) };
        separate_one(variables, named, tensor, copies).map(Some)
    };
    variables.as_slice().iter().map(of_variable).collect()
}

fn separate_one<'g>(
    variables: &Variables,
    named: &Named,
    tensor: &'g Tensor,
    copies: &mut Copies,
) -> Result<Separate<'g>, Error> {
    if named.by_copy {
        copies.bytes_to_host += bytes(tensor);
        return Ok(Separate::Copied(host_copy(tensor)?));
    }
    if !tensor.device().is_cpu() {
        let device = tensor.device().location();
        return Err(Error::GradientDevice { variable: named.name.clone(), device });
    }
    if variables.share_memory_with(tensor) {
        copies.shared_gradients += 1;
        return Ok(Separate::Copied(host_copy(tensor)?));
    }
    Ok(Separate::Given(tensor))
}

/// Locks gradients for reading.
pub(crate) fn locked<'g>(gradients: &'g [Option<Separate<'g>>]) -> Vec<Option<Locked<'g>>> {
    gradients.iter().map(|gradient| Some(gradient.as_ref()?.tensor().storage_and_layout())).collect()
}

/// A locked gradient as the engine reads it.
pub(crate) fn viewed<'g, T: Element>(named: &Named, locked: &'g Locked<'_>) -> Result<View<'g, T>, Error> {
    let (storage, layout) = locked;
    let refused = || Error::GradientType {
        variable: named.name.clone(),
        found: storage.dtype(),
        engine: T::DTYPE,
        taken: T::TAKEN,
    };
    match &**storage {
        Storage::Cpu(storage) => view(storage, layout).ok_or_else(refused),
        _ => Err(refused()),
    }
}
