//! A device in the memory of this process: kernels are graphs that are evaluated element by element.

use std::cell::RefCell;
use std::rc::Rc;

use opt_core::state::DType;
use opt_core::trace::{Array, Graph};
use opt_gpu::DeviceError;
use opt_gpu::device::{Device, Element, Elements, Launch, Part, Program, Question, Segment};

/// The device. It counts what it is asked to do.
#[derive(Debug, Clone, Default)]
pub(crate) struct Reference {
    pub(crate) counts: Rc<RefCell<Counts>>,
}

/// How often something was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Counts {
    pub(crate) allocated: usize,
    pub(crate) compiled: usize,
    pub(crate) launches: usize,
    pub(crate) reads: usize,
    pub(crate) writes: usize,
    pub(crate) measured: usize,
    /// The number of calls of `run` after which the device fails; 0 is never.
    pub(crate) fails_after: usize,
    runs: usize,
}

/// Arrays of numbers in 64 bits, which hold all numbers of 32 bits, too.
#[derive(Debug, Clone)]
pub(crate) struct Memory {
    dtype: DType,
    len: usize,
    arrays: Rc<RefCell<Vec<Vec<u8>>>>,
}

impl Device for Reference {
    type Buffer = Memory;
    type Kernel = Program;

    fn check(&self, dtype: DType) -> Result<(), DeviceError> {
        match dtype {
            DType::F32 | DType::F64 => Ok(()),
            _ => Err(DeviceError::Unsupported { device: "the reference".to_owned(), dtype }),
        }
    }

    fn allocate(&self, dtype: DType, arrays: usize, len: usize) -> Result<Memory, DeviceError> {
        self.counts.borrow_mut().allocated += 1;
        let arrays = vec![vec![0; len * size(dtype)]; arrays];
        Ok(Memory { dtype, len, arrays: Rc::new(RefCell::new(arrays)) })
    }

    fn len(&self, buffer: &Memory) -> usize {
        buffer.len
    }

    fn dtype(&self, buffer: &Memory) -> DType {
        buffer.dtype
    }

    fn address(&self, buffer: &Memory) -> Result<u64, DeviceError> {
        match buffer.arrays.borrow().len() {
            1 => Ok(Rc::as_ptr(&buffer.arrays) as u64),
            _ => Err(DeviceError::Failed { action: "use a buffer", message: "it has several arrays".to_owned() }),
        }
    }

    fn write(&self, buffer: &Memory, array: usize, bytes: &[u8]) -> Result<(), DeviceError> {
        self.counts.borrow_mut().writes += 1;
        let found = bytes.len() / size(buffer.dtype);
        if found != buffer.len {
            return Err(DeviceError::Length { expected: buffer.len, found });
        }
        buffer.arrays.borrow_mut()[array] = bytes.to_vec();
        Ok(())
    }

    fn read(&self, buffer: &Memory, array: usize) -> Result<Vec<u8>, DeviceError> {
        self.counts.borrow_mut().reads += 1;
        Ok(buffer.arrays.borrow()[array].clone())
    }

    fn compile(&self, program: &Program) -> Result<Program, DeviceError> {
        self.counts.borrow_mut().compiled += 1;
        Ok(program.clone())
    }

    fn run(&self, launches: &[Launch<'_, Self>]) -> Result<(), DeviceError> {
        let mut counts = self.counts.borrow_mut();
        counts.runs += 1;
        if counts.fails_after != 0 && counts.runs > counts.fails_after {
            return Err(DeviceError::Failed { action: "run a kernel", message: "it was told to".to_owned() });
        }
        counts.launches += launches.len();
        for Launch { kernel, segments, parameters } in launches {
            for segment in segments {
                match kernel.graph.dtype {
                    DType::F32 => run::<f32>(kernel, segment, parameters),
                    _ => run::<f64>(kernel, segment, parameters),
                }
            }
        }
        Ok(())
    }

    fn measure(&self, gradients: &[Question<'_, Memory>]) -> Result<Vec<Vec<Part>>, DeviceError> {
        self.counts.borrow_mut().measured += gradients.len();
        let part = |Question { gradient, limit }: &Question<'_, Memory>| {
            let numbers = match gradient.dtype {
                DType::F32 => wide(&gradient.numbers::<f32>(0)),
                _ => gradient.numbers::<f64>(0),
            };
            // Three parts, with exponents of their own.
            let cut = numbers.len().div_ceil(3).max(1);
            let parts = numbers.chunks(cut).zip([0, -3, 5]).map(|(numbers, exponent)| {
                let scaled = numbers.iter().map(|g| limited(*g, *limit) / 2.0_f64.powi(exponent));
                let is_finite = numbers.iter().all(|g| g.is_finite());
                Part { sum: scaled.map(|g| g * g).sum(), exponent, is_finite }
            });
            parts.collect()
        };
        Ok(gradients.iter().map(part).collect())
    }
}

impl Memory {
    fn numbers<T: Element>(&self, array: usize) -> Vec<T> {
        bytemuck::pod_collect_to_vec(&self.arrays.borrow()[array])
    }

    fn set<T: Element>(&self, array: usize, numbers: &[T]) {
        self.arrays.borrow_mut()[array] = bytemuck::cast_slice(numbers).to_vec();
    }
}

fn size(dtype: DType) -> usize {
    if dtype == DType::F32 { 4 } else { 8 }
}

fn wide(numbers: &[f32]) -> Vec<f64> {
    numbers.iter().map(|&number| f64::from(number)).collect()
}

/// The magnitude of a number; at most the limit, but NaN stays NaN.
fn limited(number: f64, limit: Option<f64>) -> f64 {
    match limit {
        Some(limit) if number.abs() > limit => limit,
        _ => number.abs(),
    }
}

/// Updates the elements of a variable.
fn run<T: Element>(program: &Program, segment: &Segment<'_, Memory>, parameters: &[f64]) {
    let Program { graph, elements, .. } = program;
    let buffer = |array: Array| match array {
        Array::Value => (segment.value, 0),
        Array::Gradient => (segment.gradient.expect("the kernel reads it"), 0),
        _ => (segment.state.expect("the kernel has it"), program.place(array).expect("it is in the state")),
    };
    let mut arrays: Vec<(Array, Vec<T>)> = graph
        .arrays()
        .into_iter()
        .map(|(array, _)| {
            let (buffer, place) = buffer(array);
            (array, buffer.numbers(place))
        })
        .collect();
    let parameters = &parameters[segment.parameters..];
    for (of_gradient, element) in touched(*elements, segment) {
        update(graph, parameters, &mut arrays, of_gradient, element);
    }
    for (array, is_changed) in graph.arrays() {
        let (buffer, place) = buffer(array);
        let numbers = arrays.iter().find(|(known, _)| *known == array);
        if let (true, Some((_, numbers))) = (is_changed, numbers) {
            buffer.set(place, numbers);
        }
    }
}

/// The elements that are updated: where each is in the gradient, and in the variable.
fn touched(elements: Elements, segment: &Segment<'_, Memory>) -> Vec<(usize, usize)> {
    let len = segment.value.len;
    let Some(rows) = &segment.rows else { return (0..len).map(|i| (i, i)).collect() };
    let table: Vec<u32> = rows.indices.numbers::<f32>(0).into_iter().map(f32::to_bits).collect();
    match elements {
        Elements::Rows => {
            let count = table.len() * rows.width;
            (0..count).map(|i| (i, table[i / rows.width] as usize * rows.width + i % rows.width)).collect()
        }
        _ => (0..len).filter(|i| table[i / rows.width] == 0).map(|i| (i, i)).collect(),
    }
}

fn update<T: Element>(
    graph: &Graph,
    parameters: &[f64],
    arrays: &mut [(Array, Vec<T>)],
    of_gradient: usize,
    element: usize,
) {
    let place = |array| if array == Array::Gradient { of_gradient } else { element };
    let stored = graph.evaluate(parameters, |array| {
        let (_, numbers) = arrays.iter().find(|(known, _)| *known == array).expect("the kernel has it");
        numbers[place(array)]
    });
    for (array, number) in stored {
        let (_, numbers) = arrays.iter_mut().find(|(known, _)| *known == array).expect("the kernel has it");
        numbers[place(array)] = number;
    }
}
