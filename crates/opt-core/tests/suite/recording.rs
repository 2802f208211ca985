//! Recorded steps: what can be recorded, and what is refused.

use half::bf16;
use opt_core::rule::{Block, Done, Kernel, Real, SlotSpec, Step, elementwise};
use opt_core::trace::{Array, Node, Operation, RecordedVariable, Untraceable};
use opt_core::{
    Accumulate, Ema, Error, Gradient, Hyper, LossScale, MomentStorage, Optimizer, OptimizerBuilder, Scalar, UpdateRule,
    Variable, hyperparameters,
};
use opt_sgd::Sgd;

hyperparameters! {
    /// A rule that may treat elements in ways that cannot be recorded.
    #[derive(Debug)]
    struct Odd {
        learning_rate: Hyper = 0.5, in 0.0.., "learning rate";
        /// Sets what it does.
        oddity: u64 = 0, in 0.., "what it does";
    }
    rule "Odd"
}

const ORDINARY: u64 = 0;
const COMPARES: u64 = 1;
const CONVERTS: u64 = 2;
const MIXES: u64 = 3;
const BY_PLACE: u64 = 4;
const BY_LENGTH: u64 = 5;
const BY_ANOTHER_THREAD: u64 = 6;
const ASKS_WHETHER_FINITE: u64 = 7;

struct OddStep(u64);

impl<T: Scalar> Kernel<T> for OddStep {
    fn update(&self, mut block: Block<'_, T>) -> Done {
        let parts = block.parts();
        let gradient = parts.gradient.unwrap_or_default();
        let len = gradient.len();
        for (i, (w, &g)) in parts.value.iter_mut().zip(gradient).enumerate() {
            let step = match self.0 {
                COMPARES => {
                    if g > T::zero() {
                        g
                    } else {
                        T::zero()
                    }
                }
                CONVERTS => T::literal(g.as_()),
                MIXES => gradient.iter().fold(T::zero(), |sum, &g| sum + g),
                BY_PLACE => T::literal(i as f64) * g,
                BY_LENGTH => T::literal(len as f64) * g,
                BY_ANOTHER_THREAD => {
                    std::thread::scope(|threads| threads.spawn(|| T::literal(0.5)).join().expect("no panic")) * g
                }
                ASKS_WHETHER_FINITE => {
                    if g.is_finite() {
                        g
                    } else {
                        T::zero()
                    }
                }
                _ => g,
            };
            *w = *w - step;
        }
        block.done()
    }

    fn visits_untouched_rows(&self) -> bool {
        false
    }
}

impl<T: Scalar> UpdateRule<T> for Odd {
    fn slots(&self) -> Vec<SlotSpec> {
        vec![]
    }
    fn begin_step(&self, _step: &Step, _shared: &mut [f64]) -> Box<dyn Kernel<T>> {
        Box::new(OddStep(self.oddity))
    }
}

hyperparameters! {
    /// Gradient descent for one element type.
    #[derive(Debug)]
    struct InDoubles {
        learning_rate: Hyper = 0.5, in 0.0.., "learning rate";
    }
    rule "InDoubles"
}

impl UpdateRule<f64> for InDoubles {
    fn slots(&self) -> Vec<SlotSpec> {
        vec![]
    }
    fn begin_step(&self, step: &Step, _shared: &mut [f64]) -> Box<dyn Kernel<f64>> {
        Box::new(elementwise(step.learning_rate, |rate: &f64, w: f64, g: f64, []: [f64; 0]| (w - rate * g, [])))
    }
}

/// Records a step of one variable.
fn record<R: UpdateRule<T>, T: Scalar>(opt: &mut Optimizer<R, T>, gradient: f64) -> Result<RecordedVariable, Error> {
    let (mut w, g) = ([T::literal(1.0)], [T::literal(gradient)]);
    Ok(opt.record([Variable::new("w", &mut w).gradient(&g)])?.remove(0))
}

fn refusal<R: UpdateRule<T>, T: Scalar>(opt: &mut Optimizer<R, T>) -> Untraceable {
    match record(opt, 1.0).unwrap_err() {
        Error::Untraceable { reason, .. } => reason,
        other => panic!("{other}"),
    }
}

#[test]
fn rules_that_look_at_elements_are_refused() {
    let refused = |oddity| refusal::<_, f32>(&mut Optimizer::new(Odd::default().oddity(oddity)).unwrap());
    assert_eq!(refused(COMPARES), Untraceable::Compared);
    assert_eq!(refused(ASKS_WHETHER_FINITE), Untraceable::Compared);
    assert_eq!(refused(CONVERTS), Untraceable::Converted);
    assert_eq!(refused(MIXES), Untraceable::Mixed);
    assert_eq!(refused(BY_PLACE), Untraceable::ByPlace);
    assert_eq!(refused(BY_LENGTH), Untraceable::ByLength);
    assert_eq!(refused(BY_ANOTHER_THREAD), Untraceable::Foreign);
    let ordinary = record::<_, f32>(&mut Optimizer::new(Odd::default()).unwrap(), 1.0).unwrap();
    let nodes = [Node::Load(Array::Value), Node::Load(Array::Gradient), Node::Binary(Operation::Sub, 0, 1)];
    assert_eq!((ordinary.update.graph.nodes, ordinary.update.parameters), (nodes.to_vec(), vec![]));

    let error = record::<_, f32>(&mut Optimizer::new(Odd::default().oddity(MIXES)).unwrap(), 1.0).unwrap_err();
    let message = "variable \"w\": the step of rule \"Odd\" cannot be recorded: it combines different elements";
    assert_eq!(error.to_string(), message);
    assert_eq!(Odd::default().oddity, ORDINARY);
}

#[test]
fn rules_of_one_type_and_numbers_in_few_bits_are_refused() {
    assert_eq!(refusal(&mut Optimizer::new(InDoubles::default()).unwrap()), Untraceable::NotGeneric);
    let builder = || Optimizer::<_, f32>::builder(Sgd::new(0.5).momentum(0.5));
    for storage in [MomentStorage::Bf16 { seed: 1 }, MomentStorage::Float8 { seed: 1 }] {
        assert_eq!(refusal(&mut builder().moments(storage).build().unwrap()), Untraceable::Moments);
    }
    let mut half = [bf16::ONE];
    let variable = Variable::half("w", &mut half).gradient(&[1.0]);
    let error = builder().build().unwrap().record([variable]).unwrap_err();
    assert!(matches!(error, Error::Untraceable { reason: Untraceable::Half, .. }), "{error}");
}

/// Boxed or not, a rule is recorded alike; what is recorded depends on the structure of a step, not on its numbers.
#[test]
fn graphs_are_structures() {
    let typed = |rate| Optimizer::<_, f32>::new(Sgd::new(rate).momentum(0.5)).unwrap();
    let boxed = |rate| Optimizer::<_, f32>::builder(Sgd::new(rate).momentum(0.5)).boxed().build().unwrap();
    let first = record(&mut typed(0.5), 1.0).unwrap();
    assert_eq!(record(&mut boxed(0.5), 1.0).unwrap(), first);
    let second = record(&mut typed(0.25), 3.0).unwrap();
    assert_eq!(second.update.graph, first.update.graph);
    assert_eq!((first.update.parameters, second.update.parameters), (vec![0.5, 0.5], vec![0.25, 0.5]));
    assert_eq!((first.slots, first.learning_rate), (vec!["momentum".to_owned()], 0.5));

    let decayed =
        |decay| Optimizer::<_, f32>::builder(Sgd::new(0.5).momentum(0.5)).weight_decay(decay).build().unwrap();
    let of = |mut opt: Optimizer<Sgd>| record(&mut opt, 1.0).unwrap().update.graph;
    assert_eq!(of(decayed(0.5)), of(decayed(0.25)));
    assert_ne!(of(decayed(0.5)), first.update.graph);
}

/// Numbers that are refused in a step are refused in a recording, and nothing changes.
#[test]
fn recordings_change_nothing() {
    let mut opt = Optimizer::<_, f64>::builder(Sgd::new(0.5).momentum(0.5).dampening(0.5).learning_rate_outside(true))
        .ema(Ema::new(0.5))
        .build()
        .unwrap();
    let mut w = [1.0, 2.0];
    let run = |opt: &mut Optimizer<Sgd, f64>, w: &mut [f64; 2]| opt.step(w, &[1.0, -1.0]).unwrap();
    let weights = |opt: &Optimizer<Sgd, f64>| format!("{:?}", opt.weights());
    for step in 0..3 {
        let before = (w, opt.iterations(), weights(&opt));
        let recorded = opt.record([Variable::new("variable", &mut w).gradient(&[1.0, -1.0])]).unwrap();
        assert_eq!((w, opt.iterations(), weights(&opt)), before);
        assert_eq!((recorded.len(), recorded[0].iteration), (1, step));
        run(&mut opt, &mut w);
    }
    let wrong = opt.record([Variable::new("variable", &mut w).gradient(&[1.0])]);
    assert!(matches!(wrong, Err(Error::GradientShape { .. })));
    assert_eq!(opt.record([Variable::new("other", &mut w)]).unwrap(), []);
}

/// The factors of a gradient: those of clips, of the loss scale, of accumulation.
#[test]
fn gradients_are_scaled_as_in_the_step() {
    let factor = |builder: OptimizerBuilder<Sgd, f32>| {
        let update = record(&mut builder.build().unwrap(), 8.0).unwrap().update;
        update.evaluate(|array| if array == Array::Gradient { 8.0_f32 } else { 0.0 })[0].1 / -8.0
    };
    let builder = || Optimizer::builder(Sgd::new(1.0));
    assert_eq!(factor(builder()), 1.0);
    assert_eq!(factor(builder().clipnorm(2.0)), 0.25);
    assert_eq!(factor(builder().global_clipnorm(4.0)), 0.5);
    assert_eq!(factor(builder().clipvalue(1.0)), 0.125);
    assert_eq!(factor(builder().loss_scale(LossScale::fixed(16.0))), 0.0625);
    assert_eq!(factor(builder().accumulate(Accumulate::mean(4))), 0.25);
    assert_eq!(factor(builder().accumulate(Accumulate::sum(4)).loss_scale(LossScale::fixed(16.0))), 1.0);
}

/// A sparse gradient has two updates: one of the rows that it touches, one of the others.
#[test]
fn rows_that_are_not_touched_are_recorded() {
    let mut opt = Optimizer::<_, f32>::builder(Sgd::new(0.5).momentum(0.5)).clipvalue(0.5).build().unwrap();
    let mut w = ndarray::arr2(&[[1.0], [2.0]]);
    let g = ndarray::arr2(&[[4.0_f32]]);
    let recorded = opt.record([Variable::new("w", &mut w).gradient(Gradient::sparse(&[1_usize], &g))]).unwrap();
    let new = |update: &opt_core::trace::Update| {
        let load = |array| [1.0, 4.0, 2.0][usize::from(array > Array::Value) + usize::from(array > Array::Gradient)];
        update.evaluate::<f32>(load)
    };
    assert_eq!(new(&recorded[0].update), [(Array::Value, 1.75), (Array::Slot(0), 0.75)]);
    assert_eq!(new(recorded[0].untouched.as_ref().unwrap()), [(Array::Value, 2.0), (Array::Slot(0), 1.0)]);
}

hyperparameters! {
    /// The sign of an interpolation between momentum and gradient, as in Lion.
    #[derive(Debug)]
    struct Signs {
        learning_rate: Hyper = 0.25, in 0.0.., "learning rate";
    }
    rule "Signs"
}

fn signs<E: Real>(eta: &E, w: E, g: E, [m, _last]: [E; 2]) -> (E, [E; 2]) {
    let c = g + E::literal(0.5) * (m - g);
    let sign = c / c.max(E::literal(0.0) - c).max(E::literal(1e-10));
    (w - *eta * sign, [E::literal(1.0) * (g + E::literal(0.75) * (m - g)), g])
}

impl<T: Scalar> UpdateRule<T> for Signs {
    fn slots(&self) -> Vec<SlotSpec> {
        vec![SlotSpec::zeros("m"), SlotSpec::zeros("last")]
    }
    fn begin_step(&self, step: &Step, _shared: &mut [f64]) -> Box<dyn Kernel<T>> {
        Box::new(elementwise(T::literal(step.learning_rate), signs))
    }
}

/// A number gets the name of the array that it replaces only if nothing needs the old one later.
#[test]
fn equations_use_old_numbers_before_new_ones() {
    let mut opt = Optimizer::<_, f32>::builder(Signs::default()).clipvalue(2.0).build().unwrap();
    let mut w = [1.0];
    let text = opt.explain(Variable::new("w", &mut w).gradient(&[8.0])).unwrap();
    let want = "\
w: step 1 of Signs, learning rate 0.25
  g <- clip(g, -2, 2)                       # the gradient, clipped and scaled
  t1 <- g + 0.5 (m - g)
  w <- w - 0.25 t1 / max(max(t1, -t1), 1e-10)
  m <- g + 0.75 (m - g)
  last <- g
";
    assert_eq!(text, want);
    let mut other = [1.0];
    assert_eq!(opt.explain(Variable::new("other", &mut other)).unwrap_err(), Error::NoGradients { variables: 1 });
}
