//! The agreement of all ranks on a step, before any of them changes anything.

use std::fmt::Write;
use std::hash::{DefaultHasher, Hash, Hasher};

use super::super::Optimizer;
use super::super::step::input::{Input, InputGradient, Placed};
use crate::collective::{Collective, CollectiveError, Distribution};
use crate::error::Error;
use crate::real::Scalar;
use crate::rule::UpdateRule;
use crate::step_options::StepOptions;

/// The topics that ranks compare, in the order in which differences are reported.
const TOPICS: [&str; 5] = ["the step", "the configuration", "the learning rates", "the shared state", "the variables"];

/// The message of a rank to the others before a step.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Statement {
    /// A hash for each topic: equal hashes mean agreement.
    Ready([u64; TOPICS.len()]),
    /// The rank refuses the step, for this reason.
    Refuses(String),
}

impl Statement {
    fn to_bytes(&self) -> Vec<u8> {
        match self {
            Self::Ready(numbers) => {
                std::iter::once(0).chain(numbers.iter().flat_map(|number| number.to_le_bytes())).collect()
            }
            Self::Refuses(reason) => std::iter::once(1).chain(reason.bytes()).collect(),
        }
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        match bytes.split_first()? {
            (0, numbers) => {
                let (numbers, []) = numbers.as_chunks() else { return None };
                let numbers: Vec<u64> = numbers.iter().map(|&number| u64::from_le_bytes(number)).collect();
                Some(Self::Ready(numbers.try_into().ok()?))
            }
            (1, reason) => Some(Self::Refuses(String::from_utf8_lossy(reason).into_owned())),
            _ => None,
        }
    }
}

impl<R: UpdateRule<T>, T: Scalar> Optimizer<R, T> {
    /// Refuses the step unless all ranks can make it and are about to make the same one. Takes one gather; if the ranks
    /// differ, a second gather finds the difference.
    pub(in crate::optimizer) fn agree<'a, S>(
        &self,
        ranks: &dyn Distribution,
        begun: Result<(S, Vec<Input<'a, T>>), Error>,
        options: &StepOptions,
    ) -> Result<(S, Vec<Input<'a, T>>), Error> {
        let world = ranks.world();
        let statement = match &begun {
            Ok((_, inputs)) => Statement::Ready(self.numbers(ranks, inputs, options)),
            Err(error) => Statement::Refuses(error.to_string()),
        };
        let answers = world.gather(statement.to_bytes());
        let (start, inputs) = begun?;
        let mut numbers = Vec::with_capacity(world.ranks());
        for (rank, bytes) in answers?.iter().enumerate() {
            match Statement::from_bytes(bytes) {
                Some(Statement::Ready(of_rank)) => numbers.push(of_rank),
                Some(Statement::Refuses(reason)) => return Err(CollectiveError::Refused { rank, reason }.into()),
                None => return Err(CollectiveError::Message { rank }.into()),
            }
        }
        let differs = |topic: &usize| numbers.iter().any(|of_rank| of_rank[*topic] != numbers[0][*topic]);
        match (0..TOPICS.len()).find(differs) {
            None => Ok((start, inputs)),
            Some(topic) => Err(disagreement(world, topic, &self.details(ranks, topic, &inputs, options))?.into()),
        }
    }

    fn numbers(&self, ranks: &dyn Distribution, inputs: &[Input<'_, T>], options: &StepOptions) -> [u64; TOPICS.len()] {
        let mut variables = DefaultHasher::new();
        for input in inputs {
            hash_input(input, &mut variables);
            let has_sum = input.place < self.records.len() && !self.records.at(input.place).accumulator.is_empty();
            has_sum.hash(&mut variables);
        }
        [
            hashed(&[self.iterations, self.micro_step]),
            hashed(&self.settings(ranks)),
            hashed(&self.rates_of_groups(options).iter().map(|rate| rate.to_bits()).collect::<Vec<_>>()),
            hashed(&self.shared_state().iter().map(|number| number.to_bits()).collect::<Vec<_>>()),
            variables.finish(),
        ]
    }

    /// The loss scale, and the shared slots of all rules.
    fn shared_state(&self) -> Vec<f64> {
        let scaling = [self.scaling.scale, self.scaling.good_steps as f64];
        scaling.into_iter().chain(self.groups.shared().concat()).collect()
    }

    /// The learning rates and weight decays of all groups, and the factor of gradients.
    fn rates_of_groups(&self, options: &StepOptions) -> Vec<f64> {
        let step = self.schedule_step();
        let default = self.options.weight_decay.rate.as_ref();
        let decay = |group| self.groups.weight_decay_at(group, default, step).unwrap_or(0.0);
        let rates = (0..self.groups.len()).flat_map(|group| [self.learning_rate_in(group, options), decay(group)]);
        rates.chain(options.gradient_scale).collect()
    }

    /// Everything that a step depends on, besides the variables. (A schedule made of code cannot be compared, only its
    /// learning rate.)
    fn settings(&self, ranks: &dyn Distribution) -> String {
        let configuration = self.to_config().map_or_else(|error| error.to_string(), |config| config.to_string());
        // A configuration with code in it has no text: these numbers have one.
        let configuration = format!("{configuration}, {}", self.options.in_numbers(self.groups.own()));
        let buckets = ranks.bucket_bytes();
        let overlaps = ranks.overlaps();
        format!("{configuration}, {:?}, buckets of {buckets} bytes, overlaps: {overlaps}", T::DTYPE)
    }

    /// The contents of a topic in words, one entry per line.
    fn details(
        &self,
        ranks: &dyn Distribution,
        topic: usize,
        inputs: &[Input<'_, T>],
        options: &StepOptions,
    ) -> String {
        match topic {
            0 if self.options.accumulate.is_some() => {
                format!("iterations {}, micro-step {}", self.iterations, self.micro_step)
            }
            0 => format!("iterations {}", self.iterations),
            1 => self.settings(ranks),
            2 => self.rates_of_groups(options).iter().map(|rate| format!("{rate:e}\n")).collect(),
            3 => format!("{:?}", self.shared_state()),
            _ => inputs.iter().fold(String::new(), |mut lines, input| {
                let _ = writeln!(lines, "{}", described(input));
                lines
            }),
        }
    }
}

fn hashed(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

fn kind<T>(input: &Input<'_, T>) -> &'static str {
    match &input.gradient {
        None => "no gradient",
        Some(InputGradient::Dense(_)) => "a dense gradient",
        Some(InputGradient::Sparse(_)) => "a sparse gradient",
    }
}

fn hash_input<T>(input: &Input<'_, T>, hasher: &mut DefaultHasher) {
    input.name.hash(hasher);
    input.group.hash(hasher);
    kind(input).hash(hasher);
    if let Some(Placed { placement, .. }) = input.placed.as_deref() {
        (&placement.shape, &placement.layout).hash(hasher);
    }
}

fn described<T>(input: &Input<'_, T>) -> String {
    let (name, kind) = (&input.name, kind(input));
    let group = if input.group == 0 { String::new() } else { format!(" in group {}", input.group) };
    match input.placed.as_deref() {
        None => format!("{name:?} with {kind}{group}"),
        Some(Placed { placement, .. }) => {
            format!("{name:?} {:?} ({}) with {kind}{group}", placement.shape, placement.layout)
        }
    }
}

/// The first entry in which a rank differs from rank 0.
fn disagreement(world: &dyn Collective, topic: usize, details: &str) -> Result<CollectiveError, CollectiveError> {
    let answers = world.gather(details.as_bytes().to_vec())?;
    let texts: Vec<_> = answers.iter().map(|bytes| String::from_utf8_lossy(bytes)).collect();
    let what = TOPICS[topic];
    for (rank, text) in texts.iter().enumerate() {
        let (mut expected, mut found) = (texts[0].lines(), text.lines());
        loop {
            match (expected.next(), found.next()) {
                (None, None) => break,
                (expected, found) if expected == found => {}
                (expected, found) => {
                    let text = |line: Option<&str>| line.unwrap_or("nothing").to_owned();
                    let (expected, found) = (text(expected), text(found));
                    return Ok(CollectiveError::Disagreement { what, expected, rank, found });
                }
            }
        }
    }
    // Numbers that differ but have the same text, such as NaN with different bits.
    Ok(CollectiveError::Disagreement { what, expected: "one value".to_owned(), rank: 0, found: "another".to_owned() })
}
