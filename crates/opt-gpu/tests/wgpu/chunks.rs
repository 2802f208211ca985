//! Variables that are cut into chunks, and many of them in one launch.

use opt_gpu::WgpuDevice;
use opt_gpu::device::Elements;
use pollster::block_on;
use wgpu::{DeviceDescriptor, Instance, InstanceDescriptor, RequestAdapterOptions};

use crate::device;
use crate::recorded::{Recorded, recorded};
use crate::trial::Tried;

/// The step with the most arrays.
fn largest(elements: Elements) -> Recorded {
    let steps = recorded().into_iter().filter(|(of_step, _)| *of_step == elements).map(|(_, step)| step);
    steps.max_by_key(|(_, update, _)| (update.graph.arrays().len(), update.graph.nodes.len())).unwrap()
}

fn check(device: &WgpuDevice, elements: Elements, shapes: &[(usize, usize)]) {
    let (name, update, slots) = largest(elements);
    let tried = Tried::new(device, &name, update, slots, elements);
    let variables = (1..).zip(shapes).map(|(seed, (rows, width))| tried.variable(device, seed, *rows, *width));
    tried.check(device, &variables.collect::<Vec<_>>());
}

const ELEMENTS: [Elements; 3] = [Elements::All, Elements::Rows, Elements::OtherRows];

#[test]
fn chunks_of_any_length_give_the_same_numbers() {
    let Some(device) = device() else { return };
    for elements in ELEMENTS {
        for chunk in [1, 600, 1_024] {
            let device = device.clone().with_chunks_of(chunk);
            check(
                &device,
                elements,
                &[(256, 1), (43, 3), (129, 5), (1, 1_700), (64, 64), (0, 3), (3, 0), (1, 1), (400, 1), (257, 3)],
            );
        }
    }
}

#[test]
fn many_variables_have_parameters_of_their_own() {
    let Some(device) = device() else { return };
    let shapes: Vec<(usize, usize)> = (0..500).map(|number| (number % 37, number % 5)).collect();
    for elements in ELEMENTS {
        check(&device, elements, &shapes);
    }
}

#[test]
fn variables_may_have_millions_of_elements() {
    let Some(device) = device() else { return };
    check(&device.with_chunks_of(4_000_000), Elements::All, &[(4_194_305, 1)]);
}

#[test]
fn default_limits_are_enough() {
    let Some(device) = device() else { return };
    let instance = Instance::new(InstanceDescriptor::new_without_display_handle());
    let adapter = block_on(instance.request_adapter(&RequestAdapterOptions::default())).unwrap();
    let (opened, queue) = block_on(adapter.request_device(&DeviceDescriptor::default())).unwrap();
    let opened = WgpuDevice::from_wgpu(opened, queue);
    assert_eq!(opened.adapter_name(), device.adapter_name());
    for elements in ELEMENTS {
        check(&opened, elements, &[(43, 3), (1_000, 7)]);
    }
}
