//! One line of results.

use serde::{Deserialize, Serialize};

use crate::sampling::{Times, quantile};

/// What was measured of one contestant, on one shape, in one type, on so many threads.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// The contestant; for a peer, the contestant of ours that it was timed against.
    pub rule: String,
    /// Who else it is and how it was run; absent for ours.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer: Option<String>,
    /// The list of tensors.
    pub shape: String,
    /// How many tensors it has.
    pub tensors: usize,
    /// How many elements they have together.
    pub params: usize,
    /// `f32` or `f64`.
    pub dtype: String,
    /// How many threads.
    pub threads: usize,
    /// The median time of a step, in nanoseconds per parameter; where steps differ, of the mean over a cycle of them.
    pub ns_per_param: f64,
    /// The quartiles of the same.
    pub ns_per_param_quartiles: [f64; 2],
    /// How many samples there were.
    pub samples: usize,
    /// The fewest bytes that a step must move.
    pub min_bytes_per_param: f64,
    /// The median of the bare loop that took turns with it.
    pub bare_ns_per_param: f64,
    /// What the bare loop moves.
    pub bare_bytes_per_param: f64,
    /// `(min_bytes_per_param / ns_per_param) / (bare_bytes_per_param / bare_ns_per_param)`: 1 is as fast as memory
    /// allows.
    pub fraction_of_bare_loop: f64,
    /// The lowest and highest fraction of a single round.
    pub fraction_range: [f64; 2],
}

/// What records of two runs are compared by.
pub type Key = (String, Option<String>, String, String, usize);

/// What is measured, before it is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Setting<'a> {
    /// The contestant of ours.
    pub rule: &'a str,
    /// The list of tensors.
    pub shape: &'a crate::shapes::Shape,
    /// The element type.
    pub dtype: &'static str,
    /// How many threads.
    pub threads: usize,
    /// The fewest bytes that a step must move, which is what the bare loop moves.
    pub bytes: f64,
}

impl Setting<'_> {
    /// What `--filter` looks at: `nadam/10M/f32/2`.
    #[must_use]
    pub fn id(&self) -> String {
        format!("{}/{}/{}/{}", self.rule, self.shape.name, self.dtype, self.threads)
    }

    /// The record of these times.
    #[must_use]
    pub fn record(&self, peer: Option<String>, times: &Times, bare: &Times) -> Record {
        let params = self.shape.params() as f64;
        let ns = |at| times.quantile(at) / params;
        let (ns_per_param, bare_ns_per_param) = (ns(0.5), bare.median() / params);
        let by_round: Vec<f64> =
            times.round_medians().zip(bare.round_medians()).map(|(ours, bare)| bare / ours).collect();
        Record {
            rule: self.rule.to_owned(),
            peer,
            shape: self.shape.name.clone(),
            tensors: self.shape.tensors.len(),
            params: self.shape.params(),
            dtype: self.dtype.to_owned(),
            threads: self.threads,
            ns_per_param,
            ns_per_param_quartiles: [ns(0.25), ns(0.75)],
            samples: times.samples(),
            min_bytes_per_param: self.bytes,
            bare_ns_per_param,
            bare_bytes_per_param: self.bytes,
            fraction_of_bare_loop: bare_ns_per_param / ns_per_param,
            fraction_range: [quantile(by_round.clone(), 0.0), quantile(by_round, 1.0)],
        }
    }
}

impl Record {
    /// What identifies it in another run.
    #[must_use]
    pub fn key(&self) -> Key {
        (self.rule.clone(), self.peer.clone(), self.shape.clone(), self.dtype.clone(), self.threads)
    }

    /// Minimal bytes over time, in GB/s.
    #[must_use]
    pub fn bandwidth(&self) -> f64 {
        self.min_bytes_per_param / self.ns_per_param
    }

    /// Half of the distance of the quartiles, as a part of the median.
    #[must_use]
    pub fn noise(&self) -> f64 {
        (self.ns_per_param_quartiles[1] - self.ns_per_param_quartiles[0]) / (2.0 * self.ns_per_param)
    }
}
