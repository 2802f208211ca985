//! Nadam as a naive loop.

use std::collections::BTreeMap;

use super::Formula;

/// Adam with Nesterov momentum.
#[derive(Debug, Default)]
pub struct Nadam {
    /// Decay rate of the first moment.
    pub beta_1: f64,
    /// Decay rate of the second moment.
    pub beta_2: f64,
    /// Added to the root.
    pub epsilon: f64,
    /// The rate at which the momentum rises; without it the momentum is constant.
    pub schedule_decay: Option<f64>,
    /// Whether 0.96 is held in 32 bits.
    pub single_base: bool,
    /// Whether rows without a gradient keep their value; their moments decay in any case.
    pub touched_rows_only: bool,
    /// First and second moments by variable.
    pub moments: BTreeMap<String, Vec<(f64, f64)>>,
}

impl Nadam {
    /// The momentum of a step counted from 1.
    #[must_use]
    pub fn momentum(&self, step: u64) -> f64 {
        match self.schedule_decay {
            None => self.beta_1,
            Some(decay) => {
                let base = if self.single_base { f64::from(0.96_f32) } else { 0.96 };
                self.beta_1 - self.beta_1 * (decay * step as f64 * base.ln()).exp() / 2.0
            }
        }
    }

    /// The product of the momenta up to a step.
    #[must_use]
    pub fn product(&self, step: u64) -> f64 {
        (1..=step).map(|step| self.momentum(step)).product()
    }
}

impl Formula for Nadam {
    fn update(&mut self, t: u64, eta: f64, name: &str, w: &mut [f64], rows: &BTreeMap<usize, Vec<f64>>) {
        let step = t + 1;
        let (mu, next, product) = (self.momentum(step), self.momentum(step + 1), self.product(step));
        let correction = 1.0 - self.beta_2.powf(step as f64);
        let width = rows.values().next().map_or(1, Vec::len);
        let moments = self.moments.entry(name.to_owned()).or_insert_with(|| vec![(0.0, 0.0); w.len()]);
        for (i, ((m, v), w)) in moments.iter_mut().zip(w).enumerate() {
            let row = rows.get(&(i / width));
            let g = row.map_or(0.0, |row| row[i % width]);
            *m += (1.0 - self.beta_1) * (g - *m);
            *v += (1.0 - self.beta_2) * (g * g - *v);
            // An element whose gradients have all been 0 does not move, even if epsilon is 0.
            if *v > 0.0 && (row.is_some() || !self.touched_rows_only) {
                let ahead = next * *m / (1.0 - product * next) + (1.0 - mu) * g / (1.0 - product);
                *w -= eta * ahead / ((*v / correction).sqrt() + self.epsilon);
            }
        }
    }
}
