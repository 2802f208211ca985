//! One process.

use ndarray::ArrayD;
use opt_conformance::problem::bits;
use optimizers::state::{StateEntry, StateValue};
use optimizers::{
    Accumulate, Description, Error, Gradient, MomentStorage, Optimizer, Outcome, Scalar, StepReport, UpdateRule,
};

use super::oracle::{Done, Oracle};
use super::script::{Cast, Event, FROZEN, HEAD, Rule, Script, VARIABLES, cast, named, scaled, with};

/// A training, and its progress.
pub(crate) struct Run<R, T: 'static> {
    pub(crate) opt: Optimizer<R, T>,
    pub(crate) values: Vec<ArrayD<T>>,
}

/// Everything that a training depends on, bit for bit.
pub(crate) type Bits = Vec<(String, Vec<u64>)>;

impl<R: UpdateRule<T>, T: Scalar> Run<R, T> {
    /// The events before a call, and the call.
    pub(crate) fn call(&mut self, script: &Script, number: usize) -> Outcome {
        let call = &script.calls[number];
        call.events.iter().for_each(|event| self.event(*event));
        let gradients = cast(&scaled(&call.gradients, self.opt.loss_scale()));
        let report = if number % 3 == 1 && self.opt.distribution().is_none() {
            in_phases(&mut self.opt, &mut self.values, &gradients)
        } else {
            self.opt.apply_gradients(with(&mut self.values, &gradients))
        };
        report.unwrap().outcome
    }

    pub(crate) fn event(&mut self, event: Event) {
        match event {
            Event::Freeze => self.opt.freeze(FROZEN).unwrap(),
            Event::Unfreeze => self.opt.unfreeze(FROZEN).unwrap(),
            Event::Rate(rate) => self.opt.set_group_learning_rate(HEAD, rate).unwrap(),
            Event::Flush => {
                let waited = self.opt.micro_step() > 0;
                assert_eq!(self.opt.flush(&mut named(&mut self.values)).unwrap().is_applied(), waited);
            }
            Event::Discard => self.opt.discard_accumulated(),
        }
    }

    pub(crate) fn bits(&self) -> Bits {
        let state = self.opt.weights().into_iter().map(|StateEntry { name, value, .. }| {
            let bits = match value {
                StateValue::Iterations(count) => vec![count],
                StateValue::Scalar(number) => vec![number.to_bits()],
                StateValue::Array(array) => bits(&array.into_owned()),
                StateValue::Bf16(_) => unreachable!("weights are widened"),
            };
            (name, bits)
        });
        let values = VARIABLES.iter().zip(&self.values).map(|((name, _), value)| ((*name).to_owned(), bits(value)));
        state.chain(values).collect()
    }
}

impl<T: Scalar> Run<Rule, T> {
    pub(crate) fn new(script: &Script, threads: usize, moments: MomentStorage) -> Self {
        let opt = script.builder().threads(threads).moments(moments).build().unwrap();
        Self { opt, values: script.start() }
    }
}

/// A step whose variables are lent one at a time, the last one first.
fn in_phases<R: UpdateRule<T>, T: Scalar>(
    opt: &mut Optimizer<R, T>,
    values: &mut [ArrayD<T>],
    gradients: &[Cast<T>],
) -> Result<StepReport, Error> {
    let described = VARIABLES.iter().zip(&*values).zip(gradients).map(|(((name, _), value), gradient)| {
        let gradient = gradient.as_ref().map(|(rows, values)| match rows {
            None => values.into(),
            Some(rows) => Gradient::sparse(rows, values),
        });
        Description::new(*name, value.shape()).optional_gradient(gradient)
    });
    let mut step = opt.begin(described)?;
    for (i, value) in values.iter_mut().enumerate().rev() {
        step.update(i, value)?;
    }
    step.finish()
}

/// The events and the call on the oracle; each rank has a script.
pub(crate) fn call(oracle: &mut Oracle, scripts: &[Script], number: usize) -> Done {
    for event in &scripts[0].calls[number].events {
        match event {
            Event::Freeze => oracle.freeze(0),
            Event::Unfreeze => oracle.teams[0].frozen = false,
            Event::Rate(rate) => oracle.teams[2].rate = *rate,
            Event::Flush if oracle.waiting.is_empty() => {}
            Event::Flush => oracle.step(),
            Event::Discard => oracle.waiting.clear(),
        }
    }
    let named = |script: &Script| {
        let gradients = scaled(&script.calls[number].gradients, oracle.scale);
        VARIABLES.iter().map(|(name, _)| *name).zip(gradients).collect()
    };
    let of_ranks: Vec<_> = scripts.iter().map(named).collect();
    oracle.call(&of_ranks)
}

impl<R: UpdateRule<T>, T: Scalar> Run<R, T> {
    /// Compares values, counters and loss scale.
    pub(crate) fn compare_values(&self, oracle: &Oracle, tolerance: f64, context: &str) {
        let counted = (self.opt.iterations(), self.opt.micro_step() as usize, self.opt.loss_scale());
        assert_eq!(counted, (oracle.iterations, oracle.waiting.len(), oracle.scale), "{context}");
        for ((name, _), got) in VARIABLES.iter().zip(&self.values) {
            close(got.iter().map(|w| w.as_()), &oracle.values[*name], tolerance, &format!("{name}: {context}"));
        }
    }

    /// Compares averages, too.
    pub(crate) fn compare(&self, oracle: &Oracle, tolerance: f64, context: &str) {
        self.compare_values(oracle, tolerance, context);
        for (name, _) in VARIABLES {
            if let Ok(average) = self.opt.slot(name, "average") {
                assert!(oracle.teams[oracle.team_of(name)].averages, "{name}: {context}");
                let context = format!("average of {name}: {context}");
                close(average.to_f64().into_iter(), &oracle.averages[name], tolerance, &context);
            }
        }
    }
}

fn close(got: impl Iterator<Item = f64>, want: &[f64], tolerance: f64, context: &str) {
    for (got, want) in got.zip(want) {
        let close = (got - want).abs() <= tolerance;
        assert!(close, "{got} instead of {want}: {context}");
    }
}

fn follows_the_oracle<T: Scalar>(tolerance: f64) {
    let mut seen = [0; 3];
    for seed in 0..12 {
        let script = Script::new(seed);
        let (mut run, mut oracle) = (Run::<_, T>::new(&script, 1, MomentStorage::Full), script.oracle());
        for number in 0..script.calls.len() {
            let done = match run.call(&script, number) {
                Outcome::Accumulated { .. } => Done::Added,
                Outcome::Applied => Done::Stepped,
                _ => Done::Overflowed,
            };
            let context = format!("seed {seed}, call {number}");
            assert_eq!(done, call(&mut oracle, std::slice::from_ref(&script), number), "{context}");
            seen[done as usize] += 1;
            run.compare(&oracle, tolerance, &context);
        }
    }
    assert!(seen.iter().all(|&count| count > 20), "every outcome is frequent: {seen:?}");
}

#[test]
fn in_64_bits() {
    follows_the_oracle::<f64>(1e-13);
}

#[test]
fn in_32_bits() {
    follows_the_oracle::<f32>(3e-5);
}

/// A new optimizer takes over between any two calls: made from the configuration, with the weights of the old one.
#[test]
fn resumed_between_any_two_calls() {
    for (seed, moments) in (0..12).zip([MomentStorage::Full, MomentStorage::Bf16 { seed: 7 }].into_iter().cycle()) {
        let script = Script::new(seed);
        let mut control = Run::<_, f32>::new(&script, 1, moments);
        let mut run =
            Run { opt: script.builder::<f32>().boxed().moments(moments).build().unwrap(), values: script.start() };
        for number in 0..script.calls.len() {
            let config = run.opt.to_config().unwrap();
            let names: Vec<String> = run.opt.variables().map(|(name, _)| name.to_owned()).collect();
            let mut next = Optimizer::from_config(&config, &optimizers::registry()).unwrap();
            let mut variables = named(&mut run.values);
            variables.retain(|variable| names.iter().any(|name| name == variable.name()));
            variables.sort_by_key(|variable| names.iter().position(|name| name == variable.name()));
            next.restore(&mut variables, run.opt.weights()).unwrap();
            assert_eq!(next.to_config().unwrap(), config);
            drop(variables);
            run.opt = next;
            assert_eq!(run.bits(), control.bits(), "seed {seed}, before call {number}");
            assert_eq!(run.call(&script, number), control.call(&script, number), "seed {seed}, call {number}");
            assert_eq!(run.bits(), control.bits(), "seed {seed}, after call {number}");
        }
    }
}

/// The same through `add_variables` and `set_weights`, as long as no trained group is frozen again.
#[test]
fn resumed_by_weights_alone() {
    for seed in 0..4 {
        let script = Script::new(seed);
        let mut control = Run::<_, f64>::new(&script, 1, MomentStorage::Full);
        let mut run = Run::<_, f64>::new(&script, 2, MomentStorage::Full);
        for number in 0..11 {
            let names: Vec<String> = run.opt.variables().map(|(name, _)| name.to_owned()).collect();
            let mut next = script.builder().threads(1 + number % 2).build().unwrap();
            if !run.opt.groups()[1].frozen {
                next.unfreeze(FROZEN).unwrap();
            }
            let rate = run.opt.groups()[3].learning_rate;
            next.set_group_learning_rate(HEAD, rate).unwrap();
            let mut variables = named(&mut run.values);
            variables.retain(|variable| names.iter().any(|name| name == variable.name()));
            variables.sort_by_key(|variable| names.iter().position(|name| name == variable.name()));
            next.add_variables(&mut variables).unwrap();
            next.set_weights(run.opt.weights()).unwrap();
            drop(variables);
            run.opt = next;
            assert_eq!(run.call(&script, number), control.call(&script, number), "seed {seed}, call {number}");
            assert_eq!(run.bits(), control.bits(), "seed {seed}, after call {number}");
        }
    }
}

/// Variables that are large enough to be divided between threads.
#[test]
fn threads_change_no_bit() {
    use ndarray::Array2;
    use opt_conformance::problem::Rng;
    use optimizers::Variable;

    let run = |threads: usize, accumulate: Accumulate| {
        let builder = Script::new(0).builder::<f32>().accumulate(accumulate);
        let mut opt = builder.threads(threads).build().unwrap();
        let shapes =
            [("emb/rows", [5, 2]), ("dense/kernel", [400, 700]), ("head/kernel", [300, 500]), ("x/norm", [9, 9_000])];
        let mut rng = Rng(3);
        let mut number = |_| (rng.number() * 4.0) as f32;
        let mut values: Vec<Array2<f32>> = shapes.map(|(_, shape)| Array2::from_shape_fn(shape, &mut number)).into();
        let (mut bias, bias_gradient) = ([0.5_f32; 3], [0.25_f32; 3]);
        for call in 0..8_usize {
            let scale = opt.loss_scale() as f32;
            let gradients: Vec<Array2<f32>> =
                shapes.map(|(_, shape)| Array2::from_shape_fn(shape, &mut number) * scale).into();
            let rows: Vec<usize> = (0..150).map(|row| (row * 7 + call) % 300).collect();
            let sparse = gradients[2].select(ndarray::Axis(0), &rows);
            let transposed = gradients[1].t().as_standard_layout().into_owned();
            let variables = shapes.iter().zip(&mut values).zip(&gradients).map(|(((name, _), value), gradient)| {
                let variable = Variable::new(*name, value);
                match *name {
                    "head/kernel" if call % 3 == 1 => variable.sparse_gradient(&rows, &sparse),
                    "dense/kernel" if call % 3 == 2 => variable.gradient(transposed.t()),
                    _ => variable.gradient(gradient),
                }
            });
            let mut variables: Vec<_> = variables.collect();
            let bad = [bias_gradient[0], f32::NAN, 0.0];
            let bias = Variable::new("dense/bias", &mut bias);
            variables.push(bias.gradient(if call == 4 { &bad } else { &bias_gradient }));
            opt.apply_gradients(variables).unwrap();
        }
        assert!(opt.iterations() > 1 && opt.micro_step() > 0, "it ends between two steps");
        (values, bias, opt.weights())
    };
    for accumulate in [Accumulate::mean(3), Accumulate::sum(2)] {
        let one = run(1, accumulate);
        for threads in [2, 7] {
            assert!(run(threads, accumulate) == one, "{threads} threads, {accumulate:?}");
        }
    }
}
