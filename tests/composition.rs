//! Several stages of the engine together, in their order, with numbers that differ between orders.

use std::collections::{BTreeMap, HashMap};

use ndarray::{Array0, Array1, Array2, array};
use optimizers::schedules::ExponentialDecay;
use optimizers::{
    Adam, Ema, Error, Exclude, Gradients, IndexedSlices, Lookahead, Nadam, NonFinite, NovoGrad, Optimizer,
    OptimizerBuilder, Outcome, Parameters, RectifiedAdam, Sgd, UpdateRule, Variable,
};

fn close(got: &[f64], want: &[f64]) {
    let agree = got.len() == want.len() && got.iter().zip(want).all(|(got, want)| (got - want).abs() <= 1e-15);
    assert!(agree, "got {got:?}, want {want:?}");
}

/// Decay uses the old value and the current learning rate, comes before the rule, and is not clipped.
#[test]
fn weight_decay_comes_first() {
    let mut opt = Optimizer::builder(Sgd::new(0.1)).weight_decay(0.5).build().unwrap();
    let mut w = [2.0];
    opt.apply_gradients([Variable::new("w", &mut w).gradient(&[1.0])]).unwrap();
    close(&w, &[1.8]);

    let mut opt = Optimizer::builder(Sgd::new(0.5)).weight_decay(0.5).clipvalue(0.25).build().unwrap();
    let mut w = [4.0];
    opt.apply_gradients([Variable::new("w", &mut w).gradient(&[8.0])]).unwrap();
    close(&w, &[4.0 - 1.0 - 0.125]);
}

#[test]
fn weight_decay_follows_the_schedule_of_the_learning_rate() {
    let mut opt = Optimizer::builder(Sgd::new(ExponentialDecay::new(1.0, 1, 0.5))).weight_decay(0.125).build().unwrap();
    let mut w = [1.0];
    let mut values = Vec::new();
    for _ in 0..2 {
        opt.apply_gradients([Variable::new("w", &mut w).gradient(&[0.0])]).unwrap();
        values.push(w[0]);
    }
    close(&values, &[0.875, 0.8203125]);
}

#[test]
fn exclusions_hold_for_later_variables_and_end_with_the_first_step() {
    let mut opt = Optimizer::builder(Sgd::new(1.0)).weight_decay(0.5).build().unwrap();
    let (mut kernel, mut bias, mut scale) = ([1.0], [1.0], [1.0]);
    opt.add_variables(&mut [Variable::new("a/kernel", &mut kernel), Variable::new("a/bias", &mut bias)]).unwrap();
    opt.exclude_from_weight_decay(Exclude::patterns(["bias", "^b/"])).unwrap();
    opt.apply_gradients([
        Variable::new("a/kernel", &mut kernel).gradient(&[0.0]),
        Variable::new("a/bias", &mut bias).gradient(&[0.0]),
        Variable::new("b/scale", &mut scale).gradient(&[0.0]),
    ])
    .unwrap();
    assert_eq!((kernel, bias, scale), ([0.5], [1.0], [1.0]));
    let late = opt.exclude_from_weight_decay(Exclude::default());
    assert_eq!(late, Err(Error::AlreadyStepped { option: "exclude_from_weight_decay" }));
}

/// Value 3.5, then norm 1, in the legacy generation; TensorFlow computes [0.65079137, 0.75925660].
#[test]
fn legacy_clips_apply_one_after_the_other() {
    let mut opt = Optimizer::builder(Sgd::new(1.0).legacy()).clipvalue(3.5).clipnorm(1.0).build().unwrap();
    let mut w = [0.0, 0.0];
    opt.apply_gradients([Variable::new("w", &mut w).gradient(&[3.0, 4.0])]).unwrap();
    let norm = 3.0_f64.hypot(3.5);
    close(&w, &[-3.0 / norm, -3.5 / norm]);

    let mut opt = Optimizer::builder(Sgd::new(1.0).legacy()).clipnorm(1.0).global_clipnorm(1.0).build().unwrap();
    let (mut a, mut b) = ([0.0], [0.0]);
    let report = opt
        .apply_gradients([Variable::new("a", &mut a).gradient(&[5.0]), Variable::new("b", &mut b).gradient(&[-7.0])])
        .unwrap();
    // Each gradient has norm 1 after the first clip; both together have the root of 2.
    close(&[report.global_norm.unwrap(), report.clip_factor.unwrap()], &[2_f64.sqrt(), 0.5_f64.sqrt()]);
    close(&[a[0], b[0]], &[-0.5_f64.sqrt(), 0.5_f64.sqrt()]);
}

/// Clips see rows before they are summed: [3] and [4] at row 0 become 0.6 and 0.8, and their sum is 1.4.
#[test]
fn sparse_gradients_are_clipped_before_they_are_summed() {
    let clipped = |opt: &mut Optimizer<Sgd, f64>| {
        let mut w = [0.0, 0.0];
        opt.apply_gradients([Variable::new("w", &mut w).sparse_gradient(&[0_usize, 0], &[3.0, 4.0])]).unwrap();
        w
    };
    close(&clipped(&mut Optimizer::builder(Sgd::new(1.0)).clipnorm(1.0).build().unwrap()), &[-1.4, 0.0]);
    close(&clipped(&mut Optimizer::builder(Sgd::new(1.0)).clipvalue(1.0).build().unwrap()), &[-2.0, 0.0]);
}

/// SGD with learning rate 1 and momentum 0.5, gradients of 1, starting at 2: the numbers are Keras's.
#[test]
fn averages_overwrite_after_they_are_updated() {
    let trace = |ema: Ema| {
        let mut opt = Optimizer::builder(Sgd::new(1.0)).ema(ema).build().unwrap();
        let mut w = array![2.0];
        (0..4)
            .flat_map(|_| {
                opt.apply_gradients([Variable::new("w", &mut w).gradient(&[1.0])]).unwrap();
                let average = opt.swap_in_averages(&mut BTreeMap::from([("w", &mut w)])).unwrap()["w"][0];
                [w[0], average]
            })
            .collect::<Vec<f64>>()
    };
    close(&trace(Ema::new(0.5))[..6], &[1.0, 1.5, 0.0, 0.75, -1.0, -0.125]);
    close(&trace(Ema::new(0.5).overwrite_every(2)), &[1.0, 1.5, 0.75, 0.75, -0.25, 0.25, -0.5, -0.5]);
    close(&trace(Ema::new(0.5).overwrite_every(3))[..6], &[1.0, 1.5, 0.0, 0.75, -0.125, -0.125]);
}

#[test]
fn averages_are_lent_and_given_back() {
    let mut model = BTreeMap::from([("a", array![1.0, 2.0]), ("b", array![3.0])]);
    let grads = BTreeMap::from([("a", array![1.0, 0.0])]);
    let mut opt = Optimizer::builder(Sgd::new(1.0)).ema(Ema::new(0.5)).build().unwrap();
    assert_eq!(opt.swap_in_averages(&mut model).unwrap_err(), Error::UnknownVariable { name: "a".to_owned() });
    opt.step(&mut model, &grads).unwrap();
    let (before, state) = (model.clone(), opt.weights());
    {
        let averaged = opt.swap_in_averages(&mut model).unwrap();
        assert_eq!(averaged["a"], array![0.5, 2.0]);
        assert_eq!(averaged["b"], array![3.0]);
    }
    assert_eq!((&model, opt.weights()), (&before, state));

    // A guard that is never dropped: the optimizer keeps refusing steps.
    std::mem::forget(opt.swap_in_averages(&mut model).unwrap());
    let refused = opt.step(&mut model, &grads);
    assert_eq!(refused, Err(Error::SwappedIn { slot: "average".to_owned() }));

    let mut without = Optimizer::<_, f64>::new(Sgd::new(1.0)).unwrap();
    assert_eq!(without.swap_in_averages(&mut model).unwrap_err(), Error::NoAverages);
    assert_eq!(without.finalize_variable_values(&mut model), Err(Error::NoAverages));
}

#[test]
fn non_finite_gradients_do_what_the_policy_says() {
    let spoilt = [1.0, f64::INFINITY, f64::NAN];
    let step = |policy| {
        let mut opt = Optimizer::builder(Sgd::new(1.0)).global_clipnorm(1.0).non_finite(policy).build().unwrap();
        let (mut a, mut b) = ([0.0; 3], [0.0]);
        let result = opt.apply_gradients([
            Variable::new("b", &mut b).gradient(&[1.0]),
            Variable::new("a", &mut a).gradient(&spoilt),
        ]);
        (result, a, b, opt.iterations(), opt.variables().count())
    };
    let (report, a, b, iterations, known) = step(NonFinite::Propagate);
    assert!(report.unwrap().is_applied() && a.iter().chain(&b).all(|w| w.is_nan()));
    assert_eq!((iterations, known), (1, 2));

    let (report, a, b, iterations, known) = step(NonFinite::SkipStep);
    let report = report.unwrap();
    let found = report.non_finite.unwrap();
    assert_eq!((report.outcome, report.iterations), (Outcome::NonFinite, 0));
    assert_eq!((found.variable.as_str(), found.index, found.value), ("a", vec![1], f64::INFINITY));
    assert_eq!((a, b, iterations, known), ([0.0; 3], [0.0], 0, 0));

    let (error, a, b, iterations, known) = step(NonFinite::Error);
    let want = Error::NonFiniteGradient { variable: "a".to_owned(), index: vec![1], value: f64::INFINITY };
    assert_eq!(error, Err(want));
    assert_eq!((a, b, iterations, known), ([0.0; 3], [0.0], 0, 0));
}

/// If the small squares are added to the large one, one by one, they vanish; if they are added up first, they do not.
#[test]
fn the_global_norm_does_not_depend_on_the_order_of_the_list() {
    let small = 2_f64.powi(-27);
    let mut gradients: Vec<(String, [f64; 1])> = (0..8).map(|i| (format!("small{i}"), [small])).collect();
    gradients.push(("large".to_owned(), [1.0]));
    let mut opt = Optimizer::builder(Sgd::new(1.0)).global_clipnorm(1.0).build().unwrap();
    for number in 0..4 {
        let mut values = vec![[0.0]; gradients.len()];
        let variables = gradients
            .iter()
            .zip(&mut values)
            .map(|((name, gradient), value)| Variable::new(name.as_str(), value).gradient(gradient));
        // First all variables are new, then all are known, then the list has a part of them.
        let report = opt.apply_gradients(variables.filter(|v| number < 2 || v.name() != "small3")).unwrap();
        assert_eq!(report.global_norm, Some(1.0), "step {number}");
        gradients.reverse();
    }
}

/// In any part of a large gradient, with the indices of the variable, whatever its layout.
#[test]
fn non_finite_gradients_are_found_wherever_they_are() {
    let found = |value: &mut Array2<f64>, gradient: &Array2<f64>| {
        let mut opt = Optimizer::builder(Sgd::new(1.0)).non_finite(NonFinite::SkipStep).build().unwrap();
        opt.apply_gradients([Variable::new("w", value).gradient(gradient)]).unwrap().non_finite.map(|found| found.index)
    };
    for bad in [[0, 5], [350, 0], [699, 299]] {
        let mut gradient = Array2::zeros((700, 300));
        gradient[bad] = f64::NAN;
        assert_eq!(found(&mut Array2::zeros((700, 300)), &gradient), Some(bad.to_vec()));
    }
    let mut gradient = Array2::zeros((2, 3));
    gradient[[1, 2]] = f64::INFINITY;
    assert_eq!(found(&mut Array2::zeros((3, 2)).reversed_axes(), &gradient), Some(vec![1, 2]));
}

/// In both element types, norms do not overflow and factors do not underflow.
#[test]
fn huge_gradients_are_clipped_and_not_lost() {
    for limit in [1.0, 1e-3] {
        let mut opt = Optimizer::builder(Sgd::new(1.0)).global_clipnorm(limit).build().unwrap();
        let mut w = [0.0_f32; 2];
        opt.apply_gradients([Variable::new("w", &mut w).gradient(&[1.5e38, -2e38])]).unwrap();
        let agree = |got: f32, want: f64| (f64::from(got) - want).abs() <= 2.0 * f64::from(f32::EPSILON) * limit;
        assert!(agree(w[0], -0.6 * limit) && agree(w[1], 0.8 * limit), "{w:?}");
    }
    let clipped = |builder: OptimizerBuilder<Sgd, f64>| {
        let mut opt = builder.non_finite(NonFinite::Error).build().unwrap();
        let mut w = [0.0; 2];
        opt.apply_gradients([Variable::new("w", &mut w).gradient(&[3e200, -4e200])]).unwrap();
        w
    };
    close(&clipped(Optimizer::builder(Sgd::new(1.0)).clipnorm(1.0)), &[-0.6, 0.8]);
    close(&clipped(Optimizer::builder(Sgd::new(1.0)).global_clipnorm(1.0)), &[-0.6, 0.8]);
    let both = Optimizer::builder(Sgd::new(1.0).legacy()).clipvalue(1e200).clipnorm(1.0);
    close(&clipped(both), &[-0.5_f64.sqrt(), 0.5_f64.sqrt()]);
}

/// Each gradient and its norm are finite; the norm of all of them together is not.
#[test]
fn a_norm_that_no_number_can_hold_is_not_finite() {
    let step = |policy| {
        let mut opt = Optimizer::builder(Sgd::new(1.0)).global_clipnorm(1.0).non_finite(policy).build().unwrap();
        let (mut a, mut b) = ([0.0], [0.0]);
        let largest = [f64::MAX];
        let variables = [Variable::new("a", &mut a).gradient(&largest), Variable::new("b", &mut b).gradient(&largest)];
        let result = opt.apply_gradients(variables);
        (result, a, b)
    };
    assert_eq!(step(NonFinite::Error), (Err(Error::NormOverflow), [0.0], [0.0]));
    let (report, a, b) = step(NonFinite::SkipStep);
    let report = report.unwrap();
    assert_eq!((report.outcome, report.non_finite, a, b), (Outcome::NonFinite, None, [0.0], [0.0]));
}

#[derive(Clone, Parameters)]
struct Dense {
    kernel: Array2<f32>,
    bias: Option<Array1<f32>>,
}

#[derive(Clone, Parameters)]
struct Model {
    embedding: Array2<f32>,
    layers: Vec<Dense>,
    #[parameters(rename = "scale")]
    gamma: Array0<f32>,
    heads: HashMap<String, (Vec<f32>, [f32; 2])>,
    #[parameters(skip)]
    width: usize,
}

#[derive(Gradients)]
struct ModelGradients {
    embedding: IndexedSlices<f32>,
    layers: [Option<Dense>; 2],
}

fn model() -> Model {
    let layer = Dense { kernel: Array2::ones((2, 2)), bias: Some(Array1::ones(2)) };
    let bare = Dense { kernel: Array2::ones((1, 2)), bias: None };
    let head = |bias: f32| (vec![bias; 3], [bias; 2]);
    Model {
        embedding: Array2::ones((3, 2)),
        layers: vec![layer, bare],
        gamma: Array0::ones(()),
        heads: HashMap::from([("b".to_owned(), head(2.0)), ("a".to_owned(), head(1.0))]),
        width: 2,
    }
}

#[test]
fn a_structure_is_a_list_of_named_variables() {
    let mut model = model();
    let names: Vec<String> = model.variables().iter().map(|variable| variable.name().to_owned()).collect();
    let want = [
        "embedding",
        "layers.0.kernel",
        "layers.0.bias",
        "layers.1.kernel",
        "scale",
        "heads.a.0",
        "heads.a.1",
        "heads.b.0",
        "heads.b.1",
    ];
    assert_eq!(names, want);

    let mut opt = Optimizer::new(Sgd::new(0.5)).unwrap();
    opt.step(&mut model.clone(), &model).unwrap();
    let gradients = ModelGradients {
        embedding: IndexedSlices::new(vec![2, 2], array![[1.0, 0.0], [1.0, 0.0]]),
        layers: [None, Some(Dense { kernel: array![[0.5, -0.5]], bias: None })],
    };
    opt.step(&mut model, &gradients).unwrap();
    assert_eq!(model.embedding, array![[1.0, 1.0], [1.0, 1.0], [0.0, 1.0]]);
    assert_eq!(model.layers[1].kernel, array![[0.75, 1.25]]);
    assert_eq!((model.layers[0].kernel[[0, 0]], model.gamma[()], model.width), (1.0, 1.0, 2));
}

#[test]
fn gradients_that_belong_nowhere_are_refused() {
    let mut model = model();
    let before = model.clone();
    let mut opt = Optimizer::new(Sgd::new(0.5)).unwrap();
    let wrong = BTreeMap::from([("scale", Array0::<f32>::ones(()).into_dyn()), ("gamma", Array0::ones(()).into_dyn())]);
    let unknown = Error::UnknownGradient { name: "gamma".to_owned() };
    assert_eq!(opt.step(&mut model, &wrong), Err(unknown.clone()));
    assert_eq!(opt.minimize(&mut model, |_| (0.0, wrong.clone())).unwrap_err(), unknown);
    assert_eq!(opt.compute_gradients(&mut model, |_| (0.0, wrong)).unwrap_err(), unknown);
    let misshapen = BTreeMap::from([("embedding", Array2::<f32>::ones((2, 3)))]);
    let error = opt.compute_gradients(&mut model, |_| (0.0, misshapen)).unwrap_err();
    assert_eq!(error.to_string(), "variable \"embedding\": gradient has shape [2, 3], variable has [3, 2]");
    assert_eq!(model.embedding, before.embedding);
    assert_eq!((opt.iterations(), opt.variables().count()), (0, 0));
}

#[test]
fn compute_then_apply_is_minimize() {
    let loss = |w: &Array1<f64>| (w.mapv(|w| w * w).sum(), w.mapv(|w| 2.0 * w));
    let (mut w, mut v) = (array![1.0, -3.0], array![1.0, -3.0]);
    let (mut opt, mut twin) = (Optimizer::new(Sgd::new(0.125)).unwrap(), Optimizer::new(Sgd::new(0.125)).unwrap());
    for _ in 0..3 {
        let minimized = opt.minimize(&mut w, loss).unwrap();
        let (value, mut gradients) = twin.compute_gradients(&mut v, loss).unwrap();
        gradients.mapv_inplace(|g| g);
        twin.step(&mut v, &gradients).unwrap();
        assert_eq!(minimized.loss, value);
    }
    assert_eq!(w, v);
}

#[test]
fn a_schedule_is_not_lost_to_a_number() {
    let mut opt = Optimizer::<_, f64>::new(Sgd::new(ExponentialDecay::new(1.0, 1, 0.5))).unwrap();
    let refused = opt.set_learning_rate(0.1).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "the learning rate follows the schedule ExponentialDecay: assign another schedule, not a number"
    );
    assert_eq!(opt.learning_rate(), 1.0);
    opt.set_learning_rate(ExponentialDecay::new(0.5, 1, 0.5)).unwrap();
    assert_eq!(opt.learning_rate(), 0.5);
    assert!(opt.set_learning_rate(ExponentialDecay::new(0.5, 0, 0.5)).is_err());
    assert_eq!(opt.learning_rate(), 0.5);
}

/// A boxed rule computes the same bits as the rule itself: laws and replay box every rule.
#[test]
fn boxing_changes_nothing() {
    fn same<R: UpdateRule<f32> + Clone + 'static>(rule: &R) {
        let builder = || {
            let builder = Optimizer::builder(rule.clone()).global_clipnorm(1.0).weight_decay(0.125);
            builder.ema(Ema::new(0.75)).threads(1)
        };
        let start: Vec<f32> = (0..1_000).map(|i| ((i * 37) % 101) as f32 / 64.0 - 0.75).collect();
        let (mut typed, mut boxed) = (builder().build().unwrap(), builder().boxed().build().unwrap());
        let (mut ours, mut theirs) = (start.clone(), start.clone());
        for step in 1..8 {
            let gradient: Vec<f32> = start.iter().map(|w| w * step as f32 - 0.25).collect();
            typed.step(&mut ours, &gradient).unwrap();
            boxed.step(&mut theirs, &gradient).unwrap();
        }
        assert_ne!(ours, start);
        assert_eq!(ours, theirs);
        assert_eq!(typed.weights(), boxed.weights());
    }
    same(&Sgd::new(0.125));
    same(&Sgd::pytorch(0.125).momentum(0.875).dampening(0.25));
    same(&Adam::pytorch(0.125).amsgrad(true));
    same(&Nadam::new(0.125));
    same(&NovoGrad::new(0.125));
    same(&RectifiedAdam::new(0.125).amsgrad(true));
    same(&Lookahead::new(RectifiedAdam::new(0.125)).sync_period(3));
}
