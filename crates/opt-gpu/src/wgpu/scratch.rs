//! Dispatches, and the memory in which their numbers reach the device. It is kept and reused: what is written into it
//! later comes after everything that was submitted.

use std::sync::PoisonError;

use ::wgpu::{
    BindGroupDescriptor, BindGroupEntry, BindingResource, Buffer, BufferBinding, BufferDescriptor, BufferSize,
    BufferUsages, CommandEncoder, CommandEncoderDescriptor, ComputePassDescriptor,
};

use super::WgpuDevice;
use super::bindings::{Bindings, UNIFORM_BYTES, Uniform};
use super::kernel::Pipeline;
use super::limits::WORD;

/// A dispatch of a pipeline.
#[derive(Debug)]
pub(super) struct Dispatch<'a> {
    pub(super) pipeline: &'a Pipeline,
    pub(super) workgroups: usize,
    pub(super) uniform: Uniform,
    /// Whether it reads parameters.
    pub(super) has_parameters: bool,
    /// The storage buffers, but for the parameters.
    pub(super) buffers: Vec<BindGroupEntry<'a>>,
}

/// The memory.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    uniforms: Option<Buffer>,
    parameters: Option<Buffer>,
}

impl WgpuDevice {
    /// Submits dispatches, one after the other.
    pub(super) fn submit(&self, dispatches: &[Dispatch<'_>], parameters: &[f32]) {
        // Nobody may write other numbers before these dispatches are submitted.
        let mut scratch = self.handles.scratch.lock().unwrap_or_else(PoisonError::into_inner);
        let encoder = self.encode(&mut scratch, dispatches, parameters);
        self.queue().submit([encoder.finish()]);
    }

    /// Writes the numbers of dispatches, and records the dispatches.
    fn encode(&self, scratch: &mut Scratch, dispatches: &[Dispatch<'_>], parameters: &[f32]) -> CommandEncoder {
        let distance = UNIFORM_BYTES.next_multiple_of(self.limits.uniform_alignment);
        let mut bytes = vec![0; distance * dispatches.len()];
        for (bytes, dispatch) in bytes.chunks_mut(distance).zip(dispatches) {
            bytes[..UNIFORM_BYTES].copy_from_slice(bytemuck::bytes_of(&dispatch.uniform));
        }
        let uniforms = self.filled(&mut scratch.uniforms, BufferUsages::UNIFORM, &bytes);
        let parameters = self.filled(&mut scratch.parameters, BufferUsages::STORAGE, bytemuck::cast_slice(parameters));
        let size = BufferSize::new(UNIFORM_BYTES as u64);
        let uniform = BindingResource::Buffer(BufferBinding { buffer: uniforms, offset: 0, size });
        let uniform = BindGroupEntry { binding: Bindings::UNIFORM, resource: uniform };
        let parameters = BindGroupEntry { binding: Bindings::PARAMETERS, resource: parameters.as_entire_binding() };

        let mut encoder = self.device().create_command_encoder(&CommandEncoderDescriptor::default());
        let mut pass = encoder.begin_compute_pass(&ComputePassDescriptor::default());
        for (number, dispatch) in dispatches.iter().enumerate() {
            let mut entries = dispatch.buffers.clone();
            entries.push(uniform.clone());
            if dispatch.has_parameters {
                entries.push(parameters.clone());
            }
            let Pipeline { pipeline, layout } = dispatch.pipeline;
            let group =
                self.device().create_bind_group(&BindGroupDescriptor { label: None, layout, entries: &entries });
            pass.set_pipeline(pipeline);
            pass.set_bind_group(0, &group, &[(number * distance) as u32]);
            pass.dispatch_workgroups(dispatch.workgroups as u32, 1, 1);
        }
        drop(pass);
        encoder
    }

    /// A buffer with these bytes at its start; a larger one if they do not fit.
    fn filled<'a>(&self, buffer: &'a mut Option<Buffer>, usage: BufferUsages, bytes: &[u8]) -> &'a Buffer {
        let needed = bytes.len().max(WORD) as u64;
        let old = buffer.take().filter(|buffer| buffer.size() >= needed);
        let buffer = buffer.insert(old.unwrap_or_else(|| {
            let usage = usage | BufferUsages::COPY_DST;
            let size = needed.next_power_of_two();
            self.device().create_buffer(&BufferDescriptor { label: None, size, usage, mapped_at_creation: false })
        }));
        self.queue().write_buffer(buffer, 0, bytes);
        buffer
    }
}
