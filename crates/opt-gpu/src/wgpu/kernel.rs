//! Compiled kernels, and the arrays that they need.

use ::wgpu::{
    BindGroupLayout, BindGroupLayoutDescriptor, BindGroupLayoutEntry, BindingType, BufferBindingType, BufferSize,
    ComputePipeline, ComputePipelineDescriptor, PipelineCompilationOptions, PipelineLayoutDescriptor,
    ShaderModuleDescriptor, ShaderSource, ShaderStages,
};
use opt_core::state::DType;
use opt_core::trace::Node;

use super::WgpuDevice;
use super::bindings::{Bindings, UNIFORM_BYTES};
use super::wgsl;
use crate::device::{DeviceError, Elements, Program};

/// A compiled kernel of [`WgpuDevice`].
#[derive(Debug)]
pub struct WgpuKernel {
    pub(super) bindings: Bindings,
    pub(super) elements: Elements,
    /// The elements that a thread updates.
    pub(super) pack: usize,
    /// The types of the variable, of its gradient, and of the arrays of the state.
    pub(super) value: DType,
    pub(super) gradient: DType,
    pub(super) state: Vec<DType>,
    /// The number of parameters.
    pub(super) parameters: usize,
    pub(super) pipeline: Pipeline,
}

/// A pipeline and its layout.
#[derive(Debug)]
pub(super) struct Pipeline {
    pub(super) pipeline: ComputePipeline,
    pub(super) layout: BindGroupLayout,
}

impl WgpuDevice {
    pub(super) fn compile_program(&self, program: &Program) -> Result<WgpuKernel, DeviceError> {
        let bindings = Bindings::of(program);
        let parameter = |node: &Node| if let Node::Parameter(number) = node { Some(*number as usize) } else { None };
        let parameters = program.graph.nodes.iter().filter_map(parameter).max().map_or(0, |last| last + 1);
        let pipeline = self.pipeline(wgsl::print(program, &bindings), "step", bindings.buffers())?;
        let Program { elements, value, gradient, ref state, .. } = *program;
        let state = state.iter().map(|(_, dtype)| *dtype).collect();
        Ok(WgpuKernel { bindings, elements, pack: wgsl::pack(program), value, gradient, state, parameters, pipeline })
    }

    /// Compiles a shader whose storage buffers are at these places; the others are read.
    pub(super) fn pipeline(
        &self,
        source: String,
        function: &str,
        buffers: impl Iterator<Item = (u32, bool)>,
    ) -> Result<Pipeline, DeviceError> {
        let buffers = buffers.map(|(place, is_changed)| {
            entry(place, BufferBindingType::Storage { read_only: !is_changed }, false, None)
        });
        let uniform = entry(Bindings::UNIFORM, BufferBindingType::Uniform, true, BufferSize::new(UNIFORM_BYTES as u64));
        let entries: Vec<BindGroupLayoutEntry> = [uniform].into_iter().chain(buffers).collect();
        let device = self.device();
        let compiled = self.guarded("compile a kernel", || {
            let module = device.create_shader_module(ShaderModuleDescriptor {
                label: None,
                source: ShaderSource::Wgsl(source.into()),
            });
            let layout = device.create_bind_group_layout(&BindGroupLayoutDescriptor { label: None, entries: &entries });
            let layouts = PipelineLayoutDescriptor {
                bind_group_layouts: &[Some(&layout)],
                ..PipelineLayoutDescriptor::default()
            };
            let pipeline = device.create_compute_pipeline(&ComputePipelineDescriptor {
                label: None,
                layout: Some(&device.create_pipeline_layout(&layouts)),
                module: &module,
                entry_point: Some(function),
                compilation_options: PipelineCompilationOptions::default(),
                cache: None,
            });
            Pipeline { pipeline, layout }
        });
        compiled.map_err(|error| DeviceError::Compile { message: error.to_string() })
    }
}

fn entry(
    binding: u32,
    ty: BufferBindingType,
    has_dynamic_offset: bool,
    min_binding_size: Option<BufferSize>,
) -> BindGroupLayoutEntry {
    let ty = BindingType::Buffer { ty, has_dynamic_offset, min_binding_size };
    BindGroupLayoutEntry { binding, visibility: ShaderStages::COMPUTE, ty, count: None }
}
