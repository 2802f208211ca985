//! A run that is stopped and resumed elsewhere ends with the same bytes.

use ndarray::{Array1, Array2, ArrayD};
use opt_conformance::problem::{Problem, Variables};
use optimizers::UpdateRule;
use optimizers::schedules::CosineDecay;
use optimizers::state::{StateEntry, StateValue};
use optimizers::{Ema, Error, Exclude, NonFinite, Optimizer, OptimizerBuilder, Sgd, Variable};
use serde_json::Value;

/// All stages together.
fn builder() -> OptimizerBuilder<Sgd, f32> {
    Optimizer::builder(Sgd::new(CosineDecay::new(0.25, 20)).momentum(0.875).nesterov(true))
        .global_clipnorm(1.5)
        .weight_decay(0.03125)
        .exclude_from_weight_decay(Exclude::names(["v0"]))
        .ema(Ema::new(0.875).overwrite_every(4))
        .non_finite(NonFinite::SkipStep)
}

/// Step 5 is skipped: a gradient is NaN.
fn problem() -> Problem {
    let mut problem = Problem::varied(21, 14);
    if let opt_conformance::problem::Gradient::Dense(gradient) = &mut problem.steps[5][3] {
        gradient[[0, 0]] = f64::NAN;
    }
    problem
}

fn run<R: UpdateRule<f32>>(
    problem: &Problem,
    steps: std::ops::Range<usize>,
    optimizer: &mut Optimizer<R, f32>,
    variables: &mut Variables<f32>,
) {
    for number in steps {
        problem.step(number, optimizer, variables).unwrap();
    }
}

#[test]
fn at_every_step_through_text_and_another_type() {
    let problem = problem();
    let last = problem.steps.len();
    let (mut whole, mut want) = (builder().threads(2).build().unwrap(), problem.start());
    run(&problem, 0..last, &mut whole, &mut want);
    assert_eq!(whole.iterations(), last as u64 - 1);
    for stop in 0..=last {
        let (mut first, mut variables) = (builder().threads(1).build().unwrap(), problem.start());
        run(&problem, 0..stop, &mut first, &mut variables);
        let text = first.to_config().unwrap().to_string();
        let config: Value = serde_json::from_str(&text).unwrap();
        let mut second = Optimizer::from_config(&config, &optimizers::registry()).unwrap();
        if stop > 0 {
            second.add_variables(&mut variables).unwrap();
        }
        second.set_weights(first.weights()).unwrap();
        drop(first);
        run(&problem, stop..last, &mut second, &mut variables);
        assert_eq!(variables.bits(), want.bits(), "stopped at {stop}");
        assert_eq!(second.weights(), whole.weights(), "stopped at {stop}");
    }
}

#[test]
fn column_major_variables_keep_their_meaning() {
    let mut transposed = Array2::<f32>::zeros((3, 4)).reversed_axes();
    let gradient = Array2::from_shape_fn((4, 3), |(i, j)| (i * 3 + j) as f32);
    let mut opt = Optimizer::new(Sgd::new(1.0).momentum(0.5)).unwrap();
    opt.apply_gradients([Variable::new("w", &mut transposed).gradient(&gradient)]).unwrap();
    let weights = opt.weights();
    assert_eq!(weights[1].value, StateValue::from(gradient.mapv(|g| -g).into_dyn()));

    let mut row_major = Array2::<f32>::zeros((4, 3));
    let mut second = Optimizer::new(Sgd::new(1.0).momentum(0.5)).unwrap();
    second.add_variables(&mut [Variable::new("w", &mut row_major)]).unwrap();
    second.set_weights(weights.clone()).unwrap();
    assert_eq!(second.weights(), weights);
}

#[test]
fn weights_that_do_not_fit_are_refused_whole() {
    let mut w = Array1::<f32>::ones(2);
    let mut opt = Optimizer::builder(Sgd::new(1.0).momentum(0.5)).ema(Ema::new(0.5)).build().unwrap();
    opt.apply_gradients([Variable::new("w", &mut w).gradient(&[1.0, 2.0])]).unwrap();
    let before: Vec<StateEntry<StateValue<'static, f32>>> = opt.weights();
    let with = |index: usize, value: StateValue<'static, f32>| {
        let mut weights: Vec<StateValue<'static, f32>> = before.iter().cloned().map(Into::into).collect();
        weights[0] = StateValue::Iterations(77);
        weights[index] = value;
        weights
    };
    let wrong_shape = with(2, StateValue::from(ArrayD::zeros(vec![3])));
    let error = opt.set_weights(wrong_shape).unwrap_err();
    assert_eq!(error.to_string(), "weight 2 (w/momentum): expected an array of shape [2], got an array of shape [3]");
    let wrong_kind = with(1, StateValue::Scalar(0.0));
    assert!(matches!(opt.set_weights(wrong_kind), Err(Error::WeightMismatch { index: 1, .. })));
    let no_counter = with(0, StateValue::Scalar(0.0));
    assert!(matches!(opt.set_weights(no_counter), Err(Error::WeightMismatch { index: 0, .. })));
    let short = before[..2].to_vec();
    assert_eq!(opt.set_weights(short), Err(Error::WeightCount { expected: 3, found: 2 }));
    assert_eq!(opt.weights(), before);
}
