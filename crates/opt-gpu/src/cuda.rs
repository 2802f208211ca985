//! NVIDIA's GPUs, through the driver and NVRTC, both loaded at run time.
//!
//! Steps are started on one stream and not waited for. A launch is one kernel for all its variables; it uploads tables
//! only when it has other buffers than the launches before.

mod driver;
mod kept;
mod registers;
#[doc(hidden)]
pub mod source;
#[doc(hidden)]
pub mod tables;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cudarc::driver::sys::{CUdevice_attribute, CUresult};
use cudarc::driver::{CudaContext, CudaFunction, CudaStream};
#[doc(hidden)]
pub use driver::{Binary, compile};
use driver::{Memory, failed};
use kept::Kept;
use opt_core::state::DType;
use tables::{Parameters, Shape, Span};

use crate::device::{Device, DeviceError, Launch, Part, Program, Question};

/// A GPU of NVIDIA's.
#[derive(Debug, Clone)]
pub struct CudaDevice {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    stream: Arc<CudaStream>,
    /// As the compiler calls it: `sm_90`.
    architecture: String,
    /// What measures gradients that are stored in each of [`MEASURED`](source::MEASURED), once it has been used.
    meters: [Mutex<Option<Meter>>; source::MEASURED.len()],
}

/// Measures gradients that are stored in one type.
#[derive(Debug)]
struct Meter {
    kernel: CudaFunction,
    tables: Kept<Tables>,
    parts: Memory,
}

/// The tables of a launch.
#[derive(Debug)]
struct Tables {
    segments: Memory,
    chunks: Memory,
    blocks: usize,
}

/// Memory of a [`CudaDevice`].
#[derive(Debug, Clone)]
pub struct CudaBuffer {
    span: Span,
    stream: Arc<CudaStream>,
    /// Missing if the memory is someone else's.
    _memory: Option<Arc<Memory>>,
}

/// A compiled kernel for a [`CudaDevice`].
#[derive(Debug)]
pub struct CudaKernel {
    shape: Shape,
    /// Missing if there are too many parameters.
    by_value: Option<CudaFunction>,
    by_table: CudaFunction,
    tables: Mutex<Kept<Tables>>,
    rows: Mutex<Kept<Memory>>,
    stream: Arc<CudaStream>,
}

impl CudaDevice {
    /// The GPU of this number, on the default stream of its primary context: the one that other libraries use, too, if
    /// they are not told otherwise.
    ///
    /// # Errors
    ///
    /// [`DeviceError::Missing`] without the driver, NVRTC or a GPU of this number.
    pub fn new(ordinal: usize) -> Result<Self, DeviceError> {
        driver::find_driver()?;
        let context = CudaContext::new(ordinal).map_err(|error| match error.0 {
            CUresult::CUDA_ERROR_NO_DEVICE
            | CUresult::CUDA_ERROR_INVALID_DEVICE
            | CUresult::CUDA_ERROR_STUB_LIBRARY => {
                DeviceError::Missing { device: "CUDA", what: "a GPU", reason: format!("number {ordinal}: {error}") }
            }
            _ => failed("start")(error),
        })?;
        Self::from_stream(context.default_stream())
    }

    /// A GPU, with the stream on which all work is done.
    ///
    /// # Errors
    ///
    /// [`DeviceError::Missing`] without NVRTC; if the device fails.
    pub fn from_stream(stream: Arc<CudaStream>) -> Result<Self, DeviceError> {
        driver::find_nvrtc()?;
        let attribute = |which| stream.context().attribute(which).map_err(failed("tell its architecture"));
        let major = attribute(CUdevice_attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?;
        let minor = attribute(CUdevice_attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?;
        let architecture = format!("sm_{major}{minor}");
        Ok(Self { shared: Arc::new(Shared { stream, architecture, meters: Default::default() }) })
    }

    fn buffer(&self, memory: Option<Memory>, span: Span) -> CudaBuffer {
        CudaBuffer { span, stream: Arc::clone(self.stream()), _memory: memory.map(Arc::new) }
    }

    fn stream(&self) -> &Arc<CudaStream> {
        &self.shared.stream
    }

    /// Compiles a source; returns some of its kernels.
    fn kernels<const N: usize>(&self, source: &str, names: [&str; N]) -> Result<[CudaFunction; N], DeviceError> {
        let binary = driver::compile(source, &self.shared.architecture)?;
        let module = driver::load(self.stream(), binary)?;
        let functions: Result<Vec<_>, _> = names.into_iter().map(|name| module.function(name)).collect();
        functions.map(|functions| functions.try_into().expect("one for each name"))
    }

    /// Fails if a buffer is on another device or stream.
    fn check_owner<'a>(&self, buffers: impl IntoIterator<Item = &'a CudaBuffer>) -> Result<(), DeviceError> {
        buffers.into_iter().try_for_each(|buffer| self.check_stream(&buffer.stream))
    }

    fn check_stream(&self, stream: &Arc<CudaStream>) -> Result<(), DeviceError> {
        if stream == self.stream() {
            return Ok(());
        }
        let message = "a buffer or a kernel is on another device or stream".to_owned();
        Err(DeviceError::Failed { action: "use it", message })
    }

    fn upload_tables(&self, segments: &[u64], chunks: &[u64]) -> Result<Tables, DeviceError> {
        let upload = |words: &[u64]| Memory::of(self.stream(), words);
        Ok(Tables { segments: upload(segments)?, chunks: upload(chunks)?, blocks: chunks.len() })
    }

    /// The table of the segments of a launch, after all checks.
    fn check_launch(&self, launch: &Launch<'_, Self>) -> Result<Vec<u64>, DeviceError> {
        let Launch { kernel, segments, parameters } = launch;
        self.check_stream(&kernel.stream)?;
        for segment in segments {
            let rows = segment.rows.as_ref().map(|rows| rows.indices);
            self.check_owner([Some(segment.value), segment.gradient, segment.state, rows].into_iter().flatten())?;
        }
        kernel.shape.segments(segments, parameters.len())
    }

    fn launch(&self, launch: &Launch<'_, Self>, words: Vec<u64>) -> Result<(), DeviceError> {
        let Launch { kernel, segments, parameters } = launch;
        if Shape::counts(&words).all(|count| count == 0) {
            return Ok(());
        }
        let parameters = kernel.shape.parameters(segments, parameters);
        let mut tables = lock(&kernel.tables);
        let tables = tables.get(words, |words| self.upload_tables(words, &tables::step_chunks(words)))?;
        match (&kernel.by_value, parameters) {
            (Some(function), Parameters::Value(argument)) => self.start(function, tables, &*argument),
            (_, Parameters::Table([moments, masters], rows)) => {
                let mut kept = lock(&kernel.rows);
                let rows = kept.get(rows, |rows| Memory::of(self.stream(), rows))?;
                self.start(&kernel.by_table, tables, &[moments, masters, rows.pointer])
            }
            (None, Parameters::Value(_)) => unreachable!("they do not fit"),
        }
    }

    fn start<A: cudarc::driver::DeviceRepr>(
        &self,
        function: &CudaFunction,
        tables: &Tables,
        argument: &A,
    ) -> Result<(), DeviceError> {
        let addresses = [tables.segments.pointer, tables.chunks.pointer];
        driver::launch(self.stream(), function, addresses, tables.blocks, argument)
    }

    fn meter(&self, dtype: DType) -> Result<Meter, DeviceError> {
        let [kernel] = self.kernels(&source::measure(dtype), [source::MEASURE])?;
        Ok(Meter { kernel, tables: Kept::default(), parts: Memory::zeros(self.stream(), 0)? })
    }

    /// Measures gradients of one of the types; returns the parts of all, one after the other.
    fn measure_some(&self, number: usize, questions: &[&Question<'_, CudaBuffer>]) -> Result<Vec<Part>, DeviceError> {
        let dtype = source::MEASURED[number];
        let mut meter = lock(&self.shared.meters[number]);
        let meter = match &mut *meter {
            Some(meter) => meter,
            none => none.insert(self.meter(dtype)?),
        };
        let words = tables::questions(dtype, questions);
        if tables::question_chunks(&words).is_empty() {
            return Ok(Vec::new());
        }
        let make = |words: &[u64]| self.upload_tables(words, &tables::question_chunks(words));
        let tables = meter.tables.get(words, make)?;
        let needed = 2 * tables.blocks;
        if meter.parts.len() < needed {
            meter.parts = Memory::zeros(self.stream(), needed)?;
        }
        self.start(&meter.kernel, tables, &meter.parts.pointer)?;
        let mut parts = vec![0_u64; needed];
        let bytes = bytemuck::cast_slice_mut(&mut parts);
        driver::read(self.stream(), meter.parts.pointer, bytes).map_err(failed("measure gradients"))?;
        Ok(tables::parts(&parts))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl CudaBuffer {
    /// The address of an array of the buffer, a `CUdeviceptr`. Other streams that use it must be synchronised with the
    /// device's stream; it is valid as long as the buffer or a clone of it exists.
    #[must_use]
    pub fn pointer(&self, array: usize) -> u64 {
        self.span.array(array)
    }

    /// The bytes of an array, and their address.
    fn array(&self, array: usize) -> Result<(u64, usize), DeviceError> {
        if let Some(dtype) = self.span.arrays.get(array) {
            return Ok((self.span.array(array), self.span.len * dtype.bytes()));
        }
        let message = format!("there are {}, and number {array} is asked for", self.span.arrays.len());
        Err(DeviceError::Failed { action: "find an array", message })
    }
}

impl AsRef<Span> for CudaBuffer {
    fn as_ref(&self) -> &Span {
        &self.span
    }
}

impl Drop for CudaKernel {
    /// The driver may unload a kernel that still runs.
    fn drop(&mut self) {
        let _ = self.stream.synchronize();
    }
}

impl Device for CudaDevice {
    type Buffer = CudaBuffer;
    type Kernel = CudaKernel;

    fn check(&self, dtype: DType) -> Result<(), DeviceError> {
        match dtype {
            DType::F32 | DType::F64 => Ok(()),
            _ => Err(DeviceError::Unsupported { device: "CUDA".to_owned(), dtype }),
        }
    }

    fn allocate(&self, arrays: &[DType], len: usize) -> Result<CudaBuffer, DeviceError> {
        let of_element: usize = arrays.iter().map(|dtype| dtype.bytes()).sum();
        let stride = tables::stride(arrays, len);
        let (Some(stride), Some(bytes)) = (stride, stride.and_then(|stride| stride.checked_mul(of_element))) else {
            let message = format!("{} arrays of {len} numbers are too many", arrays.len());
            return Err(DeviceError::Failed { action: "allocate memory", message });
        };
        let memory = Memory::zeros(self.stream(), bytes / 8)?;
        let span = Span { pointer: memory.pointer, arrays: arrays.to_vec(), len, stride };
        Ok(self.buffer(Some(memory), span))
    }

    fn len(&self, buffer: &CudaBuffer) -> usize {
        buffer.span.len
    }

    fn dtype(&self, buffer: &CudaBuffer, array: usize) -> DType {
        buffer.span.arrays[array]
    }

    fn address(&self, buffer: &CudaBuffer) -> Result<u64, DeviceError> {
        self.check_owner([buffer])?;
        if buffer.span.arrays.len() == 1 {
            return Ok(buffer.span.pointer);
        }
        let message = format!("it has {} arrays, not 1", buffer.span.arrays.len());
        Err(DeviceError::Failed { action: "use a buffer", message })
    }

    fn write(&self, buffer: &CudaBuffer, array: usize, bytes: &[u8]) -> Result<(), DeviceError> {
        self.check_owner([buffer])?;
        let (pointer, len) = buffer.array(array)?;
        if bytes.len() != len {
            let found = bytes.len() / buffer.span.arrays[array].bytes();
            return Err(DeviceError::Length { expected: buffer.span.len, found });
        }
        if bytes.is_empty() {
            return Ok(());
        }
        driver::write(self.stream(), pointer, bytes).map_err(failed("copy numbers to it"))
    }

    fn read(&self, buffer: &CudaBuffer, array: usize) -> Result<Vec<u8>, DeviceError> {
        self.check_owner([buffer])?;
        let (pointer, len) = buffer.array(array)?;
        let mut bytes = vec![0; len];
        if len > 0 {
            driver::read(self.stream(), pointer, &mut bytes).map_err(failed("copy numbers from it"))?;
        }
        Ok(bytes)
    }

    fn compile(&self, program: &Program) -> Result<CudaKernel, DeviceError> {
        self.check(program.graph.dtype)?;
        source::check(program)?;
        let shape = Shape::of(program);
        let source = source::step(program);
        let (by_value, by_table) = if shape.fits() {
            let [by_value, by_table] = self.kernels(&source, [source::BY_VALUE, source::BY_TABLE])?;
            (Some(by_value), by_table)
        } else {
            let [by_table] = self.kernels(&source, [source::BY_TABLE])?;
            (None, by_table)
        };
        let stream = Arc::clone(self.stream());
        Ok(CudaKernel { shape, by_value, by_table, tables: Mutex::default(), rows: Mutex::default(), stream })
    }

    fn run(&self, launches: &[Launch<'_, Self>]) -> Result<(), DeviceError> {
        // All checks come before the first start.
        let words: Vec<_> = launches.iter().map(|launch| self.check_launch(launch)).collect::<Result<_, _>>()?;
        launches.iter().zip(words).try_for_each(|(launch, words)| self.launch(launch, words))
    }

    fn measure(&self, gradients: &[Question<'_, CudaBuffer>]) -> Result<Vec<Vec<Part>>, DeviceError> {
        self.check_owner(gradients.iter().map(|question| question.gradient))?;
        let dtype = |question: &Question<'_, CudaBuffer>| question.gradient.span.arrays[0];
        if let Some(other) = gradients.iter().map(dtype).find(|dtype| !source::MEASURED.contains(dtype)) {
            return Err(DeviceError::Unsupported { device: "CUDA".to_owned(), dtype: other });
        }
        let mut answers = vec![Vec::new(); gradients.len()];
        for (number, measured) in source::MEASURED.into_iter().enumerate() {
            let (places, some): (Vec<_>, Vec<_>) =
                gradients.iter().enumerate().filter(|(_, question)| dtype(question) == measured).unzip();
            if some.is_empty() {
                continue;
            }
            let mut parts = self.measure_some(number, &some)?.into_iter();
            for (place, question) in places.into_iter().zip(some) {
                answers[place] = parts.by_ref().take(question.gradient.span.len.div_ceil(source::PART)).collect();
            }
        }
        Ok(answers)
    }
}
