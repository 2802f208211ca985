//! A device in the memory of this process: kernels are graphs that are evaluated element by element.

use std::cell::RefCell;
use std::rc::Rc;

use half::{bf16, f16};
use opt_conformance::recording::are_same;
use opt_core::state::DType;
use opt_core::trace::{Array, Draws, Graph};
use opt_gpu::DeviceError;
use opt_gpu::device::{Device, Element, Elements, Launch, Number, Part, Program, Question, Segment};

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

/// Arrays of numbers.
#[derive(Debug, Clone)]
pub(crate) struct Memory {
    dtypes: Vec<DType>,
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

    fn allocate(&self, dtypes: &[DType], len: usize) -> Result<Memory, DeviceError> {
        self.counts.borrow_mut().allocated += 1;
        let arrays = dtypes.iter().map(|dtype| vec![0; len * dtype.bytes()]).collect();
        Ok(Memory { dtypes: dtypes.to_vec(), len, arrays: Rc::new(RefCell::new(arrays)) })
    }

    fn len(&self, buffer: &Memory) -> usize {
        buffer.len
    }

    fn dtype(&self, buffer: &Memory, array: usize) -> DType {
        buffer.dtypes[array]
    }

    fn address(&self, buffer: &Memory) -> Result<u64, DeviceError> {
        match buffer.arrays.borrow().len() {
            1 => Ok(Rc::as_ptr(&buffer.arrays) as u64),
            _ => Err(DeviceError::Failed { action: "use a buffer", message: "it has several arrays".to_owned() }),
        }
    }

    fn write(&self, buffer: &Memory, array: usize, bytes: &[u8]) -> Result<(), DeviceError> {
        self.counts.borrow_mut().writes += 1;
        let found = bytes.len() / buffer.dtypes[array].bytes();
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
            let numbers = match gradient.dtypes[0] {
                DType::F64 => gradient.numbers::<f64>(0),
                _ => gradient.numbers::<f32>(0).into_iter().map(f64::from).collect(),
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
        fn all<T: Element, N: Number>(bytes: &[u8], from: fn(N) -> f32) -> Vec<T> {
            bytemuck::pod_collect_to_vec::<u8, N>(bytes).into_iter().map(|number| T::from_f32(from(number))).collect()
        }
        let bytes = &self.arrays.borrow()[array];
        match self.dtypes[array] {
            DType::Bf16 => all(bytes, bf16::to_f32),
            DType::F16 => all(bytes, f16::to_f32),
            DType::I8 => all::<T, i8>(bytes, f32::from),
            _ => bytemuck::pod_collect_to_vec(bytes),
        }
    }

    /// Stores numbers. They must be numbers of the array's type.
    fn set<T: Element>(&self, array: usize, numbers: &[T]) {
        fn all<T: Element, N: Number>(numbers: &[T], to: fn(f32) -> N) -> Vec<u8> {
            let numbers: Vec<N> = numbers.iter().map(|number| to(number.to_f32())).collect();
            bytemuck::cast_slice(&numbers).to_vec()
        }
        self.arrays.borrow_mut()[array] = match self.dtypes[array] {
            DType::Bf16 => all(numbers, bf16::from_f32),
            DType::F16 => all(numbers, f16::from_f32),
            DType::I8 => all(numbers, |number| number as i8),
            _ => bytemuck::cast_slice(numbers).to_vec(),
        };
        let stored: Vec<T> = self.numbers(array);
        assert!(stored.iter().zip(numbers).all(|(a, b)| are_same(*a, *b)), "{:?}", self.dtypes[array]);
    }
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
    let all = || program.arrays().map(|(array, _)| (array, buffer(array)));
    for (array, (buffer, place)) in all() {
        assert_eq!(buffer.dtypes[place], program.dtype(array), "{array:?}");
    }
    let mut arrays: Vec<(Array, Vec<T>)> =
        all().map(|(array, (buffer, place))| (array, buffer.numbers(place))).collect();
    let parameters = &parameters[segment.parameters..];
    for (of_gradient, element) in touched(*elements, segment) {
        update(graph, parameters, &segment.draws, &mut arrays, of_gradient, element);
    }
    for (array, is_changed) in program.arrays() {
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
    draws: &Draws,
    arrays: &mut [(Array, Vec<T>)],
    of_gradient: usize,
    element: usize,
) {
    let place = |array| if array == Array::Gradient { of_gradient } else { element };
    let stored = graph.evaluate(parameters, |array| {
        if let Array::Random(random) = array {
            return T::literal(draws.number(random, element).into());
        }
        let (_, numbers) = arrays.iter().find(|(known, _)| *known == array).expect("the kernel has it");
        numbers[place(array)]
    });
    for (array, number) in stored {
        let (_, numbers) = arrays.iter_mut().find(|(known, _)| *known == array).expect("the kernel has it");
        numbers[place(array)] = number;
    }
}
