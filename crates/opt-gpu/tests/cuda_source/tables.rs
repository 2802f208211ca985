//! Buffers that do not fit a program are refused before the device sees them.

use opt_gpu::DeviceError;
use opt_gpu::cuda::tables::{Parameters, Shape, Span, step_chunks};
use opt_gpu::device::{Elements, Rows, Segment};
use optimizers::state::DType;
use optimizers::trace::{Array, Node, Update};

use crate::programs::{program, updates};

const LEN: usize = 40;

/// An update that reads the gradient and has at least two arrays of state.
fn update() -> Update {
    let is_wanted = |update: &Update| {
        let has = |array| update.graph.nodes.contains(&Node::Load(array));
        has(Array::Gradient) && has(Array::Slot(1))
    };
    updates::<f32>().into_iter().find(is_wanted).unwrap()
}

fn span(arrays: usize, len: usize) -> Span {
    Span { pointer: 4_096, dtype: DType::F32, arrays, len, stride: 64 }
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
    let segment = Segment { value, gradient: Some(gradient), state: Some(state), rows, parameters: 7 };
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
        assert_eq!(words(elements, 4, |spans, _| spans[2].arrays = 1), error(2, 1));
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
        assert_eq!(words(Elements::Rows, 4, |spans, _| spans[place].dtype = DType::F64), error);
    }
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
    let segment = |count| [0, 0, 0, 0, 0, 0, count, 0, 0, 0];
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
    let segment = |parameters| Segment { value: &value, gradient: None, state: None, rows: None, parameters };
    let Parameters::Value(argument) = shape.parameters(&[segment(1), segment(1)], &numbers) else { panic!("a table") };
    let argument: &[f32] = bytemuck::cast_slice(&argument[..]);
    assert!(argument[..count].iter().zip(1_u8..).all(|(got, want)| *got == f32::from(want)));
    assert!(argument[count..].iter().all(|got| *got == 0.0));
    let Parameters::Table(table) = shape.parameters(&[segment(0), segment(count)], &numbers) else { panic!("a value") };
    let table: &[f32] = bytemuck::cast_slice(&table);
    assert_eq!(table[2 * count - 1], (2 * count - 1) as f32);
}
