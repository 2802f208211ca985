//! GPUs through wgpu: Vulkan, Metal and DirectX 12.
//!
//! Kernels are printed as WGSL. On Mesa's lavapipe, which runs them on the CPU, they have the engine's bits. Drivers of
//! GPUs may divide and take roots with an error of a few units in the last place, and may take denormal numbers for 0:
//! Vulkan allows it. They cannot fuse operations: see the printer.
//!
//! There is no 64-bit floating point in WGSL, so this device computes in `f32` alone. Variables, gradients and moments
//! may be stored in 16 bits.
//!
//! # Examples
//!
//! ```
//! use opt_gpu::{Device, DeviceError, WgpuDevice};
//!
//! let device = match WgpuDevice::new() {
//!     Ok(device) => device,
//!     Err(missing @ DeviceError::Missing { .. }) => {
//!         println!("{missing}");
//!         return Ok(());
//!     }
//!     Err(error) => return Err(error),
//! };
//! let w = device.upload(&[1.0_f32, 2.0])?;
//! assert_eq!(device.download::<f32>(&w, 0)?, [1.0, 2.0]);
//! # Ok::<(), DeviceError>(())
//! ```

mod bindings;
mod buffer;
mod errors;
mod kernel;
mod launch;
mod limits;
mod measure;
mod scratch;
mod stored;
mod transfer;
mod wgsl;

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex, OnceLock};

use ::wgpu::{Adapter, DeviceDescriptor, Instance, InstanceDescriptor, PowerPreference, Queue, RequestAdapterOptions};
use opt_core::state::DType;
use pollster::block_on;

use buffer::Owner;
pub use buffer::WgpuBuffer;
pub use kernel::WgpuKernel;

use crate::device::{Device, DeviceError, Launch, Part, Program, Question};
use kernel::Pipeline;
use limits::Limits;
use scratch::Scratch;

/// The name of the device in errors.
const DEVICE: &str = "wgpu";

/// A device of wgpu.
#[derive(Debug, Clone)]
pub struct WgpuDevice {
    handles: Arc<Handles>,
    limits: Limits,
}

/// What clones share.
#[derive(Debug)]
struct Handles {
    device: ::wgpu::Device,
    queue: Queue,
    /// Why the device was lost, if it was.
    lost: Arc<OnceLock<String>>,
    scratch: Mutex<Scratch>,
    owner: Owner,
    /// The pipelines that measure gradients in 32 bits, in bfloat16, and in 16-bit floating point, once they were
    /// needed.
    measure: [OnceLock<Pipeline>; 3],
}

impl WgpuDevice {
    /// Opens the best adapter: a GPU if there is one.
    ///
    /// # Errors
    ///
    /// [`DeviceError::Missing`] if there is no adapter; if it cannot be opened.
    pub fn new() -> Result<Self, DeviceError> {
        let adapter = best_adapter()?;
        let descriptor = DeviceDescriptor { required_limits: adapter.limits(), ..DeviceDescriptor::default() };
        let opened = block_on(adapter.request_device(&descriptor));
        let (device, queue) = opened.map_err(|error| errors::failed("open an adapter", error))?;
        let opened = Self::from_wgpu(device, queue);
        let lost = Arc::clone(&opened.handles.lost);
        opened.device().set_device_lost_callback(move |_, message| {
            // The first reason is kept.
            let _ = lost.set(message);
        });
        Ok(opened)
    }

    /// Takes a device that is open. What is submitted to its queue and what this crate does happen in the order of the
    /// calls.
    ///
    /// A buffer is of the `WgpuDevice` that made it, and of its clones: call this once for each device.
    ///
    /// The device keeps its error handler and its callback for losses. So a loss shows only in
    /// [`read`](Device::read) and in [`measure`](Device::measure).
    #[must_use]
    pub fn from_wgpu(device: ::wgpu::Device, queue: Queue) -> Self {
        let limits = Limits::of(&device.limits());
        let lost = Arc::default();
        let handles = Handles {
            device,
            queue,
            lost,
            scratch: Mutex::default(),
            owner: Owner::default(),
            measure: Default::default(),
        };
        Self { handles: Arc::new(handles), limits }
    }

    /// For tests: cuts everything into chunks of at most this number of elements, rounded down to a power of two, or of
    /// 256.
    #[doc(hidden)]
    #[must_use]
    pub fn with_chunks_of(self, elements: usize) -> Self {
        Self { limits: self.limits.with_chunks_of(elements), ..self }
    }

    /// Takes a buffer that was made elsewhere, as an array of `len` numbers of this type. The rest of the word of 4
    /// bytes in which the array ends belongs to it, too: [`write`](Device::write) makes it 0.
    ///
    /// # Errors
    ///
    /// [`DeviceError::Length`] if it is too small, in whole words of 4 bytes; [`DeviceError::Unsupported`] for 64 bits;
    /// [`DeviceError::Failed`] if it lacks one of the usages `STORAGE`, `COPY_SRC` and `COPY_DST`.
    pub fn wrap(&self, buffer: ::wgpu::Buffer, dtype: DType, len: usize) -> Result<WgpuBuffer, DeviceError> {
        check_stored(dtype)?;
        WgpuBuffer::wrap(self.handles.owner.clone(), buffer, dtype, len, self.limits.chunk(dtype.bytes()))
    }

    /// wgpu's device.
    #[must_use]
    pub fn device(&self) -> &::wgpu::Device {
        &self.handles.device
    }

    /// wgpu's queue.
    #[must_use]
    pub fn queue(&self) -> &Queue {
        &self.handles.queue
    }

    /// The name of the adapter.
    #[must_use]
    pub fn adapter_name(&self) -> String {
        self.device().adapter_info().name
    }
}

fn unsupported(dtype: DType) -> DeviceError {
    DeviceError::Unsupported { device: DEVICE.to_owned(), dtype }
}

/// Whether numbers of a type can be stored.
fn check_stored(dtype: DType) -> Result<(), DeviceError> {
    let is_stored = matches!(dtype, DType::F32 | DType::Bf16 | DType::F16 | DType::I8);
    if is_stored { Ok(()) } else { Err(unsupported(dtype)) }
}

fn best_adapter() -> Result<Adapter, DeviceError> {
    let instance = Instance::new(InstanceDescriptor::new_without_display_handle());
    let options = RequestAdapterOptions {
        power_preference: PowerPreference::HighPerformance,
        ..RequestAdapterOptions::default()
    };
    block_on(instance.request_adapter(&options)).map_err(|error| DeviceError::Missing {
        device: DEVICE,
        what: "a driver for Vulkan, Metal or DirectX 12",
        reason: format!("{error}. On Debian: apt-get install libvulkan1 mesa-vulkan-drivers, or the driver of the GPU"),
    })
}

impl Device for WgpuDevice {
    type Buffer = WgpuBuffer;
    type Kernel = WgpuKernel;

    fn check(&self, dtype: DType) -> Result<(), DeviceError> {
        if dtype == DType::F32 { Ok(()) } else { Err(unsupported(dtype)) }
    }

    fn allocate(&self, arrays: &[DType], len: usize) -> Result<WgpuBuffer, DeviceError> {
        arrays.iter().try_for_each(|dtype| check_stored(*dtype))?;
        let bytes = arrays.iter().map(|dtype| dtype.bytes()).sum();
        self.guarded("allocate memory", || {
            WgpuBuffer::new(self.device(), self.handles.owner.clone(), arrays, len, self.limits.chunk(bytes))
        })
    }

    fn len(&self, buffer: &WgpuBuffer) -> usize {
        buffer.len()
    }

    fn dtype(&self, buffer: &WgpuBuffer, array: usize) -> DType {
        buffer.dtypes()[array]
    }

    fn address(&self, buffer: &WgpuBuffer) -> Result<u64, DeviceError> {
        buffer.check_owner(&self.handles.owner)?;
        let mut hasher = DefaultHasher::new();
        match buffer.arrays() {
            1 => buffer.as_wgpu().hash(&mut hasher),
            arrays => return Err(errors::failed("use a buffer", format_args!("it has {arrays} arrays, not 1"))),
        }
        Ok(hasher.finish())
    }

    fn write(&self, buffer: &WgpuBuffer, array: usize, bytes: &[u8]) -> Result<(), DeviceError> {
        buffer.check_owner(&self.handles.owner)?;
        self.write_array(buffer, array, bytes)
    }

    fn read(&self, buffer: &WgpuBuffer, array: usize) -> Result<Vec<u8>, DeviceError> {
        buffer.check_owner(&self.handles.owner)?;
        self.read_array(buffer, array)
    }

    fn compile(&self, program: &Program) -> Result<WgpuKernel, DeviceError> {
        self.check(program.graph.dtype)?;
        self.compile_program(program)
    }

    fn run(&self, launches: &[Launch<'_, Self>]) -> Result<(), DeviceError> {
        for segment in launches.iter().flat_map(|launch| &launch.segments) {
            let rows = segment.rows.as_ref().map(|rows| rows.indices);
            let buffers = [Some(segment.value), segment.gradient, segment.state, rows];
            buffers.into_iter().flatten().try_for_each(|buffer| buffer.check_owner(&self.handles.owner))?;
        }
        self.run_launches(launches)
    }

    fn measure(&self, gradients: &[Question<'_, WgpuBuffer>]) -> Result<Vec<Vec<Part>>, DeviceError> {
        gradients.iter().try_for_each(|question| question.gradient.check_owner(&self.handles.owner))?;
        self.measure_gradients(gradients)
    }
}
