//! Sums of squares of gradients.
//!
//! The kernel adds squares in whole numbers of 96 bits: see `measure.wgsl`. The host adds the elements above the limit.

use ::wgpu::{BindGroupEntry, BufferDescriptor, BufferUsages};
use opt_core::state::DType;

use super::WgpuDevice;
use super::bindings::{Bindings, Uniform};
use super::buffer::{WgpuBuffer, ranges};
use super::errors::failed;
use super::kernel::Pipeline;
use super::limits::{THREADS, WORD};
use super::scratch::Dispatch;
use crate::device::{DeviceError, Part, Question};

/// The elements of a part.
const PART: usize = 64 * THREADS;

/// The numbers that the kernel writes for a part.
const WORDS: usize = 6;

/// Flags of the kernel.
const HAS_NAN: u32 = 1;
const HAS_INFINITE: u32 = 2;

const INFINITE: u32 = f32::INFINITY.to_bits();

const MEASURE: &str = "measure gradients";

impl WgpuDevice {
    pub(super) fn measure_gradients(
        &self,
        questions: &[Question<'_, WgpuBuffer>],
    ) -> Result<Vec<Vec<Part>>, DeviceError> {
        if let Some(question) = questions.iter().find(|question| question.gradient.arrays() != 1) {
            return Err(failed(MEASURE, format_args!("a gradient has {} arrays", question.gradient.arrays())));
        }
        let counts = || questions.iter().map(|question| question.gradient.len().div_ceil(PART));
        let words = self.measured_words(questions, counts().sum())?;
        let mut words = words.chunks_exact(WORDS);
        let answer = |(question, count): (&Question<'_, WgpuBuffer>, usize)| {
            words.by_ref().take(count).map(|words| part(words, question.limit)).collect()
        };
        Ok(questions.iter().zip(counts()).map(answer).collect())
    }

    /// What the kernel writes for all parts of all gradients.
    fn measured_words(&self, questions: &[Question<'_, WgpuBuffer>], parts: usize) -> Result<Vec<u32>, DeviceError> {
        if parts == 0 {
            return Ok(Vec::new());
        }
        let pipelines: Vec<&Pipeline> =
            questions.iter().map(|question| self.pipeline_of_measure(question.gradient)).collect::<Result<_, _>>()?;
        let size = parts * WORDS * size_of::<u32>();
        let answers = self.guarded(MEASURE, || {
            let usage = BufferUsages::STORAGE | BufferUsages::COPY_SRC;
            let descriptor = BufferDescriptor { label: None, size: size as u64, usage, mapped_at_creation: false };
            let answers = self.device().create_buffer(&descriptor);
            let dispatches = self.measure_dispatches(questions, &answers, &pipelines);
            self.submit(&dispatches, &[]);
            answers
        })?;
        let mut bytes = Vec::with_capacity(size);
        self.read_bytes(&answers, 0, size, &mut bytes)?;
        Ok(bytemuck::pod_collect_to_vec(&bytes))
    }

    /// The pipeline that measures a gradient, by its type.
    fn pipeline_of_measure(&self, gradient: &WgpuBuffer) -> Result<&Pipeline, DeviceError> {
        let (kind, magnitude) = match gradient.dtypes()[0] {
            DType::Bf16 => (1, "(half_of(i) & 0x7fffu) << 16u"),
            DType::F16 => (2, "magnitude_of_f16(half_of(i) & 0x7fffu)"),
            _ => (0, "g[i] & 0x7fffffffu"),
        };
        let of_measure = &self.handles.measure[kind];
        if let Some(pipeline) = of_measure.get() {
            return Ok(pipeline);
        }
        let buffers = [(Bindings::VALUE, true), (Bindings::GRADIENT, false)];
        let source = include_str!("measure.wgsl").replace("MAGNITUDE", magnitude);
        let pipeline = self.pipeline(source, "measure", buffers.into_iter())?;
        Ok(of_measure.get_or_init(|| pipeline))
    }

    fn measure_dispatches<'a>(
        &self,
        questions: &'a [Question<'_, WgpuBuffer>],
        answers: &'a ::wgpu::Buffer,
        pipelines: &[&'a Pipeline],
    ) -> Vec<Dispatch<'a>> {
        let elements_at_once = (self.limits.chunk(WORD) / PART).clamp(1, self.limits.workgroups) * PART;
        let mut first_part = 0;
        let mut dispatches = Vec::new();
        for (Question { gradient, limit }, pipeline) in questions.iter().zip(pipelines) {
            for elements in ranges(0..gradient.len(), elements_at_once) {
                let bind = |binding, resource| BindGroupEntry { binding, resource };
                let workgroups = elements.len().div_ceil(PART);
                // `Dispatch` in `measure.wgsl`.
                let mut uniform = Uniform::default();
                uniform[..4].copy_from_slice(&[elements.len() as u32, 0, limit_bits(*limit), first_part as u32]);
                let buffers = vec![
                    bind(Bindings::VALUE, answers.as_entire_binding()),
                    bind(Bindings::GRADIENT, gradient.binding(&elements)),
                ];
                dispatches.push(Dispatch { pipeline, workgroups, uniform, has_parameters: false, buffers });
                first_part += workgroups;
            }
        }
        dispatches
    }
}

/// The bits of the largest number of `f32` that is not above the limit.
fn limit_bits(limit: Option<f64>) -> u32 {
    let Some(limit) = limit else { return INFINITE };
    let nearest = limit as f32;
    if f64::from(nearest) > limit { nearest.next_down().to_bits() } else { nearest.to_bits() }
}

/// The measurement of a part, from the words of the kernel.
fn part(words: &[u32], limit: Option<f64>) -> Part {
    let &[low, middle, high, exponent, flags, above] = words else { unreachable!("a part has {WORDS} words") };
    let is_finite = flags == 0;
    if flags & HAS_NAN != 0 {
        return Part { sum: f64::NAN, exponent: 0, is_finite };
    }
    let limit = limit.unwrap_or(f64::INFINITY);
    if flags & HAS_INFINITE != 0 && limit == f64::INFINITY {
        return Part { sum: f64::INFINITY, exponent: 0, is_finite };
    }
    let whole = u128::from(high) << 64 | u128::from(middle) << 32 | u128::from(low);
    let below = Part { sum: whole as f64 * 2_f64.powi(-62), exponent: exponent as i32 - 127, is_finite };
    if above == 0 { below } else { with_elements_above(below, f64::from(above), limit) }
}

/// Adds elements that count as the limit.
fn with_elements_above(below: Part, count: f64, limit: f64) -> Part {
    // Those below are not larger than the limit, so the exponent of the limit is right for all.
    let exponent = ((limit.to_bits() >> 52) as i32 - 1023).max(-149);
    let scaled = limit * 2_f64.powi(-exponent);
    let sum = below.sum * 4_f64.powi(below.exponent - exponent) + count * scaled * scaled;
    Part { sum, exponent, ..below }
}
