//! Numbers at the edge of their type, counters of late variables, and state that cannot be.

use optimizers::state::StateValue;
use optimizers::{
    Accumulate, Error, Nadam, NonFinite, NovoGrad, Optimizer, OptimizerBuilder, Outcome, RectifiedAdam, Sgd,
    UpdateRule, Variable, schedules,
};

fn guarded<R: UpdateRule<f32>>(rule: R, policy: NonFinite) -> OptimizerBuilder<R, f32> {
    Optimizer::builder(rule).non_finite(policy)
}

/// One gradient of 1e25 among ones: its square is infinite in 32 bits.
#[test]
fn gradients_too_large_to_be_squared_are_refused() {
    fn step<R: UpdateRule<f32>>(builder: OptimizerBuilder<R, f32>) -> (Result<Outcome, Error>, [f32; 3], Vec<f64>) {
        let (mut opt, mut w) = (builder.build().unwrap(), [0.0; 3]);
        let ones = opt.apply_gradients([Variable::new("w", &mut w).gradient(&[1.0, 1.0, 1.0])]);
        ones.unwrap();
        w = [0.0; 3];
        let report = opt.apply_gradients([Variable::new("w", &mut w).gradient(&[1.0, 1e25, 1.0])]);
        let v = opt.slot("w", "v").map(|v| v.to_f64()).unwrap_or_default();
        (report.map(|report| report.outcome), w, v)
    }
    let refused = Error::GradientOverflow { variable: "w".to_owned(), index: vec![1], value: f64::from(1e25_f32) };
    let (report, w, v) = step(guarded(RectifiedAdam::new(1.0), NonFinite::Error));
    assert_eq!((report, w), (Err(refused.clone()), [0.0; 3]));
    assert!(v.iter().all(|v| (v - 1e-3).abs() < 1e-9), "{v:?}");
    let (report, w, _) = step(guarded(Nadam::new(1.0), NonFinite::SkipStep));
    assert_eq!((report, w), (Ok(Outcome::NonFinite), [0.0; 3]));
    // Only `Propagate` lets it through: v is infinite, and the element stands still for good.
    let (report, _, v) = step(guarded(Nadam::new(1.0), NonFinite::Propagate));
    assert_eq!((report, v[1]), (Ok(Outcome::Applied), f64::INFINITY));
    // What a clip makes small is not too large, by value, by norm, or by the global norm.
    for clipped in [
        guarded(Nadam::new(1.0), NonFinite::Error).clipvalue(1e10),
        guarded(Nadam::new(1.0), NonFinite::Error).clipnorm(1e10),
        guarded(Nadam::new(1.0), NonFinite::Error).global_clipnorm(1e10),
    ] {
        let (report, _, v) = step(clipped);
        assert_eq!(report, Ok(Outcome::Applied));
        assert!(v.iter().all(|v| v.is_finite()), "{v:?}");
    }
    // Rules without a second moment take any finite gradient.
    let (report, w, _) = step(guarded(Sgd::new(1e-25), NonFinite::Error));
    assert_eq!(report, Ok(Outcome::Applied));
    assert_eq!(w[1], -1e25_f32 * 1e-25_f32);
}

/// Each square is representable, but not the sum of all: this is not an overflow.
#[test]
fn only_elements_are_squared() {
    let mut opt = guarded(Nadam::new(1.0), NonFinite::Error).build().unwrap();
    let mut w = [0.0_f32; 64];
    opt.apply_gradients([Variable::new("w", &mut w).gradient(&[1.8e19; 64])]).unwrap();
    assert!(w.iter().all(|w| (w + 1.0565).abs() < 1e-3), "{w:?}");
    let error = opt.apply_gradients([Variable::new("w", &mut w).gradient(&[1.9e19; 64])]).unwrap_err();
    assert!(matches!(error, Error::GradientOverflow { index, .. } if index == [0]));
}

#[test]
fn rows_that_become_too_large_together_are_refused() {
    let mut opt = guarded(Nadam::new(1.0), NonFinite::Error).build().unwrap();
    let mut w = ndarray::Array2::<f32>::zeros((3, 2));
    let rows = |large: f32| ndarray::arr2(&[[1.0, 1.0], [1.0, large], [1.0, large]]);
    let mut step = |indices: &[usize], large: f32| {
        let values = rows(large);
        opt.apply_gradients([Variable::new("w", &mut w).sparse_gradient(indices, &values)])
    };
    assert!(step(&[0, 1, 2], 1.2e19).is_ok());
    let error = step(&[0, 2, 2], 1.2e19).unwrap_err();
    let want = Error::GradientOverflow { variable: "w".to_owned(), index: vec![1, 1], value: f64::from(1.2e19_f32) };
    assert_eq!(error, want);
}

#[test]
fn novograd_divides_by_norms_beyond_its_type() {
    let mut w = [0.0_f32; 4];
    let mut opt = guarded(NovoGrad::new(0.5), NonFinite::Error).build().unwrap();
    opt.apply_gradients([Variable::new("w", &mut w).gradient(&[3e38; 4])]).unwrap();
    assert_eq!(w, [-0.25; 4]);
    let mut w = [0.0_f32; 4];
    let rule = NovoGrad::apex(0.5).bias_correction(false).grad_averaging(false);
    let mut opt = guarded(rule, NonFinite::Error).build().unwrap();
    opt.apply_gradients([Variable::new("w", &mut w).gradient(&[3e38; 4])]).unwrap();
    assert_eq!(w, [-0.25; 4]);

    // In 64 bits the sum of squares itself is too large.
    let mut w = [0.0_f64; 2];
    let mut opt = Optimizer::builder(NovoGrad::new(0.5)).non_finite(NonFinite::Error).build().unwrap();
    let error = opt.apply_gradients([Variable::new("w", &mut w).gradient(&[1.0, 1e200])]).unwrap_err();
    assert_eq!(error, Error::GradientOverflow { variable: "w".to_owned(), index: vec![1], value: 1e200 });
    let mut opt = Optimizer::builder(NovoGrad::new(0.5)).non_finite(NonFinite::Error).clipnorm(4.0).build().unwrap();
    opt.apply_gradients([Variable::new("w", &mut w).gradient(&[1e200, 1e200])]).unwrap();
    assert!(w.iter().all(|w| (w + 0.5 / 2.0_f64.sqrt()).abs() < 1e-6), "{w:?}");
}

/// Finite in 64 bits, infinite in 32: 0 times infinity is NaN.
#[test]
fn learning_rates_must_fit_the_variables() {
    let mut w = [1.0_f32];
    let growing = schedules::ExponentialDecay::new(1.0, 1, 1e10);
    let mut opt = Optimizer::new(Sgd::new(growing)).unwrap();
    for _ in 0..4 {
        opt.apply_gradients([Variable::new("w", &mut w).gradient(&[0.0])]).unwrap();
    }
    let Err(Error::Hyperparameter(error)) = opt.apply_gradients([Variable::new("w", &mut w).gradient(&[0.0])]) else {
        panic!("1e40 was accepted")
    };
    assert_eq!((error.name.as_str(), w, opt.iterations()), ("learning_rate", [1.0], 4));
    assert!((error.value - 1e40).abs() < 1e26);
}

/// The square of a tiny gradient is 0 in 32 bits. The step must not be divided by next to nothing.
#[test]
fn tiny_gradients_without_an_epsilon_make_no_giant_steps() {
    for gradient in [1e-16_f32, 1e-18, 3e-20, 1e-21, 1e-30, 1e-40] {
        for steps in [1, 50] {
            let run = |opt: &mut dyn FnMut(&mut [f32; 1])| {
                let mut w = [0.0_f32];
                (0..steps).for_each(|_| opt(&mut w));
                w[0]
            };
            let mut nadam = Optimizer::new(Nadam::new(1.0).epsilon(0.0)).unwrap();
            let mut radam = Optimizer::new(RectifiedAdam::new(1.0).epsilon(0.0).sma_threshold(4.0)).unwrap();
            let moved = [
                run(&mut |w| drop(nadam.apply_gradients([Variable::new("w", w).gradient(&[gradient])]).unwrap())),
                run(&mut |w| drop(radam.apply_gradients([Variable::new("w", w).gradient(&[gradient])]).unwrap())),
            ];
            let limit = 1.1 * steps as f32;
            assert!(moved.iter().all(|moved| (-limit..=0.0).contains(moved)), "{gradient:e}, {steps}: {moved:?}");
            // Gradients whose squares are numbers in 32 bits make the steps that they should.
            let whole = gradient >= 1e-16 && steps == 1;
            assert!(!whole || (moved[0] + 1.0565).abs() < 0.2, "{gradient:e}: {moved:?}");
        }
    }
    let mut w = [0.0_f32];
    let mut opt = Optimizer::new(Nadam::new(1.0).epsilon(0.0)).unwrap();
    opt.apply_gradients([Variable::new("w", &mut w).gradient(&[1e-15])]).unwrap();
    assert!((w[0] + 1.0565).abs() < 1e-4, "{w:?}");
}

/// PyTorch counts the steps of each variable, Keras those of the optimizer. After 1,000 steps of another variable:
#[test]
fn variables_that_start_late() {
    fn late<R: UpdateRule<f64>>(rule: R) -> f64 {
        let mut opt = Optimizer::<_, f64>::new(rule).unwrap();
        let (mut early, mut late) = ([0.0], [0.0]);
        for step in 0..=1_000 {
            let gradient = [1.0];
            let late = Variable::new("late", &mut late).optional_gradient((step == 1_000).then(|| (&gradient).into()));
            opt.apply_gradients([Variable::new("early", &mut early).gradient(&gradient), late]).unwrap();
        }
        late[0]
    }
    let close = |got: f64, want: f64| assert!((got - want).abs() <= 5e-3 * want.abs(), "{got} instead of {want}");
    close(late(Nadam::pytorch(1.0)), -1.0565);
    close(late(Nadam::new(1.0)), -13.43);
    close(late(RectifiedAdam::pytorch(1.0)), -1.0);
    close(late(RectifiedAdam::new(1.0)), -1.62);
}

/// The numbers of `torch.optim`: weight decay in the gradient.
#[test]
fn weight_decay_of_pytorch_is_in_the_gradient() {
    let mut w = [2.0];
    let mut opt = Optimizer::new(Sgd::pytorch(0.5).momentum(0.5).weight_decay(0.25)).unwrap();
    opt.apply_gradients([Variable::new("w", &mut w).gradient(&[1.0])]).unwrap();
    assert_eq!(w, [2.0 - 0.5 * 1.5]);
    opt.apply_gradients([Variable::new("w", &mut w).gradient(&[1.0])]).unwrap();
    assert_eq!(w, [1.25 - 0.5 * (0.5 * 1.5 + 1.0 + 0.25 * 1.25)]);
    // Without momentum, with dampening, and for rows that a gradient does not touch.
    let mut w = [2.0];
    let mut opt = Optimizer::new(Sgd::pytorch(0.5).weight_decay(0.25)).unwrap();
    opt.apply_gradients([Variable::new("w", &mut w).gradient(&[1.0])]).unwrap();
    assert_eq!(w, [1.25]);
    let mut w = [2.0, 4.0];
    let rule = Sgd::pytorch(0.5).momentum(0.5).dampening(0.5).weight_decay(0.25);
    let mut opt = Optimizer::new(rule).unwrap();
    for (gradient, want) in
        [([1.0], [1.25, 3.5]), ([1.0], [1.25 - 0.5 * (0.75 + 0.5 * 1.3125), 3.5 - 0.5 * (0.5 + 0.5 * 0.875)])]
    {
        let (indices, values) = ([0_usize], gradient);
        opt.apply_gradients([Variable::new("w", &mut w).sparse_gradient(&indices, &values)]).unwrap();
        assert_eq!(w, want);
    }
    for rule in [Sgd::new(0.5).weight_decay(0.25), Sgd::optax(0.5).weight_decay(0.25)] {
        assert!(
            matches!(Optimizer::<_, f32>::new(rule), Err(Error::Hyperparameter(error)) if error.name == "weight_decay")
        );
    }
    let nadam = Nadam::keras(0.5).weight_decay(schedules::Constant::new(0.0));
    assert!(
        matches!(Optimizer::<_, f32>::new(nadam), Err(Error::Hyperparameter(error)) if error.name == "weight_decay")
    );
}

/// State that no run of the rule can have: it was saved by something else, or in another order.
#[test]
fn impossible_state_is_refused() {
    fn refused<R: UpdateRule<f32> + Clone>(rule: R, entry: &str, number: f32) -> bool {
        let (mut opt, mut w) = (Optimizer::new(rule).unwrap(), [1.0, 2.0]);
        opt.apply_gradients([Variable::new("w", &mut w).gradient(&[1.0, 1.0])]).unwrap();
        let before = opt.weights();
        let changed = before.iter().cloned().map(|mut weight| {
            weight.value = match weight.value {
                StateValue::Scalar(_) if weight.name == entry => StateValue::Scalar(number.into()),
                StateValue::Array(mut array) if weight.name == entry => {
                    array[[1]] = number;
                    StateValue::Array(array)
                }
                other => other,
            };
            weight
        });
        let changed: Vec<_> = changed.collect();
        assert_ne!(format!("{changed:?}"), format!("{before:?}"), "{entry} is an entry");
        let result = opt.set_weights(changed.clone());
        let restored = opt.clone().restore(&mut [Variable::new("w", &mut w)], changed);
        assert_eq!(format!("{result:?}"), format!("{restored:?}"));
        match result {
            Ok(()) => false,
            Err(Error::WeightRange { name, .. }) => {
                assert_eq!((name.as_str(), opt.weights()), (entry, before));
                true
            }
            Err(error) => panic!("{error}"),
        }
    }
    assert!(refused(Nadam::new(0.1), "momentum_cache", 1.5));
    assert!(refused(Nadam::new(0.1), "momentum_cache", -0.5));
    assert!(refused(Nadam::new(0.1), "momentum_cache", f32::NAN));
    assert!(!refused(Nadam::new(0.1), "momentum_cache", 0.0));
    assert!(refused(Nadam::new(0.1), "w/v", -1e-30));
    assert!(!refused(Nadam::new(0.1), "w/v", f32::NAN), "what a run that diverged has left");
    assert!(!refused(Nadam::new(0.1), "w/m", -1.0));
    assert!(refused(Nadam::pytorch(0.1), "w/step", 1.5));
    assert!(refused(Nadam::pytorch(0.1), "w/momentum_cache", 2.0));
    assert!(refused(RectifiedAdam::pytorch(0.1), "w/step", -1.0));
    assert!(refused(RectifiedAdam::new(0.1).amsgrad(true), "w/vhat", -1.0));
    assert!(refused(NovoGrad::new(0.1), "w/v", -1.0));
    assert!(refused(NovoGrad::new(0.1).amsgrad(true), "w/vhat", -1.0));
    assert!(refused(Sgd::pytorch(0.1).momentum(0.5).dampening(0.5), "w/started", 7.0));
}

#[test]
fn a_schedule_in_mid_run_says_where_it_starts() {
    let mut opt = Optimizer::new(Sgd::new(1.0)).unwrap();
    let mut w = [0.0];
    let falling = || schedules::PolynomialDecay::new(1.0, 10).end_learning_rate(0.0);
    opt.set_learning_rate(falling()).unwrap(); // nothing is over yet
    for _ in 0..1_000 {
        opt.apply_gradients([Variable::new("w", &mut w).gradient(&[0.0])]).unwrap();
    }
    let error = opt.set_learning_rate(falling()).unwrap_err();
    assert_eq!(error, Error::ScheduleStart { schedule: "PolynomialDecay".to_owned(), iterations: 1_000 });
    opt.set_learning_rate(schedules::StartingAt::new(falling(), 1_000)).unwrap();
    assert_eq!([1_000, 1_005, 1_010].map(|step| opt.rule().learning_rate_at_step(step)), [1.0, 0.5, 0.0]);
    // The start is a part of the configuration.
    let config = opt.to_config().unwrap();
    let again = Optimizer::<_, f64>::from_config(&config, &optimizers::registry()).unwrap();
    assert_eq!(again.to_config().unwrap(), config);
    assert_eq!(config["config"]["learning_rate"]["config"]["start"], 1_000);
    opt.set_learning_rate(schedules::StartingAt::new(falling(), 0)).unwrap();
    assert_eq!(opt.learning_rate(), 0.0);
}

/// The learning rate of a rule at a step.
trait AtStep {
    fn learning_rate_at_step(&self, step: u64) -> f64;
}

impl AtStep for Sgd {
    fn learning_rate_at_step(&self, step: u64) -> f64 {
        UpdateRule::<f64>::learning_rate_at(self, step)
    }
}

#[test]
fn momentum_is_switched_on_in_mid_run() {
    let mut opt = Optimizer::new(Sgd::new(1.0)).unwrap();
    let (mut a, mut b) = ([0.0_f32], [0.0_f32; 2]);
    let mut step = |opt: &mut Optimizer<Sgd>| {
        opt.apply_gradients([
            Variable::new("a", &mut a).gradient(&[1.0]),
            Variable::new("b", &mut b).gradient(&[2.0, 2.0]),
        ])
        .unwrap();
        (a[0], b[1])
    };
    assert_eq!(step(&mut opt), (-1.0, -2.0));
    opt.set_rule(Sgd::new(1.0).momentum(0.5)).unwrap();
    assert_eq!(step(&mut opt), (-2.0, -4.0));
    assert_eq!(step(&mut opt), (-3.5, -7.0));
    let names: Vec<String> = opt.weights().into_iter().map(|weight| weight.name).collect();
    assert_eq!(names, ["iterations", "a/momentum", "b/momentum"]);
    // State that would be lost, or that means something else to the new rule.
    let outside = Sgd::new(1.0).momentum(0.5).learning_rate_outside(true);
    for (rule, problem) in
        [(Sgd::new(1.0), "lost"), (Sgd::pytorch(1.0).momentum(0.5), "dialect"), (outside.clone(), "lost")]
    {
        let error = opt.set_rule(rule).unwrap_err().to_string();
        assert!(error.contains(problem), "{error}");
    }
    let mut opt = Optimizer::<_, f32>::new(outside).unwrap();
    let counter = opt.set_rule(Sgd::new(1.0).momentum(0.5).learning_rate_outside(true).dampening(0.5)).unwrap_err();
    assert!(counter.to_string().contains("cannot start in mid-run"), "{counter}");
    // A boxed rule of another class.
    let boxed = |rule: Box<dyn UpdateRule<f32>>| rule;
    let mut opt = Optimizer::new(boxed(Box::new(Sgd::new(1.0)))).unwrap();
    assert!(matches!(opt.set_rule(boxed(Box::new(Nadam::keras(1.0)))), Err(Error::Slots { .. })));
}

/// A finite sum whose square overflows costs one step, not all steps from then on.
#[test]
fn sums_that_are_too_large_are_dropped() {
    for policy in [NonFinite::SkipStep, NonFinite::Error] {
        let builder = Optimizer::builder(Nadam::new(0.5)).accumulate(Accumulate::mean(2)).non_finite(policy);
        let (mut opt, mut w) = (builder.build().unwrap(), [1.0_f32]);
        let mut give = |g: f32| opt.step(&mut w, &[g]).map(|report| report.outcome);
        assert_eq!(give(1e30), Ok(Outcome::Accumulated { micro_step: 1, of: 2 }));
        match give(1.0) {
            Ok(outcome) => assert_eq!((policy, outcome), (NonFinite::SkipStep, Outcome::NonFinite)),
            Err(error) => assert!(matches!(error, Error::GradientOverflow { .. }), "{error}"),
        }
        assert_eq!(give(1.0), Ok(Outcome::Accumulated { micro_step: 1, of: 2 }));
        assert_eq!(give(1.0), Ok(Outcome::Applied));
    }
}
