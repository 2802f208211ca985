//! Steps of many variables at once are compared with the evaluated update, bit for bit.

use opt_conformance::problem::Rng;
use opt_conformance::recording::are_same;
use opt_gpu::cuda::source;
use opt_gpu::cuda::tables::{self, Parameters, Shape, Span};
use opt_gpu::device::{Element, Elements, Program, Rows, Segment};
use optimizers::trace::{Array, Node, Update};

use crate::emulation::{Emulation, Memory};
use crate::programs::{kinds, program, updates};

/// Of so many updates one is run. It has no factor in common with the numbers of forms.
const SAMPLE: usize = 17;

/// How the arrays of a variable are placed: the elements by which the variable, its gradient and its state are shifted,
/// and whether the arrays of the state are tight.
#[derive(Debug, Clone, Copy)]
struct Layout {
    len: usize,
    width: usize,
    shifts: [usize; 3],
    is_tight: bool,
}

/// Chunks have 4,096 elements. All lengths are multiples of the widths.
const LAYOUTS: [Layout; 13] = {
    const ALIGNED: Layout = Layout { len: 0, width: 1, shifts: [0; 3], is_tight: false };
    [
        Layout { len: 4_096 + 519, ..ALIGNED },
        ALIGNED,
        Layout { len: 1, ..ALIGNED },
        Layout { len: 12 * 23, width: 12, ..ALIGNED },
        Layout { len: 6 * 31, width: 6, ..ALIGNED },
        Layout { len: 3 * 43, width: 3, ..ALIGNED },
        Layout { len: 16, width: 16, shifts: [1, 1, 1], ..ALIGNED },
        Layout { len: 8 * 41, width: 8, shifts: [1, 0, 0], ..ALIGNED },
        Layout { len: 8 * 42, width: 4, shifts: [0, 3, 0], ..ALIGNED },
        Layout { len: 8 * 43, width: 8, shifts: [0, 0, 1], ..ALIGNED },
        Layout { len: 4 * 37, width: 4, is_tight: true, ..ALIGNED },
        Layout { len: 37, width: 1, is_tight: true, ..ALIGNED },
        Layout { len: 4_096, width: 1_024, ..ALIGNED },
    ]
};

fn numbers<T: Element>(rng: &mut Rng, len: usize) -> Vec<T> {
    const SPECIAL: [f64; 14] =
        [0.0, -0.0, 1.0, -1.0, 1e-45, -1e-39, 1.2e-38, 5e-324, -2e-308, 1e30, -3.4e38, 1e300, f64::INFINITY, f64::NAN];
    let mut number = || match rng.below(12) {
        0 => SPECIAL[rng.below(SPECIAL.len())],
        1..4 => rng.number(),
        // Second moments are not negative.
        _ => rng.number().abs(),
    };
    (0..len).map(|_| T::literal(number())).collect()
}

/// A variable with everything that belongs to it, and the same in the memory of the launch.
struct Variable<T> {
    value: Vec<T>,
    gradient: Vec<T>,
    state: Vec<Vec<T>>,
    width: usize,
    /// The indices of rows, or whether rows are named, as the kernel wants it.
    rows: Vec<u32>,
    parameters: usize,
    spans: [Span; 4],
}

impl<T: Element> Variable<T> {
    fn new(rng: &mut Rng, program: &Program, layout: Layout, parameters: usize, memory: &mut Memory) -> Self {
        let Layout { len, width, shifts, is_tight } = layout;
        let count = len / width;
        let rows: Vec<u32> = match program.elements {
            Elements::All => Vec::new(),
            Elements::Rows => (0..count as u32).rev().filter(|row| row % 3 != 1).collect(),
            Elements::OtherRows => (0..count).map(|_| rng.below(2) as u32).collect(),
        };
        let elements = if program.elements == Elements::Rows { rows.len() * width } else { len };
        let [value, gradient] = [len, elements].map(|len| numbers(rng, len));
        let state: Vec<Vec<T>> = (0..=program.average).map(|_| numbers(rng, len)).collect();
        let spans = [
            memory.place(std::slice::from_ref(&value), shifts[0], false),
            memory.place(std::slice::from_ref(&gradient), shifts[1], false),
            memory.place(&state, shifts[2], is_tight),
            memory.place_rows(&rows),
        ];
        Self { value, gradient, state, width, rows, parameters, spans }
    }

    fn segment(&self, program: &Program) -> Segment<'_, Span> {
        let has_gradient = program.graph.nodes.contains(&Node::Load(Array::Gradient));
        let [value, gradient, state, indices] = &self.spans;
        Segment {
            value,
            gradient: has_gradient.then_some(gradient),
            state: Some(state),
            rows: (program.elements != Elements::All).then_some(Rows { indices, width: self.width }),
            parameters: self.parameters,
        }
    }

    /// The elements that are updated, and where their gradients are.
    fn elements(&self, elements: Elements) -> Vec<(usize, usize)> {
        let all = 0..self.value.len();
        match elements {
            Elements::All => all.map(|element| (element, element)).collect(),
            Elements::OtherRows => {
                all.filter(|element| self.rows[element / self.width] == 0).map(|element| (element, element)).collect()
            }
            Elements::Rows => {
                let row = |(number, row): (usize, &u32)| {
                    let [from, to] = [number, *row as usize].map(|row| row * self.width);
                    (0..self.width).map(move |column| (to + column, from + column))
                };
                self.rows.iter().enumerate().flat_map(row).collect()
            }
        }
    }

    /// Does in the memory what the kernel should do.
    fn update(&self, of: &Update, program: &Program, parameters: &[f64], memory: &mut Memory) {
        let mut update = of.clone();
        update.parameters.copy_from_slice(&parameters[self.parameters..][..of.parameters.len()]);
        for (element, gradient) in self.elements(program.elements) {
            let new = update.evaluate(|array| match (array, program.place(array)) {
                (Array::Gradient, _) => self.gradient[gradient],
                (_, Some(place)) => self.state[place][element],
                (_, None) => self.value[element],
            });
            for (array, number) in new {
                let place = program.place(array);
                let span = if place.is_some() { &self.spans[2] } else { &self.spans[0] };
                memory.set(span, place.unwrap_or(0), element, number);
            }
        }
    }
}

struct Case {
    name: String,
    want: Memory,
}

/// Adds a launch of all layouts.
fn add<T: Element>(emulation: &mut Emulation, of: &Update, elements: Elements, by_value: bool) -> Case {
    const FIRST: usize = 3;
    let program = program(of, elements);
    let mut rng = Rng(of.graph.nodes.len() as u64);
    let mut memory = Memory::new();
    let mut parameters = vec![f64::NAN; FIRST];
    let stride = if by_value { 0 } else { of.parameters.len() + 1 };
    let place = |number: usize| FIRST + number * stride;
    let variables: Vec<Variable<T>> = LAYOUTS
        .into_iter()
        .enumerate()
        .map(|(number, layout)| Variable::new(&mut rng, &program, layout, place(number), &mut memory))
        .collect();
    parameters.resize(place(LAYOUTS.len()) + of.parameters.len(), f64::NAN);
    for number in 0..LAYOUTS.len() {
        for (parameter, base) in of.parameters.iter().enumerate() {
            let factor = if by_value { 1.0 } else { 1.0 + number as f64 / 16.0 };
            parameters[place(number) + parameter] = T::literal(base * factor).as_();
        }
    }
    let shape = Shape::of(&program);
    let segments: Vec<_> = variables.iter().map(|variable| variable.segment(&program)).collect();
    let words = shape.segments(&segments, parameters.len()).unwrap();
    let (name, argument) = match shape.parameters(&segments, &parameters) {
        Parameters::Value(argument) => ("by_value", argument.to_vec()),
        Parameters::Table(table) => ("by_table", table),
    };
    assert_eq!(name == "by_value", by_value);
    let kernel = emulation.step(&source::step(&program), name);
    emulation.launch(kernel, [10, 4], [&words, &tables::step_chunks(&words), &argument], 0, &memory);
    let mut want = memory;
    variables.iter().for_each(|variable| variable.update(of, &program, &parameters, &mut want));
    Case { name: format!("{elements:?}, {name}, {:?}", of.graph), want }
}

fn compare<T: Element>(Case { name, want }: &Case, got: &Memory) {
    let [got, want]: [Vec<T>; 2] = [got, want].map(|memory| bytemuck::pod_collect_to_vec(&memory.0));
    assert_eq!(got.len(), want.len());
    for (place, (got, want)) in got.into_iter().zip(want).enumerate() {
        assert!(are_same(got, want), "{got} instead of {want} at {place} in {name}");
    }
}

fn check<T: Element>(file: &str) {
    let mut emulation = Emulation::default();
    let mut cases = Vec::new();
    for (number, update) in updates::<T>().iter().step_by(SAMPLE).enumerate() {
        for elements in kinds(update) {
            cases.push(add::<T>(&mut emulation, update, *elements, number % 2 == 0));
        }
    }
    let after = emulation.run(file);
    assert!(!cases.is_empty());
    cases.iter().zip(&after).for_each(|(case, after)| compare::<T>(case, &after.memory));
    println!("{} launches", cases.len());
}

#[test]
fn steps_in_32_bits_have_the_bits_of_the_engine() {
    check::<f32>("step32");
}

#[test]
fn steps_in_64_bits_have_the_bits_of_the_engine() {
    check::<f64>("step64");
}
