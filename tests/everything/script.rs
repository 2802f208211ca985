//! The training: variables, options, and the calls of a seed.

use ndarray::ArrayD;
use opt_conformance::problem::{Gradient, Problem, Rng};
use opt_conformance::textbook;
use optimizers::{
    Accumulate, Ema, Group, Lookahead, LossScale, NovoGrad, Optimizer, OptimizerBuilder, RectifiedAdam, Scalar, Sgd,
    Variable,
};

use super::oracle::{Oracle, Team};

/// The rule of the default group.
pub(crate) type Rule = Lookahead<RectifiedAdam>;

/// Names and shapes of the variables. Two of them have fewer rows than there are ranks.
pub(crate) const VARIABLES: [(&str, &[usize]); 9] = [
    ("emb/rows", &[6, 2]),
    ("dense/kernel", &[3, 4]),
    ("dense/bias", &[4]),
    ("dense/scale", &[]),
    ("table", &[7, 3]),
    ("sometimes", &[2, 2]),
    ("head/kernel", &[4, 3]),
    ("head/bias", &[3]),
    ("layer/norm", &[5]),
];

/// The variables whose gradients are sparse in some calls.
const TABLES: [&str; 3] = ["emb/rows", "table", "head/kernel"];

/// The group that is frozen at first, and the group with another rule whose learning rate changes.
pub(crate) const FROZEN: &str = "embeddings";
pub(crate) const HEAD: &str = "^head/";

/// Something that happens before a call.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Event {
    Freeze,
    Unfreeze,
    Rate(f64),
    Flush,
    Discard,
}

/// A call: its events and its gradients, not yet scaled.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    pub(crate) events: Vec<Event>,
    pub(crate) gradients: Vec<Gradient>,
}

/// A training.
#[derive(Debug, Clone)]
pub(crate) struct Script {
    pub(crate) accumulate: Accumulate,
    calls_of_step: usize,
    mean: bool,
    pub(crate) values: Vec<ArrayD<f64>>,
    pub(crate) calls: Vec<Call>,
    seed: u64,
}

impl Script {
    pub(crate) fn new(seed: u64) -> Self {
        let shapes: Vec<&[usize]> = VARIABLES.iter().map(|(_, shape)| *shape).collect();
        let values = Problem::dense(seed, &shapes, 0).variables.into_iter().map(|(_, value)| value).collect();
        let (accumulate, calls_of_step, mean) = match seed % 2 {
            0 => (Accumulate::mean(3), 3, true),
            _ => (Accumulate::sum(2), 2, false),
        };
        let mut script = Self { accumulate, calls_of_step, mean, values, calls: Vec::new(), seed };
        script.calls = (0..24).map(|number| script.call(number, 0)).collect();
        script
    }

    /// The gradients that one of several ranks has, and the events. All ranks have the same kinds of gradients.
    fn call(&self, number: u64, rank: u64) -> Call {
        let mut kinds = Rng(self.seed * 1_000 + number);
        let mut numbers = Rng(self.seed * 1_000_000 + number * 1_000 + rank);
        let overflows = kinds.below(5) == 0;
        let by = kinds.below(4) as u64;
        let mut gradients = Vec::new();
        for (name, shape) in VARIABLES {
            let kind = kinds.below(6);
            let mut gradient = match kind {
                _ if name == "dense/bias" => Gradient::Dense(numbers.array(shape)),
                0 => Gradient::Absent,
                1..4 if TABLES.contains(&name) => {
                    // A row may come twice, and there may be no row.
                    let rows: Vec<usize> = (0..numbers.below(5)).map(|_| numbers.below(shape[0])).collect();
                    let values = numbers.array(&[rows.len(), shape[1]]);
                    Gradient::Sparse(rows, values)
                }
                _ => Gradient::Dense(numbers.array(shape)),
            };
            if let Gradient::Dense(values) = &mut gradient
                && name == "dense/bias"
                && overflows
                && rank == by % 2
            {
                values[[1]] = f64::INFINITY;
            }
            gradients.push(gradient);
        }
        let events = match (number, kinds.below(8)) {
            (4 | 16, _) => vec![Event::Unfreeze],
            (8, _) => vec![Event::Rate(0.125)],
            (11, _) => vec![Event::Freeze],
            (13 | 14, _) => vec![Event::Flush],
            (19, _) => vec![Event::Discard, Event::Rate(0.5)],
            (_, 0) => vec![Event::Flush],
            _ => Vec::new(),
        };
        Call { events, gradients }
    }

    /// The same training with the gradients of a rank.
    pub(crate) fn of_rank(&self, rank: u64) -> Self {
        let calls = (0..self.calls.len() as u64).map(|number| self.call(number, rank)).collect();
        Self { calls, ..self.clone() }
    }

    /// The engine with all options.
    pub(crate) fn builder<T: Scalar>(&self) -> OptimizerBuilder<Rule, T> {
        let rule = RectifiedAdam::new(0.0625).beta_2(0.75).epsilon(0.125).weight_decay(0.0).sma_threshold(5.0);
        let novograd = NovoGrad::new(0.25).beta_1(0.5).beta_2(0.75).epsilon(0.125);
        Optimizer::builder(Lookahead::new(rule).sync_period(2).slow_step_size(0.5))
            .group(Group::matching("^emb/").named(FROZEN).learning_rate(0.5).weight_decay(0.0).frozen())
            .group(Group::matching("bias$").learning_rate_scale(0.5).weight_decay(0.0).average(false))
            .group(Group::matching(HEAD).rule(Sgd::new(0.25).momentum(0.5)).clipnorm(0.75))
            .group(Group::matching("norm$").rule(novograd).weight_decay(0.25))
            .global_clipnorm(1.5)
            .weight_decay(0.0625)
            .ema(Ema::new(0.75).overwrite_every(3))
            .accumulate(self.accumulate)
            .loss_scale(LossScale::dynamic().initial(16.0).growth_interval(3))
    }

    /// The same in naive loops.
    pub(crate) fn oracle(&self) -> Oracle {
        let variables = VARIABLES.iter().zip(&self.values);
        let named = variables.map(|((name, _), value)| ((*name).to_owned(), value.clone())).collect();
        let problem = Problem { variables: named, steps: Vec::new() };
        let flat = |(name, value): &(String, ArrayD<f64>)| (name.clone(), value.iter().copied().collect());
        let values: std::collections::BTreeMap<String, Vec<f64>> = problem.variables.iter().map(flat).collect();
        let radam = || {
            let radam = textbook::RectifiedAdam {
                beta_1: 0.9,
                beta_2: 0.75,
                epsilon: 0.125,
                threshold: 5.0,
                ..Default::default()
            };
            textbook::Lookahead::new(radam, 2, 0.5, &problem)
        };
        let novograd = textbook::NovoGrad { beta_1: 0.5, beta_2: 0.75, epsilon: 0.125, ..Default::default() };
        let momentum = textbook::Sgd { mu: 0.5, ..Default::default() };
        let team = |has, rate, decay| Team {
            rate,
            decay,
            clipnorm: None,
            averages: true,
            frozen: false,
            formula: Box::new(radam()),
            has,
        };
        let teams = vec![
            Team { frozen: true, ..team(|name| name.starts_with("emb/"), 0.5, 0.0) },
            Team { averages: false, ..team(|name| name.ends_with("bias"), 0.03125, 0.0) },
            Team {
                clipnorm: Some(0.75),
                formula: Box::new(momentum),
                ..team(|name| name.starts_with("head/"), 0.25, 0.0625)
            },
            Team { formula: Box::new(novograd), ..team(|name| name.ends_with("norm"), 0.25, 0.25) },
            team(|_| true, 0.0625, 0.0625),
        ];
        Oracle {
            teams,
            global_clipnorm: 1.5,
            ema: 0.75,
            overwrite_every: 3,
            calls: self.calls_of_step,
            mean: self.mean,
            scale: 16.0,
            growth_interval: 3,
            good_steps: 0,
            iterations: 0,
            averages: values.clone(),
            values,
            waiting: Vec::new(),
        }
    }

    /// The variables in the element type.
    pub(crate) fn start<T: Scalar>(&self) -> Vec<ArrayD<T>> {
        self.values.iter().map(|value| value.mapv(T::literal)).collect()
    }
}

/// The gradients of a loss that is multiplied by a factor.
pub(crate) fn scaled(gradients: &[Gradient], factor: f64) -> Vec<Gradient> {
    let scale = |gradient: &Gradient| match gradient {
        Gradient::Absent => Gradient::Absent,
        Gradient::Dense(values) => Gradient::Dense(values * factor),
        Gradient::Sparse(rows, values) => Gradient::Sparse(rows.clone(), values * factor),
    };
    gradients.iter().map(scale).collect()
}

/// A gradient in the element type.
pub(crate) type Cast<T> = Option<(Option<Vec<usize>>, ArrayD<T>)>;

pub(crate) fn cast<T: Scalar>(gradients: &[Gradient]) -> Vec<Cast<T>> {
    let cast = |gradient: &Gradient| match gradient {
        Gradient::Absent => None,
        Gradient::Dense(values) => Some((None, values.mapv(T::literal))),
        Gradient::Sparse(rows, values) => Some((Some(rows.clone()), values.mapv(T::literal))),
    };
    gradients.iter().map(cast).collect()
}

/// All variables without gradients.
pub(crate) fn named<T: Scalar>(values: &mut [ArrayD<T>]) -> Vec<Variable<'_, T>> {
    VARIABLES.iter().zip(values).map(|((name, _), value)| Variable::new(*name, value)).collect()
}

/// All variables with their gradients.
pub(crate) fn with<'a, T: Scalar>(values: &'a mut [ArrayD<T>], gradients: &'a [Cast<T>]) -> Vec<Variable<'a, T>> {
    let with = |(variable, gradient): (Variable<'a, T>, &'a Cast<T>)| match gradient {
        None => variable,
        Some((None, values)) => variable.gradient(values),
        Some((Some(rows), values)) => variable.sparse_gradient(rows, values),
    };
    named(values).into_iter().zip(gradients).map(with).collect()
}
