//! Records to test with.

use benches::record::Record;

/// A record of 10 M parameters.
pub(crate) fn record(rule: &str, peer: Option<&str>) -> Record {
    Record {
        rule: rule.to_owned(),
        peer: peer.map(str::to_owned),
        shape: "10M".to_owned(),
        tensors: 1,
        params: 10_000_000,
        dtype: "f32".to_owned(),
        threads: 2,
        ns_per_param: 0.5,
        ns_per_param_quartiles: [0.49, 0.51],
        samples: 100,
        min_bytes_per_param: 28.0,
        bare_ns_per_param: 0.4,
        ahead_ns_per_param: Some(0.35),
        bare_bytes_per_param: 28.0,
        fraction_of_bare_loop: 0.8,
        fraction_range: [0.75, 0.9],
    }
}
