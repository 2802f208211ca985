//! Lookahead as a naive loop.

use std::collections::BTreeMap;

use super::Formula;
use crate::problem::Problem;

/// Lookahead around another formula.
#[derive(Debug)]
pub struct Lookahead<F> {
    /// The formula inside.
    pub inner: F,
    /// The number of steps after which the variables go back.
    pub k: u64,
    /// The fraction of the way forward that remains.
    pub alpha: f64,
    /// Slow weights by variable.
    pub slow: BTreeMap<String, Vec<f64>>,
}

impl<F> Lookahead<F> {
    /// Lookahead whose slow weights are the initial variables.
    #[must_use]
    pub fn new(inner: F, k: u64, alpha: f64, problem: &Problem) -> Self {
        let variables = problem.variables.iter();
        let slow = variables.map(|(name, value)| (name.clone(), value.iter().copied().collect())).collect();
        Self { inner, k, alpha, slow }
    }
}

impl<F: Formula> Formula for Lookahead<F> {
    fn update(&mut self, t: u64, eta: f64, name: &str, w: &mut [f64], rows: &BTreeMap<usize, Vec<f64>>) {
        self.inner.update(t, eta, name, w, rows);
        if (t + 1).is_multiple_of(self.k) {
            let slow = self.slow.get_mut(name).expect("the problem has the variable");
            for i in 0..w.len() {
                slow[i] = (1.0 - self.alpha) * slow[i] + self.alpha * w[i];
                w[i] = slow[i];
            }
        }
    }
}
