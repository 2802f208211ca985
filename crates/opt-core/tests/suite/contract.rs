//! The contract between rules and engine, by rules that use all of it.

use std::panic::{self, AssertUnwindSafe};

use ndarray::{Array1, Array2, array};
use opt_core::rule::{
    Block, Done, Elementwise, Kernel, Real, SlotSpec, SparseUpdate, Step, VariableScalars, VariableStep, elementwise,
};
use opt_core::state::StateValue;
use opt_core::{Error, Hyper, MomentStorage, NonFinite, Optimizer, Scalar, UpdateRule, Variable};
use opt_sgd::Sgd;

/// A rule with every kind of slot: normalised momentum, whose gain is shared and whose norm is kept by variable.
#[derive(Debug, Clone)]
struct Normalised {
    learning_rate: Hyper,
    sparse: SparseUpdate,
    slots: Vec<SlotSpec>,
}

impl Normalised {
    fn new(sparse: SparseUpdate) -> Self {
        let slots = vec![
            SlotSpec::copy_of_variable("start"),
            SlotSpec::shared("gain", 1.0),
            SlotSpec::zeros("m"),
            SlotSpec::scalar("norm", 0.0),
            SlotSpec::ones("count"),
        ];
        Self { learning_rate: 1.0.into(), sparse, slots }
    }
}

/// VariableScalars are the inverse of the norm.
struct NormalisedKernel {
    gain: f64,
    sparse: SparseUpdate,
}

fn element<E: Real>(k: &[E; 2], w: E, g: E, [start, m, count]: [E; 3]) -> (E, [E; 3]) {
    let [gain, inverse_norm] = *k;
    let m = E::literal(0.5) * m + g * inverse_norm;
    (w - gain * m, [start, m, count + E::literal(1.0)])
}

impl<T: Scalar> Kernel<T> for NormalisedKernel {
    fn begin_variable(&self, variable: &VariableStep<'_>, scalars: &mut [f64]) -> VariableScalars {
        let norm = variable.gradient_square_sum.unwrap_or(f64::NAN).sqrt();
        scalars[0] = norm;
        [if norm > 0.0 { 1.0 / norm } else { 0.0 }, 0.0, 0.0, 0.0]
    }

    fn update(&self, block: Block<'_, T>) -> Done {
        let k = [T::literal(self.gain), T::literal(block.variable_scalars()[0])];
        block.elementwise(self.sparse, &k, element)
    }

    fn visits_untouched_rows(&self) -> bool {
        self.sparse != SparseUpdate::Rows
    }
}

nothing_to_configure!(Normalised, learning_rate);

impl<T: Scalar> UpdateRule<T> for Normalised {
    fn slots(&self) -> Vec<SlotSpec> {
        self.slots.clone()
    }
    fn needs_gradient_norm(&self) -> bool {
        true
    }
    fn begin_step(&self, _step: &Step, shared: &mut [f64]) -> Box<dyn Kernel<T>> {
        shared[0] *= 0.5;
        Box::new(NormalisedKernel { gain: shared[0], sparse: self.sparse })
    }
}

fn built(sparse: SparseUpdate) -> Optimizer<Normalised, f64> {
    Optimizer::new(Normalised::new(sparse)).unwrap()
}

#[test]
fn every_kind_of_slot_starts_and_moves_as_declared() {
    let mut opt = built(SparseUpdate::Dense);
    let mut w = array![1.0, 2.0];
    opt.apply_gradients([Variable::new("w", &mut w).gradient(&[3.0, 4.0])]).unwrap();
    assert_eq!(w, array![1.0 - 0.3, 2.0 - 0.4]);
    assert_eq!(opt.slot_names(), ["start", "m", "norm", "count"]);
    assert_eq!(opt.slot("w", "norm"), Ok(StateValue::Scalar(5.0)));
    assert_eq!(opt.slot("w", "start"), Ok(StateValue::from(array![1.0, 2.0].into_dyn())));
    assert_eq!(opt.slot("w", "count"), Ok(StateValue::from(array![2.0, 2.0].into_dyn())));
    let weights = opt.weights();
    let names: Vec<&str> = weights.iter().map(|weight| weight.name.as_str()).collect();
    assert_eq!(names, ["iterations", "w/start", "gain", "w/m", "w/norm", "w/count"]);
    assert_eq!(weights[2].value, StateValue::Scalar(0.5));
    let error = opt.copy_slot("norm", &mut [Variable::new("w", &mut w)]).unwrap_err();
    assert!(matches!(error, Error::UnknownSlot { slot, .. } if slot == "norm"));
    assert!(matches!(opt.copy_slot("gain", &mut vec![0.0; 0]), Err(Error::UnknownSlot { .. })));
    opt.copy_slot("start", &mut [Variable::new("w", &mut w)]).unwrap();
    assert_eq!(w, array![1.0, 2.0]);
}

/// The rule sees the norm after clipping: by algebra for a dense gradient, of the summed rows for a sparse one.
#[test]
fn the_norm_is_that_of_the_clipped_gradient() {
    let norm_of = |builder: opt_core::OptimizerBuilder<Normalised, f64>, sparse: bool| {
        let mut opt = builder.build().unwrap();
        let mut w = Array1::zeros(2);
        let variable = Variable::new("w", &mut w);
        let variable =
            if sparse { variable.sparse_gradient(&[1_usize, 1], &[3.0, 4.0]) } else { variable.gradient(&[3.0, 4.0]) };
        opt.apply_gradients([variable]).unwrap();
        match opt.slot("w", "norm") {
            Ok(StateValue::Scalar(norm)) => norm,
            other => panic!("{other:?}"),
        }
    };
    let builder = || Optimizer::builder(Normalised::new(SparseUpdate::Dense));
    let close = |got: f64, want: f64| assert!((got - want).abs() <= 1e-15, "got {got}, want {want}");
    close(norm_of(builder(), false), 5.0);
    close(norm_of(builder().clipvalue(3.0), false), 18_f64.sqrt());
    close(norm_of(builder().clipnorm(1.0), false), 1.0);
    close(norm_of(builder().global_clipnorm(2.0), false), 2.0);
    close(norm_of(builder(), true), 7.0);
    close(norm_of(builder().clipvalue(2.0), true), 4.0);
    close(norm_of(builder().clipnorm(1.0), true), 1.4);
}

/// Row 1 of 3 is touched; all rows have velocity 1 from a first, dense step.
#[test]
fn sparse_updates_differ_in_untouched_rows() {
    let run = |sparse| {
        let mut opt = built(sparse);
        let mut w = Array2::zeros((3, 1));
        opt.apply_gradients([Variable::new("w", &mut w).gradient(&Array2::ones((3, 1)))]).unwrap();
        let first = w.clone();
        opt.apply_gradients([Variable::new("w", &mut w).sparse_gradient(&[1_usize], &array![[1.0]])]).unwrap();
        let moved: Vec<bool> = w.iter().zip(&first).map(|(now, then)| now != then).collect();
        let Ok(StateValue::Array(m)) = opt.slot("w", "m") else { panic!("m is an array") };
        let decayed: Vec<bool> = m.iter().map(|&m| m < 0.5).collect();
        (moved, decayed)
    };
    assert_eq!(run(SparseUpdate::Dense), (vec![true; 3], vec![true, false, true]));
    assert_eq!(run(SparseUpdate::Moments), (vec![false, true, false], vec![true, false, true]));
    assert_eq!(run(SparseUpdate::Rows), (vec![false, true, false], vec![false; 3]));
}

/// First-step logic belongs to a variable: a later one starts from its own first gradient.
#[test]
fn variables_may_come_later() {
    let mut opt = built(SparseUpdate::Dense);
    let (mut early, mut late) = (array![0.0], array![5.0]);
    opt.apply_gradients([Variable::new("early", &mut early).gradient(&[1.0])]).unwrap();
    opt.apply_gradients([
        Variable::new("late", &mut late).gradient(&[2.0]),
        Variable::new("early", &mut early).gradient(&[1.0]),
    ])
    .unwrap();
    assert_eq!(opt.slot("late", "start"), Ok(StateValue::from(array![5.0].into_dyn())));
    assert_eq!(opt.slot("late", "count"), Ok(StateValue::from(array![2.0].into_dyn())));
    let names: Vec<&str> = opt.variables().map(|(name, _)| name).collect();
    assert_eq!((names, late[0]), (vec!["early", "late"], 4.75));
}

#[test]
fn slots_that_cannot_be_held_are_refused() {
    let problem = |slots: Vec<SlotSpec>| {
        let rule = Normalised { slots, ..Normalised::new(SparseUpdate::Dense) };
        match Optimizer::<_, f64>::new(rule) {
            Err(Error::Slots { problem, .. }) => problem,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(problem(vec![SlotSpec::zeros("m"), SlotSpec::scalar("m", 0.0)]), "slot name \"m\" is taken");
    assert_eq!(problem(vec![SlotSpec::zeros("average")]), "slot name \"average\" is taken");
    let many = (0..9).map(|i| SlotSpec::zeros(format!("s{i}"))).collect();
    assert_eq!(problem(many), "9 array slots, at most 8 are possible");
    let slots = (0..8).map(|i| SlotSpec::zeros(format!("s{i}"))).collect();
    assert!(Optimizer::<_, f64>::new(Normalised { slots, ..Normalised::new(SparseUpdate::Dense) }).is_ok());
}

/// A rule that panics over its second variable.
#[derive(Debug)]
pub(super) struct Panicking(pub(super) Hyper);

type Descent = fn(&f64, f64, f64, [f64; 0]) -> (f64, [f64; 0]);

struct PanickingKernel(Elementwise<f64, Descent, 0>);

impl Kernel<f64> for PanickingKernel {
    fn update(&self, mut block: Block<'_, f64>) -> Done {
        assert!(block.parts().value[0] < 100.0, "too large for this rule");
        self.0.update(block)
    }
    fn visits_untouched_rows(&self) -> bool {
        false
    }
}

nothing_to_configure!(Panicking, 0);

impl UpdateRule<f64> for Panicking {
    fn slots(&self) -> Vec<SlotSpec> {
        vec![]
    }
    fn begin_step(&self, step: &Step, _shared: &mut [f64]) -> Box<dyn Kernel<f64>> {
        Box::new(PanickingKernel(elementwise(step.learning_rate, |k, w, g, []| (w - k * g, []))))
    }
}

#[test]
fn a_panic_in_a_rule_is_not_forgotten() {
    let mut opt = Optimizer::new(Panicking(1.0.into())).unwrap();
    let (mut a, mut b) = ([1.0], [100.0]);
    let weights = opt.weights();
    let step = panic::catch_unwind(AssertUnwindSafe(|| {
        let _ = opt.apply_gradients([
            Variable::new("a", &mut a).gradient(&[1.0]),
            Variable::new("b", &mut b).gradient(&[1.0]),
        ]);
    }));
    assert!(step.is_err());
    assert_eq!(opt.apply_gradients([Variable::new("a", &mut a).gradient(&[1.0])]), Err(Error::Poisoned));
    assert_eq!(opt.add_variables(&mut vec![0.0; 0]), Err(Error::Poisoned));
    // Restoring is the way out.
    opt.set_weights(weights).unwrap();
    (a, b) = ([1.0], [1.0]);
    opt.apply_gradients([Variable::new("a", &mut a).gradient(&[1.0]), Variable::new("b", &mut b).gradient(&[1.0])])
        .unwrap();
    assert_eq!((a, b, opt.iterations()), ([0.0], [0.0], 1));
}

/// A boxed rule is a rule: nothing that it overrides is lost on the way.
#[test]
fn boxes_forward_everything() {
    let boxed: Box<dyn UpdateRule<f64>> = Box::new(Normalised::new(SparseUpdate::Moments));
    let mut opt = Optimizer::builder(boxed).non_finite(NonFinite::SkipStep).build().unwrap();
    let mut plain = built(SparseUpdate::Moments);
    let (mut w, mut v) = (array![1.0, 2.0, 3.0], array![1.0, 2.0, 3.0]);
    for _ in 0..3 {
        opt.apply_gradients([Variable::new("w", &mut w).sparse_gradient(&[2_i32, 0, 2], &[1.0, 2.0, 3.0])]).unwrap();
        plain.apply_gradients([Variable::new("w", &mut v).sparse_gradient(&[2_u32, 0, 2], &[1.0, 2.0, 3.0])]).unwrap();
    }
    assert_eq!((w, opt.weights()), (v, plain.weights()));
}

/// So it is with every kind of slot when a run goes on elsewhere.
#[test]
fn every_kind_of_slot_is_restored() {
    let step = |opt: &mut Optimizer<Normalised, f64>, w: &mut Array1<f64>| {
        opt.apply_gradients([Variable::new("w", w).gradient(&[3.0, 4.0])]).unwrap();
    };
    let (mut opt, mut w) = (built(SparseUpdate::Dense), array![1.0, 2.0]);
    step(&mut opt, &mut w);
    let (mut restored, mut again) = (built(SparseUpdate::Dense), w.clone());
    restored.restore(&mut [Variable::new("w", &mut again)], opt.weights()).unwrap();
    assert_eq!(restored.weights(), opt.weights());
    step(&mut opt, &mut w);
    step(&mut restored, &mut again);
    assert_eq!((again, restored.weights()), (w, opt.weights()));
}

/// Shared slots are entries by name, each with its own number.
#[test]
fn shared_slots_are_told_apart() {
    let mut rule = Normalised::new(SparseUpdate::Dense);
    rule.slots.extend([SlotSpec::shared("second", 2.0), SlotSpec::shared("third", 3.0)]);
    let opt = Optimizer::<_, f64>::new(rule).unwrap();
    let weights: Vec<_> = opt.weights().into_iter().map(|weight| (weight.name, weight.value)).collect();
    let expected = [("gain", 1.0), ("second", 2.0), ("third", 3.0)];
    let expected = expected.map(|(name, number)| (name.to_owned(), StateValue::Scalar(number)));
    assert_eq!(weights[1..], expected);
}

/// A slot that halves at every step ends in denormal numbers, unless these become 0.
#[test]
fn denormal_state_is_flushed_if_asked() {
    let smallest_after = |flush: bool, gradient: f32| {
        let mut w = [1.0_f32; 3];
        let rule = Normalised::new(SparseUpdate::Dense);
        let mut opt = Optimizer::builder(rule).flush_denormals(flush).threads(1).build().unwrap();
        for step in 0..140 {
            let gradient = if step == 0 { 1.0 } else { gradient };
            opt.apply_gradients([Variable::new("w", &mut w).gradient(&[gradient; 3])]).unwrap();
        }
        let StateValue::Array(m) = opt.slot("w", "m").unwrap() else { panic!("m is an array") };
        m[0]
    };
    let kept = smallest_after(false, 0.0);
    assert!(kept > 0.0 && kept < f32::MIN_POSITIVE, "{kept:e}");
    assert_eq!(smallest_after(true, 0.0), 0.0);
    assert!(smallest_after(true, f32::NAN).is_nan());
    assert_eq!(smallest_after(true, 1.0), smallest_after(false, 1.0));
}

/// As many as a block has random bits for.
#[test]
fn four_moments_can_be_stored_in_16_bits() {
    let built = |count: usize| {
        let moments = ["a", "b", "c", "d", "e"].iter().take(count).map(|&name| SlotSpec::zeros(name).moment());
        let rule = Normalised { slots: moments.collect(), ..Normalised::new(SparseUpdate::Dense) };
        Optimizer::<_, f32>::builder(rule).moments(MomentStorage::Bf16 { seed: 1 }).build().map(drop)
    };
    assert!(built(0).is_ok() && built(4).is_ok());
    assert!(matches!(built(5), Err(Error::Slots { problem, .. }) if problem.starts_with("5 slots of moments")));
}

/// Whoever picks rules at run time gets the same.
#[test]
fn boxed_rules_are_the_rules() {
    let boxed = |rule: Sgd| Optimizer::builder(Box::new(rule) as Box<dyn UpdateRule<f64>>);
    let error = boxed(Sgd::new(1.0).momentum(2.0)).build().unwrap_err();
    assert!(matches!(&error, Error::Hyperparameter(error) if error.name == "momentum"), "{error}");
    let mut opt = boxed(Sgd::new(0.25).momentum(0.5)).build().unwrap();
    let mut w = [1.0];
    let report = opt.apply_gradients([Variable::new("w", &mut w).gradient(&[1.0])]).unwrap();
    assert_eq!((report.learning_rate, w), (0.25, [0.75]));
    opt.set_learning_rate(0.5).unwrap();
    opt.apply_gradients([Variable::new("w", &mut w).gradient(&[1.0])]).unwrap();
    assert_eq!(w, [0.125]);
}
