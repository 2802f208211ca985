//! Accumulation and loss scales at their edges.

use ndarray::{Array2, ShapeBuilder};
use opt_core::config::ConfigError;
use opt_core::state::StateValue;
use opt_core::{
    Accumulate, Error, Exclude, Group, Hyper, LossScale, Optimizer, OptimizerBuilder, Outcome, Registry, Variable,
};
use opt_sgd::Sgd;
use serde_json::json;

use super::options::Halving;

fn momentum() -> OptimizerBuilder<Sgd, f64> {
    Optimizer::builder(Sgd::new(0.5).momentum(0.5))
}

/// A column-major variable with a sum of rows, or with none, is restored; its slots are then stored row by row.
#[test]
fn column_major_variables_resume_between_micro_steps() {
    for has_rows in [false, true] {
        let builder = || momentum().accumulate(Accumulate::mean(2)).build().unwrap();
        let mut values = (Array2::from_shape_fn((3, 2).f(), |(i, j)| (3 * i + j) as f64), [1.0]);
        let dense = Array2::from_elem((3, 2).f(), 0.25);
        let rows = Array2::from_elem((1, 2), 0.5);
        let give = |opt: &mut Optimizer<Sgd, f64>, (w, v): &mut (Array2<f64>, [f64; 1]), micro_step: usize| {
            let w = Variable::new("w", w);
            let w = match (micro_step, has_rows) {
                (2, true) => w.sparse_gradient(&[1_usize][..], &rows),
                (2, false) => w,
                _ => w.gradient(&dense),
            };
            opt.apply_gradients([w, Variable::new("v", v).gradient(&[1.0])]).unwrap()
        };
        let mut opt = builder();
        (0..3).for_each(|micro_step| drop(give(&mut opt, &mut values, micro_step)));
        assert_eq!((opt.iterations(), opt.micro_step()), (1, 1));

        let (mut other, mut copy) = (builder(), values.clone());
        let weights = opt.weights();
        other.restore(&mut [Variable::new("w", &mut copy.0), Variable::new("v", &mut copy.1)], weights).unwrap();
        give(&mut opt, &mut values, 3);
        give(&mut other, &mut copy, 3);
        assert_eq!((&values, opt.weights()), (&copy, other.weights()));
    }
}

#[test]
fn sums_that_nobody_has_any_more_start_anew() {
    let group = || Group::matching("^b$").learning_rate(0.25).named("b");
    let (mut a, mut b) = ([1.0], [1.0]);
    let mut opt = momentum().group(group()).accumulate(Accumulate::mean(4)).build().unwrap();
    let variables = [Variable::new("a", &mut a), Variable::new("b", &mut b).gradient(&[1.0])];
    opt.apply_gradients(variables).unwrap();
    opt.freeze("b").unwrap();
    assert_eq!(opt.micro_step(), 0);
    let mut list = [Variable::new("a", &mut a), Variable::new("b", &mut b)];
    assert_eq!(opt.flush(&mut list[..]).unwrap().outcome, Outcome::Accumulated { micro_step: 0, of: 4 });
    assert_eq!(opt.iterations(), 0);
}

/// Keras 3 counts calls in schedules; a new schedule says so.
#[test]
fn schedules_count_calls_as_in_keras_3() {
    let mut opt = Optimizer::builder(Sgd::new(Halving(1.0))).accumulate(Accumulate::keras3(2)).build().unwrap();
    let mut w = [0.0_f64];
    let mut rates = Vec::new();
    for _ in 0..4 {
        rates.push(opt.step(&mut w, &[1.0]).unwrap().learning_rate);
    }
    assert_eq!(rates, [1.0, 0.5, 0.25, 0.125]);
    assert_eq!((opt.iterations(), opt.schedule_step()), (2, 4));
    let error = opt.set_learning_rate(Hyper::from(Halving(1.0))).unwrap_err();
    assert!(matches!(error, Error::ScheduleStart { iterations: 4, .. }), "{error}");
}

#[test]
fn scales_that_state_could_not_have_are_refused() {
    for scale in [LossScale::fixed(1e39), LossScale::dynamic().initial(1e39), LossScale::fixed(1e-40)] {
        let error = momentum().loss_scale(scale).build().unwrap_err();
        assert!(matches!(&error, Error::Hyperparameter(wrong) if wrong.name == "loss_scale"), "{error}");
    }
    let mut opt = momentum().loss_scale(LossScale::dynamic().growth_interval(3)).build().unwrap();
    let given =
        |good_steps: f64| vec![StateValue::Iterations(0), StateValue::Scalar(2.0), StateValue::Scalar(good_steps)];
    assert!(matches!(opt.set_weights(given(3.0)), Err(Error::WeightRange { index: 2, .. })));
    opt.set_weights(given(2.0)).unwrap();
    opt.step(&mut [0.0], &[1.0]).unwrap();
    assert_eq!(opt.loss_scale(), 4.0);
}

/// Keras's wrapper replaces the loss scale inside. Two scales are one too many.
#[test]
fn a_wrapper_takes_no_other_loss_scale() {
    let mut registry = Registry::<f64>::new();
    registry.register::<Sgd>();
    let wrapped = |fields: serde_json::Value| {
        let inner = json!({"class_name": "SGD", "config": fields});
        json!({"class_name": "LossScaleOptimizer", "config": {"inner_optimizer": inner, "initial_scale": 8.0}})
    };
    let read = |config: &serde_json::Value| OptimizerBuilder::from_config(config, &registry).map(drop);
    assert_eq!(read(&wrapped(json!({"loss_scale_factor": null}))), Ok(()));
    let twice = wrapped(json!({}));
    let own = json!({"loss_scale": {"dynamic": false, "initial_scale": 2.0}});
    for config in [wrapped(json!({"loss_scale_factor": 2.0})), wrapped(own)] {
        assert!(matches!(read(&config), Err(ConfigError::NotSupported { .. })), "{config}");
    }
    let twice = json!({"class_name": "LossScaleOptimizer", "config": {"inner_optimizer": twice}});
    assert!(matches!(read(&twice), Err(ConfigError::NotSupported { .. })));
}

#[test]
fn exclusions_know_frozen_variables_and_rules_that_decay() {
    let names = || Exclude::names(["emb/w"]);
    let frozen = Group::matching("^emb/").frozen();
    let mut opt = momentum().weight_decay(0.5).exclude_from_weight_decay(names()).group(frozen).build().unwrap();
    let (mut w, mut embedding) = ([1.0], [1.0]);
    let variables = [Variable::new("w", &mut w).gradient(&[0.0]), Variable::new("emb/w", &mut embedding)];
    opt.apply_gradients(variables).unwrap();
    assert_eq!((w, embedding), ([0.75], [1.0]));

    let off = momentum().exclude_from_weight_decay(names()).group(Group::matching("^emb/").weight_decay(0.0));
    assert_eq!(off.build().unwrap_err(), Error::NothingToExcludeFrom);
}

/// What a refused call has seen is forgotten.
#[test]
fn a_refused_call_does_not_make_frozen_variables_known() {
    let builder = momentum().group(Group::matching("^emb/").frozen().named("embeddings"));
    let mut opt = builder.build().unwrap();
    let (mut w, mut embedding) = ([1.0, 2.0], [1.0]);
    let wrong = [Variable::new("emb/w", &mut embedding), Variable::new("w", &mut w).gradient(&[1.0])];
    assert!(matches!(opt.apply_gradients(wrong), Err(Error::GradientShape { .. })));
    assert!(opt.groups()[1].variables.is_empty());
    let without = [Variable::new("w", &mut w).gradient(&[1.0, 1.0])];
    assert!(matches!(opt.apply_gradients(without), Err(Error::EmptyGroup { .. })));
}

/// Also if the group is trained by then, and another one is not.
#[test]
fn what_a_refused_call_has_seen_is_trained_later() {
    let frozen = |name: &str| Group::matching(format!("^{name}/")).frozen().named(name);
    let mut opt = momentum().group(frozen("a")).group(frozen("b")).build().unwrap();
    let (mut w, mut a, mut b) = ([1.0, 2.0], [1.0], [1.0]);
    let wrong = [Variable::new("a/w", &mut a), Variable::new("w", &mut w).gradient(&[1.0])];
    assert!(matches!(opt.apply_gradients(wrong), Err(Error::GradientShape { .. })));
    opt.unfreeze("a").unwrap();
    for _ in 0..2 {
        let variables = [
            Variable::new("a/w", &mut a).gradient(&[1.0]),
            Variable::new("b/w", &mut b).gradient(&[1.0]),
            Variable::new("w", &mut w).gradient(&[0.0, 0.0]),
        ];
        opt.apply_gradients(variables).unwrap();
    }
    assert_eq!((a, b), ([-0.25], [1.0]));
}

/// Frozen variables that are announced count as variables of their group.
#[test]
fn frozen_variables_can_be_announced() {
    let mut opt = momentum().group(Group::matching("^emb/").frozen()).build().unwrap();
    let (mut w, mut embedding) = ([1.0], [1.0]);
    opt.add_variables(&mut [Variable::new("emb/w", &mut embedding), Variable::new("w", &mut w)]).unwrap();
    opt.apply_gradients([Variable::new("w", &mut w).gradient(&[1.0])]).unwrap();
    assert_eq!((w, opt.groups()[1].variables.as_slice()), ([0.5], &["emb/w".to_owned()][..]));
}
