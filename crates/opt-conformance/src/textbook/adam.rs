//! Adam as a naive loop.

use std::collections::BTreeMap;

use super::Formula;

/// Adam, with the settings of every library. The weight decay of AdamW is the engine's.
#[derive(Debug, Default)]
pub struct Adam {
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
    /// Weight decay that is part of the gradient.
    pub coupled_decay: f64,
    /// Whether the largest second moment so far is used.
    pub amsgrad: bool,
    /// Whether the largest one is found among second moments whose bias is corrected.
    pub amsgrad_corrected: bool,
    /// Whether each variable counts its own steps.
    pub counts_by_variable: bool,
    /// The steps, and for each element the first moment, the second moment and its largest value, by variable.
    pub state: BTreeMap<String, (u64, Vec<[f64; 3]>)>,
}

impl Adam {
    /// The sum of the weights of a moment after some steps: `1 - beta^steps`.
    fn weight(beta: f64, steps: u64) -> f64 {
        (0..steps).map(|age| (1.0 - beta) * beta.powf(age as f64)).sum()
    }

    /// The root that a step is divided by, epsilon included.
    fn divisor(&self, second: f64, largest: f64, weight: f64) -> f64 {
        let corrected = match (self.amsgrad, self.amsgrad_corrected) {
            (false, _) => second / weight,
            (true, false) => largest / weight,
            (true, true) => largest,
        };
        let epsilon = if self.epsilon_first { self.epsilon / weight.sqrt() } else { self.epsilon };
        (corrected + self.epsilon_root).sqrt() + epsilon
    }
}

impl Formula for Adam {
    fn update(&mut self, t: u64, eta: f64, name: &str, w: &mut [f64], rows: &BTreeMap<usize, Vec<f64>>) {
        let (own, mut state) = self.state.remove(name).unwrap_or_else(|| (0, vec![[0.0; 3]; w.len()]));
        let steps = if self.counts_by_variable { own + 1 } else { t + 1 };
        let [first_weight, second_weight] = [self.beta_1, self.beta_2].map(|beta| Self::weight(beta, steps));
        let width = rows.values().next().map_or(1, Vec::len);
        for (i, ([m, v, largest], w)) in state.iter_mut().zip(w).enumerate() {
            let g = rows.get(&(i / width)).map_or(0.0, |row| row[i % width]) + self.coupled_decay * *w;
            *m += (1.0 - self.beta_1) * (g - *m);
            *v += (1.0 - self.beta_2) * (g * g - *v);
            *largest = largest.max(if self.amsgrad_corrected { *v / second_weight } else { *v });
            // An element whose gradients have all been 0 does not move, even if epsilon is 0.
            if *v > 0.0 {
                *w -= eta * (*m / first_weight) / self.divisor(*v, *largest, second_weight);
            }
        }
        self.state.insert(name.to_owned(), (own + 1, state));
    }
}
