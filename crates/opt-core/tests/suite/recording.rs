//! Recorded steps: what can be recorded, and what is refused.

use std::fmt::Debug;

use half::{bf16, f16};
use opt_core::model::Half;
use opt_core::rule::{Block, Done, Kernel, Real, SlotSpec, Step, elementwise};
use opt_core::state::StateValue;
use opt_core::trace::{Array, Draws, Node, Operation, RecordedVariable, Untraceable};
use opt_core::{
    Accumulate, Ema, Error, Gradient, Hyper, LossScale, Master, MomentStorage, Optimizer, OptimizerBuilder, Scalar,
    UpdateRule, Variable, hyperparameters,
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
fn rules_of_one_type_and_moments_in_8_bits_are_refused() {
    assert_eq!(refusal(&mut Optimizer::new(InDoubles::default()).unwrap()), Untraceable::NotGeneric);
    let storage = MomentStorage::Float8 { seed: 1 };
    let builder = |momentum| Optimizer::<_, f32>::builder(Sgd::new(0.5).momentum(momentum)).moments(storage);
    assert_eq!(refusal(&mut builder(0.5).build().unwrap()), Untraceable::Moments);
    // Without momentum there are no moments.
    record(&mut builder(0.0).build().unwrap(), 1.0).unwrap();
}

/// A number of 16 bits for each kind: 0, denormal, ordinary, large, infinite, NaN, with both signs.
fn kinds<H>(from: fn(u16) -> H) -> Vec<H> {
    let bits = (0..=u16::MAX).step_by(257).chain([0x8000, 0x7F80, 0xFF80, 0x7C00, 0xFC00, 0x7BFF, 0x03FF, 0x0001]);
    bits.map(from).collect()
}

/// Variables in 16 bits, with every storage of masters and moments: graph and step give the same bits, also where the
/// caller has changed a variable.
fn halves_are_recorded<H: Half + Copy + Debug>(from: fn(u16) -> H, wide: fn(H) -> f32) {
    let masters = [Master::Full, Master::Bits24 { seed: 3 }, Master::None { seed: 3 }];
    for (master, moments) in masters
        .into_iter()
        .flat_map(|master| [MomentStorage::Full, MomentStorage::Bf16 { seed: 5 }].map(|moments| (master, moments)))
    {
        let rule = Sgd::new(0.125).momentum(0.875);
        let builder = Optimizer::<_, f32>::builder(rule).master(master).moments(moments);
        let mut opt = builder.ema(Ema::new(0.75).overwrite_every(3)).weight_decay(0.0625).build().unwrap();
        let mut w = kinds(from);
        let len = w.len();
        opt.add_variables(&mut [Variable::half("w", &mut w)]).unwrap();
        for step in 0..7 {
            let g: Vec<f32> = (0..len).map(|i| ((i * 7 + step * 13) % 31) as f32 * 0.037 - 0.5).collect();
            if step == 4 {
                w[len / 2..].iter_mut().for_each(|w| *w = from(0x3C00));
                w[len / 3] = from(0x8000);
            }
            let recorded = opt.record([Variable::half("w", &mut w).gradient(&g)]).unwrap().remove(0);
            let numbers = |opt: &Optimizer<Sgd, f32>, w: &[H]| -> Vec<Vec<f32>> {
                let slots = ["momentum", "average", "master", "correction"].map(|slot| match opt.slot("w", slot) {
                    Ok(StateValue::Array(numbers)) => numbers.iter().copied().collect(),
                    Ok(StateValue::Bf16(numbers)) => numbers.iter().map(|number| number.to_f32()).collect(),
                    _ => Vec::new(),
                });
                let value = w.iter().map(|w| wide(*w)).collect();
                let random = |random| (0..len).map(move |i| recorded.draws.number(random, i) as f32).collect();
                let random = [0, Draws::MASTER].map(random);
                slots.into_iter().chain([value, g.clone()]).chain(random).collect()
            };
            let place = |array| match array {
                Array::Slot(0) => 0,
                Array::Average => 1,
                Array::Master => 2,
                Array::Correction => 3,
                Array::Value => 4,
                Array::Gradient => 5,
                Array::Random(0) => 6,
                Array::Random(Draws::MASTER) => 7,
                other => panic!("{other:?}"),
            };
            let before = numbers(&opt, &w);
            opt.apply_gradients([Variable::half("w", &mut w).gradient(&g)]).unwrap();
            let after = numbers(&opt, &w);
            for i in 0..len {
                let new = recorded.update.evaluate(|array| before[place(array)][i]);
                for (array, got) in new {
                    let want = after[place(array)][i];
                    let is_same = got.to_bits() == want.to_bits() || got.is_nan() && want.is_nan();
                    assert!(is_same, "{:?} {master:?} {array:?} {i} in step {step}: {got:e}, not {want:e}", w[i]);
                }
            }
            let stored = recorded.update.graph.stores.iter().map(|(array, _)| place(*array)).collect::<Vec<_>>();
            let all = (0..4).filter(|slot| !after[*slot].is_empty()).chain([4]);
            assert!(all.into_iter().all(|array| stored.contains(&array)), "{stored:?}");
        }
    }
}

#[test]
fn variables_in_16_bits_are_recorded() {
    halves_are_recorded(bf16::from_bits, bf16::to_f32);
    halves_are_recorded(f16::from_bits, f16::to_f32);
}

#[test]
fn equations_show_what_is_rounded() {
    let builder = Optimizer::<_, f32>::builder(Sgd::new(0.5).momentum(0.875)).moments(MomentStorage::Bf16 { seed: 1 });
    let explained = |master| {
        let mut half = [f16::ONE];
        let variable = Variable::half("w", &mut half).gradient(&[1.0]);
        builder.clone().master(master).build().unwrap().explain(variable).unwrap()
    };
    let lines = |master| -> Vec<String> {
        explained(master).lines().skip(1).map(|line| line.trim_start().to_owned()).collect()
    };
    let [first, last] = ["momentum <- 0.875 momentum - 0.5 g", "momentum <- bf16(momentum)"];
    let full = [first, "master <- master + momentum", "w <- f16(master)", last];
    assert_eq!(lines(Master::Full), full);
    let extended = [first, "w <- master(w, correction) + momentum", "correction <- correction(w)", "w <- f16(w)", last];
    assert_eq!(lines(Master::Bits24 { seed: 1 }), extended);
    assert_eq!(lines(Master::None { seed: 1 }), [first, "w <- f16(w + momentum)", last]);

    let decayed = |master| {
        let mut half = [f16::ONE];
        let variable = Variable::half("w", &mut half).gradient(&[1.0]);
        let builder = Optimizer::<_, f32>::builder(Sgd::new(0.5)).weight_decay(0.5).master(master);
        let text = builder.build().unwrap().explain(variable).unwrap();
        text.lines().find(|line| line.ends_with("# weight decay")).map(|line| line.trim_start().to_owned())
    };
    let stage = |equation: &str| Some(format!("{equation:<40}  # weight decay"));
    assert_eq!(decayed(Master::Full), stage("master <- master - 0.25 master"));
    assert_eq!(decayed(Master::Bits24 { seed: 1 }), stage("w <- w - 0.25 w"));
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
