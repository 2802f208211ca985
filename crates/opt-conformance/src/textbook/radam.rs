//! RectifiedAdam as a naive loop.

use std::collections::BTreeMap;

use super::Formula;

/// RectifiedAdam, with the settings of every library.
#[derive(Debug, Default)]
pub struct RectifiedAdam {
    /// Decay rate of the first moment.
    pub beta_1: f64,
    /// Decay rate of the second moment.
    pub beta_2: f64,
    /// Added to the root of the second moment.
    pub epsilon: f64,
    /// Added to the second moment.
    pub epsilon_root: f64,
    /// Whether epsilon is added before the bias of the second moment is corrected.
    pub epsilon_first: bool,
    /// Weight decay for each step.
    pub weight_decay: Vec<f64>,
    /// Whether weight decay is part of the gradient.
    pub coupled: bool,
    /// Whether the largest second moment so far is used.
    pub amsgrad: bool,
    /// The threshold that the length of the average must reach.
    pub threshold: f64,
    /// Whether the length must be above the threshold.
    pub strict: bool,
    /// The first moment, the second moment and its largest value, by variable and element.
    pub state: BTreeMap<String, Vec<[f64; 3]>>,
}

impl RectifiedAdam {
    /// The length of a plain average with the same mean age as the second moment: the gradient of `i` steps ago has
    /// weight `beta_2^i` and age `i + 1`, and in a plain average of length `n` the mean age is `(n + 1) / 2`.
    fn length(&self, t: u64) -> f64 {
        let weights = (0..=t).map(|age| self.beta_2.powf(age as f64));
        let ages: f64 = weights.clone().zip(0..).map(|(weight, age)| weight * (f64::from(age) + 1.0)).sum();
        2.0 * ages / weights.sum::<f64>() - 1.0
    }

    /// The sum of the weights of a moment after step `t`: `1 - beta^(t + 1)`.
    fn weight(beta: f64, t: u64) -> f64 {
        (0..=t).map(|age| (1.0 - beta) * beta.powf(age as f64)).sum()
    }

    /// The variance of the adaptive learning rate in the limit, divided by that in step `t`.
    fn variance_ratio(&self, t: u64) -> f64 {
        let term = |length: f64| (length - 4.0) * (length - 2.0) / length;
        term(self.length(t)) / term((1.0 + self.beta_2) / (1.0 - self.beta_2))
    }
}

impl Formula for RectifiedAdam {
    fn update(&mut self, t: u64, eta: f64, name: &str, w: &mut [f64], rows: &BTreeMap<usize, Vec<f64>>) {
        let mut state = self.state.remove(name).unwrap_or_else(|| vec![[0.0; 3]; w.len()]);
        let width = rows.values().next().map_or(1, Vec::len);
        let length = self.length(t);
        let rectified = length > self.threshold || (length == self.threshold && !self.strict);
        let decay = self.weight_decay.get(t as usize).copied().unwrap_or(0.0);
        for i in 0..w.len() {
            let row = rows.get(&(i / width));
            let mut g = row.map_or(0.0, |row| row[i % width]);
            if row.is_some() && self.coupled {
                g += decay * w[i];
            }
            let [m, v, largest] = &mut state[i];
            *m = self.beta_1 * *m + (1.0 - self.beta_1) * g;
            *v = self.beta_2 * *v + (1.0 - self.beta_2) * g * g;
            *largest = largest.max(*v);
            if row.is_none() {
                continue;
            }
            let mut step = *m / Self::weight(self.beta_1, t);
            if rectified {
                let second = if self.amsgrad { *largest } else { *v };
                let weight = Self::weight(self.beta_2, t);
                step *= self.variance_ratio(t).sqrt();
                step /= if self.epsilon_first {
                    ((second + self.epsilon_root).sqrt() + self.epsilon) / weight.sqrt()
                } else {
                    (second / weight + self.epsilon_root).sqrt() + self.epsilon
                };
            }
            if !self.coupled {
                step += decay * w[i];
            }
            w[i] -= eta * step;
        }
        self.state.insert(name.to_owned(), state);
    }
}
