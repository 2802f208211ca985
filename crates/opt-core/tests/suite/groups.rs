//! What groups, accumulation and loss scales refuse: the message, and that nothing has changed.

use ndarray::{Array2, array};
use opt_core::config::ConfigError;
use opt_core::state::StateValue;
use opt_core::{
    Accumulate, Ema, Error, Group, LossScale, NonFinite, Optimizer, OptimizerBuilder, Outcome, Registry, Schedule,
    Variable,
};
use opt_sgd::Sgd;
use serde_json::{Value, json};

type Builder = OptimizerBuilder<Sgd, f64>;

fn builder() -> Builder {
    Optimizer::builder(Sgd::new(0.5).momentum(0.5))
}

fn head() -> Group<f64> {
    Group::matching("^head/")
}

/// One step over variables of one element each.
fn step(opt: &mut Optimizer<Sgd, f64>, names: &[&str], values: &mut [f64]) -> Result<Outcome, Error> {
    let variables = names
        .iter()
        .zip(values)
        .map(|(name, value)| Variable::new(*name, std::slice::from_mut(value)).gradient(&[1.0]));
    opt.apply_gradients(variables).map(|report| report.outcome)
}

/// A step that is refused, and changes nothing.
fn refused(opt: &mut Optimizer<Sgd, f64>, names: &[&str]) -> Error {
    let (before, groups, mut values) = (opt.weights(), opt.groups(), vec![2.0; names.len()]);
    let error = step(opt, names, &mut values).unwrap_err();
    assert_eq!((opt.weights(), values), (before, vec![2.0; names.len()]));
    assert_eq!((opt.groups(), opt.micro_step()), (groups, 0));
    error
}

#[derive(Debug)]
struct Halving;

impl Schedule for Halving {
    fn value(&self, step: u64) -> f64 {
        0.5_f64.powf(step as f64)
    }
}

impl opt_core::config::Configurable for Halving {
    fn class_name(&self) -> &str {
        "Halving"
    }
    fn config(&self) -> Result<opt_core::config::Config, ConfigError> {
        Ok(opt_core::config::Config::new())
    }
}

#[test]
fn groups_that_cannot_be_built() {
    let refuse = |group: Group<f64>, message: &str| {
        assert_eq!(builder().group(group).build().unwrap_err().to_string(), message);
    };
    refuse(head(), "group \"^head/\" changes nothing: give it a learning rate, a weight decay or another option");
    refuse(
        head().learning_rate(0.5).named("default"),
        "there are two groups called \"default\": rename one by named(...)",
    );
    refuse(
        head().learning_rate(0.5).learning_rate_scale(0.5),
        "group \"^head/\": learning_rate and learning_rate_scale exclude each other: set one of them",
    );
    refuse(
        head().rule(Sgd::new(0.5)).learning_rate_scale(0.5).named("head"),
        "group \"head\": learning_rate_scale and rule exclude each other: set one of them",
    );
    refuse(head().average(true), "group \"^head/\": the optimizer keeps no averages: build it with .ema(...)");
    refuse(head().learning_rate(-1.0), "group \"^head/\": learning_rate is -1, expected a number in [0, inf)");
    refuse(head().learning_rate(f64::NAN), "group \"^head/\": learning_rate is NaN, expected a number in [0, inf)");
    refuse(
        head().learning_rate_scale(-1.0),
        "group \"^head/\": learning_rate_scale is -1, expected a number in [0, inf)",
    );
    refuse(head().weight_decay(-1.0), "group \"^head/\": weight_decay is -1, expected a number in [0, inf)");
    refuse(head().clipnorm(0.0), "group \"^head/\": clipnorm is 0, expected a number above 0");
    refuse(head().rule(Sgd::new(-0.5)), "group \"^head/\": learning_rate is -0.5, expected a number in [0, inf)");
    refuse(
        head().clipnorm(1.0).global_clipnorm(1.0),
        "group \"^head/\": clipnorm and global_clipnorm exclude each other: set one of them",
    );

    let twice = builder().group(head().learning_rate(0.5)).group(head().weight_decay(0.5));
    let error = twice.build().unwrap_err().to_string();
    assert_eq!(error, "there are two groups called \"^head/\": rename one by named(...)");

    let error = builder().group(Group::matching("(").frozen()).build().unwrap_err();
    let Error::Group { group, error } = error else { panic!("{error}") };
    assert!(group == "(" && error.to_string().contains('('), "{error}");
}

#[test]
fn options_that_cannot_be_built() {
    let refuse = |builder: Builder, message: &str| assert_eq!(builder.build().unwrap_err().to_string(), message);
    for accumulate in [Accumulate::mean(0), Accumulate::sum(0), Accumulate::keras3(0)] {
        refuse(builder().accumulate(accumulate), "accumulate is 0, expected a number in [1, 9007199254740992]");
    }
    for scale in [0.0, -1.0, f64::NAN, f64::INFINITY, 5e-324] {
        let message = format!("loss_scale is {scale}, expected a number from 1.18e-38 to 3.40e38");
        refuse(builder().loss_scale(LossScale::fixed(scale)), &message);
    }
    refuse(
        builder().loss_scale(LossScale::dynamic().initial(0.5)),
        "loss_scale is 0.5, expected a number from 1.00e0 to 3.40e38",
    );
    refuse(
        builder().loss_scale(LossScale::dynamic().growth_interval(0)),
        "dynamic_growth_steps is 0, expected a number in [1, inf)",
    );
    refuse(
        builder().loss_scale(LossScale::dynamic()).non_finite(NonFinite::Error),
        "a dynamic loss_scale and NonFinite::Error exclude each other: set one of them",
    );
    refuse(
        builder().accumulate(Accumulate::keras3(2)).ema(Ema::new(0.5)),
        "Accumulate::keras3 and averages other than Ema::keras3 exclude each other: set one of them",
    );
}

#[test]
fn groups_without_a_variable() {
    let message = |group: &str| {
        format!(
            "group \"{group}\" has no variable at the first step: it matches none, or earlier groups have those that it \
             matches; correct it, or announce later variables by add_variables"
        )
    };
    let mut opt = builder().group(head().learning_rate(0.25)).build().unwrap();
    assert_eq!(refused(&mut opt, &["dense"]).to_string(), message("^head/"));
    assert_eq!(step(&mut opt, &[], &mut []), Ok(Outcome::NoVariables));
    let second = Group::matching("/a$").weight_decay(0.5);
    let mut opt = builder().group(head().learning_rate(0.25)).group(second).build().unwrap();
    assert_eq!(refused(&mut opt, &["head/a", "b"]).to_string(), message("/a$"));
    // Announced variables count, and so do frozen ones.
    opt.add_variables(&mut [Variable::new("late/a", &mut [1.0])]).unwrap();
    step(&mut opt, &["head/a", "b"], &mut [1.0, 1.0]).unwrap();
    let mut opt = builder().group(head().frozen()).build().unwrap();
    step(&mut opt, &["head/a", "b"], &mut [1.0, 1.0]).unwrap();
}

#[test]
fn calls_on_groups() {
    let mut opt = builder().group(head().learning_rate(0.25).named("head")).build().unwrap();
    let (mut values, names) = ([1.0; 2], ["head/a", "b"]);
    step(&mut opt, &names, &mut values).unwrap();
    let (before, groups) = (opt.weights(), opt.groups());
    let unknown = "unknown group \"heads\", there are [\"default\", \"head\"]";
    for error in [opt.freeze("heads"), opt.unfreeze("heads"), opt.set_group_learning_rate("heads", 0.5)] {
        assert_eq!(error.unwrap_err().to_string(), unknown);
    }
    let negative = opt.set_group_learning_rate("head", -0.5).unwrap_err().to_string();
    assert_eq!(negative, "learning_rate is -0.5, expected a number in [0, inf)");
    let late = opt.set_group_learning_rate("head", Halving).unwrap_err();
    assert!(matches!(&late, Error::ScheduleStart { schedule, iterations: 1 } if schedule == "Halving"), "{late}");
    assert_eq!((opt.weights(), opt.groups()), (before, groups));

    opt.freeze("default").unwrap();
    opt.freeze("head").unwrap();
    let error = refused(&mut opt, &names).to_string();
    assert_eq!(error, "all of the 2 variables are frozen by their groups");

    let scheduled = Group::matching("^head/").learning_rate(Halving);
    let mut opt = builder().group(scheduled).build().unwrap();
    let error = opt.set_group_learning_rate("^head/", 0.5).unwrap_err();
    assert!(matches!(error, Error::LearningRateScheduled { .. }), "{error}");
}

#[test]
fn accumulated_variables_must_be_there() {
    let mut opt = builder().accumulate(Accumulate::mean(2)).build().unwrap();
    let (mut a, mut b) = ([1.0], [1.0]);
    step(&mut opt, &["a"], &mut a).unwrap();
    let before = opt.weights();
    let message = "variable \"a\" has accumulated gradients, but the call that applies them does not have it: add it to the \
                   list, or call discard_accumulated";
    assert_eq!(step(&mut opt, &["b"], &mut b).unwrap_err().to_string(), message);
    assert_eq!(opt.flush(&mut [Variable::new("b", &mut b)]).unwrap_err().to_string(), message);
    assert_eq!((opt.weights(), opt.micro_step(), a, b), (before, 1, [1.0], [1.0]));
    opt.discard_accumulated();
    assert_eq!(step(&mut opt, &["b"], &mut b), Ok(Outcome::Accumulated { micro_step: 1, of: 2 }));
    // Without a policy, a gradient that is not finite is used.
    opt.apply_gradients([Variable::new("b", &mut b).gradient(&[f64::INFINITY])]).unwrap();
    assert_eq!(b, [f64::NEG_INFINITY]);
}

/// Under a policy, a micro-step whose gradients are not finite changes nothing.
#[test]
fn micro_steps_that_are_not_finite() {
    for policy in [NonFinite::Error, NonFinite::SkipStep] {
        let mut opt = builder().accumulate(Accumulate::sum(3)).non_finite(policy).build().unwrap();
        let mut w = [1.0, 1.0];
        for call in 0..6 {
            let (before, value, groups) = (opt.weights(), w, opt.groups());
            let result = opt.apply_gradients([Variable::new("w", &mut w).gradient(&[0.0, f64::NAN])]);
            match policy {
                NonFinite::Error => {
                    let message = result.unwrap_err().to_string();
                    assert_eq!(message, "variable \"w\": gradient is NaN at index [1]");
                }
                _ => assert_eq!(result.unwrap().outcome, Outcome::NonFinite),
            }
            assert_eq!((opt.weights(), w, opt.groups()), (before, value, groups));
            opt.apply_gradients([Variable::new("w", &mut w).gradient(&[0.5, 0.0])]).unwrap();
            assert_eq!(opt.micro_step(), (call + 1) % 3);
        }
        // Two steps with a gradient of 1.5.
        assert_eq!(w, [1.0 - 0.75 - 1.125, 1.0]);
    }
}

#[test]
fn names_that_collide() {
    let accumulating = || builder().accumulate(Accumulate::mean(2)).build().unwrap();
    let scaling = || builder().loss_scale(LossScale::dynamic()).build().unwrap();
    let refuse = |mut opt: Optimizer<Sgd, f64>, names: &[&str], message: &str| {
        assert_eq!(refused(&mut opt, names).to_string(), message);
    };
    let taken =
        |name: &str, owner: &str| format!("the name {name:?} is taken in checkpoints by {owner}: rename the variable");
    refuse(accumulating(), &["micro_step"], &taken("micro_step", "the number of micro-steps"));
    refuse(scaling(), &["loss_scale"], &taken("loss_scale", "the loss scale"));
    refuse(scaling(), &["good_steps"], &taken("good_steps", "the loss scale"));
    for slot in ["accumulator", "accumulated"] {
        let name = format!("w/{slot}");
        let owner = format!("the slot {slot:?} of variable \"w\"");
        refuse(accumulating(), &["w", &name], &taken(&name, &owner));
        refuse(accumulating(), &[&name, "w"], &taken(&name, &owner));
    }
    // Without these features the names are free.
    let names = ["micro_step", "loss_scale", "good_steps", "w", "w/accumulator"];
    step(&mut builder().build().unwrap(), &names, &mut [1.0; 5]).unwrap();
}

#[test]
fn state_that_no_run_has() {
    let accumulating = builder().accumulate(Accumulate::mean(3)).loss_scale(LossScale::dynamic());
    let mut opt = accumulating.build().unwrap();
    let mut w = [1.0, 1.0];
    opt.apply_gradients([Variable::new("w", &mut w).gradient(&[1.0, 2.0])]).unwrap();
    let names: Vec<String> = opt.weights().into_iter().map(|weight| weight.name).collect();
    let want = ["iterations", "micro_step", "loss_scale", "good_steps", "w/accumulator", "w/accumulated", "w/momentum"];
    assert_eq!(names, want);
    let before = opt.weights();
    let mut with = |index: usize, value: StateValue<'static, f64>| {
        let mut weights: Vec<StateValue<'static, f64>> = before.iter().cloned().map(Into::into).collect();
        weights[0] = StateValue::Iterations(7);
        weights[index] = value;
        let error = opt.set_weights(weights).unwrap_err().to_string();
        assert_eq!(opt.weights(), before, "{error}");
        error
    };
    for (number, written) in [(3.0, "3"), (0.5, "0.5"), (-1.0, "-1"), (f64::NAN, "NaN"), (f64::INFINITY, "inf")] {
        let error = with(1, StateValue::Scalar(number));
        // A number that is not positive says that there are no accumulated gradients.
        let expected = if number > 0.0 {
            format!("weight 1 (micro_step): expected numbers in [0, 2], got {written}")
        } else {
            "expected 5 weights, got 7".to_owned()
        };
        assert_eq!(error, expected);
    }
    for (number, written) in [(0.0, "0"), (0.5, "0.5"), (-2.0, "-2"), (f64::NAN, "NaN"), (f64::INFINITY, "inf")] {
        let error = with(2, StateValue::Scalar(number));
        let range = format!("[1, {}]", f64::from(f32::MAX));
        assert_eq!(error, format!("weight 2 (loss_scale): expected numbers in {range}, got {written}"));
    }
    assert_eq!(with(3, StateValue::Scalar(0.5)), "weight 3 (good_steps): expected numbers in [0, 1999], got 0.5");
    for marks in [[2.0, 1.0], [0.5, 0.0], [3.0, 0.0], [1.0, 2.0], [f64::NAN, 2.0]] {
        let error = with(5, ndarray::arr1(&marks).into_dyn().into());
        let expected = "weight 5 (w/accumulated): expected 0 and 1, or 2 in all rows, or 3 in all rows, got ";
        assert!(error.starts_with(expected), "{error}");
    }
}

fn registry() -> Registry<f64> {
    let mut registry = Registry::new();
    registry.register::<Sgd>();
    registry
}

fn read(key: &str, value: Value) -> Result<Optimizer<Sgd, f64>, Error> {
    let mut config = json!({"class_name": "SGD", "config": {"learning_rate": 0.5}});
    config["config"][key] = value;
    OptimizerBuilder::from_config_of(&config, &registry())?.build()
}

#[test]
fn types_in_configurations() {
    let refuse = |key: &str, value: Value, message: &str| {
        assert_eq!(read(key, value).unwrap_err().to_string(), message);
    };
    let scale = "expected an object with \"dynamic\", \"initial_scale\" and, if dynamic, \"dynamic_growth_steps\"";
    let steps = "expected an object with \"steps\" and a \"reduction\" of \"mean\", \"sum\" or \"keras3\"";
    for value in [json!(2), json!({"steps": 2}), json!({"steps": 2.5, "reduction": "mean"})] {
        refuse("accumulate", value.clone(), &format!("SGD: accumulate is {value}, {steps}"));
    }
    let value = json!({"reduction": "max", "steps": 2});
    refuse("accumulate", value.clone(), &format!("SGD: accumulate is {value}, {steps}"));
    refuse(
        "accumulate",
        json!({"steps": 0, "reduction": "sum"}),
        "accumulate is 0, expected a number in [1, 9007199254740992]",
    );
    for value in [json!(8), json!({"dynamic": 1, "initial_scale": 2.0}), json!({"dynamic": true})] {
        refuse("loss_scale", value.clone(), &format!("SGD: loss_scale is {value}, {scale}"));
    }
    let named = json!([{"name": "head", "learning_rate": 0.5}]);
    refuse("groups", json!({"pattern": "a"}), "SGD: groups is {\"pattern\":\"a\"}, expected a list of objects");
    refuse("groups", json!(["a"]), "group: groups is \"a\", expected an object");
    refuse("groups", named, "group: key \"pattern\" is missing");
    refuse("groups", json!([{"pattern": 1}]), "group: pattern is 1, expected a text");
    refuse("groups", json!([{"pattern": "a", "rate": 1}]), "group: unknown key \"rate\"");
    let message = "group \"a\" changes nothing: give it a learning rate, a weight decay or another option";
    refuse("groups", json!([{"pattern": "a"}]), message);
    refuse("groups", json!([{"name": "default", "learning_rate": 1}]), "group: key \"frozen\" is missing");
    let twice = json!([{"name": "default", "frozen": true}, {"name": "default", "frozen": false}]);
    refuse("groups", twice, "there are two groups called \"default\": rename one by named(...)");
    let error = read("groups", json!([{"pattern": "a", "rule": {"class_name": "Adam", "config": {}}}])).unwrap_err();
    assert!(error.to_string().contains("Adam"), "{error}");
    let error = read("groups", json!([{"pattern": "a", "frozen": "yes"}])).unwrap_err().to_string();
    assert!(error.starts_with("group: frozen is \"yes\", expected "), "{error}");
}

#[test]
fn the_wrapper_of_a_loss_scale() {
    let inner = json!({"class_name": "SGD", "config": {"learning_rate": 0.5}});
    let read = |config: Value| {
        let config = json!({"class_name": "LossScaleOptimizer", "config": config});
        OptimizerBuilder::<Sgd, f64>::from_config_of(&config, &registry()).map(OptimizerBuilder::build)
    };
    assert_eq!(read(json!({})).unwrap_err().to_string(), "LossScaleOptimizer: key \"inner_optimizer\" is missing");
    let error = read(json!({"inner_optimizer": inner, "dynamic": false})).unwrap_err().to_string();
    assert_eq!(error, "LossScaleOptimizer: key \"initial_scale\" is missing");
    let error = read(json!({"inner_optimizer": inner, "clipnorm": 1.0})).unwrap_err().to_string();
    assert!(error.contains("clipnorm") && error.contains("set it on the inner optimizer"), "{error}");
    let error = read(json!({"inner_optimizer": inner, "growth": 1.0})).unwrap_err().to_string();
    assert_eq!(error, "LossScaleOptimizer: unknown key \"growth\"");
    let error = read(json!({"inner_optimizer": inner, "dynamic": "yes"})).unwrap_err().to_string();
    assert!(error.starts_with("LossScaleOptimizer: dynamic is \"yes\", expected "), "{error}");
    let error = read(json!({"inner_optimizer": inner, "initial_scale": 0.5})).unwrap().unwrap_err();
    assert_eq!(error.to_string(), "loss_scale is 0.5, expected a number from 1.00e0 to 3.40e38");
    let config = json!({"inner_optimizer": inner, "initial_scale": 4.0, "dynamic": true});
    assert_eq!(read(config).unwrap().unwrap().loss_scale(), 4.0);
}

#[test]
fn code_cannot_be_written() {
    let opt = builder().group(Group::choosing("vectors", |_, shape| shape.len() < 2).frozen()).build().unwrap();
    let error = opt.to_config().unwrap_err();
    assert!(matches!(error, ConfigError::NotSerializable { .. }), "{error}");
    assert!(error.to_string().contains("the choice of group \"vectors\""), "{error}");
}

/// A configuration says which groups are frozen now, whether or not they were at first, the default group included.
#[test]
fn frozen_groups_are_written() {
    let again = |opt: &Optimizer<Sgd, f64>| -> Optimizer<Sgd, f64> {
        let config = opt.to_config().unwrap();
        let again = OptimizerBuilder::from_config_of(&config, &registry()).unwrap().build().unwrap();
        assert_eq!(again.to_config().unwrap(), config);
        again
    };
    let frozen = |opt: &Optimizer<Sgd, f64>| opt.groups().iter().map(|group| group.frozen).collect::<Vec<_>>();
    let mut opt = builder().group(head().frozen()).group(Group::matching("b").learning_rate(1.0)).build().unwrap();
    let first = opt.to_config().unwrap();
    assert_eq!(frozen(&again(&opt)), [false, true, false]);
    opt.unfreeze("^head/").unwrap();
    assert_eq!(frozen(&again(&opt)), [false; 3]);
    opt.freeze("default").unwrap();
    opt.freeze("b").unwrap();
    assert_eq!(frozen(&again(&opt)), [true, false, true]);
    opt.unfreeze("default").unwrap();
    opt.unfreeze("b").unwrap();
    opt.freeze("^head/").unwrap();
    assert_eq!(opt.to_config().unwrap(), first);
}

/// A step at the end of an epoch applies what there is, also in Keras 3's way to accumulate.
#[test]
fn flush_applies_in_every_way() {
    for accumulate in [Accumulate::mean(4), Accumulate::sum(4), Accumulate::keras3(4)] {
        let mut opt = Optimizer::builder(Sgd::new(1.0)).accumulate(accumulate).build().unwrap();
        let mut w = [8.0];
        opt.step(&mut w, &[1.0]).unwrap();
        opt.step(&mut w, &[2.0]).unwrap();
        let sum = if accumulate == Accumulate::sum(4) { 3.0 } else { 1.5 };
        assert!(opt.flush(&mut w).unwrap().is_applied());
        assert_eq!((w, opt.micro_step(), opt.iterations()), ([8.0 - sum], 0, 1));
        assert!(!opt.flush(&mut w).unwrap().is_applied());
    }
}

/// Sparse gradients without rows are gradients: momentum moves on, also after the state was restored.
#[test]
fn sparse_gradients_without_rows_are_accumulated() {
    for dense_later in [false, true] {
        for restores in [false, true] {
            let build = || builder().accumulate(Accumulate::mean(2)).build().unwrap();
            let mut opt = build();
            let mut w = Array2::ones((3, 2));
            let (ones, zeros, none) = (w.clone(), Array2::zeros((3, 2)), Array2::zeros((0, 2)));
            for _ in 0..2 {
                opt.apply_gradients([Variable::new("w", &mut w).gradient(&ones)]).unwrap();
            }
            assert_eq!(w, Array2::from_elem((3, 2), 0.5));
            opt.apply_gradients([Variable::new("w", &mut w).sparse_gradient(&[0_usize; 0], &none)]).unwrap();
            if restores {
                let mut next = build();
                next.restore(&mut [Variable::new("w", &mut w)], opt.weights()).unwrap();
                assert_eq!(next.weights(), opt.weights());
                opt = next;
            }
            let (mut other, variable) = ([1.0], Variable::new("w", &mut w));
            let variable = if dense_later { variable.gradient(&zeros) } else { variable };
            opt.apply_gradients([variable, Variable::new("other", &mut other).gradient(&[1.0])]).unwrap();
            assert_eq!(w, Array2::from_elem((3, 2), 0.25), "restored: {restores}, dense later: {dense_later}");
        }
    }
}

/// One call a step is no accumulation: rows that come twice are clipped before they are summed.
#[test]
fn one_call_a_step_is_no_accumulation() {
    let run = |builder: Builder| {
        let mut opt = builder.clipnorm(1.0).build().unwrap();
        let mut w = Array2::zeros((2, 2));
        let values = array![[3.0, 0.0], [4.0, 0.0]];
        let report = opt.apply_gradients([Variable::new("w", &mut w).sparse_gradient(&[1_usize, 1], &values)]);
        assert!(report.unwrap().is_applied());
        w
    };
    assert_eq!(run(builder().accumulate(Accumulate::mean(1))), run(builder()));
}

/// A variable that was frozen, and whose state was then restored, is listed once.
#[test]
fn a_restored_variable_is_listed_once() {
    let build = || builder().group(head().frozen()).build().unwrap();
    let (mut trained, mut opt, names) = (build(), build(), ["head/a", "b"]);
    trained.unfreeze("^head/").unwrap();
    step(&mut trained, &names, &mut [1.0; 2]).unwrap();
    step(&mut opt, &names, &mut [1.0; 2]).unwrap();
    assert_eq!(opt.groups()[1].variables, ["head/a"]);
    let (mut a, mut b) = ([1.0], [1.0]);
    let mut model = [Variable::new("head/a", &mut a), Variable::new("b", &mut b)];
    opt.restore(&mut model, trained.weights()).unwrap();
    assert_eq!(opt.groups()[1].variables, ["head/a"]);
}
