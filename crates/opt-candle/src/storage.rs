//! The memory of tensors: its identity, and access to it in place.

use std::cell::Cell;
use std::mem;
use std::ptr;

use candle_core::{CpuStorage, Device, InplaceOp1, Layout, Result, Storage, Tensor};

/// The address of a tensor's memory: tensors with the same address share their numbers.
pub(crate) fn address(tensor: &Tensor) -> usize {
    let (storage, _) = tensor.storage_and_layout();
    ptr::from_ref::<Storage>(&storage).addr()
}

/// A tensor on the CPU whose memory is its own.
pub(crate) fn host_copy(tensor: &Tensor) -> Result<Tensor> {
    if tensor.device().is_cpu() { tensor.copy() } else { tensor.to_device(&Device::Cpu) }
}

/// Calls a function with the memory of a tensor on the CPU, which is locked meanwhile. No other safe code can write to
/// a tensor in place.
pub(crate) fn in_place<X>(tensor: &Tensor, write: impl FnOnce(&mut CpuStorage) -> X) -> Result<X> {
    let call = Call { write: Cell::new(Some(write)), result: Cell::new(None) };
    tensor.inplace_op1(&call)?;
    Ok(call.result.into_inner().expect("candle calls an operation once"))
}

/// Moves the memory out of a tensor on the CPU. What it has meanwhile is as long, so that a reader on another thread
/// does not read beyond its end: candle's loops do not check.
pub(crate) fn take(tensor: &Tensor, substitute: fn(&CpuStorage) -> CpuStorage) -> Result<CpuStorage> {
    in_place(tensor, |own| {
        let substitute = substitute(own);
        mem::replace(own, substitute)
    })
}

/// Moves memory back that was [taken](take).
pub(crate) fn put_back(tensor: &Tensor, storage: &mut CpuStorage) -> Result<()> {
    in_place(tensor, |substitute| mem::swap(substitute, storage))
}

/// As many zeros. (Many zeros take no memory until they are read.)
pub(crate) fn zeros(storage: &CpuStorage) -> CpuStorage {
    match storage {
        CpuStorage::F32(data) => CpuStorage::F32(vec![0.0; data.len()]),
        CpuStorage::F64(data) => CpuStorage::F64(vec![0.0; data.len()]),
        CpuStorage::BF16(data) => CpuStorage::BF16(vec![Default::default(); data.len()]),
        CpuStorage::F16(data) => CpuStorage::F16(vec![Default::default(); data.len()]),
        other => other.clone(),
    }
}

/// A function as an operation of candle.
struct Call<F, X> {
    write: Cell<Option<F>>,
    result: Cell<Option<X>>,
}

impl<F: FnOnce(&mut CpuStorage) -> X, X> InplaceOp1 for Call<F, X> {
    fn name(&self) -> &'static str {
        "optimizer-step"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, _: &Layout) -> Result<()> {
        self.result.set(self.write.take().map(|write| write(storage)));
        Ok(())
    }
}
