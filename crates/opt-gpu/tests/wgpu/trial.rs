//! Runs of a kernel on the device, compared with the update that it was made from.

use std::collections::BTreeMap;

use opt_conformance::problem::Rng;
use opt_conformance::recording::are_same;
use opt_core::state::DType;
use opt_core::trace::{Array, Update};
use opt_gpu::device::{Device, Elements, Launch, Program, Rows, Segment};
use opt_gpu::wgpu::{WgpuBuffer, WgpuDevice, WgpuKernel};

/// Numbers of every kind: ordinary ones, special ones, random bits.
pub(crate) fn numbers(rng: &mut Rng, len: usize) -> Vec<f32> {
    const SPECIAL: [f32; 16] = [
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
        f32::INFINITY,
        f32::NEG_INFINITY,
        f32::NAN,
    ];
    let mut number = || match rng.below(4) {
        0 => SPECIAL[rng.below(SPECIAL.len())],
        1 => f32::from_bits(rng.bits() as u32),
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
}

impl Tried {
    pub(crate) fn new(device: &WgpuDevice, name: &str, update: Update, average: usize, elements: Elements) -> Self {
        let program = Program { graph: update.graph.clone(), average, elements };
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
        let state = device.allocate(DType::F32, self.program.average + 1, rows * width).unwrap();
        let mut arrays = BTreeMap::new();
        for place in 0..=self.program.average {
            let array = if place < self.program.average { Array::Slot(place as u8) } else { Array::Average };
            let numbers = numbers(&mut rng, rows * width);
            device.write(&state, place, bytemuck::cast_slice(&numbers)).unwrap();
            arrays.insert(array, numbers);
        }
        arrays.insert(Array::Value, numbers(&mut rng, rows * width));
        arrays.insert(Array::Gradient, numbers(&mut rng, given * width));
        let rows = if self.program.elements == Elements::Rows { touched } else { marks };
        let bits: Vec<f32> = rows.iter().map(|row| f32::from_bits(*row)).collect();
        Variable {
            value: device.upload(&arrays[&Array::Value]).unwrap(),
            gradient: device.upload(&arrays[&Array::Gradient]).unwrap(),
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
                let got: Vec<f32> = match self.program.place(*array) {
                    Some(place) => device.download(&variable.state, place).unwrap(),
                    None if *array == Array::Value => device.download(&variable.value, 0).unwrap(),
                    None => device.download(&variable.gradient, 0).unwrap(),
                };
                assert_same(&got, want, &format!("{}: {array:?} of variable {number}", self.name));
            }
        }
    }

    /// Each variable has its own copy of the parameters, behind other numbers.
    fn launch<'a>(&'a self, variables: &'a [Variable]) -> Launch<'a, WgpuDevice> {
        let mut parameters = vec![f64::NAN; 3];
        let mut segments = Vec::new();
        for Variable { value, gradient, state, indices, width, .. } in variables {
            let gradient = self.reads(Array::Gradient).then_some(gradient);
            let rows = Some(Rows { indices, width: *width }).filter(|_| self.program.elements != Elements::All);
            segments.push(Segment { value, gradient, state: Some(state), rows, parameters: parameters.len() });
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
            for (array, number) in self.update.evaluate(|array| arrays[&array][place(array)]) {
                after.get_mut(&array).unwrap()[i] = number;
            }
        }
        after
    }
}
