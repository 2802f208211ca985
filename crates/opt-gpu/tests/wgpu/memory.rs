//! Memory: writes, reads, refusals.

use opt_conformance::problem::Rng;
use opt_core::state::DType;
use opt_core::trace::Draws;
use opt_gpu::device::{Device, Elements, Launch, Question, Rows, Segment};
use opt_gpu::{DeviceError, WgpuDevice};
use wgpu::{BufferDescriptor, BufferUsages};

use crate::device;
use crate::recorded::recorded;
use crate::trial::{numbers, program};

#[test]
fn arrays_come_back_as_they_were_written() {
    let Some(device) = device() else { return };
    for (chunk, arrays, len) in [(256, 3, 1_000), (256, 1, 1_000), (1 << 20, 12, 77), (256, 2, 512), (256, 2, 0)] {
        let device = device.clone().with_chunks_of(chunk);
        let buffer = device.allocate(&vec![DType::F32; arrays], len).unwrap();
        let other = device.allocate(&vec![DType::F32; arrays], len).unwrap();
        let written: Vec<Vec<f32>> = (0..arrays).map(|array| numbers(&mut Rng(array as u64), len)).collect();
        for (array, written) in written.iter().enumerate() {
            assert_eq!(device.download::<f32>(&buffer, array).unwrap(), vec![0.0; len]);
            device.write(&buffer, array, bytemuck::cast_slice(written)).unwrap();
        }
        for (array, written) in written.iter().enumerate() {
            assert_eq!(device.read(&buffer, array).unwrap(), bytemuck::cast_slice::<f32, u8>(written));
            assert_eq!(device.download::<f32>(&other, array).unwrap(), vec![0.0; len]);
        }
        assert_eq!((device.len(&buffer), device.dtype(&buffer, 0)), (len, DType::F32));
    }
}

/// Each array ends in a word of its own.
#[test]
fn arrays_of_several_types_come_back() {
    let Some(device) = device() else { return };
    let device = device.with_chunks_of(256);
    let dtypes = [DType::I8, DType::Bf16, DType::F32, DType::I8, DType::F16];
    for len in [1, 255, 256, 257, 259, 1_026] {
        let buffer = device.allocate(&dtypes, len).unwrap();
        let mut rng = Rng(len as u64);
        let bytes = |dtype: &DType| (0..len * dtype.bytes()).map(|_| rng.bits() as u8).collect();
        let written: Vec<Vec<u8>> = dtypes.iter().map(bytes).collect();
        for (array, written) in written.iter().enumerate() {
            device.write(&buffer, array, written).unwrap();
        }
        for (array, written) in written.iter().enumerate() {
            assert_eq!(device.read(&buffer, array).unwrap(), *written, "array {array} of {len}");
        }
    }
}

#[test]
fn arrays_larger_than_a_copy_come_back() {
    let Some(device) = device() else { return };
    let written: Vec<f32> = (0..(1 << 24) + 5).map(|number| number as f32).collect();
    let buffer = device.upload(&written).unwrap();
    assert!(device.download::<f32>(&buffer, 0).unwrap() == written);
}

#[test]
fn other_element_types_and_lengths_are_refused() {
    let Some(device) = device() else { return };
    for dtype in [DType::F64, DType::Bf16, DType::F16, DType::I8] {
        let refusal = DeviceError::Unsupported { device: "wgpu".to_owned(), dtype };
        assert_eq!(device.check(dtype), Err(refusal.clone()));
        // Numbers of fewer bits are only stored.
        assert_eq!(device.allocate(&[DType::F32, dtype], 1).err(), Some(refusal).filter(|_| dtype == DType::F64));
    }
    let buffer = device.upload(&[1.0_f32, 2.0]).unwrap();
    assert_eq!(device.write(&buffer, 0, &[0; 12]), Err(DeviceError::Length { expected: 2, found: 3 }));
    assert_eq!(device.download::<f64>(&buffer, 0), Err(DeviceError::Type { expected: DType::F64, found: DType::F32 }));
    assert!(matches!(device.read(&buffer, 1), Err(DeviceError::Failed { .. })));
    assert!(matches!(device.download::<f32>(&buffer, 1), Err(DeviceError::Failed { .. })));
    let (_, (_, mut update, average)) = recorded().swap_remove(0);
    update.graph.dtype = DType::F64;
    let program = program(&update, average, Elements::All);
    assert!(matches!(device.compile(&program), Err(DeviceError::Unsupported { .. })));
}

#[test]
fn too_much_memory_is_an_error() {
    let Some(device) = device() else { return };
    let error = device.allocate(&[DType::F32], 1 << 45).unwrap_err();
    assert!(matches!(error, DeviceError::Failed { action: "allocate memory", .. }), "{error}");
    // The device still works.
    assert_eq!(device.download::<f32>(&device.upload(&[1.0_f32]).unwrap(), 0).unwrap(), [1.0]);
}

#[test]
fn a_lost_device_is_an_error() {
    if device().is_none() {
        return;
    }
    // A device that it has not opened itself does not tell.
    let device = WgpuDevice::new().unwrap();
    let buffer = device.upload(&[1.0_f32]).unwrap();
    device.device().destroy();
    assert!(matches!(device.read(&buffer, 0), Err(DeviceError::Failed { .. })));
    assert!(matches!(device.allocate(&[DType::F32], 1), Err(DeviceError::Failed { .. })));
}

#[test]
fn buffers_of_users_are_taken() {
    let Some(device) = device() else { return };
    let buffer = |usage| {
        let descriptor = BufferDescriptor { label: None, size: 12, usage, mapped_at_creation: false };
        device.device().create_buffer(&descriptor)
    };
    let usages = BufferUsages::STORAGE | BufferUsages::COPY_SRC | BufferUsages::COPY_DST;
    let wrapped = device.wrap(buffer(usages), DType::F32, 2).unwrap();
    assert_eq!(device.wrap(buffer(usages), DType::F32, 4).unwrap_err(), DeviceError::Length { expected: 3, found: 4 });
    for missing in usages.iter() {
        let error = device.wrap(buffer(usages.difference(missing)), DType::F32, 3).unwrap_err();
        assert!(matches!(error, DeviceError::Failed { action: "wrap a buffer", .. }), "{error}");
    }
    let halves = device.wrap(buffer(usages), DType::Bf16, 5).unwrap();
    assert_eq!(device.wrap(buffer(usages), DType::F16, 7).unwrap_err(), DeviceError::Length { expected: 6, found: 7 });
    assert!(matches!(device.wrap(buffer(usages), DType::F64, 1), Err(DeviceError::Unsupported { .. })));
    let numbers = [1.0, -2.0, 0.5, 3.0, -1.0].map(half::bf16::from_f32);
    device.write(&halves, 0, bytemuck::cast_slice(&numbers)).unwrap();
    assert_eq!(device.download::<half::bf16>(&halves, 0).unwrap(), numbers);
    device.write(&wrapped, 0, bytemuck::cast_slice(&[1.0_f32, 2.0])).unwrap();
    device.queue().write_buffer(wrapped.as_wgpu(), 4, &3.0_f32.to_le_bytes());
    assert_eq!(device.download::<f32>(&wrapped, 0).unwrap(), [1.0, 3.0]);
}

#[test]
fn segments_that_do_not_fit_are_refused() {
    let Some(device) = device() else { return };
    let reads_all = |(elements, (_, update, _)): &(Elements, (String, opt_core::trace::Update, usize))| {
        *elements == Elements::All && update.graph.arrays().len() > 3
    };
    let (elements, (_, update, average)) = recorded().into_iter().find(reads_all).unwrap();
    let kernel = device.compile(&program(&update, average, elements)).unwrap();
    let [value, short] = [4, 3].map(|len| device.allocate(&[DType::F32], len).unwrap());
    let state = device.allocate(&vec![DType::F32; average + 1], 4).unwrap();
    let run_with = |gradient, state, first| {
        let segments =
            vec![Segment { value: &value, gradient, state, rows: None, parameters: first, draws: Draws::default() }];
        device.run(&[Launch { kernel: &kernel, segments, parameters: update.parameters.clone() }])
    };
    let run = |gradient, state| run_with(gradient, state, 0);
    assert_eq!(run(Some(&value), Some(&state)).map_err(|error| error.to_string().contains("usage")), Err(true));
    let gradient = device.allocate(&[DType::F32], 4).unwrap();
    assert_eq!(run(Some(&gradient), Some(&state)), Ok(()));
    let too_few = run_with(Some(&gradient), Some(&state), 1);
    assert!(matches!(too_few, Err(DeviceError::Failed { action: "run kernels", .. })));
    assert_eq!(run(Some(&short), Some(&state)), Err(DeviceError::Length { expected: 4, found: 3 }));
    for (gradient, state) in [(None, Some(&state)), (Some(&gradient), None), (Some(&gradient), Some(&value))] {
        assert!(matches!(run(gradient, state), Err(DeviceError::Failed { action: "run kernels", .. })));
    }
}

#[test]
fn rows_that_do_not_fit_are_refused() {
    let Some(device) = device() else { return };
    for kind in [Elements::Rows, Elements::OtherRows] {
        let (elements, (_, update, average)) = recorded().into_iter().find(|(of, _)| *of == kind).unwrap();
        let kernel = device.compile(&program(&update, average, elements)).unwrap();
        let buffer = |arrays, len| device.allocate(&vec![DType::F32; arrays], len).unwrap();
        let (value, state, gradient) = (buffer(1, 6), buffer(average + 1, 6), buffer(1, 6));
        let run = |count| {
            let indices = buffer(1, count);
            let rows = Some(Rows { indices: &indices, width: 3 });
            let segments = vec![Segment {
                value: &value,
                gradient: Some(&gradient),
                state: Some(&state),
                rows,
                parameters: 0,
                draws: Draws::default(),
            }];
            device.run(&[Launch { kernel: &kernel, segments, parameters: update.parameters.clone() }])
        };
        assert_eq!(run(2), Ok(()));
        assert!(matches!(run(3), Err(DeviceError::Length { .. })));
    }
}

/// The number of a buffer of one device may be that of any buffer of another one.
#[test]
fn buffers_of_another_device_are_refused() {
    let (Some(device), Some(other)) = (device(), device()) else { return };
    let foreign = other.upload(&[1.0_f32; 3]).unwrap();
    let refusals = [
        device.read(&foreign, 0).map(drop),
        device.write(&foreign, 0, bytemuck::cast_slice(&[1.0_f32; 3])),
        device.address(&foreign).map(drop),
        device.measure(&[Question { gradient: &foreign, limit: None }]).map(drop),
    ];
    for refusal in refusals {
        assert_eq!(refusal.unwrap_err().to_string(), "the device failed to use a buffer: it is of another device");
    }
    let own = device.upload(&[1.0_f32; 3]).unwrap();
    assert_eq!(device.address(&own), device.address(&own.clone()));
    assert_ne!(device.address(&own), device.address(&device.upload(&[1.0_f32; 3]).unwrap()));
    assert!(device.address(&device.allocate(&[DType::F32; 2], 3).unwrap()).is_err());
}
