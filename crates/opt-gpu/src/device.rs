//! What a device must be able to do: keep numbers, run kernels, and measure gradients.

use std::fmt;

pub use opt_core::device::Elements;
use opt_core::state::DType;
use opt_core::trace::{Array, Draws, Graph};

pub use crate::numbers::{Element, Number};

/// A device: its memory, its kernels. Clones are handles of the same device.
///
/// Work is done in the order of the calls. Calls that return numbers wait for it; the others need not.
pub trait Device: Clone + fmt::Debug {
    /// Memory of the device: one or several arrays of the same length. Clones are handles of the same numbers.
    type Buffer: Clone + fmt::Debug;
    /// A compiled kernel.
    type Kernel: fmt::Debug;

    /// Whether the device computes in an element type.
    ///
    /// # Errors
    ///
    /// [`DeviceError::Unsupported`] if not.
    fn check(&self, dtype: DType) -> Result<(), DeviceError>;

    /// Makes arrays of these types, of `len` numbers each; all are 0.
    ///
    /// # Errors
    ///
    /// If the device does not store such numbers, has not enough memory, or fails.
    fn allocate(&self, arrays: &[DType], len: usize) -> Result<Self::Buffer, DeviceError>;

    /// The number of elements of each array of a buffer.
    fn len(&self, buffer: &Self::Buffer) -> usize;

    /// The type of the numbers of an array of a buffer.
    ///
    /// # Panics
    ///
    /// If the buffer has no such array.
    fn dtype(&self, buffer: &Self::Buffer, array: usize) -> DType;

    /// The address of a buffer that can be a variable or a gradient: it is of this device, and one array. The same
    /// memory has the same address.
    ///
    /// # Errors
    ///
    /// [`DeviceError::Failed`] if it cannot.
    fn address(&self, buffer: &Self::Buffer) -> Result<u64, DeviceError>;

    /// Replaces an array of a buffer by as many numbers, given as bytes.
    ///
    /// # Errors
    ///
    /// [`DeviceError::Length`] if there are more or fewer; if the device fails.
    fn write(&self, buffer: &Self::Buffer, array: usize, bytes: &[u8]) -> Result<(), DeviceError>;

    /// Copies an array of a buffer, as bytes.
    ///
    /// # Errors
    ///
    /// If the device fails.
    fn read(&self, buffer: &Self::Buffer, array: usize) -> Result<Vec<u8>, DeviceError>;

    /// Makes a kernel.
    ///
    /// # Errors
    ///
    /// If the device's compiler fails.
    fn compile(&self, program: &Program) -> Result<Self::Kernel, DeviceError>;

    /// Runs kernels, one after the other.
    ///
    /// # Errors
    ///
    /// If the device fails. Some of the kernels may then have run.
    fn run(&self, launches: &[Launch<'_, Self>]) -> Result<(), DeviceError>;

    /// Measures gradients. Each gradient is cut into parts in a way that depends on its length alone, and the numbers
    /// of a part are added in an order that depends on nothing but their number: the same bits in every run.
    ///
    /// # Errors
    ///
    /// If the device fails.
    fn measure(&self, gradients: &[Question<'_, Self::Buffer>]) -> Result<Vec<Vec<Part>>, DeviceError>;

    /// Makes a buffer of one array with these numbers.
    ///
    /// # Errors
    ///
    /// As [`allocate`](Self::allocate).
    fn upload<T: Number>(&self, numbers: &[T]) -> Result<Self::Buffer, DeviceError> {
        let buffer = self.allocate(&[T::STORED], numbers.len())?;
        self.write(&buffer, 0, bytemuck::cast_slice(numbers))?;
        Ok(buffer)
    }

    /// The numbers of an array of a buffer.
    ///
    /// # Errors
    ///
    /// [`DeviceError::Type`] if they have another type; if there is no such array, or the device fails.
    fn download<T: Number>(&self, buffer: &Self::Buffer, array: usize) -> Result<Vec<T>, DeviceError> {
        // It fails if there is no such array, which has no type either.
        let bytes = self.read(buffer, array)?;
        let found = self.dtype(buffer, array);
        if found != T::STORED {
            return Err(DeviceError::Type { expected: T::STORED, found });
        }
        Ok(bytemuck::pod_collect_to_vec(&bytes))
    }
}

/// What a kernel does: for each of some elements of a variable, an update.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Program {
    /// The update of an element.
    pub graph: Graph,
    /// The elements that are updated.
    pub elements: Elements,
    /// The type in which the variable is stored.
    pub value: DType,
    /// The type in which the gradient is stored; that of the graph if it is not read.
    pub gradient: DType,
    /// The arrays of the state, in their order, and the types in which they are stored.
    pub state: Vec<(Array, DType)>,
}

/// A kernel, and the variables that it updates.
#[derive(Debug)]
pub struct Launch<'a, D: Device> {
    /// The kernel.
    pub kernel: &'a D::Kernel,
    /// The variables.
    pub segments: Vec<Segment<'a, D::Buffer>>,
    /// The parameters of all updates, rounded to the element type.
    pub parameters: Vec<f64>,
}

/// A variable that a kernel updates.
#[derive(Debug)]
pub struct Segment<'a, B> {
    /// The variable: [`Array::Value`].
    pub value: &'a B,
    /// Its gradient: [`Array::Gradient`]. Missing if the kernel does not read it.
    pub gradient: Option<&'a B>,
    /// The arrays that the optimizer keeps: slots, average, master. Missing if the kernel has none.
    pub state: Option<&'a B>,
    /// The rows of a sparse gradient.
    pub rows: Option<Rows<'a, B>>,
    /// The place of the first parameter of this variable among the parameters of the launch.
    pub parameters: usize,
    /// The random numbers of this variable. What they have in common in a step is the same in a launch.
    pub draws: Draws,
}

/// Rows of a variable.
#[derive(Debug)]
pub struct Rows<'a, B> {
    /// For [`Elements::Rows`], the indices of the rows, each once: one `u32` for each row of the gradient. For
    /// [`Elements::OtherRows`], a `u32` for each row of the variable: 0 if the gradient does not name it. They are in a
    /// buffer of [`DType::F32`].
    pub indices: &'a B,
    /// The number of elements of a row.
    pub width: usize,
}

/// A gradient that is measured.
#[derive(Debug)]
pub struct Question<'a, B> {
    /// The gradient.
    pub gradient: &'a B,
    /// Elements of a larger magnitude count as this number. NaN stays NaN.
    pub limit: Option<f64>,
}

/// The measurement of a part of a gradient. The sum of squares is `sum * 4^exponent`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Part {
    /// The sum of squares of the elements divided by `2^exponent`. NaN if an element is, infinite if one is.
    pub sum: f64,
    /// An exponent with which the sum can be neither too large nor too small.
    pub exponent: i32,
    /// Whether all elements are finite, before the limit.
    pub is_finite: bool,
}

/// An error of a device.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DeviceError {
    /// Something that the device needs is not on this machine.
    #[error("{device} needs {what}: {reason}")]
    Missing {
        /// The device.
        device: &'static str,
        /// What is missing: a library, a driver, an adapter.
        what: &'static str,
        /// What was tried.
        reason: String,
    },
    /// The device does not compute in an element type, or cannot store it.
    #[error("{device} has no numbers in {dtype:?}")]
    Unsupported {
        /// The device.
        device: String,
        /// The element type.
        dtype: DType,
    },
    /// The device's compiler refused a kernel: a defect of this crate or of the compiler.
    #[error("a kernel was not compiled: {message}")]
    Compile {
        /// What the compiler says.
        message: String,
    },
    /// The device failed.
    #[error("the device failed to {action}: {message}")]
    Failed {
        /// What it was doing.
        action: &'static str,
        /// What the driver says.
        message: String,
    },
    /// A buffer has another number of elements.
    #[error("the buffer has {expected} elements, and {found} were given")]
    Length {
        /// The number of elements of the buffer.
        expected: usize,
        /// The number that was given.
        found: usize,
    },
    /// A buffer has another element type.
    #[error("the buffer is in {found:?}, not in {expected:?}")]
    Type {
        /// The expected element type.
        expected: DType,
        /// The element type of the buffer.
        found: DType,
    },
}

impl Program {
    /// The place of an array of the graph among the arrays of the state; `None` for others.
    #[must_use]
    pub fn place(&self, array: Array) -> Option<usize> {
        self.state.iter().position(|(known, _)| *known == array)
    }

    /// The type in which an array is stored. (Random numbers are stored nowhere.)
    #[must_use]
    pub fn dtype(&self, array: Array) -> DType {
        match array {
            Array::Value => self.value,
            Array::Gradient => self.gradient,
            other => self.place(other).map_or(self.graph.dtype, |place| self.state[place].1),
        }
    }

    /// The arrays that the graph reads or changes and that are stored somewhere, sorted; and whether it changes them.
    pub fn arrays(&self) -> impl Iterator<Item = (Array, bool)> + use<> {
        self.graph.arrays().into_iter().filter(|(array, _)| !matches!(array, Array::Random(_)))
    }
}
