//! NovoGrad as a naive loop.

use std::collections::BTreeMap;

use super::Formula;

/// NovoGrad, with the settings of every library.
#[derive(Debug, Default, Clone)]
pub struct NovoGrad {
    /// Decay of m.
    pub beta_1: f64,
    /// Decay of v.
    pub beta_2: f64,
    /// Added to the root of v.
    pub epsilon: f64,
    /// Added to v.
    pub epsilon_root: f64,
    /// Weight decay.
    pub weight_decay: f64,
    /// Whether gradients are multiplied by 1 - `beta_1`, except the first.
    pub grad_averaging: bool,
    /// Whether the first gradient is multiplied by 1 - `beta_1`, too.
    pub average_first_step: bool,
    /// Whether the largest v so far is used.
    pub amsgrad: bool,
    /// Whether the learning rate is outside m.
    pub learning_rate_outside: bool,
    /// Whether m contains raw gradients.
    pub raw_moment: bool,
    /// Whether m and v are divided by the sum of their weights.
    pub bias_correction: bool,
    /// Whether v is averaged from 0 on.
    pub init_zero: bool,
    /// The state of each variable.
    pub layers: BTreeMap<String, Layer>,
}

/// The state of one variable.
#[derive(Debug, Default, Clone)]
pub struct Layer {
    /// The velocity.
    pub m: Vec<f64>,
    /// The average of squared norms; `None` before the first gradient that is not 0.
    pub v: Option<f64>,
    /// The largest average so far.
    pub largest: f64,
}

impl Formula for NovoGrad {
    fn update(&mut self, t: u64, eta: f64, name: &str, w: &mut [f64], rows: &BTreeMap<usize, Vec<f64>>) {
        let layer = self.layers.entry(name.to_owned()).or_default();
        layer.m.resize(w.len(), 0.0);
        let mut square_sum = 0.0;
        for g in rows.values().flatten() {
            square_sum += g * g;
        }
        let first = layer.v.is_none();
        if let Some(v) = &mut layer.v {
            *v = self.beta_2 * *v + (1.0 - self.beta_2) * square_sum;
        } else if square_sum > 0.0 {
            layer.v = Some(if self.init_zero { (1.0 - self.beta_2) * square_sum } else { square_sum });
        }
        // With beta_2 = 0, a gradient of 0 resets v.
        layer.v = layer.v.filter(|v| *v > 0.0);
        let mut v = layer.v.unwrap_or(0.0);
        layer.largest = layer.largest.max(v);
        if self.amsgrad {
            v = layer.largest;
        }
        let (mut m_seen, mut v_seen) = (1.0, 1.0);
        if self.bias_correction {
            m_seen -= self.beta_1.powi(t as i32 + 1);
            v_seen -= self.beta_2.powi(t as i32 + 1);
        }
        let denominator = (v / v_seen + self.epsilon_root).sqrt() + self.epsilon;
        let normalised = |number: f64| if denominator > 0.0 { number / denominator } else { 0.0 };
        for (row, gradient) in rows {
            for (column, g) in gradient.iter().enumerate() {
                let i = row * gradient.len() + column;
                let mut u = if self.raw_moment { *g } else { normalised(*g) + self.weight_decay * w[i] };
                if self.grad_averaging && (self.average_first_step || !first) {
                    u *= 1.0 - self.beta_1;
                }
                let (scale, later) = if self.learning_rate_outside { (1.0, eta) } else { (eta, 1.0) };
                // In the engine, m has the other sign if the learning rate is inside.
                layer.m[i] = self.beta_1 * layer.m[i] + scale * u;
                let mean = layer.m[i] / m_seen;
                w[i] -= if self.raw_moment {
                    later * normalised(mean) + eta * self.weight_decay * w[i]
                } else {
                    later * mean
                };
            }
        }
    }
}
