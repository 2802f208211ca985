//! Steps in phases, options of one call, and slots that are swapped into lists of variables.

use std::panic::{AssertUnwindSafe, catch_unwind};

use half::bf16;
use ndarray::{Array2, ShapeBuilder};
use opt_core::model::AnySliceMut;
use opt_core::rule::{Block, Kernel, Step, Workspace};
use opt_core::state::DType;
use opt_core::{
    Accumulate, Description, Ema, Error, Group, LossScale, NonFinite, Optimizer, OptimizerBuilder, Outcome,
    PendingStep, SliceStep, StepOptions, UpdateRule, Variable, View, ViewMut,
};
use opt_sgd::Sgd;

use super::contract::Panicking;
use super::distributions::Plain;
use super::options::Halving;

fn momentum() -> OptimizerBuilder<Sgd, f64> {
    Optimizer::builder(Sgd::new(0.5).momentum(0.5))
}

/// Begins a step for `a` and `b`.
fn begin(opt: &mut Optimizer<Sgd, f64>) -> Result<PendingStep<'_, 'static, Sgd, f64>, Error> {
    opt.begin(["a", "b"].map(|name| Description::new(name, [1]).gradient(&[1.0])))
}

#[test]
fn an_unfinished_step_poisons() {
    let (mut a, mut b) = ([1.0], [1.0]);
    let mut opt = momentum().build().unwrap();
    drop(begin(&mut opt).unwrap());
    assert_eq!((opt.iterations(), opt.variables().count()), (0, 0));
    let mut step = begin(&mut opt).unwrap();
    step.update(0, &mut a).unwrap();
    let missing = step.finish().unwrap_err();
    assert!(matches!(missing, Error::NotLent { variable } if variable == "b"));
    assert!(matches!(begin(&mut opt), Err(Error::Poisoned)));

    // A step that is forgotten is neither finished nor dropped.
    let mut opt = momentum().build().unwrap();
    std::mem::forget(begin(&mut opt).unwrap());
    assert!(matches!(begin(&mut opt), Err(Error::Poisoned)));

    // Before the first update nothing has happened.
    let mut opt = momentum().build().unwrap();
    assert!(matches!(begin(&mut opt).unwrap().finish(), Err(Error::NotLent { .. })));
    let mut step = begin(&mut opt).unwrap();
    step.update_all([(1, &mut b), (0, &mut a)]).unwrap();
    assert!(step.finish().unwrap().is_applied());
}

#[test]
fn wrong_numbers_are_refused_and_may_be_lent_again() {
    let (mut a, mut b) = ([1.0], [1.0]);
    let mut opt = momentum().build().unwrap();
    let mut step = begin(&mut opt).unwrap();
    let mut long = [1.0, 2.0];
    assert!(matches!(step.update(0, &mut long), Err(Error::VariableShape { .. })));
    assert!(matches!(step.update(2, &mut long), Err(Error::NotDescribed { position: 2, variables: 2 })));
    assert!(
        matches!(step.update_all([(0, &mut a), (0, &mut b)]), Err(Error::DuplicateVariable { name }) if name == "a")
    );
    step.update(0, &mut a).unwrap();
    assert!(matches!(step.update(0, &mut a), Err(Error::DuplicateVariable { name }) if name == "a"));
    step.update(1, &mut b).unwrap();
    assert!(step.finish().unwrap().is_applied());
    assert_eq!((a, b, long), ([0.5], [0.5], [1.0, 2.0]));

    let mut opt = Optimizer::<_, f32>::new(Sgd::new(0.5)).unwrap();
    let described = || Description::new("w", [1]).dtype(DType::Bf16).gradient(&[1.0]);
    let (mut half, mut full) = ([bf16::ONE], [1.0_f32]);
    let mut step = opt.begin([described()]).unwrap();
    assert!(matches!(step.update(0, &mut full), Err(Error::VariableType { .. })));
    step.update(0, ViewMut::<f32>::from_any(AnySliceMut::Bf16(&mut half), &[1]).unwrap()).unwrap();
    assert!(step.finish().unwrap().is_applied());
    assert_eq!(half[0].to_f32(), 0.5);
    let mut opt = momentum().build().unwrap();
    let refused = opt.begin([Description::new("w", [1]).dtype(DType::F32).gradient(&[1.0])]);
    assert!(matches!(refused, Err(Error::VariableType { expected: DType::F64, found: DType::F32, .. })));
}

#[test]
fn what_is_not_written_need_not_be_lent() {
    let mut w = [1.0];
    let mut opt = momentum().non_finite(NonFinite::SkipStep).build().unwrap();
    let infinite = [f64::INFINITY];
    let mut step = opt.begin([Description::new("w", [1]).gradient(&infinite)]).unwrap();
    assert!(!step.writes(0));
    step.update(0, &mut w).unwrap();
    let report = step.finish().unwrap();
    assert_eq!((report.outcome, report.non_finite.unwrap().variable), (Outcome::NonFinite, "w".to_owned()));

    let step = opt.begin([Description::new("frozen", [9]), Description::new("w", [1]).gradient(&[1.0])]).unwrap();
    assert_eq!([0, 1, 2].map(|i| step.writes(i)), [false, true, false]);
    drop(step);
    let step = opt.begin([]).unwrap();
    assert_eq!(step.finish().unwrap().outcome, Outcome::NoVariables);
    assert_eq!(w, [1.0]);
}

/// Micro-steps lend only new variables, the last one all of them.
#[test]
fn micro_steps_lend_only_new_variables() {
    let builder = || momentum().accumulate(Accumulate::mean(3)).ema(Ema::new(0.5));
    let (mut opt, mut control) = (builder().build().unwrap(), builder().build().unwrap());
    let (mut w, mut want) = ([4.0], [4.0]);
    for call in 0..7 {
        let gradient = [f64::from(call)];
        control.apply_gradients([Variable::new("w", &mut want).gradient(&gradient)]).unwrap();
        // A step that is dropped forgets no sum.
        drop(opt.begin([Description::new("w", [1]).gradient(&gradient)]).unwrap());
        let mut step = opt.begin([Description::new("w", [1]).gradient(&gradient)]).unwrap();
        assert_eq!(step.writes(0), matches!(call, 0 | 2 | 5), "call {call}");
        if step.writes(0) {
            step.update(0, &mut w).unwrap();
        }
        step.finish().unwrap();
        assert_eq!((w, opt.weights()), (want, control.weights()), "call {call}");
    }
}

/// A sum that is too large is forgotten, as in any other step; a refused gradient is not added.
#[test]
fn overflows_between_micro_steps() {
    let mut opt =
        momentum().accumulate(Accumulate::sum(2)).loss_scale(LossScale::dynamic().initial(4.0)).build().unwrap();
    let mut w = [1.0];
    let mut call = |opt: &mut Optimizer<Sgd, f64>, gradient: f64| {
        let gradient = [gradient];
        let mut step = opt.begin([Description::new("w", [1]).gradient(&gradient)]).unwrap();
        step.update(0, &mut w).unwrap();
        step.finish().unwrap().outcome
    };
    assert_eq!(call(&mut opt, f64::NAN), Outcome::NonFinite);
    assert_eq!((call(&mut opt, 4.0), opt.micro_step()), (Outcome::Accumulated { micro_step: 1, of: 2 }, 1));
    assert_eq!((call(&mut opt, f64::INFINITY), opt.micro_step(), opt.loss_scale()), (Outcome::NonFinite, 1, 1.0));
    assert_eq!((call(&mut opt, 1.0), opt.micro_step()), (Outcome::Applied, 0));
}

#[test]
fn a_panic_in_an_update_poisons() {
    let mut opt = Optimizer::new(Panicking(1.0.into())).unwrap();
    let mut w = [100.0];
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        let mut step = opt.begin([Description::new("w", [1]).gradient(&[1.0])]).unwrap();
        drop(step.update(0, &mut w));
    }));
    assert!(panicked.is_err());
    assert!(matches!(opt.begin([Description::new("w", [1])]), Err(Error::Poisoned)));
}

/// Slots of new variables have the described memory order.
#[test]
fn column_major_variables_are_described() {
    let (mut w, g) = (Array2::zeros((2, 3).f()), Array2::from_shape_fn((2, 3), |(i, j)| (3 * i + j) as f64));
    for axes in [[0, 1], [1, 0]] {
        let mut opt = momentum().build().unwrap();
        let mut step = opt.begin([Description::new("w", [2, 3]).memory_order(&axes).gradient(&g)]).unwrap();
        w.fill(0.0);
        step.update(0, &mut w).unwrap();
        step.finish().unwrap();
        assert_eq!((&w, opt.slot("w", "momentum").unwrap().to_f64()[3]), (&(-0.5 * &g), -0.5 * 3.0));
    }
}

#[test]
fn ranks_step_together() {
    let mut opt = Optimizer::<_, f64>::builder(Sgd::new(0.5)).distributed(Plain).build().unwrap();
    assert!(matches!(opt.begin([]), Err(Error::PhasesOnRanks)));
}

/// The learning rate of a call: under a schedule, with factors of groups, and not where a group has its own.
#[test]
fn options_of_one_call() {
    let mut values = ([0.0], [0.0], [0.0]);
    let mut opt = Optimizer::builder(Sgd::new(Halving(1.0)))
        .group(Group::matching("^1$").learning_rate_scale(0.5))
        .group(Group::matching("^2$").learning_rate(0.125))
        .build()
        .unwrap();
    let gradients = ([4.0], [4.0], [4.0]);
    opt.step(&mut values, &gradients).unwrap();
    assert_eq!(values, ([-4.0], [-2.0], [-0.5]));
    let options = StepOptions::new().learning_rate(0.25).gradient_scale(0.5);
    let report = opt.step_with(&mut values, &gradients, options).unwrap();
    assert_eq!(values, ([-4.5], [-2.25], [-0.75]));
    assert_eq!(report.learning_rate, 0.25);
    assert_eq!(report.group_learning_rates.iter().map(|(_, rate)| *rate).collect::<Vec<_>>(), [0.125, 0.125]);
    // The schedule has gone on.
    assert_eq!(opt.learning_rate(), 0.25);
    opt.step(&mut values, &gradients).unwrap();
    assert_eq!(values, ([-5.5], [-2.75], [-1.25]));
}

/// A scaled gradient is clipped after it is scaled, and each micro-step has its own factor.
#[test]
fn gradients_are_scaled_first() {
    let mut w = [0.0];
    let mut opt = Optimizer::builder(Sgd::new(1.0)).global_clipnorm(1.0).build().unwrap();
    let scaled = |scale: f64| StepOptions::new().gradient_scale(scale);
    let report = opt.step_with(&mut w, &[8.0], scaled(0.0625)).unwrap();
    assert_eq!((w, report.global_norm, report.clip_factor), ([-0.5], Some(0.5), Some(1.0)));
    let mut opt = Optimizer::builder(Sgd::new(1.0)).accumulate(Accumulate::sum(2)).build().unwrap();
    w = [0.0];
    opt.step_with(&mut w, &[8.0], scaled(0.5)).unwrap();
    opt.apply_gradients_with([Variable::new("value", &mut w).gradient(&[8.0])], scaled(0.25)).unwrap();
    assert_eq!(w, [-6.0]);

    for scale in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        let refused = opt.step_with(&mut w, &[8.0], scaled(scale)).unwrap_err();
        assert!(matches!(refused, Error::Hyperparameter(error) if error.name == "gradient_scale"), "{scale}");
    }
    for rate in [-1.0, f64::NAN, f64::INFINITY] {
        let refused = opt.step_with(&mut w, &[8.0], StepOptions::new().learning_rate(rate)).unwrap_err();
        assert!(matches!(refused, Error::Hyperparameter(error) if error.name == "learning_rate"), "{rate}");
    }
    assert_eq!((w, opt.micro_step()), ([-6.0], 0));
}

#[test]
fn slots_are_swapped_back_into_the_same_list() {
    let (mut a, mut b) = ([4.0], [8.0]);
    let mut opt = Optimizer::builder(Sgd::new(1.0)).ema(Ema::new(0.5)).build().unwrap();
    opt.apply_gradients([Variable::new("a", &mut a).gradient(&[2.0]), Variable::new("b", &mut b).gradient(&[4.0])])
        .unwrap();
    opt.swap_slot(Ema::SLOT, [Variable::new("a", &mut a), Variable::new("b", &mut b)]).unwrap();
    assert_eq!((a, b), ([3.0], [6.0]));
    let other = opt.swap_back([Variable::new("a", &mut a)]);
    assert!(matches!(other, Err(Error::OtherSwapped { slot }) if slot == Ema::SLOT));
    assert!(matches!(opt.begin([Description::new("a", [1])]), Err(Error::SwappedIn { .. })));
    opt.swap_back([Variable::new("b", &mut b), Variable::new("a", &mut a)]).unwrap();
    assert_eq!((a, b), ([2.0], [4.0]));
    opt.swap_back([Variable::new("a", &mut a)]).unwrap();
    assert_eq!(a, [2.0]);
}

#[test]
fn borrowed_slots_of_another_number_or_length_are_refused() {
    let rule = Sgd::new(0.5).momentum(0.5);
    let step = Step::new(0, 0.5);
    assert!(matches!(SliceStep::<f64>::new(&rule, &step, &mut [1.0]), Err(Error::Slots { .. })));
    assert!(matches!(SliceStep::<f64>::new(&rule, &Step::new(0, -1.0), &mut []), Err(Error::Hyperparameter(_))));
    let mut slices = SliceStep::new(&rule, &step, &mut []).unwrap();
    let (mut w, mut m) = ([1.0, 1.0], [0.0, 0.0]);
    assert!(matches!(slices.update("w", &mut w, &[1.0; 2], &mut [], &mut []), Err(Error::Slots { .. })));
    assert!(matches!(slices.update("w", &mut w, &[1.0; 2], &mut [&mut m], &mut [0.0]), Err(Error::Slots { .. })));
    let short = slices.update("w", &mut w, &[1.0; 2], &mut [&mut m[..1]], &mut []);
    assert!(matches!(short, Err(Error::GradientShape { gradient, .. }) if gradient == [1]));
    assert!(matches!(slices.update("w", &mut w, &[1.0], &mut [&mut m], &mut []), Err(Error::GradientShape { .. })));
    slices.update("w", &mut w, &[1.0, 0.0], &mut [&mut m], &mut []).unwrap();
    assert_eq!(w, [0.5, 1.0]);

    let mut decayed = SliceStep::with_weight_decay(&rule, &step, &mut [], Some(0.5)).unwrap();
    (w, m) = ([1.0, 1.0], [0.0, 0.0]);
    decayed.update("w", &mut w, &[1.0, 0.0], &mut [&mut m], &mut []).unwrap();
    assert_eq!(w, [0.25, 0.75]);
}

/// A kernel runs on a block that no optimizer has made.
#[test]
fn kernels_run_on_blocks_of_anybody() {
    let rule = Sgd::new(0.5).momentum(0.5);
    let kernel: Box<dyn Kernel<f64>> = rule.begin_step(&Step::new(0, 0.5), &mut []);
    let (mut w, mut m, mut workspace) = ([1.0, 1.0], [1.0, 0.0], Workspace::default());
    kernel.update(Block::new(&mut w, Some(&[1.0, 0.0]), [&mut m[..]], &[0.0; 4], &mut workspace));
    assert_eq!((w, m), ([1.0, 1.0], [0.0, 0.0]));
    let refused = catch_unwind(|| {
        let (mut w, mut workspace) = ([1.0, 1.0], Workspace::default());
        drop(Block::new(&mut w, Some(&[1.0]), [], &[0.0; 4], &mut workspace));
    });
    assert!(refused.is_err());
}

#[test]
fn numbers_of_another_type_are_no_view() {
    let mut numbers = [1.0_f64];
    assert_eq!(ViewMut::<f32>::from_any(AnySliceMut::F64(&mut numbers), &[1]).unwrap_err(), DType::F64);
    let half = opt_core::model::AnySlice::Bf16(&[bf16::ONE]);
    assert_eq!(View::<f64>::from_any(half, &[1]).unwrap_err(), DType::Bf16);
    assert_eq!(View::<f64>::from_any(opt_core::model::AnySlice::F64(&numbers), &[]).unwrap().array().unwrap()[[]], 1.0);
    // A slice that does not fill its shape is refused by the step.
    let mut opt = Optimizer::<_, f64>::new(Sgd::new(0.5)).unwrap();
    let value = ViewMut::from_any(AnySliceMut::F64(&mut numbers), &[2]).unwrap();
    assert!(matches!(opt.apply_gradients([Variable::new("w", value)]), Err(Error::VariableData { .. })));
}
