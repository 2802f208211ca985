//! SGD as a naive loop.

use std::collections::BTreeMap;

use super::Formula;

/// Stochastic gradient descent with momentum.
#[derive(Debug, Default)]
pub struct Sgd {
    /// Momentum.
    pub mu: f64,
    /// Nesterov momentum.
    pub nesterov: bool,
    /// Whether rows without a gradient keep their velocity and their value.
    pub lazy: bool,
    /// Velocities by variable.
    pub velocity: BTreeMap<String, Vec<f64>>,
}

impl Formula for Sgd {
    fn update(&mut self, _t: u64, eta: f64, name: &str, w: &mut [f64], rows: &BTreeMap<usize, Vec<f64>>) {
        let velocity = self.velocity.entry(name.to_owned()).or_insert_with(|| vec![0.0; w.len()]);
        let width = rows.values().next().map_or(1, Vec::len);
        for i in 0..w.len() {
            let row = rows.get(&(i / width));
            if row.is_none() && self.lazy {
                continue;
            }
            let g = row.map_or(0.0, |row| row[i % width]);
            velocity[i] = self.mu * velocity[i] - eta * g;
            w[i] += if self.nesterov { self.mu * velocity[i] - eta * g } else { velocity[i] };
        }
    }
}
