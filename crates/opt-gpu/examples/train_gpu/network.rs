//! The network of `model.rs` on the device: its weights, its gradients, and the kernels that compute them.

use opt_gpu::device::{Device, DeviceError};
use opt_gpu::wgpu::{WgpuBuffer, WgpuDevice};
use opt_gpu::{Error, GpuVariable};
use wgpu::{
    BindGroup, BindGroupDescriptor, BindGroupEntry, Buffer, BufferDescriptor, BufferUsages, ComputePassDescriptor,
    ComputePipeline, ComputePipelineDescriptor, PipelineCompilationOptions, ShaderModuleDescriptor, ShaderSource,
};

use crate::digits::{CLASSES, Digits, Images, PIXELS};
use crate::model::Evaluation;
use crate::random::Random;

const HIDDEN: usize = 32;

/// The names and shapes of the variables, in the order of the bindings of the kernels.
const VARIABLES: [(&str, &[usize]); 4] = [
    ("hidden.kernel", &[PIXELS, HIDDEN]),
    ("hidden.bias", &[HIDDEN]),
    ("output.kernel", &[HIDDEN, CLASSES]),
    ("output.bias", &[CLASSES]),
];

/// The entry points of the forward pass and of the backward pass: the bindings of each, and the number of invocations
/// for each image, or in total.
const FORWARD: [(&str, &[u32], Count); 2] = [
    ("compute_h", &[0, 1, 2, 4, 5, 8], Count::PerImage(HIDDEN)),
    ("compute_scores", &[0, 6, 7, 8, 9], Count::PerImage(1)),
];
const BACKWARD: [(&str, &[u32], Count); 4] = [
    ("compute_dz", &[0, 1, 3, 9, 10], Count::PerImage(CLASSES)),
    ("compute_dh", &[0, 6, 8, 10, 11], Count::PerImage(HIDDEN)),
    ("compute_output_gradients", &[0, 8, 10, 14, 15], Count::Total((HIDDEN + 1) * CLASSES)),
    ("compute_hidden_gradients", &[0, 1, 2, 11, 12, 13], Count::Total((PIXELS + 1) * HIDDEN)),
];

#[derive(Debug, Clone, Copy)]
enum Count {
    PerImage(usize),
    Total(usize),
}

/// An entry point and its buffers.
struct Kernel {
    pipeline: ComputePipeline,
    bindings: BindGroup,
    count: Count,
}

/// The network, and the images.
pub(crate) struct Network {
    device: WgpuDevice,
    values: Vec<WgpuBuffer>,
    gradients: Vec<WgpuBuffer>,
    batch: Buffer,
    rows: WgpuBuffer,
    scores: WgpuBuffer,
    forward: Vec<Kernel>,
    backward: Vec<Kernel>,
}

impl Network {
    /// The weights are those of the network on the CPU; training images come first, then test images.
    pub(crate) fn new(device: &WgpuDevice, digits: &Digits, random: &mut Random) -> Result<Self, DeviceError> {
        let images = || [&digits.training, &digits.test].into_iter();
        let count = images().map(Images::len).sum();
        let pixels: Vec<f32> = images().flat_map(|images| images.pixels.iter().copied()).collect();
        // Buffers are of f32. Here are whole numbers, bit for bit.
        let labels: Vec<f32> =
            images().flat_map(|images| images.labels.iter().map(|&label| f32::from_bits(label as u32))).collect();

        let zeros = |len: usize| device.upload(&vec![0.0_f32; len]);
        let mut values = Vec::new();
        for (_, shape) in VARIABLES {
            values.push(match shape {
                // Glorot and Bengio (2010).
                &[inputs, outputs] => {
                    let limit = (6.0 / (inputs + outputs) as f32).sqrt();
                    device.upload(&(0..inputs * outputs).map(|_| random.within(limit)).collect::<Vec<f32>>())?
                }
                _ => zeros(shape.iter().product())?,
            });
        }
        let gradients: Vec<_> =
            VARIABLES.iter().map(|(_, shape)| zeros(shape.iter().product())).collect::<Result<_, _>>()?;
        let usage = BufferUsages::UNIFORM | BufferUsages::COPY_DST;
        let batch = device.device().create_buffer(&BufferDescriptor {
            label: None,
            size: 16,
            usage,
            mapped_at_creation: false,
        });
        let [rows, pixels, labels] = [zeros(count)?, device.upload(&pixels)?, device.upload(&labels)?];
        let [h, scores, dz, dh] = [HIDDEN, CLASSES, CLASSES, HIDDEN].map(|width| zeros(count * width));
        let (h, scores, dz, dh) = (h?, scores?, dz?, dh?);

        let before = [&rows, &pixels, &labels].into_iter();
        let buffers = before.chain(&values).chain([&h, &scores, &dz, &dh]).chain(&gradients).map(WgpuBuffer::as_wgpu);
        let buffers: Vec<&Buffer> = [&batch].into_iter().chain(buffers).collect();
        let source = ShaderSource::Wgsl(include_str!("network.wgsl").into());
        let module = device.device().create_shader_module(ShaderModuleDescriptor { label: None, source });
        let kernel = |&(entry, bindings, count): &(&str, &[u32], Count)| {
            let pipeline = device.device().create_compute_pipeline(&ComputePipelineDescriptor {
                label: Some(entry),
                layout: None,
                module: &module,
                entry_point: Some(entry),
                compilation_options: PipelineCompilationOptions::default(),
                cache: None,
            });
            let entry = |&binding| BindGroupEntry { binding, resource: buffers[binding as usize].as_entire_binding() };
            let bindings = device.device().create_bind_group(&BindGroupDescriptor {
                label: None,
                layout: &pipeline.get_bind_group_layout(0),
                entries: &bindings.iter().map(entry).collect::<Vec<_>>(),
            });
            Kernel { pipeline, bindings, count }
        };
        let (forward, backward) = (FORWARD.iter().map(kernel).collect(), BACKWARD.iter().map(kernel).collect());
        Ok(Self { device: device.clone(), values, gradients, batch, rows, scores, forward, backward })
    }

    /// The variables, without gradients.
    pub(crate) fn variables(&self) -> impl Iterator<Item = GpuVariable<'_, WgpuDevice>> {
        let variable = |(&(name, shape), value)| GpuVariable::new(name, value).shape(shape);
        VARIABLES.iter().zip(&self.values).map(variable)
    }

    /// The variables with the gradients of the last batch.
    pub(crate) fn variables_with_gradients(&self) -> impl Iterator<Item = GpuVariable<'_, WgpuDevice>> {
        self.variables().zip(&self.gradients).map(|(variable, gradient)| variable.gradient(gradient))
    }

    /// Computes the gradients of the loss over some training images.
    pub(crate) fn compute_gradients(&self, rows: &[usize]) {
        self.run(rows, self.forward.iter().chain(&self.backward));
    }

    /// The loss over the training images, and the fraction of the test images that is recognised.
    pub(crate) fn evaluate(&self, digits: &Digits) -> Result<Evaluation, Error> {
        let (training, test) = (digits.training.len(), digits.test.len());
        self.run(&(0..training + test).collect::<Vec<_>>(), self.forward.iter());
        let scores: Vec<f32> = self.device.download(&self.scores, 0)?;
        let (of_training, of_test) = scores.split_at(training * CLASSES);
        let labelled = of_training.chunks(CLASSES).zip(&digits.training.labels);
        let loss: f64 = labelled.map(|(scores, &label)| -f64::from(scores[label])).sum();
        let is_right = |&(scores, &label): &(&[f32], &usize)| {
            scores.iter().enumerate().all(|(class, &score)| class == label || score < scores[label])
        };
        let right = of_test.chunks(CLASSES).zip(&digits.test.labels).filter(is_right).count();
        Ok(Evaluation { loss: loss / training as f64, accuracy: right as f64 / test as f64 })
    }

    /// Runs kernels over some images.
    fn run<'k>(&self, rows: &[usize], kernels: impl Iterator<Item = &'k Kernel>) {
        let images: Vec<u32> = rows.iter().map(|&row| row as u32).collect();
        let queue = self.device.queue();
        queue.write_buffer(self.rows.as_wgpu(), 0, bytemuck::cast_slice(&images));
        queue.write_buffer(&self.batch, 0, bytemuck::cast_slice(&[rows.len() as u32, 0, 0, 0]));
        let mut encoder = self.device.device().create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        let mut pass = encoder.begin_compute_pass(&ComputePassDescriptor::default());
        for Kernel { pipeline, bindings, count } in kernels {
            let invocations = match count {
                Count::PerImage(width) => rows.len() * width,
                Count::Total(total) => *total,
            };
            pass.set_pipeline(pipeline);
            pass.set_bind_group(0, bindings, &[]);
            pass.dispatch_workgroups(invocations.div_ceil(64) as u32, 1, 1);
        }
        drop(pass);
        queue.submit([encoder.finish()]);
    }
}
