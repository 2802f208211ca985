//! Small trainings with every kind of state, into which checkpoints are loaded.

use std::sync::LazyLock;

use opt_conformance::problem::{Problem, Variables, bits};
use optimizers::state::StateValue;
use optimizers::{Accumulate, Ema, Group, Lookahead, LossScale, Nadam, NovoGrad, Optimizer, OptimizerBuilder, Sgd};
use optimizers::{Scalar, UpdateRule};

/// An optimizer after some steps, and its variables.
#[derive(Debug, Clone)]
pub struct Trained<R, T> {
    /// The optimizer.
    pub optimizer: Optimizer<R, T>,
    /// The variables.
    pub variables: Variables<T>,
}

/// Arrays, averages and a shared number, in 32 bits.
pub static NADAM: LazyLock<Trained<Lookahead<Nadam>, f32>> =
    LazyLock::new(|| Trained::new(Optimizer::builder(Lookahead::new(Nadam::new(0.125))).ema(Ema::new(0.75))));

/// Arrays and a number for each variable, in 64 bits.
pub static NOVOGRAD: LazyLock<Trained<NovoGrad, f64>> =
    LazyLock::new(|| Trained::new(Optimizer::builder(NovoGrad::new(0.125).amsgrad(true))));

/// Gradients that wait to be applied, a loss scale, and two rules.
pub static ACCUMULATED: LazyLock<Trained<Nadam, f64>> = LazyLock::new(|| {
    let group = Group::matching("1$").rule(Sgd::new(0.125).momentum(0.5));
    let builder = Optimizer::builder(Nadam::new(0.125)).group(group);
    Trained::new(builder.accumulate(Accumulate::mean(3)).loss_scale(LossScale::dynamic().initial(8.0)))
});

fn problem() -> Problem {
    Problem::dense(5, &[&[3], &[2, 2]], 3)
}

impl<R: UpdateRule<T>, T: Scalar> Trained<R, T> {
    fn new(builder: OptimizerBuilder<R, T>) -> Self {
        let optimizer = builder.threads(1).build().expect("the options are valid");
        let mut trained = Self { optimizer, variables: problem().start() };
        trained.step().expect("the problem is valid");
        trained
    }

    /// One more step.
    ///
    /// # Errors
    ///
    /// The error of the optimizer.
    pub fn step(&mut self) -> Result<(), optimizers::Error> {
        problem().step(1, &mut self.optimizer, &mut self.variables).map(drop)
    }

    /// Everything that a run depends on, bit for bit.
    #[must_use]
    pub fn bits(&self) -> Vec<(String, Vec<u64>)> {
        let weights = self.optimizer.weights().into_iter().map(|weight| {
            let bits = match weight.value {
                StateValue::Iterations(count) => vec![count],
                StateValue::Scalar(number) => vec![number.to_bits()],
                StateValue::Bf16(_) => unreachable!("weights are widened"),
                StateValue::Array(array) => bits(&array),
            };
            (weight.name, bits)
        });
        let variables = self.variables.0.iter().map(|(name, value)| (name.clone(), bits(value)));
        weights.chain(variables).collect()
    }
}
