//! Launches of kernels, cut into dispatches.
//!
//! A dispatch updates one chunk of a variable. With the rows of a sparse gradient, it visits all elements of the
//! gradient, or as many as a dispatch can take, and leaves out those of other chunks.

use std::ops::Range;

use ::wgpu::{BindGroupEntry, BindingResource};
use opt_core::state::DType;
use opt_core::trace::Draws;

use super::WgpuDevice;
use super::bindings::{Bindings, Uniform};
use super::buffer::{WgpuBuffer, ranges};
use super::errors::failed;
use super::kernel::WgpuKernel;
use super::limits::{ALIGNMENT, THREADS};
use super::scratch::Dispatch;
use crate::device::{DeviceError, Elements, Launch, Rows, Segment};

const RUN: &str = "run kernels";

impl WgpuDevice {
    pub(super) fn run_launches(&self, launches: &[Launch<'_, Self>]) -> Result<(), DeviceError> {
        let mut parameters: Vec<f32> = Vec::new();
        let mut dispatches = Vec::new();
        for launch in launches {
            let first = parameters.len();
            parameters.extend(launch.parameters.iter().map(|parameter| *parameter as f32));
            for segment in &launch.segments {
                if segment.parameters + launch.kernel.parameters > launch.parameters.len() {
                    return Err(failed(RUN, format_args!("a kernel needs {} parameters", launch.kernel.parameters)));
                }
                let arrays = Arrays::of(launch.kernel, segment)?;
                arrays.dispatch(first + segment.parameters, &mut dispatches);
            }
        }
        if dispatches.is_empty() {
            return Ok(());
        }
        self.guarded(RUN, || self.submit(&dispatches, &parameters))
    }
}

/// The arrays that a kernel needs of a segment. They have the right lengths.
struct Arrays<'a> {
    kernel: &'a WgpuKernel,
    value: &'a WgpuBuffer,
    gradient: Option<&'a WgpuBuffer>,
    state: Option<&'a WgpuBuffer>,
    rows: Option<&'a Rows<'a, WgpuBuffer>>,
    draws: Draws,
}

impl<'a> Arrays<'a> {
    fn of(kernel: &'a WgpuKernel, segment: &'a Segment<'_, WgpuBuffer>) -> Result<Self, DeviceError> {
        let Bindings { gradient, state, rows, .. } = kernel.bindings;
        let this = Self {
            kernel,
            value: segment.value,
            gradient: needed(gradient, segment.gradient, "a gradient")?,
            state: needed(state.is_some(), segment.state, "state")?,
            rows: needed(rows, segment.rows.as_ref(), "rows")?,
            draws: segment.draws,
        };
        this.check()?;
        Ok(this)
    }

    fn check(&self) -> Result<(), DeviceError> {
        let WgpuKernel { value, gradient, state, .. } = self.kernel;
        let len = self.value.len();
        let of_gradient = if self.kernel.elements == Elements::Rows { self.visited() } else { len };
        check_arrays(self.value, &[*value], len)?;
        self.gradient.map_or(Ok(()), |array| check_arrays(array, &[*gradient], of_gradient))?;
        self.state.map_or(Ok(()), |arrays| check_arrays(arrays, state, len))?;
        if let Some(rows) = self.rows {
            check_arrays(rows.indices, &[DType::F32], rows.indices.len())?;
            if u32::try_from(len.max(self.visited())).is_err() {
                return Err(failed(RUN, "a variable with rows has more than 2^32 - 1 elements"));
            }
            if self.kernel.elements == Elements::OtherRows && self.visited() != len {
                return Err(DeviceError::Length { expected: len, found: self.visited() });
            }
        }
        Ok(())
    }

    /// The number of elements of the rows that are given.
    fn visited(&self) -> usize {
        self.rows.map_or(0, |rows| rows.indices.len() * rows.width)
    }

    /// Adds the dispatches that update all chunks.
    fn dispatch(&self, parameters: usize, dispatches: &mut Vec<Dispatch<'a>>) {
        // Chunks of the state are not longer than those of the variable.
        for chunk in self.state.unwrap_or(self.value).chunks() {
            if self.kernel.elements == Elements::Rows {
                let parts = ranges(0..self.visited(), self.value.chunk_len());
                dispatches.extend(parts.map(|part| self.dispatch_of(&chunk, &part, parameters)));
            } else {
                dispatches.push(self.dispatch_of(&chunk, &chunk, parameters));
            }
        }
    }

    /// The dispatch that visits these elements, and updates those in a chunk.
    fn dispatch_of(&self, chunk: &Range<usize>, visited: &Range<usize>, parameters: usize) -> Dispatch<'a> {
        let mut buffers = Vec::with_capacity(5);
        let mut bind = |binding: u32, resource: BindingResource<'a>| buffers.push(BindGroupEntry { binding, resource });
        if self.kernel.bindings.value.is_some() {
            bind(Bindings::VALUE, self.value.binding(chunk));
        }
        if let Some(gradient) = self.gradient {
            bind(Bindings::GRADIENT, gradient.binding(visited));
        }
        if let Some(state) = self.state {
            bind(Bindings::STATE, state.binding(chunk));
        }
        let width = self.rows.map_or(1, |rows| rows.width);
        let first_row = visited.start / width / ALIGNMENT * ALIGNMENT;
        if let Some(rows) = self.rows {
            bind(Bindings::ROWS, rows.indices.binding(&(first_row..visited.end.div_ceil(width))));
        }
        // `Dispatch` in `head.wgsl`.
        let numbers = [visited.len(), 0, parameters, chunk.start, chunk.len(), visited.start, width, first_row];
        let mut uniform = Uniform::default();
        uniform[..8].copy_from_slice(&numbers.map(|number| number as u32));
        uniform[8..14].copy_from_slice(self.draws.pairs(chunk.start).as_flattened());
        Dispatch {
            pipeline: &self.kernel.pipeline,
            workgroups: visited.len().div_ceil(THREADS * self.kernel.pack),
            uniform,
            has_parameters: self.kernel.bindings.parameters,
            buffers,
        }
    }
}

/// An array, if the kernel needs it.
fn needed<V>(is_needed: bool, array: Option<V>, name: &str) -> Result<Option<V>, DeviceError> {
    match array {
        None if is_needed => Err(failed(RUN, format_args!("a kernel needs {name}"))),
        array => Ok(array.filter(|_| is_needed)),
    }
}

fn check_arrays(buffer: &WgpuBuffer, dtypes: &[DType], expected: usize) -> Result<(), DeviceError> {
    if buffer.dtypes() != dtypes {
        return Err(failed(RUN, format_args!("a buffer has the arrays {:?}, not {dtypes:?}", buffer.dtypes())));
    }
    let found = buffer.len();
    if found == expected { Ok(()) } else { Err(DeviceError::Length { expected, found }) }
}
