//! The measurements, in their order.

use benches::sampling::Effort;
use benches::shapes::Shape;
use regex::Regex;

use crate::args::Args;

/// The contestants that are also timed at intermediate sizes, to show how time scales.
const SCALED: [&str; 4] = ["sgd", "momentum", "nadam", "clip-lookahead-radam-ema"];

/// Intermediate sizes.
const SCALING: [usize; 7] = [1_000, 16_000, 64_000, 256_000, 3_000_000, 25_000_000, 100_000_000];

/// All measurements.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) cases: Vec<Case>,
    pub(crate) effort: Effort,
    /// Whether the times of a fork and join and of an empty step are measured.
    pub(crate) with_overheads: bool,
    pub(crate) filter: Option<Regex>,
    /// The number of threads at which peers are timed.
    pub(crate) most_threads: usize,
}

/// One list of tensors.
#[derive(Debug)]
pub(crate) struct Case {
    pub(crate) shape: Shape,
    pub(crate) dtypes: &'static [&'static str],
    pub(crate) threads: &'static [usize],
    /// Whether only the contestants in [`SCALED`] run.
    pub(crate) scaling: bool,
}

impl Plan {
    pub(crate) fn new(args: &Args) -> Self {
        let cases = if args.quick { quick() } else { full() };
        let effort = if args.quick { Effort::QUICK } else { Effort::FULL };
        let most_threads = cases.iter().flat_map(|case| case.threads).copied().max().unwrap_or(1);
        let with_overheads = args.filter.is_none();
        Self { cases, effort, with_overheads, filter: args.filter.clone(), most_threads }
    }

    /// Whether the filter matches it.
    pub(crate) fn wants(&self, id: &str) -> bool {
        self.filter.as_ref().is_none_or(|filter| filter.is_match(id))
    }
}

impl Case {
    /// Whether a contestant runs.
    pub(crate) fn has(&self, rule: &str) -> bool {
        !self.scaling || SCALED.contains(&rule)
    }
}

/// The lists of tensors on which everything is compared, except for the largest one.
fn shapes() -> Vec<Shape> {
    let single = [4_000, 1_000_000, 10_000_000].map(Shape::single);
    single.into_iter().chain([Shape::resnet50(), Shape::many(1_000, 1_000)]).collect()
}

fn quick() -> Vec<Case> {
    let case = |shape| Case { shape, dtypes: &["f32"], threads: &[2], scaling: false };
    shapes().into_iter().map(case).collect()
}

fn full() -> Vec<Case> {
    let case = |shape| Case { shape, dtypes: &["f32", "f64"], threads: &[1, 2], scaling: false };
    let scaling = |elements| Case { shape: Shape::single(elements), dtypes: &["f32"], threads: &[1, 2], scaling: true };
    let shapes = shapes().into_iter().chain([Shape::single(50_000_000)]);
    shapes.map(case).chain(SCALING.map(scaling)).collect()
}

#[cfg(test)]
mod tests {
    use benches::contestants::contestants;
    use clap::Parser;

    use super::*;

    fn plan(line: &str) -> Plan {
        Plan::new(&Args::parse_from(["bench-suite"].into_iter().chain(line.split_whitespace())))
    }

    #[test]
    fn the_full_plan_has_every_shape() {
        let plan = plan("");
        let everything = plan.cases.iter().filter(|case| !case.scaling && case.threads == [1, 2]);
        let names: Vec<&str> = everything.map(|case| case.shape.name.as_str()).collect();
        assert_eq!(names, ["4k", "1M", "10M", "resnet50", "1000x1000", "50M"]);
        assert!(plan.with_overheads);
    }

    #[test]
    fn scaling_is_measured_of_contestants_that_exist() {
        let names: Vec<&str> = contestants::<f32>().iter().map(|contestant| contestant.name).collect();
        assert!(SCALED.iter().all(|name| names.contains(name)));
        let case = plan("").cases.pop().unwrap();
        assert!(case.scaling && case.has("nadam") && !case.has("radam"));
    }

    #[test]
    fn a_filter_leaves_out() {
        let plan = plan("--quick --filter ^nadam/10M/");
        assert!(plan.wants("nadam/10M/f32/2") && !plan.wants("clip-nadam/10M/f32/2"));
        assert!(!plan.with_overheads);
        assert_eq!((plan.cases.len(), plan.most_threads), (5, 2));
    }
}
