//! What kernels read besides numbers: where the arrays of the variables are, and who updates what. As words of 64 bits,
//! in the layouts of [`source`](super::source).

use opt_core::state::DType;
use opt_core::trace::{Array, Draws, Node};

use super::source;
use crate::device::{DeviceError, Elements, Part, Program, Question, Rows, Segment};

/// Where the numbers of a buffer are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    /// The address of the first number.
    pub pointer: u64,
    /// The types of the arrays, which lie one behind the other.
    pub arrays: Vec<DType>,
    /// The number of elements of each array.
    pub len: usize,
    /// The number of elements for which each array has room.
    pub stride: usize,
}

impl AsRef<Self> for Span {
    fn as_ref(&self) -> &Self {
        self
    }
}

impl Span {
    /// The address of an array.
    #[must_use]
    pub fn array(&self, array: usize) -> u64 {
        let before: usize = self.arrays[..array].iter().map(|dtype| dtype.bytes()).sum();
        self.pointer + (self.stride * before) as u64
    }

    /// Whether packs of every array can be loaded.
    fn is_aligned(&self) -> bool {
        let pack = |dtype: DType| (source::width(dtype) * dtype.bytes()) as u64;
        self.arrays.iter().enumerate().all(|(array, dtype)| self.array(array).is_multiple_of(pack(*dtype)))
    }

    /// Checks the types of the first arrays, and the number of elements.
    fn check(&self, dtypes: &[DType], len: usize) -> Result<(), DeviceError> {
        if let Some((expected, found)) = dtypes.iter().zip(&self.arrays).find(|(expected, found)| expected != found) {
            return Err(DeviceError::Type { expected: *expected, found: *found });
        }
        if self.len != len {
            return Err(DeviceError::Length { expected: len, found: self.len });
        }
        if self.arrays.len() < dtypes.len() {
            return Err(DeviceError::Length { expected: dtypes.len(), found: self.arrays.len() });
        }
        Ok(())
    }
}

/// The stride of arrays of these types, so that all are aligned as their memory is; `None` if it is too large.
#[must_use]
pub fn stride(arrays: &[DType], len: usize) -> Option<usize> {
    const ALIGNMENT: usize = 256;
    let smallest = arrays.iter().map(|dtype| dtype.bytes()).min().unwrap_or(1);
    len.checked_next_multiple_of(ALIGNMENT / smallest)
}

/// What the variables of a launch must have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shape {
    dtype: DType,
    elements: Elements,
    value: DType,
    /// Missing if it is not read.
    gradient: Option<DType>,
    /// The arrays of the state up to the last one that is used.
    state: Vec<DType>,
    parameters: usize,
    is_random: bool,
}

/// Where the parameters of a launch are.
#[derive(Debug, Clone, PartialEq)]
pub enum Parameters {
    /// In the argument of the kernel `by_value`, behind the numbers of the step.
    Value(Box<[u64; source::ARGUMENT / 8]>),
    /// In the table of the kernel `by_table`. Its address is in the argument, behind these numbers of the step: so the
    /// table can be the same in every step.
    Table([u64; 2], Vec<u64>),
}

impl Shape {
    /// What the variables of a program must have.
    #[must_use]
    pub fn of(program: &Program) -> Self {
        let used = program.arrays().filter_map(|(array, _)| program.place(array)).max().map_or(0, |place| place + 1);
        let has_gradient = program.graph.nodes.contains(&Node::Load(Array::Gradient));
        let arrays = program.graph.arrays();
        Self {
            dtype: program.graph.dtype,
            elements: program.elements,
            value: program.value,
            gradient: has_gradient.then_some(program.gradient),
            state: program.state[..used].iter().map(|(_, dtype)| *dtype).collect(),
            parameters: source::parameters(program),
            is_random: arrays.iter().any(|(array, _)| matches!(array, Array::Random(_))),
        }
    }

    /// Whether [`Parameters::Value`] has room for the parameters of a variable.
    #[must_use]
    pub fn fits(&self) -> bool {
        source::fits(self.dtype, self.parameters)
    }

    /// The table of segments, 11 words for each.
    ///
    /// # Errors
    ///
    /// If a buffer has not the type or the length that the program needs, if there are not enough parameters, or if the
    /// program draws random numbers and the variables are in different steps.
    pub fn segments<B: AsRef<Span>>(
        &self,
        segments: &[Segment<'_, B>],
        parameters: usize,
    ) -> Result<Vec<u64>, DeviceError> {
        let mut words = Vec::with_capacity(segments.len() * Self::WORDS);
        let step = of_step(segments);
        for segment in segments {
            if self.is_random && segment.draws.step != step {
                let message = "its variables are in different steps".to_owned();
                return Err(DeviceError::Failed { action: "draw random numbers", message });
            }
            let end = segment.parameters.saturating_add(self.parameters);
            if end > parameters {
                return Err(DeviceError::Length { expected: end, found: parameters });
            }
            words.extend(self.segment(segment)?);
        }
        Ok(words)
    }

    const WORDS: usize = 11;

    fn segment<B: AsRef<Span>>(&self, segment: &Segment<'_, B>) -> Result<[u64; Self::WORDS], DeviceError> {
        let value = segment.value.as_ref();
        value.check(&[self.value], value.len)?;
        let (rows, width, count) = self.rows(segment, value.len)?;
        let mut is_aligned = value.is_aligned() && (self.elements == Elements::All || self.is_in_packs(width));
        let Draws { variable, .. } = segment.draws;
        let mut words = [value.pointer, 0, 0, rows, 0, value.len as u64, count as u64, width as u64, 0, 0, variable];
        if let Some(dtype) = self.gradient {
            let gradient = segment.gradient.map(AsRef::as_ref).ok_or(missing(count))?;
            gradient.check(&[dtype], count)?;
            is_aligned &= gradient.is_aligned();
            words[1] = gradient.pointer;
        }
        if !self.state.is_empty() {
            let state = segment.state.map(AsRef::as_ref).ok_or(missing(value.len))?;
            state.check(&self.state, value.len)?;
            is_aligned &= state.is_aligned();
            words[2] = state.pointer;
            words[4] = state.stride as u64;
        }
        words[8] = segment.parameters as u64;
        words[9] = u64::from(is_aligned);
        Ok(words)
    }

    /// The address of the indices, the width of a row, and the number of elements that the kernel goes through.
    fn rows<B: AsRef<Span>>(&self, segment: &Segment<'_, B>, len: usize) -> Result<(u64, usize, usize), DeviceError> {
        let Some(Rows { indices, width }) = &segment.rows else {
            return if self.elements == Elements::All { Ok((0, 0, len)) } else { Err(missing(len)) };
        };
        let indices = indices.as_ref();
        indices.check(&[DType::F32], indices.len)?;
        let count = indices.len.saturating_mul(*width);
        match self.elements {
            Elements::All => return Ok((0, 0, len)),
            Elements::Rows if *width > 0 && !len.is_multiple_of(*width) => {
                return Err(DeviceError::Length { expected: len.next_multiple_of(*width), found: len });
            }
            Elements::OtherRows if count != len => return Err(DeviceError::Length { expected: len, found: count }),
            Elements::Rows | Elements::OtherRows => {}
        }
        Ok((indices.pointer, *width, count))
    }

    /// Whether no pack has elements of two rows.
    fn is_in_packs(&self, width: usize) -> bool {
        width.is_multiple_of(source::width(self.dtype))
    }

    /// The elements that the kernel goes through in each segment of a table.
    pub fn counts(segments: &[u64]) -> impl Iterator<Item = u64> {
        segments.chunks_exact(Self::WORDS).map(|segment| segment[6])
    }

    /// The parameters of a launch: in the argument if they are the same for all variables, else in a table.
    #[must_use]
    pub fn parameters<B>(&self, segments: &[Segment<'_, B>], parameters: &[f64]) -> Parameters {
        let first = segments.first().map_or(0, |segment| segment.parameters);
        if !self.fits() || segments.iter().any(|segment| segment.parameters != first) {
            let mut table = vec![0; (parameters.len() * self.dtype.bytes()).div_ceil(8)];
            self.write(&mut table, parameters);
            return Parameters::Table(of_step(segments), table);
        }
        let mut argument = Box::new([0; source::ARGUMENT / 8]);
        let (step, places) = argument.split_at_mut(2);
        step.copy_from_slice(&of_step(segments));
        self.write(places, &parameters[first..first + self.parameters]);
        Parameters::Value(argument)
    }

    fn write(&self, words: &mut [u64], numbers: &[f64]) {
        if self.dtype == DType::F32 {
            let places: &mut [f32] = bytemuck::cast_slice_mut(words);
            places.iter_mut().zip(numbers).for_each(|(place, number)| *place = *number as f32);
        } else {
            let places: &mut [f64] = bytemuck::cast_slice_mut(words);
            places.iter_mut().zip(numbers).for_each(|(place, number)| *place = *number);
        }
    }
}

/// The numbers of the step of a launch.
fn of_step<B>(segments: &[Segment<'_, B>]) -> [u64; 2] {
    segments.first().map_or([0; 2], |segment| segment.draws.step)
}

fn missing(expected: usize) -> DeviceError {
    DeviceError::Length { expected, found: 0 }
}

/// The table of chunks: for each block, the segment and the chunk of it, of `size` elements.
#[must_use]
pub fn chunks(counts: impl Iterator<Item = u64>, size: usize) -> Vec<u64> {
    let of_segment =
        |(segment, count): (u64, u64)| (0..count.div_ceil(size as u64)).map(move |chunk| segment | chunk << 32);
    (0..).zip(counts).flat_map(of_segment).collect()
}

/// The chunks of a launch of a program.
#[must_use]
pub fn step_chunks(segments: &[u64]) -> Vec<u64> {
    chunks(Shape::counts(segments), source::CHUNK)
}

/// The table of gradients of one type that are measured.
#[must_use]
pub fn questions<B: AsRef<Span>>(dtype: DType, questions: &[&Question<'_, B>]) -> Vec<u64> {
    let words = questions.iter().flat_map(|question| {
        let gradient = question.gradient.as_ref();
        let limit = question.limit.unwrap_or(f64::INFINITY);
        let limit = if dtype == DType::F64 { limit } else { f64::from(limit as f32) };
        [gradient.pointer, gradient.len as u64, limit.to_bits(), u64::from(gradient.is_aligned())]
    });
    words.collect()
}

/// The parts of gradients that are measured.
#[must_use]
pub fn question_chunks(questions: &[u64]) -> Vec<u64> {
    chunks(questions.chunks_exact(4).map(|question| question[1]), source::PART)
}

/// The measurements of parts, from the 2 words that the kernel writes for each.
#[must_use]
pub fn parts(words: &[u64]) -> Vec<Part> {
    let part = |words: &[u64]| Part {
        sum: f64::from_bits(words[0]),
        exponent: words[1] as u32 as i32,
        is_finite: words[1] >> 32 != 0,
    };
    words.chunks_exact(2).map(part).collect()
}
