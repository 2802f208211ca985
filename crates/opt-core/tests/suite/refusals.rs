//! What is refused names the culprit, and nothing has changed.

use ndarray::{Array2, array};
use opt_core::{Ema, Error, Exclude, Optimizer, Schedule, Variable};
use opt_sgd::Sgd;

type Opt = Optimizer<Sgd, f64>;

/// An optimizer that has made one step over `known`, a variable of shape [2, 3].
fn stepped() -> (Opt, Array2<f64>) {
    let mut opt = Optimizer::builder(Sgd::new(0.5).momentum(0.5)).ema(Ema::new(0.5)).build().unwrap();
    let mut known = Array2::ones((2, 3));
    opt.apply_gradients([Variable::new("known", &mut known).gradient(&Array2::ones((2, 3)))]).unwrap();
    (opt, known)
}

/// Runs a step that must fail, over a good variable and then the bad ones; gives the error.
macro_rules! refused {
    ($($bad:expr),+ $(,)?) => {{
        let (mut opt, mut known) = stepped();
        let (weights, before) = (opt.weights(), known.clone());
        let good = Variable::new("known", &mut known).gradient(&before);
        let error = opt.apply_gradients([good, $($bad),+]).unwrap_err();
        assert_eq!((opt.weights(), opt.iterations(), known), (weights, 1, before.clone()));
        error
    }};
}

#[test]
fn shapes() {
    let mut w = array![[1.0, 2.0]];
    let error = refused!(Variable::new("w", &mut w).gradient(&[1.0, 2.0]));
    assert_eq!(error.to_string(), "variable \"w\": gradient has shape [2], variable has [1, 2]");

    // Keras broadcasts this one.
    let mut w = [1.0, 2.0];
    let error = refused!(Variable::new("w", &mut w).gradient(&[1.0]));
    assert!(matches!(error, Error::GradientShape { variable, gradient, shape }
        if variable == "w" && gradient == [1] && shape == [2]));

    let mut w = [1.0; 5];
    let error = refused!(Variable::new("w", (&mut w[..], &[2, 3][..])));
    assert_eq!(error.to_string(), "variable \"w\": 5 elements do not fill shape [2, 3]");

    let mut w = [1.0; 6];
    let gradient = [1.0; 7];
    let error = refused!(Variable::new("w", (&mut w[..], &[2, 3][..])).gradient((&gradient[..], &[2, 3][..])));
    assert_eq!(error.to_string(), "variable \"w\": 7 gradient elements do not fill shape [2, 3]");

    let error = refused!(Variable::new("w", (&mut [1.0][..], &[usize::MAX, 2][..])));
    assert!(matches!(error, Error::VariableData { elements: 1, .. }));
}

#[test]
fn a_known_variable_of_another_shape() {
    let (mut opt, known) = stepped();
    let mut other = Array2::ones((3, 2));
    let error = opt.apply_gradients([Variable::new("known", &mut other).gradient(&Array2::ones((3, 2)))]);
    let (expected, found) = (vec![2, 3], vec![3, 2]);
    assert_eq!(error, Err(Error::VariableShape { variable: "known".to_owned(), expected, found }));
    let error = opt.add_variables(&mut [Variable::new("known", &mut other)]).unwrap_err();
    assert_eq!(error.to_string(), "variable \"known\" has shape [3, 2], its slots were made for [2, 3]");
    assert_eq!((opt.iterations(), known), (1, Array2::from_elem((2, 3), 0.5)));
}

#[test]
fn names() {
    let (mut a, mut b) = ([1.0], [2.0]);
    let error = refused!(Variable::new("w", &mut a).gradient(&[1.0]), Variable::new("w", &mut b));
    assert_eq!(error, Error::DuplicateVariable { name: "w".to_owned() });
    let mut again = Array2::ones((2, 3));
    let error = refused!(Variable::new("known", &mut again));
    assert_eq!(error, Error::DuplicateVariable { name: "known".to_owned() });
}

/// Known variables in any order make the same step, and a name that comes twice is found wherever it stands.
#[test]
fn lists_in_any_order() {
    const NAMES: [&str; 3] = ["a", "b", "c"];
    let step = |opt: &mut Opt, order: [usize; 3]| {
        let (mut values, gradients) = (order.map(|i| [i as f64]), order.map(|i| [1.0 + i as f64]));
        let variables = order.iter().zip(&mut values).zip(&gradients);
        opt.apply_gradients(
            variables.map(|((&i, value), gradient)| Variable::new(NAMES[i], value).gradient(gradient)),
        )?;
        Ok::<_, Error>([0, 1, 2].map(|i| values[order.iter().position(|&at| at == i).unwrap()]))
    };
    let known = || {
        let mut opt = Optimizer::builder(Sgd::new(0.5).momentum(0.5)).build().unwrap();
        step(&mut opt, [0, 1, 2]).unwrap();
        opt
    };
    let mut usual = known();
    let want = (step(&mut usual, [0, 1, 2]).unwrap(), usual.weights());
    for list in 0..27 {
        let order = [list / 9, list / 3 % 3, list % 3];
        let mut opt = known();
        let before = opt.weights();
        match (order[1..].contains(&order[0]) || order[1] == order[2], step(&mut opt, order)) {
            (true, Err(Error::DuplicateVariable { .. })) => assert_eq!(opt.weights(), before, "{order:?}"),
            (false, Ok(values)) => assert_eq!((values, opt.weights()), want, "{order:?}"),
            (_, result) => panic!("{order:?}: {result:?}"),
        }
    }
}

#[test]
fn sparse_gradients() {
    let values = Array2::ones((2, 2));
    let mut w = Array2::ones((4, 2));
    let flat = [1.0; 4];
    let error = refused!(Variable::new("w", &mut w).sparse_gradient(&[0_usize, 3], &flat)).to_string();
    assert_eq!(error, "variable \"w\": sparse gradient has 2 indices and values of shape [4], expected [2, 2]");
    let mut refuse =
        |indices: &[i64]| refused!(Variable::new("w", &mut w).sparse_gradient(indices, &values)).to_string();
    assert_eq!(refuse(&[3, 4]), "variable \"w\": index 4 at position 1 is outside 0..4");
    assert_eq!(refuse(&[-1, 0]), "variable \"w\": index -1 at position 0 is outside 0..4");
    let shape = "values of shape [2, 2], expected";
    assert_eq!(refuse(&[0]), format!("variable \"w\": sparse gradient has 1 indices and {shape} [1, 2]"));
    assert_eq!(refuse(&[]), format!("variable \"w\": sparse gradient has 0 indices and {shape} [0, 2]"));

    let mut scalar = ndarray::arr0(1.0);
    let none: [f64; 0] = [];
    let error = refused!(Variable::new("s", &mut scalar).sparse_gradient(&[0_usize; 0], &none));
    assert_eq!(error, Error::SparseScalar { variable: "s".to_owned() });
}

#[test]
fn steps_without_variables_or_gradients() {
    let (mut opt, mut known) = stepped();
    let report = opt.apply_gradients([]).unwrap();
    assert_eq!((report.outcome, opt.iterations()), (opt_core::Outcome::NoVariables, 1));
    let mut late = [1.0];
    let lists = [Variable::new("known", &mut known), Variable::new("late", &mut late)];
    assert_eq!(opt.apply_gradients(lists), Err(Error::NoGradients { variables: 2 }));
    assert_eq!((opt.iterations(), opt.variables().count()), (1, 1));
}

#[test]
fn slots_that_do_not_exist() {
    let (opt, _) = stepped();
    let unknown = opt.slot("other", "momentum").unwrap_err();
    assert_eq!(unknown, Error::UnknownVariable { name: "other".to_owned() });
    let known = vec!["momentum".to_owned(), "average".to_owned()];
    assert_eq!(opt.slot("known", "m").unwrap_err(), Error::UnknownSlot { slot: "m".to_owned(), known });
}

#[test]
fn learning_rates_that_are_none() {
    let (mut opt, mut known) = stepped();
    for bad in [-0.5, f64::NAN, f64::INFINITY] {
        let Err(Error::Hyperparameter(error)) = opt.set_learning_rate(bad) else { panic!("{bad}") };
        assert_eq!(error.name, "learning_rate");
        assert_eq!(opt.learning_rate(), 0.5);
    }
    // A schedule may go wrong later than it is checked.
    #[derive(Debug)]
    struct Bad;
    impl Schedule for Bad {
        fn value(&self, _step: u64) -> f64 {
            f64::NAN
        }
        fn start(&self) -> Option<u64> {
            Some(0)
        }
    }
    impl opt_core::config::Configurable for Bad {
        fn class_name(&self) -> &str {
            "Bad"
        }
        fn config(&self) -> Result<opt_core::config::Config, opt_core::config::ConfigError> {
            Ok(opt_core::config::Config::new())
        }
    }
    opt.set_learning_rate(Bad).unwrap();
    let before = known.clone();
    let Err(Error::Hyperparameter(error)) = opt.apply_gradients([Variable::new("known", &mut known).gradient(&before)])
    else {
        panic!("NaN was accepted")
    };
    assert_eq!((error.name.as_str(), &known, opt.iterations()), ("learning_rate", &before, 1));
}

#[test]
fn a_step_counter_that_cannot_go_on() {
    let (mut opt, mut known) = stepped();
    let mut weights = opt.weights();
    weights[0].value = opt_core::state::StateValue::Iterations(u64::MAX - 3);
    opt.set_weights(weights.clone()).unwrap();
    let gradient = known.clone();
    opt.apply_gradients([Variable::new("known", &mut known).gradient(&gradient)]).unwrap();
    assert_eq!(opt.iterations(), u64::MAX - 2);
    weights[0].value = opt_core::state::StateValue::Iterations(u64::MAX);
    opt.set_weights(weights.clone()).unwrap();
    let before = known.clone();
    let Err(Error::Hyperparameter(error)) = opt.apply_gradients([Variable::new("known", &mut known).gradient(&before)])
    else {
        panic!("the counter wrapped around")
    };
    assert_eq!((error.name.as_str(), &known, opt.weights()), ("iterations", &before, weights));
}

#[test]
fn a_rule_with_other_slots() {
    let (mut opt, _) = stepped();
    assert!(matches!(opt.set_rule(Sgd::new(0.5)), Err(Error::Slots { rule, .. }) if rule == "SGD"));
    assert!(opt.set_rule(Sgd::new(0.5).momentum(1.5)).is_err());
    opt.set_rule(Sgd::new(0.25).momentum(0.75)).unwrap();
    assert_eq!(opt.learning_rate(), 0.25);
}

/// Names of entries of the state, and of the file format: the first step is refused, not the first checkpoint.
#[test]
fn names_that_a_checkpoint_cannot_have() {
    let taken = |name: &str, owner: &str| Error::NameTaken { name: name.to_owned(), owner: owner.to_owned() };
    let error = refused!(Variable::new("iterations", &mut [1.0]).gradient(&[1.0]));
    assert_eq!(error, taken("iterations", "the step counter"));
    let error = refused!(Variable::new("__metadata__", &mut [1.0]));
    assert_eq!(error, taken("__metadata__", "the file format"));
    let error = refused!(Variable::new("known/momentum", &mut [1.0]).gradient(&[1.0]));
    assert_eq!(error, taken("known/momentum", r#"the slot "momentum" of variable "known""#));
    let message = r#"the name "known/average" is taken in checkpoints by the slot "average" of variable "known": rename the variable"#;
    assert_eq!(refused!(Variable::new("known/average", &mut [1.0])).to_string(), message);
    // Two new ones, in either order.
    let owner = r#"the slot "momentum" of variable "a""#;
    let error = refused!(Variable::new("a", &mut [1.0]), Variable::new("a/momentum", &mut [1.0]));
    assert_eq!(error, taken("a/momentum", owner));
    let error = refused!(Variable::new("a/momentum", &mut [1.0]), Variable::new("a", &mut [1.0]));
    assert_eq!(error, taken("a/momentum", owner));

    // Variables that come later collide with known ones.
    let (mut opt, _) = stepped();
    opt.add_variables(&mut Variable::new("b/momentum", &mut [1.0])).unwrap();
    let owner = r#"the slot "momentum" of variable "b""#;
    assert_eq!(opt.add_variables(&mut Variable::new("b", &mut [1.0])), Err(taken("b/momentum", owner)));
    assert_eq!(opt.check_names(["b"]), Err(taken("b/momentum", owner)));
    assert_eq!(opt.check_names(["c", "c"]), Err(Error::DuplicateVariable { name: "c".to_owned() }));

    // Only entries that there are: the variable is in 64 bits, and its slots have other names. Any text is a name.
    let listed = ["known/master", "known/v", "x/momentum", "knownmomentum", "", "\n", "ä/b"];
    assert_eq!(opt.check_names(listed), Ok(()));
    let mut values = [1.0; 7];
    let variables = listed.into_iter().zip(&mut values).map(|(name, value)| Variable::new(name, value).gradient(&1.0));
    opt.apply_gradients(variables).unwrap();

    // A variable in 16 bits has a master.
    let mut half = [half::bf16::ONE];
    let mut opt = Optimizer::new(Sgd::new(0.5)).unwrap();
    opt.add_variables(&mut Variable::half("h", &mut half)).unwrap();
    let error = opt.add_variables(&mut Variable::new("h/master", &mut [1.0])).unwrap_err();
    assert_eq!(error, taken("h/master", r#"the slot "master" of variable "h""#));
    opt.add_variables(&mut Variable::new("h/momentum", &mut [1.0])).unwrap();
}

/// A name that matches no variable at the first step is a mistake; a pattern may match none.
#[test]
fn exclusions_of_unknown_variables() {
    let builder = || Optimizer::builder(Sgd::new(0.5)).weight_decay(0.5);
    let exclude = Exclude::patterns(["^b", "^norm/"]).and_names(["baias"]);
    let mut opt = builder().exclude_from_weight_decay(exclude).build().unwrap();
    let mut w = [2.0];
    let error = opt.step(&mut Variable::new("bias", &mut w), &[0.0]).unwrap_err();
    assert_eq!(error, Error::UnknownGradient { name: "value".to_owned() });
    let error = opt.apply_gradients([Variable::new("bias", &mut w).gradient(&[0.0])]).unwrap_err();
    assert_eq!(error, Error::UnknownExclusion { name: "baias".to_owned() });
    assert_eq!((w, opt.iterations(), opt.variables().count()), ([2.0], 0, 0));
    assert_eq!(opt.unmatched_exclusions(), ["baias", "^b", "^norm/"]);

    let exclude = Exclude::patterns(["^b", "^norm/"]).and_names(["later"]);
    opt.exclude_from_weight_decay(exclude).unwrap();
    opt.add_variables(&mut Variable::new("later", &mut [1.0])).unwrap();
    opt.apply_gradients([Variable::new("bias", &mut w).gradient(&[0.0])]).unwrap();
    assert_eq!((w, opt.unmatched_exclusions()), ([2.0], vec!["^norm/"]));

    // New at the first step itself.
    let mut opt = builder().exclude_from_weight_decay(Exclude::names(["bias"])).build().unwrap();
    opt.apply_gradients([Variable::new("bias", &mut w).gradient(&[0.0])]).unwrap();
    assert_eq!((w, opt.unmatched_exclusions()), ([2.0], vec![]));
}
