//! Steps of many variables at once are compared with the evaluated update, bit for bit.

use std::collections::HashSet;

use opt_conformance::problem::Rng;
use opt_gpu::cuda::source;
use opt_gpu::cuda::tables::{self, Parameters, Shape, Span};
use opt_gpu::device::{Element, Elements, Program, Rows, Segment};
use optimizers::state::DType;
use optimizers::trace::{Array, Draws, Node, Update};

use crate::emulation::{Emulation, Memory, stored};
use crate::programs::{GRADIENTS, halves, kinds, program, updates};

/// Of so many updates one is run. It has no factor in common with the numbers of forms.
const SAMPLE: usize = 17;

/// The words of a segment.
const WORDS: usize = 11;

/// What the random numbers of all variables have in common.
const STEP: [u64; 2] = [0x0123_4567_89ab_cdef, 0xfedc_ba98_7654_3210];

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
const LAYOUTS: [Layout; 14] = {
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
        // Packs of 16 bytes and of 8 are aligned.
        Layout { len: 4 * 47, width: 4, shifts: [4, 4, 0], ..ALIGNED },
    ]
};

/// Numbers that can be stored in a type.
fn numbers<T: Element>(rng: &mut Rng, dtype: DType, len: usize) -> Vec<T> {
    const SPECIAL: [f64; 14] =
        [0.0, -0.0, 1.0, -1.0, 1e-45, -1e-39, 1.2e-38, 5e-324, -2e-308, 1e30, -3.4e38, 1e300, f64::INFINITY, f64::NAN];
    let mut number = || match rng.below(12) {
        _ if dtype == DType::I8 => 128.0 * rng.number(),
        0 => SPECIAL[rng.below(SPECIAL.len())],
        1..4 => rng.number(),
        // Second moments are not negative.
        _ => rng.number().abs(),
    };
    let mut numbers: Vec<T> = (0..len).map(|_| stored(dtype, T::literal(number()))).collect();
    if dtype == DType::F32 {
        // NaN, but infinite in the upper 16 bits.
        numbers.iter_mut().step_by(23).for_each(|number| *number = T::from_f32(f32::from_bits(0x7f80_0001)));
    }
    numbers
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
    draws: Draws,
    spans: [Span; 4],
    /// The place of the first element.
    first: usize,
}

impl<T: Element> Variable<T> {
    fn new(
        rng: &mut Rng,
        program: &Program,
        layout: Layout,
        first: usize,
        parameters: usize,
        memory: &mut Memory,
    ) -> Self {
        let draws = Draws { step: STEP, variable: rng.bits() };
        let Layout { len, width, shifts, is_tight } = layout;
        let count = len / width;
        let rows: Vec<u32> = match program.elements {
            Elements::All => Vec::new(),
            Elements::Rows => (0..count as u32).rev().filter(|row| row % 3 != 1).collect(),
            Elements::OtherRows => (0..count).map(|_| rng.below(2) as u32).collect(),
        };
        let elements = if program.elements == Elements::Rows { rows.len() * width } else { len };
        let value = numbers(rng, program.value, len);
        let gradient = numbers(rng, program.gradient, elements);
        let state: Vec<Vec<T>> = program.state.iter().map(|(_, dtype)| numbers(rng, *dtype, len)).collect();
        let of_first = if program.elements == Elements::Rows { (first / width) as u32 } else { 0 };
        let indices: Vec<u32> = rows.iter().map(|row| row + of_first).collect();
        let arrays: Vec<(DType, &[T])> =
            program.state.iter().zip(&state).map(|((_, dtype), numbers)| (*dtype, &numbers[..])).collect();
        let spans = [
            memory.place(&[(program.value, &value)], shifts[0], false),
            memory.place(&[(program.gradient, &gradient)], shifts[1], false),
            memory.place(&arrays, shifts[2], is_tight),
            memory.place_rows(&indices),
        ];
        Self { value, gradient, state, width, rows, parameters, draws, spans, first }
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
            draws: self.draws,
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
                (Array::Random(random), _) => T::literal(self.draws.number(random, self.first + element).into()),
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
    /// The arrays that change.
    spans: Vec<Span>,
}

/// Moves the table of segments to variables of which the elements in memory are those from `first` on, and gives the
/// chunks of these. The arrays of the state must have numbers of the same size.
fn moved(words: &mut [u64], program: &Program, first: usize) -> Vec<u64> {
    let mut chunks = tables::step_chunks(words);
    let is_rows = program.elements == Elements::Rows;
    for segment in words.chunks_exact_mut(WORDS) {
        let rows = if program.elements == Elements::OtherRows { 4 * first / segment[7] as usize } else { 0 };
        let gradient = if is_rows || segment[1] == 0 { 0 } else { first * program.gradient.bytes() };
        let back = [first * program.value.bytes(), gradient, first * program.state[0].1.bytes(), rows];
        segment.iter_mut().zip(back).for_each(|(address, back)| *address = address.wrapping_sub(back as u64));
        segment[5] += first as u64;
        segment[6] += if is_rows { 0 } else { first as u64 };
    }
    if !is_rows {
        chunks.iter_mut().for_each(|chunk| *chunk += (first as u64 / 4_096) << 32);
    }
    chunks
}

/// Adds a launch of all layouts, of elements from `first` on; if that is not 0, of layouts that can lie there.
fn add<T: Element>(emulation: &mut Emulation, of: &Update, program: &Program, by_value: bool, first: usize) -> Case {
    const FIRST: usize = 3;
    let mut rng = Rng(of.graph.nodes.len() as u64);
    let mut memory = Memory::new();
    let mut parameters = vec![f64::NAN; FIRST];
    let stride = if by_value { 0 } else { of.parameters.len() + 1 };
    let place = |number: usize| FIRST + number * stride;
    let variables: Vec<Variable<T>> = LAYOUTS
        .into_iter()
        .enumerate()
        .filter(|(_, layout)| first == 0 || (layout.width > 1 && layout.width.is_power_of_two()))
        .map(|(number, layout)| Variable::new(&mut rng, program, layout, first, place(number), &mut memory))
        .collect();
    parameters.resize(place(LAYOUTS.len()) + of.parameters.len(), f64::NAN);
    for number in 0..LAYOUTS.len() {
        for (parameter, base) in of.parameters.iter().enumerate() {
            let factor = if by_value { 1.0 } else { 1.0 + number as f64 / 16.0 };
            parameters[place(number) + parameter] = T::literal(base * factor).as_();
        }
    }
    let shape = Shape::of(program);
    let segments: Vec<_> = variables.iter().map(|variable| variable.segment(program)).collect();
    let mut words = shape.segments(&segments, parameters.len()).unwrap();
    let chunks = moved(&mut words, program, first);
    let (name, argument) = match shape.parameters(&segments, &parameters) {
        Parameters::Value(argument) => ("by_value", argument.to_vec()),
        Parameters::Table(step, table) => ("by_table", [&step[..], &table].concat()),
    };
    assert_eq!(name == "by_value", by_value);
    let kernel = emulation.step(&source::step(program), name);
    emulation.launch(kernel, [WORDS, 4], [&words, &chunks, &argument], 0, &memory);
    let mut want = memory;
    variables.iter().for_each(|variable| variable.update(of, program, &parameters, &mut want));
    let spans =
        variables.iter().flat_map(|Variable { spans: [value, _, state, _], .. }| [value.clone(), state.clone()]);
    let Program { graph, elements, value, gradient, state } = program;
    let name = format!("{elements:?}, {name}, {value:?}, {gradient:?}, {state:?}, {graph:?}");
    Case { name, want, spans: spans.collect() }
}

fn compare<T: Element>(Case { name, want, spans }: &Case, got: &Memory) {
    let [got, want] = [got, want].map(|memory| {
        let mut memory = memory.clone();
        spans.iter().for_each(|span| memory.unify::<T>(span));
        memory.0
    });
    assert_eq!(got.len(), want.len());
    if let Some(place) = (0..got.len()).find(|place| got[*place] != want[*place]) {
        let near = place / 8 * 8..place / 8 * 8 + 8;
        panic!("{:x?} instead of {:x?} at {place} in {name}", &got[near.clone()], &want[near]);
    }
}

fn check<'u, T: Element>(file: &str, updates: impl Iterator<Item = (&'u Update, DType)>, first: usize) {
    let mut emulation = Emulation::default();
    let mut cases = Vec::new();
    for (number, (update, gradient)) in updates.enumerate() {
        for elements in kinds(update) {
            let program = program(update, *elements, gradient);
            cases.push(add::<T>(&mut emulation, update, &program, number % 2 == 0, first));
        }
    }
    let after = emulation.run(file);
    assert!(!cases.is_empty());
    cases.iter().zip(&after).for_each(|(case, after)| compare::<T>(case, &after.memory));
    println!("{} launches", cases.len());
}

/// The types of the gradients change from update to update.
#[test]
fn steps_in_32_bits_have_the_bits_of_the_engine() {
    check::<f32>("step32", updates::<f32>().iter().step_by(SAMPLE).zip(GRADIENTS.into_iter().cycle()), 0);
}

#[test]
fn steps_in_64_bits_have_the_bits_of_the_engine() {
    check::<f64>("step64", updates::<f64>().iter().step_by(SAMPLE).map(|update| (update, DType::F64)), 0);
}

#[test]
fn steps_in_16_bits_have_the_bits_of_the_engine() {
    let halves = halves();
    let draws = |random| halves.iter().any(|update| update.graph.nodes.contains(&Node::Load(Array::Random(random))));
    assert!([0, 1, 2, 3, Draws::MASTER].into_iter().all(draws));
    check::<f32>("step16", halves.iter().zip(GRADIENTS.into_iter().cycle()), 0);
}

/// Elements behind the first 2^32. What lies before them is never touched, and need not be there.
#[test]
fn steps_of_very_large_variables_have_the_bits_of_the_engine() {
    let halves = halves();
    let is_wanted = |update: &&Update| {
        let is_random = update.graph.nodes.contains(&Node::Load(Array::Random(Draws::MASTER)));
        is_random && program(update, Elements::All, DType::F32).state.iter().all(|(_, dtype)| *dtype == DType::F32)
    };
    let updates = || halves.iter().filter(is_wanted);
    let all: HashSet<Elements> = updates().flat_map(|update| kinds(update)).copied().collect();
    assert_eq!(all.len(), 3, "all kinds of elements");
    check::<f32>("step_large", updates().zip(GRADIENTS.into_iter().cycle()), 1 << 32);
}

/// Each pair alone, at the places where the upper half changes.
#[test]
fn pairs_of_random_numbers_are_those_of_the_engine() {
    const KERNEL: &str = r#"
extern "C" __global__ void pairs(const Index *words, Index *results) {
  const Index *of = words + 4 * blockIdx.x, place = of[3];
  Index *to = results + 6 * blockIdx.x;
  const Pair all[3] = {
    pair_at(mixed(of[0] + of[2]), 0, place),
    pair_at(mixed(of[0] + of[2]), 1, place),
    pair_at(mixed(of[1] + of[2]), 0, place)
  };
  for (unsigned k = 0; k < 3; k++) {
    to[2 * k] = (unsigned)place + all[k].first;
    to[2 * k + 1] = all[k].flip;
  }
}"#;
    let halves = halves();
    let program = halves.iter().map(|update| program(update, Elements::All, DType::F32));
    let source = program.map(|program| source::step(&program)).find(|source| source.contains("pair_at(")).unwrap();
    let mut emulation = Emulation::default();
    let kernel = emulation.other(&(source + KERNEL), "pairs");
    let mut rng = Rng(3);
    let places = [0, 1, 4_095, (1 << 32) - 1, 1 << 32, (1 << 32) + 1, (7 << 32) + 12_345];
    let cases: Vec<(Draws, usize)> =
        places.map(|place| (Draws { step: [rng.bits(), rng.bits()], variable: rng.bits() }, place)).to_vec();
    let words = cases.iter().flat_map(|(Draws { step: [a, b], variable }, place)| [*a, *b, *variable, *place as u64]);
    let words: Vec<u64> = words.collect();
    emulation.launch(kernel, [4, 0], [&words, &vec![0; cases.len()], &[]], 6 * cases.len(), &Memory::new());
    let want: Vec<u64> = cases.iter().flat_map(|(draws, place)| draws.pairs(*place)).flatten().map(u64::from).collect();
    assert_eq!(emulation.run("pairs")[0].results, want);
}
