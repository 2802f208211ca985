//! One line of results.

use serde::{Deserialize, Serialize};

use crate::sampling::{Times, quantile};

/// The measurement of one contestant, on one shape, in one type, with one number of threads.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// The contestant. For a peer, our contestant against which it was timed.
    pub rule: String,
    /// The peer, and how it was run; absent for our own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer: Option<String>,
    /// The list of tensors.
    pub shape: String,
    /// The number of tensors.
    pub tensors: usize,
    /// The number of elements of all tensors.
    pub params: usize,
    /// `f32` or `f64`.
    pub dtype: String,
    /// The number of threads.
    pub threads: usize,
    /// The median time of a step, in nanoseconds per parameter. If steps differ, it is that of the mean over a cycle
    /// of steps.
    pub ns_per_param: f64,
    /// The quartiles of the same.
    pub ns_per_param_quartiles: [f64; 2],
    /// The number of samples.
    pub samples: usize,
    /// The fewest bytes that a step must move.
    pub min_bytes_per_param: f64,
    /// The median of the bare loop that took turns with it.
    pub bare_ns_per_param: f64,
    /// The median of the bare loop that prefetches. Results of earlier versions have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ahead_ns_per_param: Option<f64>,
    /// The bytes that the bare loop moves.
    pub bare_bytes_per_param: f64,
    /// `(min_bytes_per_param / ns) / (bare_bytes_per_param / bare_ns)`: 1 is as fast as memory allows. It is computed
    /// from the medians of each round, and this is the median over rounds. So it may differ a little from the
    /// fraction of the overall medians, if the machine became faster or slower in between.
    pub fraction_of_bare_loop: f64,
    /// The lowest and highest fraction of a round.
    pub fraction_range: [f64; 2],
}

/// The key by which records of two runs are compared.
pub type Key = (String, Option<String>, String, String, usize);

/// The description of a measurement before it runs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Setting<'a> {
    /// Our contestant.
    pub rule: &'a str,
    /// The list of tensors.
    pub shape: &'a crate::shapes::Shape,
    /// The element type.
    pub dtype: &'static str,
    /// The number of threads.
    pub threads: usize,
    /// The fewest bytes that a step must move; the bare loop moves them.
    pub bytes: f64,
}

impl Setting<'_> {
    /// The text that `--filter` matches: `nadam/10M/f32/2`.
    #[must_use]
    pub fn id(&self) -> String {
        format!("{}/{}/{}/{}", self.rule, self.shape.name, self.dtype, self.threads)
    }

    /// The record of these times.
    #[must_use]
    pub fn record(&self, peer: Option<String>, times: &Times, bare: &Times, ahead: &Times) -> Record {
        let params = self.shape.params() as f64;
        let ns = |at| times.quantile(at) / params;
        // The bare loop moves as many bytes.
        let rounds = times.round_medians().zip(bare.round_medians());
        let fractions: Vec<f64> = rounds.map(|(ours, bare)| bare / ours).collect();
        let fraction = |at| quantile(fractions.clone(), at);
        Record {
            rule: self.rule.to_owned(),
            peer,
            shape: self.shape.name.clone(),
            tensors: self.shape.tensors.len(),
            params: self.shape.params(),
            dtype: self.dtype.to_owned(),
            threads: self.threads,
            ns_per_param: ns(0.5),
            ns_per_param_quartiles: [ns(0.25), ns(0.75)],
            samples: times.samples(),
            min_bytes_per_param: self.bytes,
            bare_ns_per_param: bare.median() / params,
            ahead_ns_per_param: Some(ahead.median() / params),
            bare_bytes_per_param: self.bytes,
            fraction_of_bare_loop: fraction(0.5),
            fraction_range: [fraction(0.0), fraction(1.0)],
        }
    }
}

impl Record {
    /// The key that identifies it in another run.
    #[must_use]
    pub fn key(&self) -> Key {
        (self.rule.clone(), self.peer.clone(), self.shape.clone(), self.dtype.clone(), self.threads)
    }

    /// Minimal bytes over time, in GB/s.
    #[must_use]
    pub fn bandwidth(&self) -> f64 {
        self.min_bytes_per_param / self.ns_per_param
    }

    /// Half of the distance of the quartiles, as a fraction of the median.
    #[must_use]
    pub fn noise(&self) -> f64 {
        (self.ns_per_param_quartiles[1] - self.ns_per_param_quartiles[0]) / (2.0 * self.ns_per_param)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shapes::Shape;

    #[test]
    fn fractions_are_those_of_rounds() {
        let shape = Shape::many(2, 500);
        let setting = Setting { rule: "nadam", shape: &shape, dtype: "f32", threads: 2, bytes: 28.0 };
        // The machine is twice as fast in the second round, for both.
        let ours = Times::new(vec![vec![800.0, 810.0, 790.0], vec![400.0], vec![500.0]]);
        let bare = Times::new(vec![vec![600.0], vec![320.0], vec![500.0]]);
        let record = setting.record(None, &ours, &bare, &ours);
        assert_eq!((record.ns_per_param, record.bare_ns_per_param), (0.79, 0.5));
        assert_eq!(record.ahead_ns_per_param, Some(0.79));
        assert_eq!((record.fraction_of_bare_loop, record.fraction_range), (0.8, [0.75, 1.0]));
        assert_eq!((record.params, record.tensors, record.samples), (1_000, 2, 5));
        assert_eq!(record.ns_per_param_quartiles, [0.5, 0.8]);
        assert_eq!(setting.id(), "nadam/2x500/f32/2");
        assert_eq!(record.key(), ("nadam".to_owned(), None, "2x500".to_owned(), "f32".to_owned(), 2));
        assert!((record.bandwidth() - 28.0 / 0.79).abs() < 1e-12);
        assert!((record.noise() - 0.15 / 0.79).abs() < 1e-12);
    }

    #[test]
    fn results_are_read_as_written_and_ours_have_no_peer() {
        let shape = Shape::single(10);
        let setting = Setting { rule: "sgd", shape: &shape, dtype: "f64", threads: 1, bytes: 24.0 };
        let times = Times::new(vec![vec![30.0]]);
        for (peer, names_it) in [(None, false), (Some("torch: SGD".to_owned()), true)] {
            let record = setting.record(peer, &times, &times, &times);
            let text = serde_json::to_string(&record).unwrap();
            assert_eq!(text.contains("\"peer\""), names_it);
            assert_eq!(serde_json::from_str::<Record>(&text).unwrap(), record);
        }
    }
}
