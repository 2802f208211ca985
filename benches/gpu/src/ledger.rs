//! A device without memory. It computes nothing and counts the bytes that a step moves.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};

use opt_core::state::DType;
use opt_core::trace::Node;
use opt_gpu::device::{Device, DeviceError, Launch, Part, Program, Question};

/// Clones count together.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ledger {
    moved: Rc<Cell<Moved>>,
}

/// What was moved.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Moved {
    pub(crate) bytes: usize,
    /// The launches of updates; the measurement of all gradients of a step is one more.
    pub(crate) launches: usize,
}

/// The arrays of a buffer.
#[derive(Debug, Clone)]
pub(crate) struct Extent {
    dtypes: Vec<DType>,
    len: usize,
    /// Of this buffer alone.
    number: u64,
}

/// A kernel: the bytes that it reads and writes for an element.
#[derive(Debug)]
pub(crate) struct Moves(usize);

impl Ledger {
    /// What was moved since the last call.
    pub(crate) fn take(&self) -> Moved {
        self.moved.take()
    }

    fn add(&self, bytes: usize) {
        let Moved { bytes: before, launches } = self.moved.get();
        self.moved.set(Moved { bytes: before + bytes, launches: launches + 1 });
    }
}

impl Extent {
    fn bytes(&self) -> usize {
        self.len * self.dtypes.iter().map(|dtype| dtype.bytes()).sum::<usize>()
    }
}

impl Device for Ledger {
    type Buffer = Extent;
    type Kernel = Moves;

    fn check(&self, _dtype: DType) -> Result<(), DeviceError> {
        Ok(())
    }

    fn allocate(&self, dtypes: &[DType], len: usize) -> Result<Extent, DeviceError> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Ok(Extent { dtypes: dtypes.to_vec(), len, number: NEXT.fetch_add(1, Ordering::Relaxed) })
    }

    fn len(&self, buffer: &Extent) -> usize {
        buffer.len
    }

    fn dtype(&self, buffer: &Extent, array: usize) -> DType {
        buffer.dtypes[array]
    }

    fn address(&self, buffer: &Extent) -> Result<u64, DeviceError> {
        Ok(buffer.number)
    }

    fn write(&self, _buffer: &Extent, _array: usize, _bytes: &[u8]) -> Result<(), DeviceError> {
        Ok(())
    }

    fn read(&self, buffer: &Extent, array: usize) -> Result<Vec<u8>, DeviceError> {
        Ok(vec![0; buffer.len * buffer.dtypes[array].bytes()])
    }

    fn compile(&self, program: &Program) -> Result<Moves, DeviceError> {
        let graph = &program.graph;
        let is_read = |array| graph.nodes.contains(&Node::Load(array));
        let moves = program.arrays().map(|(array, is_written)| {
            program.dtype(array).bytes() * (usize::from(is_read(array)) + usize::from(is_written))
        });
        Ok(Moves(moves.sum()))
    }

    fn run(&self, launches: &[Launch<'_, Self>]) -> Result<(), DeviceError> {
        for Launch { kernel: Moves(moves), segments, .. } in launches {
            self.add(segments.iter().map(|segment| moves * segment.value.len).sum());
        }
        Ok(())
    }

    /// Each gradient is long, so that it is clipped, and they have different norms.
    fn measure(&self, gradients: &[Question<'_, Extent>]) -> Result<Vec<Vec<Part>>, DeviceError> {
        self.add(gradients.iter().map(|question| question.gradient.bytes()).sum());
        let part = |question: &Question<'_, Extent>| {
            vec![Part { sum: 100.0 + (question.gradient.number % 4_096) as f64, exponent: 0, is_finite: true }]
        };
        Ok(gradients.iter().map(part).collect())
    }
}
