//! The times of steps, and that of a copy.

use std::time::{Duration, Instant};

use benches::sampling::{Effort, Subject, Times, interleave};
use benches::shapes::Shape;
use opt_core::state::DType;
use opt_core::trace::{Draws, Update};
use opt_gpu::device::{Device, Elements, Launch, Program, Segment};
use opt_gpu::{DeviceError, Error};
use serde::Serialize;

use crate::contestants::{Entry, Traffic, entries};
use crate::weights::Weights;

/// Steps before anything is timed: whole cycles, and past the threshold of rectified Adam.
pub(crate) const WARM_UP: usize = 12;

/// Several batches of steps with one wait at the end of each.
pub(crate) const FULL: Effort =
    Effort { rounds: 7, slice: Duration::from_millis(40), sample: Duration::from_millis(20), warm_up: WARM_UP };

/// For tests.
pub(crate) const QUICK: Effort =
    Effort { rounds: 3, slice: Duration::from_millis(2), sample: Duration::from_millis(1), warm_up: WARM_UP };

/// The bandwidth of a copy: bytes read and written over time.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct CopySpeed {
    pub(crate) elements: usize,
    pub(crate) gb_per_s: f64,
}

/// The times of a contestant.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Row {
    pub(crate) rule: String,
    pub(crate) shape: String,
    pub(crate) tensors: usize,
    pub(crate) params: usize,
    /// The median.
    pub(crate) ns_per_param: f64,
    pub(crate) ns_per_param_quartiles: [f64; 2],
    pub(crate) samples: usize,
    /// The time of a step on the host, which the device need not wait for.
    pub(crate) host_us: f64,
    /// Arrays read and written, the gradient once more for a norm.
    pub(crate) bytes_per_param: f64,
    pub(crate) gb_per_s: f64,
    pub(crate) fraction_of_copy: f64,
    /// For each step; the measurement of norms is one.
    pub(crate) launches: f64,
}

/// A contestant that was not timed.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct LeftOut {
    pub(crate) rule: String,
    pub(crate) shape: String,
    pub(crate) reason: String,
}

/// Work on a device, with a buffer whose reading waits for everything before.
struct Timed<'a, D: Device, F> {
    device: &'a D,
    fence: D::Buffer,
    work: F,
}

impl<'a, D: Device, F: FnMut() -> Result<(), Error>> Timed<'a, D, F> {
    fn new(device: &'a D, work: F) -> Result<Self, DeviceError> {
        Ok(Self { device, fence: device.upload(&[0.0_f32])?, work })
    }
}

impl<D: Device, F: FnMut() -> Result<(), Error>> Subject for Timed<'_, D, F> {
    fn run(&mut self, steps: usize) -> anyhow::Result<Duration> {
        let start = Instant::now();
        for _ in 0..steps {
            (self.work)()?;
        }
        self.device.read(&self.fence, 0)?;
        Ok(start.elapsed())
    }
}

fn times(subject: &mut dyn Subject, cycle: usize, effort: &Effort) -> anyhow::Result<Times> {
    Ok(interleave(&mut [subject], cycle, effort)?.remove(0))
}

/// Whether the device has not enough memory.
fn is_full(error: &Error) -> bool {
    matches!(error, Error::Device(DeviceError::Failed { action: "allocate memory", .. }))
}

/// Copies an array of this many elements, or of half as many if the memory is too small, and so on.
pub(crate) fn copy<D: Device>(device: &D, elements: usize, effort: &Effort) -> anyhow::Result<CopySpeed> {
    let allocate = || device.allocate(&[DType::F32], elements);
    let (from, to) = match allocate().and_then(|from| Ok((from, allocate()?))) {
        Ok(buffers) => buffers,
        Err(error) if elements == 1 => return Err(error.into()),
        Err(_) => return copy(device, elements / 2, effort),
    };
    let Update { graph, parameters, .. } = Update::adding(DType::F32, false, 1.0);
    let (value, gradient) = (DType::F32, DType::F32);
    let kernel = device.compile(&Program { graph, elements: Elements::All, value, gradient, state: Vec::new() })?;
    let work = || {
        let draws = Draws::default();
        let segment = Segment { value: &to, gradient: Some(&from), state: None, rows: None, parameters: 0, draws };
        let launch = Launch { kernel: &kernel, segments: vec![segment], parameters: parameters.clone() };
        Ok(device.run(&[launch])?)
    };
    let times = times(&mut Timed::new(device, work)?, 1, effort)?;
    Ok(CopySpeed { elements, gb_per_s: 8.0 * elements as f64 / times.median() })
}

/// What is measured, and until when.
#[derive(Debug)]
pub(crate) struct Plan<'a> {
    pub(crate) shapes: &'a [Shape],
    pub(crate) effort: Effort,
    pub(crate) until: Instant,
}

/// The times of all contestants on all shapes.
pub(crate) fn rows<D: Device>(
    device: &D,
    plan: &Plan<'_>,
    copy: &CopySpeed,
) -> anyhow::Result<(Vec<Row>, Vec<LeftOut>)> {
    let (mut rows, mut left_out) = (Vec::new(), Vec::new());
    let entries = entries()?;
    for shape in plan.shapes {
        let mut weights = None;
        for entry in &entries {
            let traffic = entry.traffic(shape, WARM_UP)?;
            let mut leave_out = |reason: String| {
                left_out.push(LeftOut { rule: entry.name.to_owned(), shape: shape.name.clone(), reason });
            };
            if let Some(reason) = plan.too_slow(entry.cycle(), traffic.bytes * shape.params() as f64, copy) {
                leave_out(reason);
                continue;
            }
            match step_times(device, entry, shape, &mut weights, &plan.effort)? {
                Some(times) => rows.push(Row::new(entry, shape, traffic, &times, copy)?),
                None => leave_out("the memory is too small".to_owned()),
            }
        }
    }
    Ok((rows, left_out))
}

impl Plan<'_> {
    /// Why there is no time for a contestant. Steps are expected to be half as fast as a copy of as many bytes.
    fn too_slow(&self, cycle: usize, bytes: f64, copy: &CopySpeed) -> Option<String> {
        let steps = WARM_UP + cycle + self.effort.rounds * (2 + cycle);
        let seconds = steps as f64 * 2e-9 * bytes / copy.gb_per_s;
        let left = self.until.saturating_duration_since(Instant::now()).as_secs_f64();
        (seconds >= left).then(|| format!("it takes about {seconds:.0} s, {left:.0} s are left"))
    }
}

/// The times of a contestant; nothing if the memory is too small. The weights are made for the
/// first contestant that has them in its type.
fn step_times<D: Device>(
    device: &D,
    entry: &Entry,
    shape: &Shape,
    weights: &mut Option<Weights<D>>,
    effort: &Effort,
) -> anyhow::Result<Option<Times>> {
    let mut first_step = || {
        if weights.as_ref().is_none_or(|weights| weights.dtype != entry.dtype()) {
            *weights = None;
            *weights = Some(Weights::random(device, shape, entry.dtype())?);
        }
        let mut optimizer = entry.build_on(device)?;
        // It allocates.
        optimizer.apply_gradients(weights.iter().flat_map(Weights::variables))?;
        Ok(optimizer)
    };
    let mut optimizer = match first_step() {
        Ok(optimizer) => optimizer,
        Err(error) if is_full(&error) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let work = || optimizer.apply_gradients(weights.iter().flat_map(Weights::variables)).map(|_| ());
    times(&mut Timed::new(device, work)?, entry.cycle(), effort).map(Some)
}

impl Row {
    fn new(entry: &Entry, shape: &Shape, traffic: Traffic, times: &Times, copy: &CopySpeed) -> anyhow::Result<Self> {
        let ns = |at| times.quantile(at) / shape.params() as f64;
        let gb_per_s = traffic.bytes / ns(0.5);
        Ok(Self {
            rule: entry.name.to_owned(),
            shape: shape.name.clone(),
            tensors: shape.tensors.len(),
            params: shape.params(),
            ns_per_param: ns(0.5),
            ns_per_param_quartiles: [ns(0.25), ns(0.75)],
            samples: times.samples(),
            host_us: 1e6 * entry.host_seconds(shape, WARM_UP)?,
            bytes_per_param: traffic.bytes,
            gb_per_s,
            fraction_of_copy: gb_per_s / copy.gb_per_s,
            launches: traffic.launches,
        })
    }
}
