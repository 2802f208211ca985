//! Runs of a kernel on the device, compared with the update that it was made from.

use std::collections::BTreeMap;

use half::{bf16, f16};
use opt_conformance::halves::stored_in;
use opt_conformance::problem::Rng;
use opt_conformance::recording::are_same;
use opt_core::state::DType;
use opt_core::trace::{Array, Draws, Update};
use opt_gpu::device::{Device, Elements, Launch, Program, Rows, Segment};
use opt_gpu::wgpu::{WgpuBuffer, WgpuDevice, WgpuKernel};

/// Numbers of every kind: ordinary ones, special ones, random bits.
pub(crate) fn numbers(rng: &mut Rng, len: usize) -> Vec<f32> {
    const SPECIAL: [f32; 18] = [
        0.0,
        -0.0,
        1.0,
        -1.0,
        1e-45,
        -1e-39,
        1.1e-38,
        1.2e-38,
        -1e-30,
        1e19,
        1e30,
        -3.4e38,
        f32::MAX,
        // Less than half a unit above the largest numbers of 16 bits.
        65_510.0,
        -3.392e38,
        f32::INFINITY,
        f32::NEG_INFINITY,
        f32::NAN,
    ];
    let mut number = || match rng.below(5) {
        0 => SPECIAL[rng.below(SPECIAL.len())],
        1 => f32::from_bits(rng.bits() as u32),
        // Of sizes that 16-bit floating point has.
        2 => rng.number() as f32 * 2_f32.powi(16 - rng.below(44) as i32),
        _ => rng.number() as f32,
    };
    (0..len).map(|_| number()).collect()
}

/// Fails if two numbers have different bits, unless both are NaN.
pub(crate) fn assert_same(got: &[f32], want: &[f32], name: &str) {
    assert_eq!(got.len(), want.len(), "{name}");
    for (element, (got, want)) in got.iter().zip(want).enumerate() {
        assert!(are_same(*got, *want), "{name} at {element}: {got:e} instead of {want:e}");
    }
}

/// The program of an update with this number of slots.
pub(crate) fn program(update: &Update, slots: usize, elements: Elements) -> Program {
    let graph = update.graph.clone();
    let used = |array: &Array| graph.arrays().iter().any(|(of, _)| of == array);
    let slots = (0..slots).map(|slot| Array::Slot(slot as u8));
    let arrays = slots.chain([Array::Average]).chain([Array::Master, Array::Correction].into_iter().filter(used));
    let state = arrays.map(|array| (array, stored_in(&graph, array))).collect();
    let value = stored_in(&graph, Array::Value);
    Program { elements, value, gradient: DType::F32, state, graph }
}

/// Numbers of a type.
fn narrow_numbers(rng: &mut Rng, len: usize, dtype: DType) -> Vec<f32> {
    let numbers = numbers(rng, len);
    match dtype {
        DType::Bf16 => numbers.into_iter().map(|x| bf16::from_f32(x).to_f32()).collect(),
        // Of all sizes: also those that are denormal, or would be in 32 bits.
        DType::F16 => (0..len).map(|_| f16::from_bits(rng.bits() as u16).to_f32()).collect(),
        DType::I8 => numbers.into_iter().map(|x| (x.to_bits() as i8).into()).collect(),
        _ => numbers,
    }
}

/// Numbers of a type as they are stored.
fn to_bytes(numbers: &[f32], dtype: DType) -> Vec<u8> {
    match dtype {
        DType::Bf16 => numbers.iter().flat_map(|x| bf16::from_f32(*x).to_le_bytes()).collect(),
        DType::F16 => numbers.iter().flat_map(|x| f16::from_f32(*x).to_le_bytes()).collect(),
        DType::I8 => numbers.iter().flat_map(|x| (*x as i8).to_le_bytes()).collect(),
        _ => bytemuck::cast_slice(numbers).to_vec(),
    }
}

/// Stored numbers of a type.
fn from_bytes(bytes: &[u8], dtype: DType) -> Vec<f32> {
    match dtype {
        DType::Bf16 => bytes.as_chunks().0.iter().map(|x| bf16::from_le_bytes(*x).to_f32()).collect(),
        DType::F16 => bytes.as_chunks().0.iter().map(|x| f16::from_le_bytes(*x).to_f32()).collect(),
        DType::I8 => bytes.iter().map(|x| f32::from(*x as i8)).collect(),
        _ => bytemuck::pod_collect_to_vec(bytes),
    }
}

/// A kernel and its update.
pub(crate) struct Tried {
    pub(crate) name: String,
    program: Program,
    update: Update,
    kernel: WgpuKernel,
}

/// A variable with everything that belongs to it: on the host, and on the device.
pub(crate) struct Variable {
    arrays: BTreeMap<Array, Vec<f32>>,
    /// For [`Elements::Rows`] indices, for [`Elements::OtherRows`] marks.
    rows: Vec<u32>,
    width: usize,
    value: WgpuBuffer,
    gradient: WgpuBuffer,
    state: WgpuBuffer,
    indices: WgpuBuffer,
    draws: Draws,
}

impl Tried {
    pub(crate) fn new(device: &WgpuDevice, name: &str, update: Update, slots: usize, elements: Elements) -> Self {
        Self::with_gradient(device, name, update, slots, elements, DType::F32)
    }

    /// As [`new`](Self::new), for gradients of this type.
    pub(crate) fn with_gradient(
        device: &WgpuDevice,
        name: &str,
        update: Update,
        slots: usize,
        elements: Elements,
        gradient: DType,
    ) -> Self {
        let program = Program { gradient, ..program(&update, slots, elements) };
        let kernel = device.compile(&program).unwrap_or_else(|error| panic!("{name}: {error}"));
        Self { name: format!("{name}, {elements:?}"), program, update, kernel }
    }

    /// A variable of `rows` rows with random numbers. About half of the rows have a gradient.
    pub(crate) fn variable(&self, device: &WgpuDevice, seed: u64, rows: usize, width: usize) -> Variable {
        let mut rng = Rng(seed);
        let marks: Vec<u32> = (0..rows).map(|_| rng.below(2) as u32).collect();
        let mut touched: Vec<u32> = (0..rows as u32).filter(|row| marks[*row as usize] != 0).collect();
        touched.reverse();
        let given = if self.program.elements == Elements::Rows { touched.len() } else { rows };
        let program = &self.program;
        let dtypes: Vec<DType> = program.state.iter().map(|(_, dtype)| *dtype).collect();
        let state = device.allocate(&dtypes, rows * width).unwrap();
        let mut arrays = BTreeMap::new();
        for (place, (array, dtype)) in program.state.iter().enumerate() {
            let numbers = narrow_numbers(&mut rng, rows * width, *dtype);
            device.write(&state, place, &to_bytes(&numbers, *dtype)).unwrap();
            arrays.insert(*array, numbers);
        }
        let mut upload = |array, dtype, len| {
            let numbers = narrow_numbers(&mut rng, len, dtype);
            let buffer = device.allocate(&[dtype], len).unwrap();
            device.write(&buffer, 0, &to_bytes(&numbers, dtype)).unwrap();
            arrays.insert(array, numbers);
            buffer
        };
        let value = upload(Array::Value, program.value, rows * width);
        let gradient = upload(Array::Gradient, program.gradient, given * width);
        let rows = if self.program.elements == Elements::Rows { touched } else { marks };
        let bits: Vec<f32> = rows.iter().map(|row| f32::from_bits(*row)).collect();
        Variable {
            value,
            gradient,
            draws: Draws { step: [11, 12], variable: seed },
            indices: device.upload(&bits).unwrap(),
            state,
            arrays,
            rows,
            width,
        }
    }

    /// Runs the kernel on variables in two launches, and compares all their numbers.
    pub(crate) fn check(&self, device: &WgpuDevice, variables: &[Variable]) {
        let (first, second) = variables.split_at(variables.len() / 2);
        device.run(&[self.launch(first), self.launch(second)]).unwrap();
        for (number, variable) in variables.iter().enumerate() {
            let expected = self.expected(variable);
            for (array, want) in &expected {
                let (buffer, place) = match self.program.place(*array) {
                    Some(place) => (&variable.state, place),
                    None if *array == Array::Value => (&variable.value, 0),
                    None => (&variable.gradient, 0),
                };
                let got = from_bytes(&device.read(buffer, place).unwrap(), self.program.dtype(*array));
                assert_same(&got, want, &format!("{}: {array:?} of variable {number}", self.name));
            }
        }
    }

    /// Each variable has its own copy of the parameters, behind other numbers.
    fn launch<'a>(&'a self, variables: &'a [Variable]) -> Launch<'a, WgpuDevice> {
        let mut parameters = vec![f64::NAN; 3];
        let mut segments = Vec::new();
        for Variable { value, gradient, state, indices, width, draws, .. } in variables {
            let gradient = self.reads(Array::Gradient).then_some(gradient);
            let rows = Some(Rows { indices, width: *width }).filter(|_| self.program.elements != Elements::All);
            let (state, parameters_of, draws) = (Some(state), parameters.len(), *draws);
            segments.push(Segment { value, gradient, state, rows, parameters: parameters_of, draws });
            parameters.extend(&self.update.parameters);
            parameters.push(f64::NAN);
        }
        Launch { kernel: &self.kernel, segments, parameters }
    }

    fn reads(&self, array: Array) -> bool {
        self.program.graph.arrays().iter().any(|(of_graph, _)| *of_graph == array)
    }

    /// All arrays after the update.
    fn expected(&self, variable: &Variable) -> BTreeMap<Array, Vec<f32>> {
        let Variable { arrays, rows, width, .. } = variable;
        let mut after = arrays.clone();
        let visited: Vec<(usize, usize)> = match self.program.elements {
            Elements::All => (0..arrays[&Array::Value].len()).map(|i| (i, i)).collect(),
            Elements::Rows => {
                let place = |j: usize| rows[j / width] as usize * width + j % width;
                (0..rows.len() * width).map(|j| (place(j), j)).collect()
            }
            Elements::OtherRows => (0..rows.len() * width).filter(|i| rows[i / width] == 0).map(|i| (i, i)).collect(),
        };
        for (i, j) in visited {
            let place = |array: Array| if array == Array::Gradient { j } else { i };
            let load = |array| match array {
                Array::Random(random) => variable.draws.number(random, i) as f32,
                stored => arrays[&stored][place(stored)],
            };
            for (array, number) in self.update.evaluate(load) {
                after.get_mut(&array).unwrap()[i] = number;
            }
        }
        after
    }
}
