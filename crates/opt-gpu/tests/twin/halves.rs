//! Variables in 16 bits, with every storage of their masters and moments.

use half::{bf16, f16};
use opt_gpu::device::{Device, Number};
use opt_gpu::{Error, GpuOptimizer, GpuVariable};
use optimizers::model::Half;
use optimizers::{
    Accumulate, Adam, Ema, Group, Lookahead, Master, MomentStorage, NonFinite, Optimizer, OptimizerBuilder,
    RectifiedAdam, Sgd, StepReport, UpdateRule, Variable, View,
};

use crate::on_devices;
use crate::pair::{dyadic, same, same_value};

on_devices! {
    with [half::bf16, half::f16], on lavapipe [half::bf16, half::f16]:
    masters_and_moments, what_the_caller_changes, rows_of_halves, averages_without_gradients, slots_are_copied_and_swapped, state_goes_both_ways,
    gradients_that_are_not_finite, masters_need_room_to_be_swapped, others_have_no_average,
}

type Rule = Box<dyn UpdateRule<f32>>;
type Builder = OptimizerBuilder<Rule>;

/// A type of 16 bits.
trait Narrow: Half + Number + PartialEq + std::fmt::Debug + Default {
    fn from(x: f32) -> Self;
    fn wide(self) -> f32;
}

impl Narrow for bf16 {
    fn from(x: f32) -> Self {
        Self::from_f32(x)
    }
    fn wide(self) -> f32 {
        self.to_f32()
    }
}

impl Narrow for f16 {
    fn from(x: f32) -> Self {
        Self::from_f32(x)
    }
    fn wide(self) -> f32 {
        self.to_f32()
    }
}

/// A gradient, in 32 bits or in 16.
#[derive(Debug, Clone)]
enum Gradient {
    Missing,
    Full(Vec<f32>),
    Half(Vec<f32>),
    Rows(Vec<usize>, Vec<f32>),
}

/// The names and shapes of the variables; the last one is in 32 bits.
const VARIABLES: [(&str, &[usize]); 4] = [("kernel", &[13, 8]), ("bias", &[7]), ("embedding", &[9, 4]), ("full", &[5])];

/// A training on the CPU and on a device.
struct Pair<D: Device, H> {
    device: D,
    cpu: Optimizer<Rule>,
    gpu: GpuOptimizer<Rule, D>,
    values: Vec<Vec<H>>,
    full: Vec<f32>,
    buffers: Vec<D::Buffer>,
}

const MASTERS: [Master; 3] = [Master::Full, Master::Bits24 { seed: 3 }, Master::None { seed: 3 }];
const MOMENTS: [MomentStorage; 2] = [MomentStorage::Full, MomentStorage::Bf16 { seed: 5 }];

fn halves<H: Narrow>(numbers: &[f32]) -> Vec<H> {
    numbers.iter().map(|number| H::from(*number)).collect()
}

fn len(shape: &[usize]) -> usize {
    shape.iter().product()
}

/// Numbers of many digits.
fn numbers(seed: usize, len: usize) -> Vec<f32> {
    (0..len).map(|i| ((i * 7 + seed * 13) % 31) as f32 * 0.037 - 0.5).collect()
}

/// Gradients of both kinds.
fn gradients(step: usize) -> Vec<Gradient> {
    let of = |(number, (_, shape)): (usize, &(&str, &[usize]))| {
        let numbers = numbers(step + number, len(shape));
        if (step + number).is_multiple_of(3) { Gradient::Full(numbers) } else { Gradient::Half(numbers) }
    };
    VARIABLES.iter().enumerate().map(of).collect()
}

impl<D: Device, H: Narrow> Pair<D, H> {
    fn new(device: &D, builder: impl Fn() -> Builder) -> Self {
        let values: Vec<Vec<H>> =
            (0..).zip(&VARIABLES[..3]).map(|(seed, (_, shape))| halves(&dyadic::<f32>(seed, len(shape)))).collect();
        let full = dyadic(9, len(VARIABLES[3].1));
        let mut buffers: Vec<_> = values.iter().map(|value| device.upload(value).unwrap()).collect();
        buffers.push(device.upload(&full).unwrap());
        let gpu = GpuOptimizer::new(builder().build().unwrap(), device).unwrap();
        Self { device: device.clone(), cpu: builder().build().unwrap(), gpu, values, full, buffers }
    }

    /// The variables on the device.
    fn on_device(buffers: &[D::Buffer]) -> Vec<GpuVariable<'_, D>> {
        let variable = |((name, shape), buffer): (&(&'static str, &'static [usize]), _)| {
            GpuVariable::new(*name, buffer).shape(*shape)
        };
        VARIABLES.iter().zip(buffers).map(variable).collect()
    }

    /// The variables on the host.
    fn on_host<'a>(values: &'a mut [Vec<H>], full: &'a mut Vec<f32>) -> Vec<Variable<'a, f32>> {
        let shapes = VARIABLES.map(|(_, shape)| shape);
        let named = VARIABLES.map(|(name, _)| name).into_iter();
        let mut all: Vec<Variable<'a, f32>> = Vec::new();
        for ((value, shape), name) in values.iter_mut().zip(shapes).zip(named) {
            all.push(Variable::half(name, (value, shape)));
        }
        all.push(Variable::new(VARIABLES[3].0, full));
        all
    }

    fn step(&mut self, gradients: &[Gradient]) -> StepReport {
        let upload = |gradient: &Gradient| match gradient {
            Gradient::Missing => None,
            Gradient::Full(numbers) => Some(self.device.upload(numbers).unwrap()),
            Gradient::Half(numbers) | Gradient::Rows(_, numbers) => {
                Some(self.device.upload(&halves::<H>(numbers)).unwrap())
            }
        };
        let uploaded: Vec<Option<D::Buffer>> = gradients.iter().map(upload).collect();
        let given = Self::on_device(&self.buffers).into_iter().zip(gradients).zip(&uploaded);
        let given = given.map(|((variable, gradient), buffer)| match (gradient, buffer) {
            (Gradient::Rows(rows, _), Some(values)) => variable.sparse_gradient(rows, values),
            (_, Some(values)) => variable.gradient(values),
            (_, None) => variable,
        });
        let on_device = self.gpu.apply_gradients(given).map_err(|error| error.to_string());

        let in_16_bits: Vec<Vec<H>> = gradients
            .iter()
            .map(|gradient| match gradient {
                Gradient::Half(numbers) | Gradient::Rows(_, numbers) => halves(numbers),
                _ => Vec::new(),
            })
            .collect();
        let variables = Self::on_host(&mut self.values, &mut self.full);
        let given = variables.into_iter().zip(gradients).zip(&in_16_bits).zip(VARIABLES);
        let given = given.map(|(((variable, gradient), half), (_, shape))| match gradient {
            Gradient::Missing => variable,
            Gradient::Full(numbers) => variable.gradient((numbers, shape)),
            Gradient::Half(_) => variable.half_gradient::<H>((half, shape)),
            Gradient::Rows(rows, _) => {
                let shape = [&[rows.len()], &shape[1..]].concat();
                let view = View::half::<H>((half, &shape));
                variable.gradient(optimizers::Gradient::sparse(rows, view))
            }
        });
        let on_cpu = self.cpu.apply_gradients(given).map_err(|error| error.to_string());
        // NaN is not NaN.
        assert_eq!(format!("{on_device:?}"), format!("{on_cpu:?}"));
        self.compare();
        on_cpu.unwrap()
    }

    fn compare(&mut self) {
        for ((value, buffer), (name, _)) in self.values.iter().zip(&self.buffers).zip(VARIABLES) {
            let got: Vec<H> = self.device.download(buffer, 0).unwrap();
            let [got, want] = [&got, value].map(|numbers| numbers.iter().map(|x| x.wide()).collect::<Vec<f32>>());
            same(&got, &want, 0.0, name);
        }
        let got: Vec<f32> = self.device.download(&self.buffers[3], 0).unwrap();
        same(&got, &self.full, 0.0, "full");
        let (got, want) = (self.gpu.state().unwrap(), self.cpu.weights());
        assert_eq!(got.len(), want.len());
        for (got, want) in got.iter().zip(&want) {
            assert_eq!(got.name, want.name);
            same_value(&got.value, &want.value, 0.0, &want.name);
        }
    }
}

fn boxed(rule: impl UpdateRule<f32> + 'static) -> Builder {
    Optimizer::builder(rule).boxed()
}

fn masters_and_moments<D: Device, H: Narrow>(device: &D) {
    let rules: [fn() -> Builder; 4] = [
        || boxed(Sgd::new(0.125)),
        || boxed(Adam::new(0.0625)).weight_decay(0.0625).ema(Ema::new(0.75).overwrite_every(3)),
        || boxed(RectifiedAdam::new(0.125).amsgrad(true)).clipvalue(0.25).accumulate(Accumulate::mean(2)),
        || boxed(Lookahead::new(Sgd::new(0.125).momentum(0.5)).sync_period(2)).ema(Ema::new(0.5).keras3()),
    ];
    for (rule, master) in rules.into_iter().flat_map(|rule| MASTERS.map(|master| (rule, master))) {
        for moments in MOMENTS {
            let mut pair = Pair::<D, H>::new(device, || rule().master(master).moments(moments));
            (0..7).for_each(|step| drop(pair.step(&gradients(step))));
        }
    }
}

fn what_the_caller_changes<D: Device, H: Narrow>(device: &D) {
    for master in MASTERS {
        let mut pair = Pair::<D, H>::new(device, || boxed(Adam::new(0.001)).master(master));
        for step in 0..4 {
            pair.step(&gradients(step));
            for (number, special) in [-0.0, 1.0, 3e-5, f32::INFINITY, 0.0].into_iter().enumerate() {
                pair.values[0][number * 5 + step] = H::from(special);
            }
            pair.buffers[0] = device.upload(&pair.values[0]).unwrap();
        }
    }
}

fn rows_of_halves<D: Device, H: Narrow>(device: &D) {
    for (master, moments) in MASTERS.into_iter().flat_map(|master| MOMENTS.map(|moments| (master, moments))) {
        for rule in [|| boxed(Adam::new(0.125)), || boxed(Sgd::new(0.125).momentum(0.5).nesterov(true).legacy())] {
            let mut pair = Pair::<D, H>::new(device, || rule().master(master).moments(moments));
            for (step, rows) in [vec![3, 0], vec![8], vec![], vec![7, 2, 1]].into_iter().enumerate() {
                let mut gradients = gradients(step);
                let values = numbers(step + 3, 4 * rows.len());
                gradients[2] = Gradient::Rows(rows, values);
                pair.step(&gradients);
            }
        }
    }
}

/// Keras 3 averages variables that have no gradient, too.
fn averages_without_gradients<D: Device, H: Narrow>(device: &D) {
    for master in MASTERS {
        let ema = Ema::new(0.75).keras3().overwrite_every(2);
        let mut pair = Pair::<D, H>::new(device, || boxed(Sgd::new(0.125)).master(master).ema(ema));
        for step in 0..6 {
            let mut gradients = gradients(step);
            if step % 3 > 0 {
                gradients[step % 3] = Gradient::Missing;
            }
            pair.step(&gradients);
        }
    }
}

/// Swaps a slot in or back, or copies it, on both sides.
fn moved<D: Device, H: Narrow>(pair: &mut Pair<D, H>, slot: &str, how: u8) {
    let Pair { cpu, gpu, values, full, buffers, .. } = pair;
    // The master is a slot of variables in 16 bits alone.
    let count = if slot == "master" { 3 } else { 4 };
    let mut on_host = Pair::<D, H>::on_host(values, full);
    on_host.truncate(count);
    let on_device = Pair::<D, H>::on_device(buffers).into_iter().take(count);
    match how {
        0 => (gpu.swap_slot(slot, on_device).unwrap(), cpu.swap_slot(slot, on_host).unwrap()),
        1 => (gpu.swap_back(on_device).unwrap(), cpu.swap_back(on_host).unwrap()),
        _ => (gpu.copy_slot(slot, on_device).unwrap(), cpu.copy_slot(slot, &mut on_host).unwrap()),
    };
}

fn slots_are_copied_and_swapped<D: Device, H: Narrow>(device: &D) {
    for (master, slot) in
        [(Master::Full, "average"), (Master::Full, "master"), (MASTERS[1], "average"), (MASTERS[2], "average")]
    {
        let mut pair = Pair::<D, H>::new(device, || boxed(Adam::new(0.125)).master(master).ema(Ema::new(0.5)));
        (0..3).for_each(|step| drop(pair.step(&gradients(step))));
        if master == Master::Full {
            moved(&mut pair, slot, 0);
            let shown: Vec<H> = device.download(&pair.buffers[0], 0).unwrap();
            assert_eq!(shown, pair.values[0]);
            assert!(pair.gpu.state().is_err(), "a slot is swapped in");
            // What is written meanwhile is lost.
            pair.values[0][3] = H::from(77.0);
            device.write(&pair.buffers[0], 0, bytemuck::cast_slice(&pair.values[0])).unwrap();
            moved(&mut pair, slot, 1);
            pair.compare();
            pair.step(&gradients(3));
        }
        moved(&mut pair, slot, 2);
        pair.compare();
        pair.step(&gradients(4));
    }
}

fn masters_need_room_to_be_swapped<D: Device, H: Narrow>(device: &D) {
    let mut pair = Pair::<D, H>::new(device, || boxed(Adam::new(0.125)).master(MASTERS[1]).ema(Ema::new(0.5)));
    pair.step(&gradients(0));
    let refused = pair.gpu.swap_slot("average", Pair::<D, H>::on_device(&pair.buffers)).unwrap_err();
    assert!(matches!(refused, Error::Optimizer(opt_core::Error::OnDevice { .. })), "{refused}");
    pair.step(&gradients(1));
}

/// Variables without the slot keep their values, whatever their masters are.
fn others_have_no_average<D: Device, H: Narrow>(device: &D) {
    let mut pair = Pair::<D, H>::new(device, || {
        let builder = boxed(Adam::new(0.125)).master(MASTERS[1]).ema(Ema::new(0.5));
        builder.group(Group::matching("kernel|bias|embedding").named("halves").average(false))
    });
    pair.step(&gradients(0));
    for way in [0, 1] {
        moved(&mut pair, "average", way);
        let got: Vec<f32> = device.download(&pair.buffers[3], 0).unwrap();
        assert_eq!(got, pair.full);
    }
    pair.compare();
}

fn state_goes_both_ways<D: Device, H: Narrow>(device: &D) {
    for (master, moments) in MASTERS.into_iter().flat_map(|master| MOMENTS.map(|moments| (master, moments))) {
        let builder = || {
            let rule = boxed(Adam::new(0.125)).master(master).moments(moments);
            rule.ema(Ema::new(0.5)).accumulate(Accumulate::mean(2))
        };
        let fresh = || GpuOptimizer::new(builder().build().unwrap(), device).unwrap();
        let mut pair = Pair::<D, H>::new(device, builder);
        for step in 0..4 {
            pair.step(&gradients(step));
            let state = pair.gpu.state().unwrap();
            let mut restored = fresh();
            restored.restore(Pair::<D, H>::on_device(&pair.buffers), state).unwrap();
            pair.gpu = restored;
            pair.compare();
            let moved = std::mem::replace(&mut pair.gpu, fresh()).into_optimizer().unwrap();
            assert_eq!(moved.weights(), pair.cpu.weights());
            pair.gpu = GpuOptimizer::new(moved, device).unwrap();
        }
    }
}

fn gradients_that_are_not_finite<D: Device, H: Narrow>(device: &D) {
    let mut pair = Pair::<D, H>::new(device, || boxed(Adam::new(0.125)).non_finite(NonFinite::SkipStep));
    for step in 0..4 {
        let mut gradients = gradients(step);
        if step % 2 == 1 {
            gradients[0] = Gradient::Half(vec![f32::NAN; len(VARIABLES[0].1)]);
        }
        assert_eq!(pair.step(&gradients).is_applied(), step % 2 == 0);
    }
}
