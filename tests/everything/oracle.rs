//! The whole engine as naive loops in 64 bits: groups, accumulation, loss scaling, clips, decay, averages.

use std::collections::BTreeMap;

use opt_conformance::problem::Gradient;
use opt_conformance::textbook::{Formula, Rows};

/// A group of variables, with all of its options.
pub(crate) struct Team {
    pub(crate) rate: f64,
    pub(crate) decay: f64,
    pub(crate) clipnorm: Option<f64>,
    pub(crate) averages: bool,
    pub(crate) frozen: bool,
    pub(crate) formula: Box<dyn Formula>,
    pub(crate) has: fn(&str) -> bool,
}

/// The engine.
pub(crate) struct Oracle {
    /// A variable belongs to the first team that has it.
    pub(crate) teams: Vec<Team>,
    pub(crate) global_clipnorm: f64,
    pub(crate) ema: f64,
    pub(crate) overwrite_every: u64,
    /// The calls of a step, and whether their gradients are averaged.
    pub(crate) calls: usize,
    pub(crate) mean: bool,
    pub(crate) scale: f64,
    pub(crate) growth_interval: u64,
    pub(crate) good_steps: u64,
    pub(crate) iterations: u64,
    pub(crate) values: BTreeMap<String, Vec<f64>>,
    pub(crate) averages: BTreeMap<String, Vec<f64>>,
    /// The unscaled gradients of the calls since the last step, for each rank.
    pub(crate) waiting: Vec<Vec<BTreeMap<String, Rows>>>,
}

/// The result of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Done {
    Added,
    Stepped,
    Overflowed,
}

impl Oracle {
    pub(crate) fn team_of(&self, name: &str) -> usize {
        self.teams.iter().position(|team| (team.has)(name)).unwrap()
    }

    pub(crate) fn freeze(&mut self, team: usize) {
        self.teams[team].frozen = true;
        let names: Vec<String> = self.values.keys().filter(|name| self.team_of(name) == team).cloned().collect();
        self.waiting.iter_mut().flatten().for_each(|of_rank| of_rank.retain(|name, _| !names.contains(name)));
    }

    /// One call, with the gradients that each rank has of the scaled loss.
    pub(crate) fn call(&mut self, of_ranks: &[Vec<(&str, Gradient)>]) -> Done {
        let mut call = Vec::new();
        for gradients in of_ranks {
            let mut of_rank = BTreeMap::new();
            for (name, gradient) in gradients {
                if let Some(mut rows) = Rows::new(gradient)
                    && !self.teams[self.team_of(name)].frozen
                {
                    rows.rows.iter_mut().flat_map(|(_, row)| row).for_each(|g| *g /= self.scale);
                    of_rank.insert((*name).to_owned(), rows);
                }
            }
            call.push(of_rank);
        }
        let mut elements = call.iter().flat_map(BTreeMap::values).flat_map(|rows| &rows.rows).flat_map(|(_, row)| row);
        if elements.any(|g| !g.is_finite()) {
            self.scale = (self.scale / 2.0).max(1.0);
            self.good_steps = 0;
            return Done::Overflowed;
        }
        self.waiting.push(call);
        if self.waiting.len() < self.calls {
            return Done::Added;
        }
        self.step();
        Done::Stepped
    }

    /// The gradients that wait: their sum on each rank, then the mean over ranks. Rows of several ranks are a list if
    /// all gradients of the variable are sparse.
    fn total(&mut self) -> BTreeMap<String, Vec<(usize, Vec<f64>)>> {
        let waiting = std::mem::take(&mut self.waiting);
        let ranks = waiting[0].len();
        let factor = if self.mean { 1.0 / waiting.len() as f64 } else { 1.0 } / ranks as f64;
        let mut totals: BTreeMap<String, Vec<(usize, Vec<f64>)>> = BTreeMap::new();
        for name in self.values.keys() {
            let mut sums = vec![BTreeMap::<usize, Vec<f64>>::new(); ranks];
            let gradients = |rank: usize| waiting.iter().filter_map(move |call| call[rank].get(name));
            if gradients(0).next().is_none() {
                continue;
            }
            let is_dense = gradients(0).any(|rows| rows.dense);
            for rank in 0..ranks {
                let sum = &mut sums[if is_dense { 0 } else { rank }];
                for (index, row) in gradients(rank).flat_map(|rows| &rows.rows) {
                    let sum = sum.entry(*index).or_insert_with(|| vec![0.0; row.len()]);
                    sum.iter_mut().zip(row).for_each(|(sum, g)| *sum += g * factor);
                }
            }
            totals.insert(name.clone(), sums.into_iter().flatten().collect());
        }
        totals
    }

    /// Applies the gradients that wait.
    pub(crate) fn step(&mut self) {
        let mut totals = self.total();
        let norm = |rows: &[(usize, Vec<f64>)]| rows.iter().flat_map(|(_, row)| row).map(|g| g * g).sum::<f64>().sqrt();
        let scale = |rows: &mut [(usize, Vec<f64>)], factor: f64| {
            rows.iter_mut().flat_map(|(_, row)| row).for_each(|g| *g *= factor);
        };
        for (name, rows) in &mut totals {
            if let Some(limit) = self.teams[self.team_of(name)].clipnorm {
                let norm = norm(rows);
                scale(rows, limit / norm.max(limit));
            }
        }
        let global = totals.values().map(|rows| norm(rows).powi(2)).sum::<f64>().sqrt();
        for (name, mut rows) in totals {
            scale(&mut rows, self.global_clipnorm / global.max(self.global_clipnorm));
            let mut sum: BTreeMap<usize, Vec<f64>> = BTreeMap::new();
            for (index, row) in &rows {
                let sum = sum.entry(*index).or_insert_with(|| vec![0.0; row.len()]);
                sum.iter_mut().zip(row).for_each(|(sum, g)| *sum += g);
            }
            let team = self.team_of(&name);
            let team = &mut self.teams[team];
            let w = self.values.get_mut(&name).unwrap();
            w.iter_mut().for_each(|w| *w -= *w * team.decay * team.rate);
            team.formula.update(self.iterations, team.rate, &name, w, &sum);
            if team.averages {
                let average = self.averages.get_mut(&name).unwrap();
                for (average, w) in average.iter_mut().zip(w) {
                    *average = self.ema * *average + (1.0 - self.ema) * *w;
                    if (self.iterations + 1).is_multiple_of(self.overwrite_every) {
                        *w = *average;
                    }
                }
            }
        }
        self.iterations += 1;
        self.good_steps += 1;
        if self.good_steps == self.growth_interval {
            (self.good_steps, self.scale) = (0, self.scale * 2.0);
        }
    }
}
