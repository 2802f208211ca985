//! A training that has every kind of state, to be saved and loaded.

use std::io::Cursor;

use opt_checkpoint::{Checkpoint, Element, SaveOptions};
use opt_conformance::problem::{Problem, Variables};
use opt_core::{Ema, Optimizer, OptimizerBuilder, Scalar, UpdateRule};
use opt_lookahead::Lookahead;
use opt_nadam::Nadam;
use opt_novograd::NovoGrad;

/// Arrays (`slow`, `m`, `v`, averages), and a shared number.
pub(crate) type Rule = Lookahead<Nadam>;

pub(crate) fn builder<T: Scalar>() -> OptimizerBuilder<Rule, T> {
    Optimizer::builder(Lookahead::new(Nadam::new(0.125)).sync_period(3)).ema(Ema::new(0.75))
}

/// Arrays, and a number for each variable.
pub(crate) fn novograd<T: Scalar>() -> OptimizerBuilder<NovoGrad, T> {
    Optimizer::builder(NovoGrad::new(0.125).amsgrad(true))
}

/// Variables of no axes to six, of no element to many.
pub(crate) fn problem() -> Problem {
    Problem::varied(5, 9)
}

/// After some steps.
pub(crate) fn trained<R: UpdateRule<T>, T: Scalar>(
    builder: OptimizerBuilder<R, T>,
    steps: usize,
) -> (Optimizer<R, T>, Variables<T>) {
    let (problem, mut optimizer) = (problem(), builder.build().unwrap());
    let mut variables = problem.start();
    for number in 0..steps {
        problem.step(number, &mut optimizer, &mut variables).unwrap();
    }
    (optimizer, variables)
}

pub(crate) fn bytes<R: UpdateRule<T>, T: Element>(
    options: SaveOptions<'_>,
    optimizer: &Optimizer<R, T>,
    variables: &Variables<T>,
) -> Vec<u8> {
    let mut file = Cursor::new(Vec::new());
    let length = options.write(&mut file, optimizer, variables).unwrap();
    assert_eq!(length, file.get_ref().len() as u64);
    file.into_inner()
}

/// After five steps, saved.
pub(crate) fn saved() -> Vec<u8> {
    let (optimizer, variables) = trained(builder::<f32>(), 5);
    bytes(SaveOptions::new(), &optimizer, &variables)
}

pub(crate) fn checkpoint() -> Checkpoint {
    Checkpoint::from_bytes(saved()).unwrap()
}
