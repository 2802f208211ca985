//! The textbook oracle: the formulas as naive loops in 64 bits. They share no code with the engine, and are themselves
//! checked by the recorded runs.

mod adam;
mod lookahead;
mod nadam;
mod novograd;
mod options;
mod radam;
mod sgd;

use std::collections::BTreeMap;

use ndarray::ArrayD;

pub use adam::Adam;
pub use lookahead::Lookahead;
pub use nadam::Nadam;
pub use novograd::NovoGrad;
pub use options::{all_close, options};
pub use radam::RectifiedAdam;
pub use sgd::Sgd;

use crate::problem::{Gradient, Problem};

/// A gradient as a list of rows; a dense gradient has all rows.
#[derive(Debug, Clone, PartialEq)]
pub struct Rows {
    /// Index and elements of each row, in the given order; a row may appear twice.
    pub rows: Vec<(usize, Vec<f64>)>,
    /// Whether these are all rows of the variable.
    pub dense: bool,
}

impl Rows {
    /// The rows of a gradient.
    #[must_use]
    pub fn new(gradient: &Gradient) -> Option<Self> {
        let cut = |values: &ArrayD<f64>| -> Vec<Vec<f64>> {
            let count = values.shape().first().copied().unwrap_or(1);
            let elements: Vec<f64> = values.iter().copied().collect();
            (0..count)
                .map(|row| elements[row * elements.len() / count..(row + 1) * elements.len() / count].to_vec())
                .collect()
        };
        match gradient {
            Gradient::Absent => None,
            Gradient::Dense(values) => Some(Self { rows: cut(values).into_iter().enumerate().collect(), dense: true }),
            Gradient::Sparse(rows, values) => {
                Some(Self { rows: rows.iter().copied().zip(cut(values)).collect(), dense: false })
            }
        }
    }

    fn norm(&self) -> f64 {
        self.rows.iter().flat_map(|(_, row)| row).map(|g| g * g).sum::<f64>().sqrt()
    }

    fn change(&mut self, change: impl Fn(f64) -> f64) {
        self.rows.iter_mut().flat_map(|(_, row)| row).for_each(|g| *g = change(*g));
    }

    /// The sum of the gradients of each row.
    fn summed(&self) -> BTreeMap<usize, Vec<f64>> {
        let mut sums: BTreeMap<usize, Vec<f64>> = BTreeMap::new();
        for (index, row) in &self.rows {
            let sum = sums.entry(*index).or_insert_with(|| vec![0.0; row.len()]);
            sum.iter_mut().zip(row).for_each(|(sum, g)| *sum += g);
        }
        sums
    }
}

/// An update rule, taken straight from its paper.
pub trait Formula {
    /// Updates one variable in step `t` (counted from 0) with learning rate `eta`. `rows` has each row once.
    fn update(&mut self, t: u64, eta: f64, name: &str, w: &mut [f64], rows: &BTreeMap<usize, Vec<f64>>);
}

/// Variables with rates of their own in the naive engine. A formula of their own is the caller's.
#[derive(Debug, Clone, Default)]
pub struct Team {
    /// The names of the variables.
    pub variables: Vec<String>,
    /// The learning rate of each step.
    pub rates: Vec<f64>,
    /// Decoupled weight decay.
    pub weight_decay: Option<f64>,
    /// Whether the variables have no averages.
    pub no_averages: bool,
}

/// The engine in its simplest form.
#[derive(Debug, Clone, Default)]
pub struct Naive {
    /// Clip by value.
    pub clipvalue: Option<f64>,
    /// Clip by norm.
    pub clipnorm: Option<f64>,
    /// Clip by global norm.
    pub global_clipnorm: Option<f64>,
    /// Decoupled weight decay.
    pub weight_decay: Option<f64>,
    /// Variables without weight decay.
    pub excluded: Vec<String>,
    /// Momentum and overwrite frequency of the averages.
    pub ema: Option<(f64, Option<u64>)>,
    /// Variables with rates of their own.
    pub teams: Vec<Team>,
}

impl Naive {
    /// The variables after each step.
    ///
    /// # Panics
    ///
    /// Never: each gradient belongs to a variable of the problem.
    pub fn run(
        &self,
        problem: &Problem,
        eta: impl Fn(u64) -> f64,
        formula: &mut dyn Formula,
    ) -> Vec<BTreeMap<String, Vec<f64>>> {
        let flat = |(name, value): &(String, ArrayD<f64>)| (name.clone(), value.iter().copied().collect());
        let mut variables: BTreeMap<String, Vec<f64>> = problem.variables.iter().map(flat).collect();
        let mut averages = variables.clone();
        let mut trace = Vec::new();
        for (t, step) in (0..).zip(&problem.steps) {
            let names = problem.variables.iter().map(|(name, _)| name.clone());
            let mut gradients: BTreeMap<String, Rows> =
                names.zip(step).filter_map(|(name, gradient)| Some((name, Rows::new(gradient)?))).collect();
            self.clip(&mut gradients);
            for (name, gradient) in &gradients {
                let w = variables.get_mut(name).expect("gradients belong to variables");
                let team = self.teams.iter().find(|team| team.variables.contains(name));
                let eta = team.map_or_else(|| eta(t), |team| team.rates[t as usize]);
                let weight_decay = team.map_or(self.weight_decay, |team| team.weight_decay);
                if let Some(rate) = weight_decay.filter(|_| !self.excluded.contains(name)) {
                    w.iter_mut().for_each(|w| *w -= *w * rate * eta);
                }
                formula.update(t, eta, name, w, &gradient.summed());
                if let Some((momentum, overwrite)) = self.ema.filter(|_| team.is_none_or(|team| !team.no_averages)) {
                    let average = averages.get_mut(name).expect("each variable has an average");
                    for (average, w) in average.iter_mut().zip(w) {
                        *average = momentum * *average + (1.0 - momentum) * *w;
                        if overwrite.is_some_and(|frequency| (t + 1) % frequency == 0) {
                            *w = *average;
                        }
                    }
                }
            }
            trace.push(variables.clone());
        }
        trace
    }

    fn clip(&self, gradients: &mut BTreeMap<String, Rows>) {
        for gradient in gradients.values_mut() {
            if let Some(limit) = self.clipvalue {
                gradient.change(|g| g.clamp(-limit, limit));
            }
            if let Some(limit) = self.clipnorm {
                let norm = gradient.norm();
                gradient.change(|g| g * limit / norm.max(limit));
            }
        }
        if let Some(limit) = self.global_clipnorm {
            let norm = gradients.values().map(|gradient| gradient.norm().powi(2)).sum::<f64>().sqrt();
            gradients.values_mut().for_each(|gradient| gradient.change(|g| g * limit / norm.max(limit)));
        }
    }
}
