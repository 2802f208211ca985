//! The same training on the CPU and on a device.

use std::collections::BTreeMap;

use opt_core::state::DType;
use opt_gpu::device::{Device, Element};
use opt_gpu::{GpuOptimizer, GpuVariable};
use optimizers::state::{StateEntry, StateValue};
use optimizers::{DynOptimizer, UpdateRule, Variable};
use serde::Serialize;

use super::stored::Stored;
use super::trainings::{Builder, Gradient, VARIABLES, dyadic};
use super::units::units;

/// A difference of two numbers.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Difference {
    /// In units in the last place.
    pub(crate) units: f64,
    /// Where it is.
    pub(crate) place: String,
}

/// All numbers of a training, by variable and by slot, with the types in which they are computed.
type Numbers = BTreeMap<String, (DType, Vec<f64>)>;

/// A training on the CPU and on a device, step by step.
pub(super) struct Pair<D: Device, T> {
    device: D,
    cpu: DynOptimizer<T>,
    gpu: GpuOptimizer<Box<dyn UpdateRule<T>>, D, T>,
    values: Vec<Stored<T>>,
    buffers: Vec<D::Buffer>,
    /// The numbers of the CPU before the step.
    before: Numbers,
}

impl<D: Device, T: Element> Pair<D, T> {
    /// `dtype` is the type in which variables and gradients are stored.
    pub(super) fn new(device: &D, dtype: DType, builder: impl Fn() -> Builder<T>) -> anyhow::Result<Self> {
        let len = |shape: &[usize]| shape.iter().product();
        let value = |((_, shape), seed): (&(&str, &[usize]), u64)| Stored::new(dtype, dyadic(seed, len(shape)));
        let values: Vec<Stored<T>> = VARIABLES.iter().zip(1..).map(value).collect();
        let buffers = values.iter().map(|value| value.upload(device)).collect::<Result<_, _>>()?;
        let (cpu, gpu) = (builder().build()?, GpuOptimizer::new(builder().build()?, device)?);
        Ok(Self { device: device.clone(), cpu, gpu, values, buffers, before: Numbers::new() })
    }

    /// One step on both. Returns the largest difference, and then gives the device the numbers of the CPU.
    pub(super) fn step(&mut self, gradients: &[Gradient<T>]) -> anyhow::Result<Option<Difference>> {
        self.step_on_device(gradients)?;
        self.step_on_cpu(gradients)?;
        let on_device = self.numbers_on_device()?;
        let want = numbers(&self.values, &self.cpu.weights());
        let found = largest(&on_device, &want, &self.before);
        self.before = want;
        if found.is_some() {
            self.synchronise()?;
        }
        Ok(found)
    }

    fn step_on_device(&mut self, gradients: &[Gradient<T>]) -> anyhow::Result<()> {
        let uploaded: Vec<D::Buffer> =
            gradients.iter().map(|gradient| gradient.numbers().upload(&self.device)).collect::<Result<_, _>>()?;
        let variables = on_device(&self.buffers).zip(gradients).zip(&uploaded);
        let variables = variables.map(|((variable, gradient), numbers)| match gradient {
            Gradient::Dense(_) => variable.gradient(numbers),
            Gradient::Rows(rows, _) => variable.sparse_gradient(rows, numbers),
        });
        self.gpu.apply_gradients(variables)?;
        Ok(())
    }

    fn step_on_cpu(&mut self, gradients: &[Gradient<T>]) -> anyhow::Result<()> {
        let shape = |((_, shape), gradient): (&(&str, &[usize]), &Gradient<T>)| match gradient {
            Gradient::Dense(_) => shape.to_vec(),
            Gradient::Rows(rows, _) => [&[rows.len()], &shape[1..]].concat(),
        };
        let shapes: Vec<Vec<usize>> = VARIABLES.iter().zip(gradients).map(shape).collect();
        let variables = VARIABLES.iter().zip(&mut self.values).zip(gradients).zip(&shapes);
        let variables = variables.map(|((((name, shape), value), gradient), gradient_shape)| {
            let variable = Variable::new(*name, value.view_mut(shape)?);
            let numbers = gradient.numbers().view(gradient_shape)?;
            Ok(match gradient {
                Gradient::Dense(_) => variable.gradient(numbers),
                Gradient::Rows(rows, _) => variable.sparse_gradient(&rows[..], numbers),
            })
        });
        self.cpu.apply_gradients(variables.collect::<anyhow::Result<Vec<_>>>()?)?;
        Ok(())
    }

    fn numbers_on_device(&mut self) -> anyhow::Result<Numbers> {
        let dtype = self.values[0].dtype();
        let values = self.buffers.iter().map(|buffer| Stored::download(&self.device, buffer, dtype));
        let values = values.collect::<Result<Vec<_>, _>>()?;
        let state = self.gpu.with_optimizer(optimizers::Optimizer::weights)?;
        Ok(numbers(&values, &state))
    }

    /// Gives the device the numbers of the CPU: differences of steps do not add up.
    fn synchronise(&mut self) -> anyhow::Result<()> {
        self.buffers = self.values.iter().map(|value| value.upload(&self.device)).collect::<Result<_, _>>()?;
        self.gpu.restore(on_device(&self.buffers), self.cpu.weights())?;
        Ok(())
    }
}

fn on_device<D: Device>(buffers: &[D::Buffer]) -> impl Iterator<Item = GpuVariable<'_, D>> {
    VARIABLES.iter().zip(buffers).map(|((name, shape), buffer)| GpuVariable::new(*name, buffer).shape(*shape))
}

fn numbers<T: Element>(values: &[Stored<T>], state: &[StateEntry<StateValue<'_, T>>]) -> Numbers {
    let values =
        VARIABLES.iter().zip(values).map(|((name, _), value)| ((*name).to_owned(), (T::DTYPE, value.to_f64())));
    let state = state.iter().map(|StateEntry { name, value, .. }| {
        let numbers = match value {
            StateValue::Array(array) => (T::DTYPE, array.iter().map(|number| number.as_()).collect()),
            StateValue::Scalar(number) => (DType::F64, vec![*number]),
            StateValue::Iterations(count) => (DType::F64, vec![*count as f64]),
            StateValue::Bf16(_) => (T::DTYPE, Vec::new()),
        };
        (format!("slot {name}"), numbers)
    });
    values.chain(state).collect()
}

/// The largest difference; nothing if all bits are the same.
fn largest(got: &Numbers, want: &Numbers, before: &Numbers) -> Option<Difference> {
    let mut largest: Option<Difference> = None;
    let mut see = |units: f64, place: String| {
        if largest.as_ref().is_none_or(|largest| units > largest.units) {
            largest = Some(Difference { units, place });
        }
    };
    if !got.keys().eq(want.keys()) {
        see(f64::INFINITY, "the names of the slots".to_owned());
    }
    for (name, (dtype, want)) in want {
        let got = got.get(name).map_or(&[][..], |(_, got)| got);
        if got.len() != want.len() {
            see(f64::INFINITY, format!("the length of {name}"));
        }
        for (i, (&got, &want)) in got.iter().zip(want).enumerate() {
            if got.to_bits() != want.to_bits() && !(got.is_nan() && want.is_nan()) {
                let before = before.get(name).and_then(|(_, before)| before.get(i)).copied().unwrap_or(0.0);
                see(units(*dtype, got, want, before), format!("{name}[{i}]"));
            }
        }
    }
    largest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(numbers: &[f64]) -> Numbers {
        [("w".to_owned(), (DType::F32, numbers.to_vec()))].into()
    }

    #[test]
    fn differences_are_found() {
        let before = of(&[1.0, -8.0, 0.0]);
        let want = of(&[1.0, 2.0, f64::NAN]);
        assert_eq!(largest(&want, &want, &before), None);
        let next = f64::from(2.0_f32.next_up());
        let found = largest(&of(&[1.0, next, -f64::NAN]), &want, &before).unwrap();
        assert_eq!(found, Difference { units: 0.25, place: "w[1]".to_owned() });
        let found = largest(&of(&[-0.0, 0.0]), &of(&[0.0, 0.0]), &before).unwrap();
        assert_eq!(found, Difference { units: 0.0, place: "w[0]".to_owned() });
        for bad in [of(&[1.0, 2.0]), of(&[1.0, 2.0, 3.0]), Numbers::new()] {
            assert_eq!(largest(&bad, &want, &before).unwrap().units, f64::INFINITY);
        }
    }
}
