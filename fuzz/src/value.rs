//! Variables in the element type of the optimizer or in 16 bits, and the same training without numbers in 16 bits.

use half::{bf16, f16};
use ndarray::ArrayD;
use opt_conformance::problem::bits;
use optimizers::state::StateValue;
use optimizers::{DynOptimizer, Master, Optimizer, Scalar, Variable, ViewMut};

/// The types that a variable may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The element type.
    Full,
    /// [`bf16`].
    Bf16,
    /// [`f16`].
    F16,
}

/// The numbers of a variable.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "as in `Kind`")]
pub enum Value<T> {
    Full(ArrayD<T>),
    Bf16(ArrayD<bf16>),
    F16(ArrayD<f16>),
}

/// An element type of optimizers. Only those in 32 bits have variables in 16.
pub trait Element: Scalar {
    /// A view of any numbers, for an optimizer in this type.
    fn view(value: &mut Value<Self>) -> ViewMut<'_, Self>;
}

impl Element for f32 {
    fn view(value: &mut Value<Self>) -> ViewMut<'_, Self> {
        match value {
            Value::Full(numbers) => numbers.into(),
            Value::Bf16(numbers) => ViewMut::half(numbers),
            Value::F16(numbers) => ViewMut::half(numbers),
        }
    }
}

impl Element for f64 {
    fn view(value: &mut Value<Self>) -> ViewMut<'_, Self> {
        match value {
            Value::Full(numbers) => numbers.into(),
            Value::Bf16(_) | Value::F16(_) => unreachable!("plans in 64 bits have no variables in 16"),
        }
    }
}

impl<T: Element> Value<T> {
    /// Numbers that all three types have.
    pub fn new(kind: Kind, numbers: &ArrayD<f64>) -> Self {
        match kind {
            Kind::Full => Self::Full(numbers.mapv(T::literal)),
            Kind::Bf16 => Self::Bf16(numbers.mapv(bf16::from_f64)),
            Kind::F16 => Self::F16(numbers.mapv(f16::from_f64)),
        }
    }

    /// A variable without a gradient.
    pub fn variable<'a>(&'a mut self, name: &'a str) -> Variable<'a, T> {
        Variable::new(name, T::view(self))
    }

    /// The numbers in 64 bits.
    pub fn wide(&self) -> Vec<f64> {
        match self {
            Self::Full(numbers) => numbers.iter().map(|number| number.as_()).collect(),
            Self::Bf16(numbers) => numbers.iter().map(|number| number.to_f64()).collect(),
            Self::F16(numbers) => numbers.iter().map(|number| number.to_f64()).collect(),
        }
    }

    /// The numbers bit for bit.
    pub fn bits(&self) -> Vec<u64> {
        match self {
            Self::Full(numbers) => bits(numbers),
            half => half.wide().into_iter().map(f64::to_bits).collect(),
        }
    }

    /// The digits behind the first one, and the exponent of the smallest normal number, of numbers in 16 bits.
    fn digits(&self) -> Option<(i32, i32)> {
        match self {
            Self::Full(_) => None,
            Self::Bf16(_) => Some((7, -126)),
            Self::F16(_) => Some((10, -14)),
        }
    }

    fn shape(&self) -> &[usize] {
        match self {
            Self::Full(numbers) => numbers.shape(),
            Self::Bf16(numbers) => numbers.shape(),
            Self::F16(numbers) => numbers.shape(),
        }
    }

    /// The numbers that the next step starts from.
    pub fn masters(&self, name: &str, optimizer: &DynOptimizer<T>) -> Vec<f64> {
        let Some((digits, lowest)) = self.digits() else { return self.wide() };
        let slot = |slot: &&str| optimizer.slot(name, slot).ok().map(|kept| (**slot == *"master", kept.to_f64()));
        match Master::SLOTS.iter().find_map(slot) {
            None => self.wide(),
            Some((true, master)) => master,
            Some((false, corrections)) => {
                let master = |(w, correction): (f64, f64)| {
                    if !w.is_finite() {
                        return w;
                    }
                    let exponent = exponent(w, lowest);
                    // Numbers below a power of two are twice as close.
                    let is_power = w.abs() == 2.0_f64.powi(exponent) && exponent > lowest;
                    let closer = i32::from(is_power && correction < 0.0);
                    let unit = 2.0_f64.powi(exponent - digits - closer) / 256.0;
                    (w.abs() + correction * unit).copysign(w)
                };
                self.wide().into_iter().zip(corrections).map(master).collect()
            }
        }
    }
}

/// The exponent of a number in 16 bits.
fn exponent(x: f64, lowest: i32) -> i32 {
    (x.abs().log2().floor() as i32).max(lowest)
}

/// The same training with all variables in the element type, which starts from the masters.
pub struct Twin<T: 'static> {
    optimizer: DynOptimizer<T>,
    values: Vec<Value<T>>,
}

impl<T: Element> Twin<T> {
    /// None if there is no variable in 16 bits.
    pub fn of(optimizer: &DynOptimizer<T>, names: &[&str], values: &[Value<T>]) -> Option<Self> {
        values.iter().find(|value| value.digits().is_some())?;
        let config = optimizer.to_config().expect("no code in it");
        let wide = |(value, name): (&Value<T>, &&str)| {
            let masters = value.masters(name, optimizer).into_iter().map(T::literal).collect();
            Value::Full(ArrayD::from_shape_vec(value.shape(), masters).expect("as many as the variable has"))
        };
        let mut values: Vec<Value<T>> = values.iter().zip(names).map(wide).collect();
        let mut next = Optimizer::from_config(&config, &optimizers::registry()).expect("it was just written");
        let mut lent: Vec<_> = names.iter().zip(&mut values).map(|(name, value)| Some(value.variable(name))).collect();
        let place = |known: &str| names.iter().position(|name| *name == known).expect("a name of ours");
        let known = optimizer.variables().map(|(known, _)| lent[place(known)].take().expect("it has one record"));
        let mut known: Vec<_> = known.collect();
        let weights = optimizer.weights().into_iter().filter(|entry| !is_master(&entry.name));
        next.restore(&mut known, weights.map(StateValue::from)).expect("the same variables");
        drop((known, lent));
        Some(Self { optimizer: next, values })
    }

    /// Its optimizer and its variables, for the step that the other one makes.
    pub fn parts(&mut self) -> (&mut DynOptimizer<T>, &mut [Value<T>]) {
        (&mut self.optimizer, &mut self.values)
    }

    /// Compares after a step: the same state, and masters that are off by less than a unit of their last digit.
    pub fn compare(&self, optimizer: &DynOptimizer<T>, names: &[&str], values: &[Value<T>], master: Master) {
        let state = |optimizer: &DynOptimizer<T>| {
            let weights = optimizer.weights().into_iter().filter(|entry| !is_master(&entry.name));
            let bits = |value: StateValue<'_, T>| value.to_f64().into_iter().map(canonical).collect();
            weights.map(|entry| (entry.name, bits(entry.value))).collect::<Vec<(String, Vec<u64>)>>()
        };
        assert_eq!(state(optimizer), state(&self.optimizer));
        for ((name, value), wide) in names.iter().zip(values).zip(&self.values) {
            let masters = value.masters(name, optimizer);
            let Some((digits, lowest)) = value.digits() else {
                let bits = |value: &Value<T>| value.wide().into_iter().map(canonical).collect::<Vec<u64>>();
                assert_eq!(bits(value), bits(wide), "{name}");
                continue;
            };
            let largest = if digits == 7 { f64::from(bf16::MAX) } else { f64::from(f16::MAX) };
            // How far a variable is from its master, and the master from the number in the element type, in units of
            // the variable's last digit.
            let (rounded, kept) = match master {
                Master::Full => (0.5, 0.0),
                Master::Bits24 { .. } => (0.5, 1.0 / 256.0),
                _ => (0.0, 1.0),
            };
            for ((got, master), want) in value.wide().into_iter().zip(masters).zip(wide.wide()) {
                if want.abs() > largest || !want.is_finite() {
                    assert!(!got.is_finite() || got.abs() == largest, "{name}: {got:e} of {want:e}");
                    continue;
                }
                let unit = 2.0_f64.powi(exponent(want, lowest) - digits);
                // Below the normal numbers of float16, 1/8,192 of a unit is rounded away first.
                let within = |x: f64, from: f64, units: f64| (x - from).abs() <= units * unit * (1.0 + 1.0 / 32.0);
                let close = within(got, master, rounded) && within(master, want, kept);
                assert!(close, "{name}: {got:e} and {master:e}, not {want:e}");
            }
        }
    }
}

/// Whether an entry of the state is the slot of a master.
fn is_master(name: &str) -> bool {
    Master::SLOTS.iter().any(|slot| name.ends_with(&format!("/{slot}")))
}

/// Bits that are the same for every NaN.
fn canonical(x: f64) -> u64 {
    if x.is_nan() { f64::NAN.to_bits() } else { x.to_bits() }
}
