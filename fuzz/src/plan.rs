//! A plan: a rule with options, for the engine and for the textbook, and the calls on it.

use std::collections::BTreeMap;

use arbitrary::Arbitrary;
use opt_conformance::problem::Problem;
use opt_conformance::textbook::{self, Formula, Naive, Team};
use optimizers::{
    Accumulate, Adam, AdamW, Ema, Exclude, Group, Lookahead, LossScale, Master, MomentStorage, Nadam, NonFinite,
    NovoGrad, Optimizer, OptimizerBuilder, RectifiedAdam, Sgd,
};
use optimizers::{Scalar, UpdateRule};

use crate::value::Kind;

/// The most steps of one run: few enough for rounding errors to stay small.
pub const MOST_STEPS: usize = 12;

/// The content of one run.
#[derive(Debug, Clone, Arbitrary)]
pub struct Plan {
    /// The rule.
    pub rule: Rule,
    /// Period and step size of Lookahead around it.
    pub lookahead: Option<(Choice, Choice)>,
    /// Options of the engine.
    pub options: Options,
    /// Calls, one after the other.
    pub calls: Vec<Call>,
    /// The variables in 16 bits. Last: the corpus has the others by their places.
    pub halves: Halves,
}

/// An index into a list, modulo its length.
#[derive(Debug, Clone, Copy, Arbitrary)]
pub struct Choice(u8);

impl Choice {
    /// The item.
    pub fn of<I: Copy>(self, items: &[I]) -> I {
        items[usize::from(self.0) % items.len()]
    }
}

/// A rule. Its numbers are chosen so that no step loses digits: any difference is an error.
#[derive(Debug, Clone, Arbitrary)]
#[expect(missing_docs, reason = "they are the rules' own names")]
pub enum Rule {
    Sgd {
        momentum: Choice,
        nesterov: bool,
        legacy: bool,
    },
    Nadam {
        betas: [Choice; 2],
        epsilon: Choice,
        schedule_decay: Option<Choice>,
        legacy: bool,
    },
    RectifiedAdam {
        betas: [Choice; 2],
        epsilon: Choice,
        weight_decay: Choice,
        amsgrad: bool,
    },
    NovoGrad {
        betas: [Choice; 2],
        epsilon: Choice,
        weight_decay: Choice,
        amsgrad: bool,
        averaging: bool,
        outside: bool,
    },
    // Last: the corpus has the others by their numbers.
    Adam {
        betas: [Choice; 2],
        epsilon: Choice,
        amsgrad: bool,
        dialect: Choice,
    },
    AdamW {
        betas: [Choice; 2],
        epsilon: Choice,
        amsgrad: bool,
    },
}

/// Options of the engine.
#[derive(Debug, Clone, Arbitrary)]
#[expect(missing_docs, reason = "they are the builder's own names")]
pub struct Options {
    pub clip: Choice,
    pub limit: Choice,
    pub weight_decay: Option<Choice>,
    pub exclude: bool,
    pub ema: Option<(Choice, Option<Choice>)>,
    pub non_finite: Choice,
    /// Whether moments are stored in 16 bits; with `exclude`, in 8.
    pub bf16: bool,
    pub groups: Option<Groups>,
    pub accumulate: Option<(Choice, bool)>,
    pub loss_scale: Option<(Choice, bool)>,
}

/// The types of the variables, and the masters of those in 16 bits.
#[derive(Debug, Clone, Arbitrary)]
pub struct Halves {
    kinds: [Choice; 5],
    master: Choice,
}

/// Two groups: one with a factor of the learning rate, which may be frozen, and one with a rule of its own.
#[derive(Debug, Clone, Arbitrary)]
#[expect(missing_docs, reason = "they are the builder's own names")]
pub struct Groups {
    pub factor: Choice,
    pub weight_decay: Option<Choice>,
    pub frozen: bool,
    pub momentum: Choice,
    pub average: bool,
}

/// The variable of the first group, and its name.
pub const LISTS: [&str; 2] = ["list", "lists"];

/// The variables of the second group, and its name.
pub const NUMBERS: [&str; 3] = ["scalar", "column", "numbers"];

/// The learning rate of the second group at first.
pub const OWN_RATE: f64 = 0.25;

/// A call.
#[derive(Debug, Clone, Arbitrary)]
pub enum Call {
    /// A step with an input for each variable.
    Step([Given; 5]),
    /// The same with its variables in the opposite order.
    Backwards([Given; 5]),
    /// A step that has to be refused.
    Wrong(Wrong, [Given; 5]),
    /// A step with a gradient that is not finite.
    NonFinite(Choice, [Given; 5]),
    /// Another learning rate.
    LearningRate(Choice),
    /// All weights read, and set again.
    Weights,
    /// Weights that do not fit.
    WrongWeights(Choice),
    /// Another optimizer, made from configuration and weights.
    Rebuild,
    /// Averages swapped in, and swapped back.
    Averages,
    /// Variables that come without gradients.
    Add(Choice),
    /// Saves a state to go back to.
    Remember,
    /// Goes back to that state, or to the start if there is none.
    Return,
    /// Applies the gradients that wait.
    Flush,
    /// Forgets the gradients that wait.
    Discard,
    /// Stops the training of the first group.
    Freeze,
    /// Trains the first group.
    Unfreeze,
    /// Another learning rate of the second group.
    GroupRate(Choice),
}

/// The input of a variable in a step.
#[derive(Debug, Clone, Copy, Arbitrary)]
pub enum Given {
    /// It is not in the list.
    Missing,
    /// It is in the list, without a gradient.
    Absent,
    /// A gradient of numbers that are computed from this one.
    Dense(u8),
    /// Some rows of such a gradient, some of them repeated.
    Sparse(u8, [u8; 3]),
}

/// The error in a step.
#[derive(Debug, Clone, Copy, Arbitrary)]
pub enum Wrong {
    /// A gradient of another shape.
    Shape,
    /// A slice of another length.
    Length,
    /// A variable twice.
    Duplicate,
    /// A row that does not exist.
    Row,
    /// A row before the first.
    NegativeRow,
    /// Rows of a number.
    RowsOfScalar,
    /// No gradient at all.
    NoGradients,
}

/// The learning rates of a run.
pub const RATES: [f64; 5] = [0.125, 0.0, 0.5, 0.01, 1.0];

/// Numbers that are not learning rates.
pub const NO_RATES: [f64; 4] = [-1.0, f64::NAN, f64::INFINITY, -f64::MIN_POSITIVE];

/// Good steps in a row after which a dynamic loss scale is doubled.
pub const GROWTH: u64 = 2;

const BETAS: [f64; 4] = [0.9, 0.0, 0.5, 0.99];
const SECOND_BETAS: [f64; 3] = [0.999, 0.9, 0.99];
const EPSILONS: [f64; 3] = [1e-7, 0.0, 0.5];
const DECAYS: [f64; 3] = [0.0, 0.015625, 0.25];

/// An engine's builder, and a textbook's formula.
pub type Subjects<T> = (OptimizerBuilder<Box<dyn UpdateRule<T>>, T>, Box<dyn Formula>);

impl Plan {
    /// The engine's builder and the textbook's formula for a problem with these initial values.
    pub fn subjects<T: Scalar>(&self, problem: &Problem) -> Subjects<T> {
        let eta = RATES[0];
        let (rule, formula) = match self.rule.clone() {
            Rule::Sgd { momentum, nesterov, legacy } => {
                let mu = momentum.of(&BETAS);
                let rule = Sgd::new(eta).momentum(mu).nesterov(nesterov);
                let formula = textbook::Sgd { mu, nesterov, lazy: legacy, ..Default::default() };
                self.around(if legacy { rule.legacy() } else { rule }, formula, problem)
            }
            Rule::Nadam { betas, epsilon, schedule_decay, legacy } => {
                let (beta_1, beta_2) = (betas[0].of(&BETAS), betas[1].of(&SECOND_BETAS));
                let (epsilon, schedule_decay) =
                    (epsilon.of(&EPSILONS), schedule_decay.map(|psi| psi.of(&[0.004, 1.0])));
                let rule = if legacy { Nadam::new(eta) } else { Nadam::keras(eta) };
                let rule = rule.beta_1(beta_1).beta_2(beta_2).epsilon(epsilon);
                let rule = schedule_decay.map_or(rule.clone().constant_momentum(), |psi| rule.schedule_decay(psi));
                let touched_rows_only = legacy;
                let formula = textbook::Nadam {
                    beta_1,
                    beta_2,
                    epsilon,
                    schedule_decay,
                    single_base: !legacy && schedule_decay == Some(1.0),
                    touched_rows_only,
                    ..Default::default()
                };
                self.around(rule, formula, problem)
            }
            Rule::RectifiedAdam { betas, epsilon, weight_decay, amsgrad } => {
                let (beta_1, beta_2) = (betas[0].of(&BETAS), betas[1].of(&SECOND_BETAS));
                let (epsilon, decay) = (epsilon.of(&[1e-7, 0.5]), weight_decay.of(&DECAYS));
                let rule = RectifiedAdam::new(eta).beta_1(beta_1).beta_2(beta_2).epsilon(epsilon);
                let rule = rule.weight_decay(decay).amsgrad(amsgrad).sma_threshold(5.0);
                let weight_decay = vec![decay; MOST_STEPS];
                let formula = textbook::RectifiedAdam {
                    beta_1,
                    beta_2,
                    epsilon,
                    weight_decay,
                    amsgrad,
                    threshold: 5.0,
                    ..Default::default()
                };
                self.around(rule, formula, problem)
            }
            Rule::NovoGrad { betas, epsilon, weight_decay, amsgrad, averaging, outside } => {
                let (beta_1, beta_2) = (betas[0].of(&BETAS), betas[1].of(&[0.25, 0.0, 0.9]));
                let (epsilon, decay) = (epsilon.of(&EPSILONS), weight_decay.of(&DECAYS));
                let rule = NovoGrad::new(eta).beta_1(beta_1).beta_2(beta_2).epsilon(epsilon).weight_decay(decay);
                let rule = rule.amsgrad(amsgrad).grad_averaging(averaging).learning_rate_outside(outside);
                let formula = textbook::NovoGrad {
                    beta_1,
                    beta_2,
                    epsilon,
                    weight_decay: decay,
                    amsgrad,
                    grad_averaging: averaging,
                    learning_rate_outside: outside,
                    ..Default::default()
                };
                self.around(rule, formula, problem)
            }
            Rule::Adam { betas, epsilon, amsgrad, dialect } => {
                let dialect = dialect.of(&[0, 1, 2, 3]);
                let rule = match dialect {
                    0 => Adam::new(eta),
                    1 => Adam::new(eta).legacy(),
                    2 => Adam::pytorch(eta),
                    _ => Adam::optax(eta),
                };
                let formula = adam(betas, epsilon, amsgrad);
                let (beta_1, beta_2, epsilon) = (formula.beta_1, formula.beta_2, formula.epsilon);
                let rule = rule.beta_1(beta_1).beta_2(beta_2).epsilon(epsilon).amsgrad(amsgrad);
                let formula = textbook::Adam {
                    epsilon_first: dialect < 2,
                    counts_by_variable: dialect == 2,
                    amsgrad_corrected: dialect == 3,
                    ..formula
                };
                self.around(rule, formula, problem)
            }
            Rule::AdamW { betas, epsilon, amsgrad } => {
                let formula = adam(betas, epsilon, amsgrad);
                let (beta_1, beta_2, epsilon) = (formula.beta_1, formula.beta_2, formula.epsilon);
                let rule = AdamW::new(eta).beta_1(beta_1).beta_2(beta_2).epsilon(epsilon).amsgrad(amsgrad);
                self.around(rule, textbook::Adam { epsilon_first: true, ..formula }, problem)
            }
        };
        let own = self
            .options
            .groups
            .as_ref()
            .map(|groups| textbook::Sgd { mu: groups.momentum.of(&BETAS), ..Default::default() });
        let formula = Box::new(ByVariable { formula, own });
        // The textbook has no weight decay by default.
        let has_decay = rule.default_weight_decay().is_some();
        let builder = Optimizer::builder(rule).master(self.halves.master::<T>());
        (self.options.set(if has_decay { builder.weight_decay(0.0) } else { builder }), formula)
    }

    /// Puts Lookahead around both, if the plan has it.
    fn around<T: Scalar, R: UpdateRule<T> + 'static, F: Formula + 'static>(
        &self,
        rule: R,
        formula: F,
        problem: &Problem,
    ) -> (Box<dyn UpdateRule<T>>, Box<dyn Formula>) {
        let Some((period, size)) = self.lookahead else { return (Box::new(rule), Box::new(formula)) };
        let (k, alpha) = (period.of(&[2, 1, 3, 5]), size.of(&[0.5, 1.0, 0.25]));
        let rule = Lookahead::new(rule).sync_period(k).slow_step_size(alpha);
        (Box::new(rule), Box::new(textbook::Lookahead::new(formula, k, alpha, problem)))
    }
}

/// Adam with these settings.
fn adam(betas: [Choice; 2], epsilon: Choice, amsgrad: bool) -> textbook::Adam {
    let (beta_1, beta_2) = (betas[0].of(&BETAS), betas[1].of(&SECOND_BETAS));
    textbook::Adam { beta_1, beta_2, epsilon: epsilon.of(&EPSILONS), amsgrad, ..Default::default() }
}

/// Two formulas: one for the second group, one for the other variables.
struct ByVariable {
    formula: Box<dyn Formula>,
    own: Option<textbook::Sgd>,
}

impl Formula for ByVariable {
    fn update(&mut self, t: u64, eta: f64, name: &str, w: &mut [f64], rows: &BTreeMap<usize, Vec<f64>>) {
        match &mut self.own {
            Some(own) if NUMBERS.contains(&name) => own.update(t, eta, name, w, rows),
            _ => self.formula.update(t, eta, name, w, rows),
        }
    }
}

impl Halves {
    /// The type of a variable. Optimizers in 64 bits have none in 16.
    pub fn kind<T: Scalar>(&self, which: usize) -> Kind {
        if size_of::<T>() == 4 { self.kinds[which].of(&[Kind::Full, Kind::Bf16, Kind::F16]) } else { Kind::Full }
    }

    /// The storage of masters.
    pub fn master<T: Scalar>(&self) -> Master {
        let seed = 5;
        match self.master.of(&[0, 1, 2]) {
            1 if size_of::<T>() == 4 => Master::Bits24 { seed },
            2 if size_of::<T>() == 4 => Master::None { seed },
            _ => Master::Full,
        }
    }

    /// Whether numbers are rounded, so that they are not those of the textbook.
    pub fn are_rounded<T: Scalar>(&self) -> bool {
        self.master::<T>() != Master::Full && (0..self.kinds.len()).any(|which| self.kind::<T>(which) != Kind::Full)
    }
}

impl Groups {
    /// The factor of the learning rate of the first group.
    pub fn factor(&self) -> f64 {
        self.factor.of(&[0.5, 1.0, 2.0, 0.0])
    }

    /// The weight decay of the first group.
    fn weight_decay(&self) -> Option<f64> {
        self.weight_decay.map(|rate| rate.of(&DECAYS))
    }

    fn add_to<R: UpdateRule<T>, T: Scalar>(&self, builder: OptimizerBuilder<R, T>) -> OptimizerBuilder<R, T> {
        let lists = Group::matching("^list$").named(LISTS[1]).learning_rate_scale(self.factor());
        let lists = self.weight_decay().into_iter().fold(lists, Group::weight_decay);
        let numbers = Group::matching("^(scalar|column)$").named(NUMBERS[2]).average(false);
        let numbers = if self.average { numbers.average(true) } else { numbers };
        let numbers = numbers.rule(Sgd::new(OWN_RATE).momentum(self.momentum.of(&BETAS)));
        builder.group(if self.frozen { lists.frozen() } else { lists }).group(numbers)
    }

    /// The textbook's groups, still without learning rates.
    fn teams(&self, weight_decay: Option<f64>) -> Vec<Team> {
        let named = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
        let lists = Team {
            variables: named(&LISTS[..1]),
            weight_decay: self.weight_decay().or(weight_decay),
            ..Team::default()
        };
        let numbers =
            Team { variables: named(&NUMBERS[..2]), weight_decay, no_averages: !self.average, ..Team::default() };
        vec![lists, numbers]
    }
}

impl Options {
    fn set<R: UpdateRule<T>, T: Scalar>(&self, builder: OptimizerBuilder<R, T>) -> OptimizerBuilder<R, T> {
        let naive = self.naive();
        let mut builder = builder.non_finite(self.policy()).threads(1);
        builder = naive.clipvalue.into_iter().fold(builder, OptimizerBuilder::clipvalue);
        builder = naive.clipnorm.into_iter().fold(builder, OptimizerBuilder::clipnorm);
        builder = naive.global_clipnorm.into_iter().fold(builder, OptimizerBuilder::global_clipnorm);
        builder = naive.weight_decay.into_iter().fold(builder, OptimizerBuilder::weight_decay);
        let patterns = naive.excluded.iter().map(|name| format!("^{name}$"));
        builder = builder.exclude_from_weight_decay(Exclude::patterns(patterns));
        if let Some((momentum, overwrite)) = naive.ema {
            let ema = Ema::new(momentum);
            builder = builder.ema(overwrite.map_or(ema, |steps| ema.overwrite_every(steps)));
        }
        if let Some(groups) = self.groups() {
            builder = groups.add_to(builder);
        }
        builder = self.accumulate().into_iter().fold(builder, OptimizerBuilder::accumulate);
        builder = self.loss_scale().into_iter().fold(builder, OptimizerBuilder::loss_scale);
        match self.has_narrow_moments::<T>() {
            true if self.exclude => builder.moments(MomentStorage::Float8 { seed: 3 }),
            true => builder.moments(MomentStorage::Bf16 { seed: 3 }),
            false => builder,
        }
    }

    /// The groups; there must be averages for a group that asks for them.
    pub fn groups(&self) -> Option<Groups> {
        let average = |groups: Groups| Groups { average: groups.average && self.ema.is_some(), ..groups };
        self.groups.clone().map(average)
    }

    /// The number of calls of a step, and the factor of their sum.
    pub fn calls(&self) -> (u64, bool) {
        self.accumulate.map_or((1, false), |(steps, mean)| (steps.of(&[2, 3, 1, 4]), mean))
    }

    fn accumulate(&self) -> Option<Accumulate> {
        let (steps, mean) = self.calls();
        self.accumulate.map(|_| if mean { Accumulate::mean(steps) } else { Accumulate::sum(steps) })
    }

    /// The loss scale: dynamic only where gradients that are not finite are not refused.
    pub fn loss_scale(&self) -> Option<LossScale> {
        self.loss_scale.map(|(scale, _)| {
            let fixed = LossScale::fixed(scale.of(&[8.0, 1.0, 4_096.0]));
            if self.is_dynamic() { fixed.growth_interval(GROWTH) } else { fixed }
        })
    }

    /// Whether the loss scale is dynamic.
    pub fn is_dynamic(&self) -> bool {
        self.loss_scale.is_some_and(|(_, dynamic)| dynamic) && self.policy() != NonFinite::Error
    }

    /// Whether moments are rounded to 16 or 8 bits, so that the numbers are not those of the textbook.
    pub fn has_narrow_moments<T: Scalar>(&self) -> bool {
        self.bf16 && size_of::<T>() == 4
    }

    /// The policy for non-finite gradients.
    pub fn policy(&self) -> NonFinite {
        self.non_finite.of(&[NonFinite::Propagate, NonFinite::SkipStep, NonFinite::Error])
    }

    /// The textbook's engine.
    pub fn naive(&self) -> Naive {
        let limit = self.limit.of(&[1.0, 0.25, 4.0]);
        let clip = |place: u8| (self.clip.of(&[0, 1, 2, 3]) == place).then_some(limit);
        let ema = self.ema.map(|(momentum, overwrite)| {
            (momentum.of(&[0.5, 0.0, 0.99, 1.0]), overwrite.map(|steps| steps.of(&[1, 2, 3])))
        });
        let weight_decay = self.weight_decay.map(|rate| rate.of(&DECAYS));
        Naive {
            clipvalue: clip(1),
            clipnorm: clip(2),
            global_clipnorm: clip(3),
            weight_decay,
            excluded: if self.exclude && weight_decay.is_some() { vec!["matrix".to_owned()] } else { Vec::new() },
            ema,
            teams: self.groups().map_or(Vec::new(), |groups| groups.teams(weight_decay)),
        }
    }
}
