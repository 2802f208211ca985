//! The state of a rule for one parameter, as burn keeps it and writes it into records.

use burn_core::tensor::{Device, TensorData};
use burn_optim::{RecordState, StateSink, StateSource};
use half::{bf16, f16};
use opt_core::model::AnySliceMut;
use opt_core::rule::{SlotInit, SlotSpec, Step};
use opt_core::{Error, SliceStep, UpdateRule};

use crate::host::Host;

/// burn does not tell a rule the names of parameters.
const NAME: &str = "parameter";

/// The state of a [`Rule`](super::Rule) for one parameter.
#[derive(Debug, Clone)]
pub struct RuleState<const D: usize> {
    /// The number of steps of this parameter.
    iterations: u64,
    /// Tells the state of one rule from that of another one.
    kind: u64,
    shape: [usize; D],
    /// The array slots of the rule, in their order.
    arrays: Vec<Vec<f32>>,
    scalars: Vec<f64>,
    shared: Vec<f64>,
    /// The parameter in 32 bits; empty if it has 32 bits itself.
    master: Vec<f32>,
}

impl<const D: usize> RuleState<D> {
    /// The state before the first step.
    pub(super) fn new<R: UpdateRule<f32>>(rule: &R, kind: u64, value: &Host) -> Self {
        let numbers = value.widened().unwrap_or_else(|| panic!("parameters of {:?} are not trained", value.dtype()));
        let mut state = Self {
            iterations: 0,
            kind,
            shape: shape(value),
            arrays: Vec::new(),
            scalars: Vec::new(),
            shared: shared(&rule.slots()),
            master: if value.is_half() { numbers.to_vec() } else { Vec::new() },
        };
        for slot in rule.slots() {
            match slot.init() {
                SlotInit::Zeros => state.arrays.push(vec![0.0; numbers.len()]),
                SlotInit::Ones => state.arrays.push(vec![1.0; numbers.len()]),
                SlotInit::Copy => state.arrays.push(numbers.to_vec()),
                SlotInit::Scalar(number) => state.scalars.push(number),
                SlotInit::Shared(_) => {}
                other => panic!("a slot with {other:?} is not supported"),
            }
        }
        state
    }

    /// Panics if this is not the state of a rule for a parameter.
    pub(super) fn require(&self, class: &str, kind: u64, value: &Host) {
        let is_half = value.is_half();
        assert!(self.kind == kind, "the state of a parameter is not state of {class}");
        assert!(self.shape == shape(value), "the state has shape {:?}, the parameter {:?}", self.shape, value.shape());
        assert!(self.master.is_empty() != is_half || self.is_empty(), "the state is not that of {:?}", value.dtype());
    }

    fn is_empty(&self) -> bool {
        self.shape.contains(&0)
    }

    /// Applies one step to a parameter.
    pub(super) fn step<R: UpdateRule<f32>>(
        &mut self,
        rule: &R,
        learning_rate: f64,
        weight_decay: Option<f64>,
        value: &mut Host,
        gradient: &Host,
    ) -> Result<(), Error> {
        let rate = rule.adjusted_learning_rate(learning_rate, self.iterations);
        let step = Step::new(self.iterations, rate);
        let mut step = SliceStep::with_weight_decay(rule, &step, &mut self.shared, weight_decay)?;
        let gradient = gradient.widened().unwrap_or_else(|| panic!("gradients of {:?} are not used", gradient.dtype()));
        let mut slots: Vec<&mut [f32]> = self.arrays.iter_mut().map(Vec::as_mut_slice).collect();
        let scalars = &mut self.scalars;
        let mut update = |value: &mut [f32]| step.update(NAME, value, &gradient, &mut slots, scalars);
        match value.slice_mut() {
            Some(AnySliceMut::F32(value)) => update(value)?,
            Some(AnySliceMut::Bf16(value)) => on_master(value, &mut self.master, update)?,
            Some(AnySliceMut::F16(value)) => on_master(value, &mut self.master, update)?,
            _ => panic!("parameters of {:?} are not trained", value.dtype()),
        }
        self.iterations += 1;
        Ok(())
    }
}

impl<const D: usize> RecordState for RuleState<D> {
    fn state_flatten(&self, prefix: &str, out: &mut StateSink) {
        out.push_scalar(prefix, "iterations", self.iterations.into());
        out.push_scalar(prefix, "kind", self.kind.into());
        for (axis, &length) in self.shape.iter().enumerate() {
            out.push_scalar(prefix, &format!("shape.{axis}"), (length as u64).into());
        }
        for (i, array) in self.arrays.iter().enumerate() {
            out.push_tensor(prefix, &format!("slots.{i}"), TensorData::new(array.clone(), self.shape));
        }
        for (i, &number) in self.scalars.iter().enumerate() {
            out.push_scalar(prefix, &format!("scalars.{i}"), number.into());
        }
        for (i, &number) in self.shared.iter().enumerate() {
            out.push_scalar(prefix, &format!("shared.{i}"), number.into());
        }
        if !self.master.is_empty() {
            out.push_tensor(prefix, "master", TensorData::new(self.master.clone(), self.shape));
        }
    }

    fn state_unflatten(prefix: &str, src: &mut StateSource, _device: &Device) -> Option<Self> {
        let iterations = src.take_scalar(prefix, "iterations")?.try_into().ok()?;
        let kind = src.take_scalar(prefix, "kind")?.try_into().ok()?;
        let mut shape = [0; D];
        for (axis, length) in shape.iter_mut().enumerate() {
            *length = src.take_scalar(prefix, &format!("shape.{axis}"))?.try_into().ok()?;
        }
        let mut array = |leaf: &str| match src.take_tensor(prefix, leaf) {
            None => Some(None),
            Some(data) if data.shape()[..] == shape => Some(Some(data.try_into_vec::<f32>().ok()?)),
            Some(_) => None,
        };
        let mut arrays = Vec::new();
        while let Some(array) = array(&format!("slots.{}", arrays.len()))? {
            arrays.push(array);
        }
        let master = array("master")?.unwrap_or_default();
        let [scalars, shared] = ["scalars", "shared"].map(|leaf| numbers(prefix, leaf, src));
        Some(Self { iterations, kind, shape, arrays, scalars, shared, master })
    }
}

/// The numbers `LEAF.0`, `LEAF.1` and so on.
fn numbers(prefix: &str, leaf: &str, src: &mut StateSource) -> Vec<f64> {
    let number = |i: usize| src.take_scalar(prefix, &format!("{leaf}.{i}")).and_then(|number| number.try_into().ok());
    (0..).map_while(number).collect()
}

/// The first values of the slots that exist once for all variables.
pub(super) fn shared(slots: &[SlotSpec]) -> Vec<f64> {
    let number = |slot: &SlotSpec| match slot.init() {
        SlotInit::Shared(number) => Some(number),
        _ => None,
    };
    slots.iter().filter_map(number).collect()
}

/// A number for a rule and its list of slots. (Records hold numbers, and no text.)
pub(super) fn kind(class: &str, slots: &[SlotSpec]) -> u64 {
    let parts = std::iter::once(class).chain(slots.iter().map(SlotSpec::name));
    // FNV-1a, which is the same in every version and on every machine.
    let byte = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    parts.fold(0xcbf2_9ce4_8422_2325, |hash, part| part.bytes().chain([0]).fold(hash, byte))
}

fn shape<const D: usize>(value: &Host) -> [usize; D] {
    value.shape().try_into().expect("a tensor has as many axes as its type says")
}

/// Updates the copy of a parameter in 32 bits, and rounds it into the parameter. Elements that are not their rounded
/// copies were changed by the caller, and the copy takes them over.
fn on_master<H: Narrow>(
    value: &mut [H],
    master: &mut [f32],
    update: impl FnOnce(&mut [f32]) -> Result<(), Error>,
) -> Result<(), Error> {
    for (half, full) in value.iter().zip(&mut *master) {
        if H::narrow(*full) != *half {
            *full = half.widen();
        }
    }
    update(master)?;
    for (half, full) in value.iter_mut().zip(&*master) {
        *half = H::narrow(*full);
    }
    Ok(())
}

/// Numbers in 16 bits.
trait Narrow: Copy + PartialEq {
    fn narrow(number: f32) -> Self;
    fn widen(self) -> f32;
}

macro_rules! narrow {
    ($($half:ty),+) => {$(
        impl Narrow for $half {
            fn narrow(number: f32) -> Self {
                Self::from_f32(number)
            }

            fn widen(self) -> f32 {
                self.to_f32()
            }
        }
    )+};
}

narrow!(bf16, f16);
