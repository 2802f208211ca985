//! NovoGrad as a naive loop.

use std::collections::BTreeMap;

use super::Formula;

/// NovoGrad, every dialect.
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
    /// The gradient counts with 1 - `beta_1`, but not the first.
    pub grad_averaging: bool,
    /// The first one, too.
    pub average_first_step: bool,
    /// The largest v so far counts.
    pub amsgrad: bool,
    /// m is free of the learning rate.
    pub learning_rate_outside: bool,
    /// m is of raw gradients.
    pub raw_moment: bool,
    /// m and v are divided by how much they have seen.
    pub bias_correction: bool,
    /// v is averaged from 0 on.
    pub init_zero: bool,
    /// Layers by variable.
    pub layers: BTreeMap<String, Layer>,
}

/// What is remembered of a variable.
#[derive(Debug, Default, Clone)]
pub struct Layer {
    /// The velocity.
    pub m: Vec<f64>,
    /// The average of squared norms, once there has been one.
    pub v: Option<f64>,
    /// The largest of them.
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
        // With beta_2 = 0 a gradient of 0 wipes out what has been seen.
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
                // The engine's velocity inside the learning rate has the other sign.
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
