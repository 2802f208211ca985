//! The size of each rule's state.

use ndarray::Array2;
use optimizers::UpdateRule;
use optimizers::{
    Adam, AdamW, Ema, Lookahead, Nadam, NovoGrad, Optimizer, OptimizerBuilder, RectifiedAdam, Sgd, Variable,
};

/// 1,100 parameters in two variables.
const SHAPES: [[usize; 2]; 2] = [[100, 10], [10, 10]];
const PARAMETERS: usize = 1_100;

/// Checks the bytes for 32-bit variables, before and after the first step: `arrays` for each parameter, `scalars` for
/// each variable.
fn remembers<R: UpdateRule<f32>>(builder: OptimizerBuilder<R, f32>, arrays: usize, scalars: usize) {
    let mut opt = builder.build().unwrap();
    let want = 4 * arrays * PARAMETERS + 8 * scalars * SHAPES.len();
    assert_eq!((opt.state_bytes_of(SHAPES), opt.state_bytes()), (want, 0));
    let (mut a, mut b) = (Array2::ones(SHAPES[0]), Array2::ones(SHAPES[1]));
    let (of_a, of_b) = (Array2::ones(SHAPES[0]), Array2::ones(SHAPES[1]));
    let variables = [Variable::new("a", &mut a).gradient(&of_a), Variable::new("b", &mut b).gradient(&of_b)];
    opt.apply_gradients(variables).unwrap();
    assert_eq!(opt.state_bytes(), want);
    // The reported size is the size of the state.
    let weights = opt.weights();
    let elements =
        |weight: &optimizers::state::StateEntry<optimizers::state::StateValue<'static, f32>>| match &weight.value {
            optimizers::state::StateValue::Array(array) => 4 * array.len(),
            optimizers::state::StateValue::Scalar(_) if weight.name.contains('/') => 8,
            _ => 0,
        };
    assert_eq!(weights.iter().map(elements).sum::<usize>(), want);
}

#[test]
fn every_rule_keeps_what_it_needs() {
    remembers(Optimizer::builder(Sgd::new(0.1)), 0, 0);
    remembers(Optimizer::builder(Sgd::new(0.1).momentum(0.9)), 1, 0);
    remembers(Optimizer::builder(Sgd::pytorch(0.1).momentum(0.9).dampening(0.1)), 1, 1);
    remembers(Optimizer::builder(Adam::new(0.1)), 2, 0);
    remembers(Optimizer::builder(Adam::pytorch(0.1).amsgrad(true)), 3, 1);
    remembers(Optimizer::builder(AdamW::optax(0.1)), 2, 0);
    remembers(Optimizer::builder(Nadam::new(0.1)), 2, 0);
    remembers(Optimizer::builder(Nadam::keras(0.1)), 2, 0);
    remembers(Optimizer::builder(Nadam::pytorch(0.1)), 2, 2);
    remembers(Optimizer::builder(RectifiedAdam::new(0.1)), 2, 0);
    remembers(Optimizer::builder(RectifiedAdam::pytorch(0.1)), 2, 1);
    remembers(Optimizer::builder(RectifiedAdam::new(0.1).amsgrad(true)), 3, 0);
    remembers(Optimizer::builder(NovoGrad::new(0.1)), 1, 1);
    remembers(Optimizer::builder(NovoGrad::new(0.1).amsgrad(true)), 1, 2);
}

#[test]
fn wrappers_and_averages_add_one_array_each() {
    remembers(Optimizer::builder(Lookahead::new(Sgd::new(0.1))), 1, 0);
    remembers(Optimizer::builder(Lookahead::new(NovoGrad::new(0.1))).ema(Ema::new(0.9)), 3, 1);
    remembers(Optimizer::builder(Lookahead::new(Lookahead::new(RectifiedAdam::new(0.1)))), 4, 0);
}
