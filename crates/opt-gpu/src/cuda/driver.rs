//! Calls of CUDA's driver and of NVRTC: all unsafe code of this crate.
#![expect(unsafe_code, reason = "the driver copies from and to addresses, and runs kernels that do")]

use std::ffi::CString;
use std::sync::Arc;

use cudarc::driver::{
    CudaContext, CudaFunction, CudaSlice, CudaStream, DevicePtr, DeviceRepr, DriverError, LaunchConfig, PushKernelArg,
    result,
};
use cudarc::nvrtc::{self, Ptx};
use opt_core::state::DType;

use super::tables::Span;
use super::{CudaBuffer, CudaDevice, source};
use crate::device::DeviceError;

/// Fails if the driver is not installed.
pub(super) fn find_driver() -> Result<(), DeviceError> {
    // SAFETY: loads the driver's library and unloads it; CUDA's libraries allow both.
    if unsafe { cudarc::driver::sys::is_culib_present() } {
        return Ok(());
    }
    let reason = "libcuda cannot be loaded; it is installed with the driver of an NVIDIA GPU".to_owned();
    Err(DeviceError::Missing { device: "CUDA", what: "the driver", reason })
}

/// Fails if NVRTC is not installed.
pub(super) fn find_nvrtc() -> Result<(), DeviceError> {
    // SAFETY: loads NVRTC's library and unloads it; CUDA's libraries allow both.
    if unsafe { nvrtc::sys::is_culib_present() } {
        return Ok(());
    }
    let reason = "libnvrtc cannot be loaded; it is in the CUDA toolkit and in the Python package nvidia-cuda-nvrtc, whose \
                  folder must be in LD_LIBRARY_PATH";
    Err(DeviceError::Missing { device: "CUDA", what: "NVRTC", reason: reason.to_owned() })
}

/// A compiled program, for one architecture.
#[derive(Debug)]
pub struct Binary {
    /// For the driver.
    pub cubin: Vec<u8>,
    /// For people.
    pub ptx: String,
}

/// Compiles CUDA C for an architecture, `sm_90`. No operations are combined, and all are rounded as IEEE 754 says.
///
/// # Errors
///
/// [`DeviceError::Missing`] without NVRTC, [`DeviceError::Compile`] if it refuses the program or the architecture.
pub fn compile(source: &str, architecture: &str) -> Result<Binary, DeviceError> {
    find_nvrtc()?;
    let source = CString::new(source).map_err(|error| DeviceError::Compile { message: error.to_string() })?;
    let refused = |error: nvrtc::result::NvrtcError| DeviceError::Compile { message: format!("{error:?}") };
    let program = NvrtcProgram(nvrtc::result::create_program(&source, None).map_err(refused)?);
    let options = ["--fmad=false", "--ftz=false", "--prec-div=true", "--prec-sqrt=true"].map(str::to_owned);
    let options = [&options[..], &[format!("--gpu-architecture={architecture}")]].concat();
    // SAFETY: the program exists until the end of this function, as for all calls below.
    if let Err(error) = unsafe { nvrtc::result::compile_program(program.0, &options) } {
        // SAFETY: as above.
        let log = unsafe { nvrtc::result::get_program_log(program.0) }.unwrap_or_default();
        let message = format!("{error:?} for {architecture}: {}", text(&log));
        return Err(DeviceError::Compile { message });
    }
    // SAFETY: as above; the program has been compiled.
    let ptx = unsafe { nvrtc::result::get_ptx(program.0) }.map_err(refused)?;
    let mut size = 0;
    // SAFETY: as above; NVRTC writes one number.
    unsafe { nvrtc::sys::nvrtcGetCUBINSize(program.0, &raw mut size) }.result().map_err(refused)?;
    let mut cubin = vec![0_u8; size];
    // SAFETY: as above; NVRTC writes as many bytes as it has said.
    unsafe { nvrtc::sys::nvrtcGetCUBIN(program.0, cubin.as_mut_ptr().cast()) }.result().map_err(refused)?;
    Ok(Binary { cubin, ptx: text(&ptx) })
}

/// A text of NVRTC, which ends with 0.
fn text(bytes: &[std::ffi::c_char]) -> String {
    let bytes: Vec<u8> = bytes.iter().map(|byte| byte.to_ne_bytes()[0]).take_while(|byte| *byte != 0).collect();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A program of NVRTC.
struct NvrtcProgram(nvrtc::sys::nvrtcProgram);

impl Drop for NvrtcProgram {
    fn drop(&mut self) {
        // SAFETY: this is the only handle of the program.
        let _ = unsafe { nvrtc::result::destroy_program(self.0) };
    }
}

/// The error of a failed action.
pub(super) fn failed(action: &'static str) -> impl Fn(DriverError) -> DeviceError {
    move |error| DeviceError::Failed { action, message: error.to_string() }
}

/// Memory of the device. It is freed in the order of the stream: work that was given to the stream before can use it.
#[derive(Debug)]
pub(super) struct Memory {
    slice: CudaSlice<u64>,
    pub(super) pointer: u64,
}

impl Memory {
    /// Memory of at least as many words, all 0.
    pub(super) fn zeros(stream: &Arc<CudaStream>, words: usize) -> Result<Self, DeviceError> {
        // The driver refuses to allocate nothing.
        let slice = stream.alloc_zeros(words.max(1)).map_err(failed("allocate memory"))?;
        Ok(Self::new(slice, stream))
    }

    /// A copy of words.
    pub(super) fn of(stream: &Arc<CudaStream>, words: &[u64]) -> Result<Self, DeviceError> {
        if words.is_empty() {
            return Self::zeros(stream, 0);
        }
        let slice = stream.clone_htod(words).map_err(failed("upload a table"))?;
        Ok(Self::new(slice, stream))
    }

    fn new(slice: CudaSlice<u64>, stream: &CudaStream) -> Self {
        let pointer = slice.device_ptr(stream).0;
        Self { slice, pointer }
    }

    /// The number of words.
    pub(super) fn len(&self) -> usize {
        self.slice.len()
    }
}

impl Drop for Memory {
    /// The slice is freed next, and the null stream that it may be on is that of the thread's context.
    fn drop(&mut self) {
        let context: &CudaContext = self.slice.context();
        context.record_err(context.bind_to_thread());
    }
}

/// Copies numbers to an address, and waits until they are copied: they may be in pinned memory, which the driver reads
/// later.
pub(super) fn write(stream: &CudaStream, to: u64, bytes: &[u8]) -> Result<(), DriverError> {
    stream.context().bind_to_thread()?;
    // SAFETY: callers have checked that there is so much memory; the numbers are borrowed until they are copied.
    let copied = unsafe { result::memcpy_htod_async(to, bytes, stream.cu_stream()) };
    stream.synchronize().and(copied)
}

/// Copies numbers from an address, and waits for them.
pub(super) fn read(stream: &CudaStream, from: u64, bytes: &mut [u8]) -> Result<(), DriverError> {
    stream.context().bind_to_thread()?;
    // SAFETY: callers have checked that there is so much memory; the numbers are borrowed until they are copied.
    let copied = unsafe { result::memcpy_dtoh_async(bytes, from, stream.cu_stream()) };
    stream.synchronize().and(copied)
}

/// A kernel's function, and the module that it is in.
pub(super) fn load(stream: &CudaStream, binary: Binary) -> Result<Module, DeviceError> {
    let module = stream.context().load_module(Ptx::from_binary(binary.cubin)).map_err(failed("load a kernel"))?;
    Ok(Module(module))
}

/// Compiled kernels on the device.
#[derive(Debug)]
pub(super) struct Module(Arc<cudarc::driver::CudaModule>);

impl Module {
    pub(super) fn function(&self, name: &str) -> Result<CudaFunction, DeviceError> {
        self.0.load_function(name).map_err(failed("find a kernel"))
    }
}

/// Starts a kernel of [`source`]: `tables` are the addresses of the segments and of the chunks, one for each block.
pub(super) fn launch<A: DeviceRepr>(
    stream: &CudaStream,
    function: &CudaFunction,
    tables: [u64; 2],
    blocks: usize,
    argument: &A,
) -> Result<(), DeviceError> {
    let refused = || DeviceError::Failed { action: "start a kernel", message: format!("{blocks} blocks are too many") };
    let blocks = u32::try_from(blocks).ok().filter(|blocks| *blocks <= i32::MAX as u32).ok_or_else(refused)?;
    let config = LaunchConfig { grid_dim: (blocks, 1, 1), block_dim: (source::THREADS, 1, 1), shared_mem_bytes: 0 };
    let [segments, chunks] = &tables;
    let mut builder = stream.launch_builder(function);
    builder.arg(segments).arg(chunks).arg(argument);
    // SAFETY: the kernel takes these three arguments, the last of which may be shorter than what is there. The tables
    // were made for it: every address in them is that of a buffer with as many elements as it uses, alive at this time
    // and freed in the order of the stream.
    unsafe { builder.launch(config) }.map_err(failed("start a kernel"))?;
    Ok(())
}

impl CudaDevice {
    /// The memory of someone else as a buffer of one array, for variables and gradients of another library. Its numbers
    /// are of any type that a variable or a gradient can have: 32, 64 or 16 bits.
    ///
    /// # Safety
    ///
    /// As long as the buffer or a clone of it exists, and until the work that was given to this device's stream with it
    /// is done:
    ///
    /// * at `pointer` (a `CUdeviceptr`), in the memory of this device's context, are `len` numbers of this type;
    /// * `pointer` is a multiple of the size of a number. Steps are faster if it is a multiple of 16, or of 8 for
    ///   numbers of 16 bits;
    /// * nothing else writes there while a step reads it, or reads there while a step writes it: other streams must be
    ///   synchronised with this one.
    #[must_use]
    pub unsafe fn from_raw(&self, pointer: u64, dtype: DType, len: usize) -> CudaBuffer {
        self.buffer(None, Span { pointer, arrays: vec![dtype], len, stride: len })
    }
}
