//! Buffers that do not fit a program are refused before the device sees them.

use opt_gpu::DeviceError;
use opt_gpu::cuda::source;
use opt_gpu::cuda::tables::{Parameters, Shape, Span, step_chunks, stride};
use opt_gpu::device::{Elements, Program, Rows, Segment};
use optimizers::state::DType;
use optimizers::trace::{Array, Draws, Node, Update};

use crate::programs::{halves, updates};

const LEN: usize = 40;

/// An update that reads the gradient and has at least two arrays of state.
fn update() -> Update {
    let is_wanted = |update: &Update| {
        let has = |array| update.graph.nodes.contains(&Node::Load(array));
        has(Array::Gradient) && has(Array::Slot(1))
    };
    updates::<f32>().into_iter().find(is_wanted).unwrap()
}

fn program(update: &Update, elements: Elements) -> Program {
    crate::programs::program(update, elements, DType::F32)
}

fn span(arrays: usize, len: usize) -> Span {
    Span { pointer: 4_096, arrays: vec![DType::F32; arrays], len, stride: 64 }
}

/// The words of a segment after a change of what the update needs.
fn words(
    elements: Elements,
    width: usize,
    change: impl FnOnce(&mut [Span; 4], &mut usize),
) -> Result<Vec<u64>, DeviceError> {
    let update = update();
    let shape = Shape::of(&program(&update, elements));
    let rows = if elements == Elements::Rows { 2 } else { LEN / width };
    let gradient = if elements == Elements::Rows { rows * width } else { LEN };
    let mut spans = [span(1, LEN), span(1, gradient), span(4, LEN), span(1, rows)];
    let mut parameters = update.parameters.len() + 7;
    change(&mut spans, &mut parameters);
    let [value, gradient, state, indices] = &spans;
    let rows = (elements != Elements::All).then_some(Rows { indices, width });
    let draws = Draws::default();
    let segment = Segment { value, gradient: Some(gradient), state: Some(state), rows, parameters: 7, draws };
    shape.segments(&[segment], parameters)
}

#[test]
fn other_lengths_are_refused() {
    let error = |expected, found| Err(DeviceError::Length { expected, found });
    for elements in [Elements::All, Elements::Rows, Elements::OtherRows] {
        assert!(words(elements, 4, |_, _| ()).is_ok());
        let gradient = if elements == Elements::Rows { 8 } else { LEN };
        assert_eq!(words(elements, 4, |spans, _| spans[1].len += 1), error(gradient, gradient + 1));
        assert_eq!(words(elements, 4, |spans, _| spans[2].len -= 1), error(LEN, LEN - 1));
        assert_eq!(words(elements, 4, |spans, _| spans[2].arrays.truncate(1)), error(2, 1));
        let count = update().parameters.len();
        assert_eq!(words(elements, 4, |_, parameters| *parameters -= 1), error(count + 7, count + 6));
    }
    assert_eq!(words(Elements::Rows, 4, |spans, _| spans[3].len = 3), error(12, 8));
    assert_eq!(words(Elements::Rows, 7, |_, _| ()), error(42, 40));
    assert_eq!(words(Elements::OtherRows, 4, |spans, _| spans[3].len = 9), error(40, 36));
}

#[test]
fn other_types_are_refused() {
    for place in 0..4 {
        let error = Err(DeviceError::Type { expected: DType::F32, found: DType::F64 });
        assert_eq!(words(Elements::Rows, 4, |spans, _| spans[place].arrays[0] = DType::F64), error);
    }
    let error = Err(DeviceError::Type { expected: DType::F32, found: DType::Bf16 });
    assert_eq!(words(Elements::All, 4, |spans, _| spans[2].arrays[1] = DType::Bf16), error);
    // What the program does not use may have any type.
    assert!(words(Elements::All, 4, |spans, _| spans[2].arrays[3] = DType::Bf16).is_ok());
}

#[test]
fn what_is_missing_is_refused() {
    let shape = Shape::of(&program(&update(), Elements::Rows));
    let [value, indices] = [span(1, LEN), span(1, 2)];
    let whole = || Segment {
        value: &value,
        gradient: Some(&value),
        state: Some(&value),
        rows: Some(Rows { indices: &indices, width: LEN / 2 }),
        parameters: 0,
        draws: Draws::default(),
    };
    let refuses = |segment| matches!(shape.segments(&[segment], 100), Err(DeviceError::Length { found: 0, .. }));
    assert!(refuses(Segment { gradient: None, ..whole() }));
    assert!(refuses(Segment { state: None, ..whole() }));
    assert!(refuses(Segment { rows: None, ..whole() }));
}

#[test]
fn packs_need_alignment() {
    let is_aligned = |words: Result<Vec<u64>, DeviceError>| words.unwrap()[9] == 1;
    assert!(is_aligned(words(Elements::All, 1, |_, _| ())));
    for place in 0..3 {
        assert!(!is_aligned(words(Elements::All, 1, |spans, _| spans[place].pointer += 4)));
    }
    assert!(!is_aligned(words(Elements::All, 1, |spans, _| spans[2].stride = 41)));
    for (width, expected) in [(8, true), (4, true), (2, false), (1, false), (5, false)] {
        assert_eq!(is_aligned(words(Elements::Rows, width, |_, _| ())), expected);
        assert_eq!(is_aligned(words(Elements::OtherRows, width, |_, _| ())), expected);
    }
}

#[test]
fn chunks_name_their_segments() {
    let segment = |count| [0, 0, 0, 0, 0, 0, count, 0, 0, 0, 0];
    let words = [segment(4_097), segment(0), segment(4_096)].concat();
    assert_eq!(step_chunks(&words), [0, 1 << 32, 2]);
}

#[test]
fn parameters_are_an_argument_if_they_are_the_same() {
    let update = update();
    let shape = Shape::of(&program(&update, Elements::All));
    let count = update.parameters.len();
    let numbers: Vec<f64> = (0..2 * count).map(|number| number as f64).collect();
    let value = span(1, LEN);
    let draws = Draws { step: [5, 6], variable: 7 };
    let segment = |parameters| Segment { value: &value, gradient: None, state: None, rows: None, parameters, draws };
    let Parameters::Value(argument) = shape.parameters(&[segment(1), segment(1)], &numbers) else { panic!("a table") };
    assert_eq!(argument[..2], draws.step);
    let argument: &[f32] = bytemuck::cast_slice(&argument[2..]);
    assert!(argument[..count].iter().zip(1_u8..).all(|(got, want)| *got == f32::from(want)));
    assert!(argument[count..].iter().all(|got| *got == 0.0));
    let all = [segment(0), segment(count)];
    let Parameters::Table(step, table) = shape.parameters(&all, &numbers) else { panic!("a value") };
    assert_eq!(step, draws.step);
    let table: &[f32] = bytemuck::cast_slice(&table);
    assert_eq!(table[2 * count - 1], (2 * count - 1) as f32);
}

/// A program that draws random numbers, and one that does not.
fn random_or_not() -> [Program; 2] {
    let is_random = |update: &&Update| update.graph.arrays().iter().any(|(array, _)| matches!(array, Array::Random(_)));
    let updates = halves();
    [updates.iter().find(is_random), updates.iter().find(|update| !is_random(update))]
        .map(|update| program(update.unwrap(), Elements::All))
}

#[test]
fn random_numbers_are_those_of_one_step() {
    for (is_random, program) in [true, false].into_iter().zip(random_or_not()) {
        let one = |dtype| Span { arrays: vec![dtype], ..span(1, LEN) };
        let (value, gradient) = (one(program.value), one(program.gradient));
        let state = Span { arrays: program.state.iter().map(|(_, dtype)| *dtype).collect(), ..span(1, LEN) };
        let segment = |draws| Segment {
            value: &value,
            gradient: Some(&gradient),
            state: Some(&state),
            rows: None,
            parameters: 0,
            draws,
        };
        let first = Draws { step: [1, 2], variable: 3 };
        let words = |other| Shape::of(&program).segments(&[segment(first), segment(other)], 100);
        let same = words(Draws { variable: 4, ..first }).unwrap();
        assert_eq!([same[10], same[21]], [3, 4]);
        for step in [[1, 3], [2, 2]] {
            let other = words(Draws { step, ..first });
            assert_eq!(matches!(other, Err(DeviceError::Failed { .. })), is_random);
            assert!(is_random || other.is_ok());
        }
    }
}

#[test]
fn arrays_of_all_types_are_aligned() {
    use DType::{Bf16, F16, F32, F64, I8};
    for arrays in [&[I8, Bf16, F32, I8, F16, F32][..], &[F32, Bf16, Bf16, F32], &[Bf16], &[F64, F64], &[]] {
        for len in [0, 1, 63, 64, 65, 1_000] {
            let stride = stride(arrays, len).unwrap();
            let span = Span { pointer: 4_096, arrays: arrays.to_vec(), len, stride };
            let mut end = span.pointer;
            for (array, dtype) in arrays.iter().enumerate() {
                let start = span.array(array);
                assert!(start >= end && start.is_multiple_of(256), "{arrays:?} of {len}: {start}");
                end = start + (len * dtype.bytes()) as u64;
            }
            assert!(len > 0 || end == 4_096);
        }
    }
    assert_eq!(stride(&[I8, F32], usize::MAX), None);
}

#[test]
fn packs_of_smaller_numbers_need_less() {
    let [mut program, _] = random_or_not();
    program.gradient = DType::F16;
    program.state = program.state.iter().map(|(array, _)| (*array, DType::I8)).collect();
    let is_aligned = |pointers: [u64; 3]| {
        let state: Vec<DType> = program.state.iter().map(|(_, dtype)| *dtype).collect();
        let arrays = [vec![program.value], vec![program.gradient], state].into_iter().zip(pointers);
        let spans: Vec<Span> =
            arrays.map(|(arrays, pointer)| Span { pointer, arrays, len: LEN, stride: LEN }).collect();
        let [value, gradient, state] = &spans[..] else { unreachable!("there are three") };
        let draws = Draws::default();
        let segment = Segment { value, gradient: Some(gradient), state: Some(state), rows: None, parameters: 0, draws };
        Shape::of(&program).segments(&[segment], 100).unwrap()[9] == 1
    };
    assert!(is_aligned([8, 24, 4]));
    assert!(!is_aligned([12, 24, 4]));
    assert!(!is_aligned([8, 28, 4]));
    assert!(!is_aligned([8, 24, 6]));
}

#[test]
fn other_storage_is_refused() {
    let [program, _] = random_or_not();
    let refused = |program: Program| match source::check(&program) {
        Err(DeviceError::Unsupported { dtype, .. }) => Some(dtype),
        other => panic!("{other:?}"),
    };
    source::check(&program).unwrap();
    assert_eq!(refused(Program { value: DType::F64, ..program.clone() }), Some(DType::F64));
    assert_eq!(refused(Program { gradient: DType::F64, ..program }), Some(DType::F64));
    let update = updates::<f64>().into_iter().next().unwrap();
    let double = crate::programs::program(&update, Elements::All, DType::F64);
    source::check(&double).unwrap();
    assert_eq!(refused(Program { value: DType::F32, ..double.clone() }), Some(DType::F32));
    assert_eq!(refused(Program { value: DType::Bf16, ..double }), Some(DType::Bf16));
}
