//! A run of calls on an optimizer, compared with the expected results.

use std::collections::{BTreeMap, BTreeSet};

use ndarray::{ArrayD, Axis, IxDyn};
use opt_conformance::problem::{Gradient, Problem, bits};
use opt_conformance::textbook::Formula;
use optimizers::DynOptimizer;
use optimizers::state::StateValue;
use optimizers::{Error, NonFinite, Optimizer, StepReport, Variable};

use crate::plan::{Call, Choice, GROWTH, Given, LISTS, MOST_STEPS, NO_RATES, NUMBERS, OWN_RATE, Plan, RATES, Wrong};
use crate::value::{Element, Twin, Value};

/// The most calls of one run.
const MOST_CALLS: usize = 32;

/// Names and shapes of the variables.
const VARIABLES: [(&str, &[usize]); 5] =
    [("list", &[3]), ("matrix", &[4, 2]), ("scalar", &[]), ("column", &[3, 1]), ("empty", &[0, 2])];

/// The names of the variables.
fn names() -> [&'static str; 5] {
    VARIABLES.map(|(name, _)| name)
}

/// A gradient in the element type; none if a variable is only named.
type GradientOf<T> = Option<(Option<Vec<i64>>, ArrayD<T>)>;

/// Gradients of variables by their places.
type Gradients<T> = Vec<(usize, GradientOf<T>)>;

/// An optimizer, and its inputs so far.
struct Run<'p, T: 'static> {
    plan: &'p Plan,
    optimizer: DynOptimizer<T>,
    formula: Box<dyn Formula>,
    values: Vec<Value<T>>,
    done: Done,
    /// Whether the first group is frozen, and the learning rate of the second one.
    is_frozen: bool,
    own_rate: f64,
    remembered: Remembered<T>,
}

/// A saved state of a run.
#[derive(Clone)]
struct Remembered<T: 'static> {
    values: Vec<Value<T>>,
    /// The known variables.
    names: Vec<String>,
    weights: Vec<StateValue<'static, T>>,
    done: Done,
}

/// Everything that must not change in an error, bit for bit.
#[derive(Debug, PartialEq)]
struct State {
    weights: Vec<(String, Vec<u64>)>,
    values: Vec<Vec<u64>>,
    rate: u64,
}

/// The steps that were taken, with their learning rates and results.
#[derive(Clone)]
struct Done {
    problem: Problem,
    rates: Vec<f64>,
    rate: f64,
    /// The learning rates of the second group in these steps.
    own_rates: Vec<f64>,
    /// The gradients of calls that wait to be applied, in 64 bits and without the loss scale.
    waiting: Vec<Vec<Gradient>>,
    scale: f64,
    good_steps: u64,
    trace: Vec<Vec<Vec<f64>>>,
}

/// Makes the calls of a plan.
///
/// # Panics
///
/// If a result is not the expected one.
pub fn run<T: Element>(plan: &Plan) {
    let mut run = Run::<T>::new(plan);
    plan.calls.iter().take(MOST_CALLS).for_each(|call| run.call(call));
    run.compare();
}

/// Numbers between -2 and 2, exact in 32 bits: zeros, and numbers of very different sizes.
fn numbers(shape: &[usize], seed: u8) -> ArrayD<f64> {
    const NUMBERS: [f64; 8] = [0.5, -1.0, 0.0, 2.0, -0.25, 0.0625, -1.5, 1.0];
    let mut place = usize::from(seed);
    ArrayD::from_shape_simple_fn(IxDyn(shape), || {
        place += 1 + usize::from(seed >> 3) % 7;
        NUMBERS[place % NUMBERS.len()]
    })
}

impl<'p, T: Element> Run<'p, T> {
    fn new(plan: &'p Plan) -> Self {
        let variables =
            VARIABLES.iter().zip(1..).map(|((name, shape), seed)| ((*name).to_owned(), numbers(shape, seed)));
        let problem = Problem { variables: variables.collect(), steps: Vec::new() };
        let (builder, formula) = plan.subjects::<T>(&problem);
        let optimizer = builder.build().expect("the options are valid");
        let variables = problem.variables.iter().enumerate();
        let values: Vec<Value<T>> =
            variables.map(|(which, (_, value))| Value::new(plan.halves.kind::<T>(which), value)).collect();
        let done = Done {
            problem,
            rates: Vec::new(),
            rate: RATES[0],
            own_rates: Vec::new(),
            waiting: Vec::new(),
            scale: optimizer.loss_scale(),
            good_steps: 0,
            trace: Vec::new(),
        };
        let weights = optimizer.weights().into_iter().map(StateValue::from).collect();
        let remembered = Remembered { values: values.clone(), names: Vec::new(), weights, done: done.clone() };
        let is_frozen = plan.options.groups.as_ref().is_some_and(|groups| groups.frozen);
        Self { plan, optimizer, formula, values, done, is_frozen, own_rate: OWN_RATE, remembered }
    }

    fn call(&mut self, call: &Call) {
        match call {
            Call::Step(given) => self.step(given, false),
            Call::Backwards(given) => self.step(given, true),
            Call::Wrong(wrong, given) => self.wrong(*wrong, given),
            Call::NonFinite(which, given) => self.non_finite(*which, given),
            Call::LearningRate(choice) => self.learning_rate(*choice),
            Call::Weights => {
                let before = self.state();
                self.optimizer.set_weights(self.optimizer.weights()).expect("they are its own");
                assert_eq!(self.state(), before);
            }
            Call::WrongWeights(choice) => self.wrong_weights(*choice),
            Call::Rebuild => self.rebuild(),
            Call::Averages => self.averages(),
            Call::Add(choice) => {
                let which = choice.of(&[0, 1, 2, 3, 4]);
                let (name, before) = (VARIABLES[which].0, self.known());
                let added = self.optimizer.add_variables(&mut [self.values[which].variable(name)]);
                added.expect("frozen variables are left out");
                assert!(self.is_trained(which) || self.known() == before, "{name} is frozen, and was added");
            }
            Call::Remember => {
                let names = self.known();
                let weights = self.optimizer.weights().into_iter().map(StateValue::from).collect();
                let (values, done) = (self.values.clone(), self.done.clone());
                self.remembered = Remembered { values, names, weights, done };
            }
            Call::Return => {
                let Remembered { values, names, weights, done } = self.remembered.clone();
                (self.values, self.done) = (values, done);
                self.restore(&names, weights);
                self.optimizer.set_learning_rate(self.done.rate).expect("it was accepted before");
                if self.is_frozen {
                    // The gradients that wait have been forgotten with the group.
                    self.freeze();
                }
            }
            Call::Flush => self.flush(),
            Call::Discard => {
                self.optimizer.discard_accumulated();
                self.done.waiting.clear();
            }
            Call::Freeze | Call::Unfreeze | Call::GroupRate(_) if self.plan.options.groups.is_none() => {
                assert!(self.optimizer.freeze(LISTS[1]).is_err() && self.optimizer.unfreeze(LISTS[1]).is_err());
            }
            Call::Freeze => self.freeze(),
            Call::Unfreeze => {
                self.optimizer.unfreeze(LISTS[1]).expect("there is the group");
                self.is_frozen = false;
            }
            Call::GroupRate(choice) => {
                self.own_rate = choice.of(&RATES);
                self.optimizer.set_group_learning_rate(NUMBERS[2], self.own_rate).expect("it is a learning rate");
            }
        }
        assert_eq!(self.optimizer.micro_step(), self.done.waiting.len() as u64);
        assert_eq!(self.optimizer.loss_scale(), self.done.scale);
    }

    fn freeze(&mut self) {
        self.optimizer.freeze(LISTS[1]).expect("there is the group");
        self.is_frozen = true;
        self.done.waiting.iter_mut().for_each(|call| call[0] = Gradient::Absent);
        if self.done.waiting.iter().flatten().all(|gradient| *gradient == Gradient::Absent) {
            self.done.waiting.clear();
        }
    }

    fn flush(&mut self) {
        if self.done.rates.len() == MOST_STEPS {
            return;
        }
        let before = self.state();
        let twin = self.twin();
        let report = self.optimizer.flush(&mut named(&mut self.values)).expect("every variable is there");
        if let Some(mut twin) = twin {
            let (optimizer, values) = twin.parts();
            let same = optimizer.flush(&mut named(values));
            assert_eq!(same.as_ref(), Ok(&report));
            self.compare_with(&twin);
        }
        assert_eq!(report.is_applied(), !self.done.waiting.is_empty(), "{report:?}");
        if self.done.waiting.is_empty() {
            assert_eq!(self.state(), before);
        } else {
            self.applied();
        }
    }

    /// Whether a variable is trained.
    fn is_trained(&self, which: usize) -> bool {
        !(self.is_frozen && VARIABLES[which].0 == LISTS[0])
    }

    /// Whether the plan allows this error: a group has no variable yet, or a gradient that waits has no variable.
    fn is_allowed(&self, error: &Error, gradients: &Gradients<T>) -> bool {
        let given: BTreeSet<usize> = gradients.iter().map(|(which, _)| *which).collect();
        let waits = |which: &usize| self.done.waiting.iter().any(|call| call[*which] != Gradient::Absent);
        match error {
            Error::EmptyGroup { .. } => self.plan.options.groups.is_some(),
            Error::AccumulatedVariable { .. } => {
                let is_last = self.done.waiting.len() as u64 + 1 == self.plan.options.calls().0;
                is_last && (0..VARIABLES.len()).any(|which| waits(&which) && !given.contains(&which))
            }
            _ => false,
        }
    }

    /// Notes a step, of the gradients that have waited.
    fn applied(&mut self) {
        let waiting = std::mem::take(&mut self.done.waiting);
        let mean = self.plan.options.calls().1;
        let factor = if mean { 1.0 / waiting.len() as f64 } else { 1.0 };
        let total = |which: usize| {
            let shape = VARIABLES[which].1;
            match waiting.as_slice() {
                // Without accumulation, rows that come twice are clipped before they are summed.
                [call] if self.plan.options.calls().0 == 1 => call[which].clone(),
                calls => sum(shape, calls.iter().map(|call| &call[which]), factor),
            }
        };
        let step = (0..VARIABLES.len()).map(total).collect();
        self.done.problem.steps.push(step);
        self.done.rates.push(self.done.rate);
        self.done.own_rates.push(self.own_rate);
        let values = VARIABLES.iter().zip(&self.values);
        let masters = values.map(|((name, _), value)| value.masters(name, &self.optimizer));
        self.done.trace.push(masters.collect());
        self.done.good_steps += 1;
        if self.plan.options.is_dynamic() && self.done.good_steps == GROWTH {
            (self.done.good_steps, self.done.scale) = (0, self.done.scale * 2.0);
        }
        assert_eq!(self.optimizer.iterations(), self.done.rates.len() as u64);
    }

    /// The names of the known variables, in their order.
    fn known(&self) -> Vec<String> {
        self.optimizer.variables().map(|(name, _)| name.to_owned()).collect()
    }

    fn restore(&mut self, names: &[String], weights: Vec<StateValue<'static, T>>) {
        let mut values: BTreeMap<&str, &mut Value<T>> =
            VARIABLES.iter().map(|(name, _)| *name).zip(&mut self.values).collect();
        let variables = names.iter().map(|name| (name.as_str(), values.remove(name.as_str()).expect("a name of ours")));
        let mut variables = variables.map(|(name, value)| value.variable(name)).collect::<Vec<_>>();
        self.optimizer.restore(&mut variables, weights).expect("it is a state of its own");
    }

    fn state(&self) -> State {
        let weights = self.optimizer.weights().into_iter().map(|weight| match weight.value {
            StateValue::Iterations(count) => (weight.name, vec![count]),
            StateValue::Scalar(number) => (weight.name, vec![number.to_bits()]),
            StateValue::Array(array) => (weight.name, bits(&array.into_owned())),
            StateValue::Bf16(_) => unreachable!("weights are widened"),
        });
        let rate = self.optimizer.learning_rate().to_bits();
        State { weights: weights.collect(), values: self.values.iter().map(Value::bits).collect(), rate }
    }

    fn gradients(given: &[Given; 5]) -> Gradients<T> {
        let gradient = |(which, given): (usize, &Given)| {
            let shape = VARIABLES[which].1;
            let gradient = match *given {
                Given::Missing => return None,
                Given::Absent => None,
                Given::Sparse(seed, rows) if shape.first().is_some_and(|&count| count > 0) => {
                    let count = shape[0];
                    let rows: Vec<usize> =
                        rows[..usize::from(seed % 4)].iter().map(|&row| usize::from(row) % count).collect();
                    let values = numbers(&[&[rows.len()], &shape[1..]].concat(), seed).mapv(T::literal);
                    Some((Some(rows.into_iter().map(|row| row as i64).collect()), values))
                }
                Given::Dense(seed) | Given::Sparse(seed, _) => Some((None, numbers(shape, seed).mapv(T::literal))),
            };
            Some((which, gradient))
        };
        given.iter().enumerate().filter_map(gradient).collect()
    }

    /// The same training in the element type.
    fn twin(&self) -> Option<Twin<T>> {
        Twin::of(&self.optimizer, &names(), &self.values)
    }

    fn compare_with(&self, twin: &Twin<T>) {
        twin.compare(&self.optimizer, &names(), &self.values, self.plan.halves.master::<T>());
    }

    fn apply(&mut self, gradients: &Gradients<T>, backwards: bool) -> Result<StepReport, Error> {
        let twin = self.twin();
        let result = apply(&mut self.optimizer, &mut self.values, gradients, backwards);
        if let Some(mut twin) = twin {
            let (optimizer, values) = twin.parts();
            let same = apply(optimizer, values, gradients, backwards);
            // It has not seen the variables of earlier calls that have no slots yet.
            if matches!(same, Err(Error::EmptyGroup { .. })) {
                return result;
            }
            // Numbers in reports and errors may be NaN.
            assert_eq!(format!("{same:?}"), format!("{result:?}"));
            self.compare_with(&twin);
        }
        result
    }

    fn step(&mut self, given: &[Given; 5], backwards: bool) {
        if self.done.rates.len() == MOST_STEPS {
            return;
        }
        let (gradients, before) = (Self::gradients(given), self.state());
        let result = self.apply(&gradients, backwards);
        let is_trained = |which: usize| self.is_trained(which);
        if gradients.iter().all(|(which, gradient)| gradient.is_none() || !is_trained(*which)) {
            let is_refused = result.as_ref().is_err_and(|error| self.is_allowed(error, &gradients));
            let expected = if gradients.is_empty() { result.is_ok() || is_refused } else { result.is_err() };
            assert!(expected, "{result:?}");
            assert_eq!(self.state(), before, "nothing was given, and something has changed");
            return;
        }
        let report = match result {
            Ok(report) => report,
            Err(error) => {
                assert!(self.is_allowed(&error, &gradients), "{error}");
                assert_eq!(self.state(), before, "refused, and something has changed");
                return;
            }
        };
        let mut step = vec![Gradient::Absent; VARIABLES.len()];
        for (which, gradient) in gradients {
            if let Some((rows, values)) = gradient.filter(|_| self.is_trained(which)) {
                let values = values.mapv(T::as_);
                step[which] = match rows {
                    None => Gradient::Dense(values),
                    Some(rows) => Gradient::Sparse(rows.into_iter().map(|row| row as usize).collect(), values),
                };
            }
        }
        self.done.waiting.push(step);
        let is_last = self.done.waiting.len() as u64 == self.plan.options.calls().0;
        assert_eq!(report.is_applied(), is_last, "{report:?}");
        if is_last {
            self.applied();
        }
    }

    /// A step that cannot be taken, whatever else is in it.
    fn wrong(&mut self, wrong: Wrong, given: &[Given; 5]) {
        let before = self.state();
        let good = Self::gradients(given);
        let matrix = numbers(VARIABLES[1].1, 1).mapv(T::literal);
        let mut values: Vec<Option<&mut Value<T>>> = self.values.iter_mut().map(Some).collect();
        let (own, other) = (values[1].take().expect("it is there"), matrix.t().to_owned());
        let row = matrix.select(Axis(0), &[0]);
        let mut again = own.clone();
        let mut number = values[2].as_deref().expect("it is there").clone();
        let variable = own.variable("matrix");
        let mut variables = match wrong {
            Wrong::Shape => vec![variable.gradient(&other)],
            Wrong::Length => vec![variable.gradient(&matrix.as_slice().expect("it is whole")[1..])],
            Wrong::Duplicate => vec![variable.gradient(&matrix), again.variable("matrix").gradient(&matrix)],
            Wrong::Row => vec![variable.sparse_gradient(&[4_usize], &row)],
            Wrong::NegativeRow => vec![variable.sparse_gradient(&[-1_i64], &row)],
            Wrong::RowsOfScalar => vec![number.variable("scalar").sparse_gradient(&[0_usize], &row)],
            Wrong::NoGradients => vec![variable],
        };
        if !matches!(wrong, Wrong::NoGradients) {
            for (which, gradient) in &good {
                let Some(value) = values[*which].take().filter(|_| *which != 2) else { continue };
                variables.insert(0, with(value.variable(VARIABLES[*which].0), gradient));
            }
        }
        let result = self.optimizer.apply_gradients(variables);
        assert!(result.is_err(), "{wrong:?} was accepted: {result:?}");
        assert_eq!(self.state(), before, "{wrong:?} was refused, and something has changed");
    }

    /// A step with an infinite or undefined number in the gradient of the matrix.
    fn non_finite(&mut self, which: Choice, given: &[Given; 5]) {
        let policy = self.plan.options.policy();
        if policy == NonFinite::Propagate && !self.plan.options.is_dynamic() {
            return;
        }
        let mut gradients = Self::gradients(given);
        gradients.retain(|(variable, _)| *variable != 1);
        let mut bad = numbers(VARIABLES[1].1, 1).mapv(T::literal);
        bad[[2, 1]] = T::literal(which.of(&[f64::NAN, f64::INFINITY, f64::NEG_INFINITY]));
        gradients.push((1, Some((None, bad))));
        let mut before = self.state();
        let result = self.apply(&gradients, false);
        match policy {
            _ if result.as_ref().is_err_and(|error| self.is_allowed(error, &gradients)) => {}
            NonFinite::Error => assert!(matches!(result, Err(Error::NonFiniteGradient { .. })), "{result:?}"),
            _ => {
                let report = result.expect("the step is skipped");
                assert!(report.non_finite.is_some(), "{report:?}");
                if self.plan.options.is_dynamic() {
                    (self.done.scale, self.done.good_steps) = ((self.done.scale / 2.0).max(1.0), 0);
                    let scaling = [("loss_scale", self.done.scale), ("good_steps", 0.0)];
                    for (name, bits) in &mut before.weights {
                        let new = scaling.iter().find(|(scaling, _)| scaling == name);
                        new.into_iter().for_each(|(_, number)| *bits = vec![number.to_bits()]);
                    }
                }
            }
        }
        assert_eq!(self.state(), before, "the step was not taken, and something has changed");
    }

    fn learning_rate(&mut self, choice: Choice) {
        let before = self.state();
        let refused = self.optimizer.set_learning_rate(choice.of(&NO_RATES));
        assert!(refused.is_err(), "{refused:?}");
        assert_eq!(self.state(), before, "refused, and something has changed");
        self.done.rate = choice.of(&RATES);
        self.optimizer.set_learning_rate(self.done.rate).expect("it is a learning rate");
    }

    fn wrong_weights(&mut self, choice: Choice) {
        let before = self.state();
        let mut weights: Vec<StateValue<'static, T>> =
            self.optimizer.weights().into_iter().map(StateValue::from).collect();
        match choice.of(&[0, 1, 2, 3]) {
            0 => drop(weights.pop()),
            1 => weights.push(StateValue::Scalar(1.0)),
            2 => weights[0] = StateValue::Scalar(1.0),
            _ => {
                let last = weights.len() - 1;
                weights[last] = numbers(&[7], 1).mapv(T::literal).into();
            }
        }
        let result = self.optimizer.set_weights(weights);
        assert!(result.is_err(), "{result:?}");
        assert_eq!(self.state(), before, "refused, and something has changed");
    }

    fn rebuild(&mut self) {
        let (before, names, config) = (self.state(), self.known(), self.optimizer.to_config().expect("no code in it"));
        let weights = self.optimizer.weights().into_iter().map(StateValue::from).collect();
        self.optimizer = Optimizer::from_config(&config, &optimizers::registry()).expect("it was just written");
        assert_eq!(self.optimizer.to_config().expect("as before"), config);
        self.restore(&names, weights);
        assert_eq!(self.state(), before, "{config} is another optimizer");
    }

    fn averages(&mut self) {
        let before = self.state();
        let known = self.known();
        let values =
            names().into_iter().zip(&mut self.values).filter(|(name, _)| known.iter().any(|known| known == name));
        let mut model: Vec<_> = values.map(|(name, value)| value.variable(name)).collect();
        match self.optimizer.swap_in_averages(&mut model) {
            Err(error) => {
                assert!(matches!(error, Error::NoAverages) && self.plan.options.ema.is_none(), "{error}");
            }
            Ok(guard) => drop(guard),
        }
        drop(model);
        assert_eq!(self.state(), before);
    }

    /// Compares every step with the textbook.
    fn compare(mut self) {
        if self.plan.options.has_narrow_moments::<T>() || self.plan.halves.are_rounded::<T>() {
            return;
        }
        let Done { problem, rates, own_rates, trace, .. } = self.done;
        let mut naive = self.plan.options.naive();
        if let (Some(groups), [lists, numbers]) = (&self.plan.options.groups, naive.teams.as_mut_slice()) {
            lists.rates = rates.iter().map(|rate| rate * groups.factor()).collect();
            numbers.rates = own_rates;
        }
        let expected = naive.run(&problem, |t| rates[t as usize], &mut *self.formula);
        // The rounding errors of some hundred operations on the largest numbers.
        let (epsilon, mut largest) = (if size_of::<T>() == 4 { 2e-3 } else { 1e-11 }, 1.0_f64);
        for (number, (got, want)) in trace.iter().zip(&expected).enumerate() {
            largest = want.values().flatten().fold(largest, |largest, number| largest.max(number.abs()));
            for ((name, _), got) in VARIABLES.iter().zip(got) {
                let far = got.iter().zip(&want[*name]).find(|(got, want)| {
                    let close = (*got - *want).abs() <= epsilon * largest;
                    !close
                });
                assert!(far.is_none(), "step {number}: {name}: {far:?}");
            }
        }
    }
}

/// All variables without gradients.
fn named<T: Element>(values: &mut [Value<T>]) -> Vec<Variable<'_, T>> {
    names().into_iter().zip(values).map(|(name, value)| value.variable(name)).collect()
}

/// A step with the gradients of a scaled loss.
fn apply<T: Element>(
    optimizer: &mut DynOptimizer<T>,
    values: &mut [Value<T>],
    gradients: &Gradients<T>,
    backwards: bool,
) -> Result<StepReport, Error> {
    let scale = T::literal(optimizer.loss_scale());
    let scaled: Gradients<T> = gradients
        .iter()
        .map(|(which, gradient)| {
            let scaled = gradient.clone().map(|(rows, values)| (rows, values.mapv(|g| g * scale)));
            (*which, scaled)
        })
        .collect();
    let mut values: Vec<Option<&mut Value<T>>> = values.iter_mut().map(Some).collect();
    let variables = scaled.iter().filter_map(|(which, gradient)| {
        let variable = values[*which].take()?.variable(VARIABLES[*which].0);
        Some(with(variable, gradient))
    });
    let mut variables: Vec<_> = variables.collect();
    if backwards {
        variables.reverse();
    }
    optimizer.apply_gradients(variables)
}

/// The variable with its gradient, if there is one.
fn with<'a, T: Element>(variable: Variable<'a, T>, gradient: &'a GradientOf<T>) -> Variable<'a, T> {
    match gradient {
        None => variable,
        Some((None, values)) => variable.gradient(values),
        Some((Some(rows), values)) => variable.sparse_gradient(rows, values),
    }
}

/// A multiple of the sum of gradients; of rows, if all of them are sparse.
fn sum<'g>(shape: &[usize], gradients: impl Iterator<Item = &'g Gradient>, factor: f64) -> Gradient {
    let mut dense = None::<ArrayD<f64>>;
    let mut rows: Option<BTreeMap<usize, ArrayD<f64>>> = None;
    for gradient in gradients {
        match gradient {
            Gradient::Absent => {}
            Gradient::Dense(values) => *dense.get_or_insert_with(|| ArrayD::zeros(shape)) += values,
            Gradient::Sparse(indices, values) => {
                let rows = rows.get_or_insert_default();
                for (row, values) in indices.iter().zip(values.axis_iter(Axis(0))) {
                    *rows.entry(*row).or_insert_with(|| ArrayD::zeros(&shape[1..])) += &values;
                }
            }
        }
    }
    match (dense, rows) {
        (None, None) => Gradient::Absent,
        (Some(mut sum), rows) => {
            for (row, values) in rows.into_iter().flatten() {
                sum.index_axis_mut(Axis(0), row).scaled_add(1.0, &values);
            }
            Gradient::Dense(sum * factor)
        }
        (None, Some(rows)) => {
            let mut values = ArrayD::zeros([&[rows.len()], &shape[1..]].concat());
            values.axis_iter_mut(Axis(0)).zip(rows.values()).for_each(|(mut to, values)| to.assign(values));
            Gradient::Sparse(rows.into_keys().collect(), values * factor)
        }
    }
}
