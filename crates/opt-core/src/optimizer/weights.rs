//! The state as a list, in Keras's order.

use ndarray::ArrayD;

use super::Optimizer;
use crate::ema::Ema;
use crate::error::Error;
use crate::real::Scalar;
use crate::rule::{SlotInit, UpdateRule};

/// One entry of the state.
#[derive(Debug, Clone, PartialEq)]
pub struct Weight<T> {
    /// `iterations`, the name of a shared slot, or `variable/slot`.
    pub name: String,
    /// Its value.
    pub value: WeightValue<T>,
}

/// The value of one entry of the state.
#[derive(Debug, Clone, PartialEq)]
pub enum WeightValue<T> {
    /// The step counter.
    Iterations(u64),
    /// A shared slot, or a scalar slot of a variable.
    Scalar(f64),
    /// An array slot of a variable, in the variable's shape.
    Array(ArrayD<T>),
}

impl<T> From<Weight<T>> for WeightValue<T> {
    fn from(weight: Weight<T>) -> Self {
        weight.value
    }
}

impl<T: Scalar> WeightValue<T> {
    fn kind(&self) -> String {
        match self {
            Self::Iterations(_) => "a step counter".to_owned(),
            Self::Scalar(_) => "one number".to_owned(),
            Self::Array(array) => format!("an array of shape {:?}", array.shape()),
        }
    }

    fn fits(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Iterations(_), Self::Iterations(_)) | (Self::Scalar(_), Self::Scalar(_)) => true,
            (Self::Array(a), Self::Array(b)) => a.shape() == b.shape(),
            _ => false,
        }
    }
}

impl<R: UpdateRule<T>, T: Scalar> Optimizer<R, T> {
    /// All state besides the variables: `iterations`; with averaging the average of each variable; then slot by slot,
    /// in the order of the rule, the shared number or the slot of each variable.
    ///
    /// Together with the configuration and the variables this is everything that a run depends on.
    #[must_use]
    pub fn weights(&self) -> Vec<Weight<T>> {
        let mut weights =
            vec![Weight { name: "iterations".to_owned(), value: WeightValue::Iterations(self.iterations) }];
        for record in self.records.iter() {
            if let Some(average) = &record.average {
                let name = format!("{}/{}", record.name, Ema::SLOT);
                weights.push(Weight { name, value: WeightValue::Array(record.view(average).to_owned()) });
            }
        }
        let (mut shared, mut arrays, mut scalars) = (0, 0, 0);
        for slot in &self.slots {
            let name = |variable: &str| format!("{variable}/{}", slot.name());
            match slot.init() {
                SlotInit::Shared(_) => {
                    let value = WeightValue::Scalar(self.shared[shared]);
                    weights.push(Weight { name: slot.name().to_owned(), value });
                    shared += 1;
                }
                SlotInit::Scalar(_) => {
                    weights.extend(self.records.iter().map(|record| Weight {
                        name: name(&record.name),
                        value: WeightValue::Scalar(record.scalars[scalars]),
                    }));
                    scalars += 1;
                }
                SlotInit::Zeros | SlotInit::Ones | SlotInit::Copy => {
                    weights.extend(self.records.iter().map(|record| Weight {
                        name: name(&record.name),
                        value: WeightValue::Array(record.view(&record.arrays[arrays]).to_owned()),
                    }));
                    arrays += 1;
                }
            }
        }
        weights
    }

    /// Replaces all state by a list in the order of [`weights`](Self::weights).
    ///
    /// The variables must be known: from earlier steps, or from [`add_variables`](Self::add_variables).
    ///
    /// # Errors
    ///
    /// When the list has another length, or an entry another kind or shape. Nothing is then assigned.
    pub fn set_weights<W: Into<WeightValue<T>>>(&mut self, weights: impl IntoIterator<Item = W>) -> Result<(), Error> {
        let given: Vec<WeightValue<T>> = weights.into_iter().map(Into::into).collect();
        let current = self.weights();
        if given.len() != current.len() {
            return Err(Error::WeightCount { expected: current.len(), found: given.len() });
        }
        for (index, (given, current)) in given.iter().zip(&current).enumerate() {
            if !given.fits(&current.value) {
                let (name, expected, found) = (current.name.clone(), current.value.kind(), given.kind());
                return Err(Error::WeightMismatch { index, name, expected, found });
            }
        }
        self.assign(given);
        self.poisoned = false;
        Ok(())
    }

    /// Assigns a list that fits.
    fn assign(&mut self, weights: Vec<WeightValue<T>>) {
        let mut iterations = None;
        let (mut numbers, mut arrays) = (Vec::new(), Vec::new());
        for weight in weights {
            match weight {
                WeightValue::Iterations(count) => iterations = Some(count),
                WeightValue::Scalar(number) => numbers.push(number),
                WeightValue::Array(array) => arrays.push(array),
            }
        }
        self.iterations = iterations.unwrap_or(self.iterations);
        let (mut numbers, mut arrays) = (numbers.into_iter(), arrays.into_iter());
        for record in self.records.iter_mut().filter(|record| record.average.is_some()) {
            record.average = arrays.next().map(|array| record.stored(array.view()));
        }
        let (mut shared_at, mut arrays_at, mut scalars_at) = (0, 0, 0);
        for slot in &self.slots {
            match slot.init() {
                SlotInit::Shared(_) => {
                    self.shared[shared_at] = numbers.next().unwrap_or_default();
                    shared_at += 1;
                }
                SlotInit::Scalar(_) => {
                    for (record, number) in self.records.iter_mut().zip(numbers.by_ref()) {
                        record.scalars[scalars_at] = number;
                    }
                    scalars_at += 1;
                }
                SlotInit::Zeros | SlotInit::Ones | SlotInit::Copy => {
                    for record in self.records.iter_mut() {
                        if let Some(array) = arrays.next() {
                            record.arrays[arrays_at] = record.stored(array.view());
                        }
                    }
                    arrays_at += 1;
                }
            }
        }
    }
}
