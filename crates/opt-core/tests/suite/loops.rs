//! Rules with loops of their own, and rules around others: with the engine's loop or without it, the same bits.

use ndarray::{Array2, s};
use opt_core::rule::{BLOCK, Block, Done, Kernel, Real, SlotSpec, SparseUpdate, Step, elementwise};
use opt_core::state::StateValue;
use opt_core::{Ema, Hyper, MomentStorage, Optimizer, OptimizerBuilder, UpdateRule, Variable};

/// Momentum with a second moment, written in several ways.
#[derive(Debug, Clone)]
struct Momentum {
    learning_rate: Hyper,
    way: Way,
    sparse: SparseUpdate,
    /// Whether the second slot is a moment, too.
    both: bool,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Way {
    /// The engine's loop, by [`elementwise`].
    Function,
    /// The engine's loop, for a block.
    Elementwise,
    /// A loop of its own.
    Parts,
    /// A loop of its own that changes nothing, then the engine's.
    Both,
    /// As a rule whose slots are a wrapper's from the second on, with nothing to do for the wrapper.
    Last,
    /// The same, with a wrapper that counts in its slot afterwards.
    Wrapped,
    /// As `Last`, with a wrapper whose slot is a moment.
    LastOfMoments,
    /// As `Wrapped`, with a wrapper whose slot is a moment.
    WrappedMoments,
}

/// Those whose moments are rounded alike: a moment before them takes the random numbers of the first.
const ALIKE: [&[Way]; 2] = [
    &[Way::Function, Way::Elementwise, Way::Parts, Way::Both, Way::Last, Way::Wrapped],
    &[Way::LastOfMoments, Way::WrappedMoments],
];

fn element<E: Real>(rate: &E, w: E, g: E, [m, v]: [E; 2]) -> (E, [E; 2]) {
    let (m, v) = (E::literal(0.9) * m + g, E::literal(0.8) * v + g * g);
    (w - *rate * m / (v + E::literal(0.5)), [m, v])
}

struct InWay(f32, Way, SparseUpdate);

impl InWay {
    fn loops(&self, block: &mut Block<'_, f32>) {
        let parts = block.parts();
        let gradient = match (parts.gradient, self.2) {
            (None, SparseUpdate::Rows) => return,
            (gradient, _) => gradient,
        };
        let [m, v, ..] = parts.slots;
        for i in 0..parts.value.len() {
            let g = gradient.map_or(0.0, |gradient| gradient[i]);
            let (w, state) = element(&self.0, parts.value[i], g, [m[i], v[i]]);
            [m[i], v[i]] = state;
            if gradient.is_some() || self.2 == SparseUpdate::Dense {
                parts.value[i] = w;
            }
        }
    }
}

impl Kernel<f32> for InWay {
    fn update(&self, mut block: Block<'_, f32>) -> Done {
        match self.1 {
            Way::Function => unreachable!("it has another kernel"),
            Way::Elementwise => block.elementwise(self.2, &self.0, element),
            Way::Parts => {
                self.loops(&mut block);
                block.done()
            }
            Way::Last | Way::LastOfMoments => block.into_slots(1..).elementwise(self.2, &self.0, element),
            Way::Wrapped | Way::WrappedMoments => {
                block.with_slots(1..).elementwise(self.2, &self.0, element);
                let parts = block.parts();
                parts.slots[0].iter_mut().for_each(|own| *own += 1.0);
                block.done()
            }
            Way::Both => {
                let _ = block.parts();
                block.elementwise(self.2, &self.0, element)
            }
        }
    }

    fn visits_untouched_rows(&self) -> bool {
        self.2 != SparseUpdate::Rows
    }
}

nothing_to_configure!(Momentum, learning_rate);

impl UpdateRule<f32> for Momentum {
    fn slots(&self) -> Vec<SlotSpec> {
        let own = match self.way {
            Way::Last | Way::Wrapped => Some(SlotSpec::zeros("own")),
            Way::LastOfMoments | Way::WrappedMoments => Some(SlotSpec::zeros("own").moment()),
            _ => None,
        };
        // A second moment, whose format in 8 bits is another one.
        let v = SlotSpec::zeros("v").within(0.0..);
        let state = [SlotSpec::zeros("m").moment(), if self.both { v.moment() } else { v }];
        own.into_iter().chain(state).collect()
    }
    fn begin_step(&self, step: &Step, _shared: &mut [f64]) -> Box<dyn Kernel<f32>> {
        let rate = step.learning_rate as f32;
        match self.way {
            Way::Function => Box::new(elementwise(rate, element::<f32>).sparse(self.sparse)),
            way => Box::new(InWay(rate, way, self.sparse)),
        }
    }
}

/// Variables, moments and averages after three steps, the last one with sparse gradients: numbers side by side, and
/// not.
fn run(way: Way, sparse: SparseUpdate, both: bool, around: impl Fn(Built) -> Built) -> Bits {
    let rule = Momentum { learning_rate: 0.1.into(), way, sparse, both };
    let (mut found, opt) = after_three_steps(around(Optimizer::builder(rule)));
    for (name, value) in opt.weights().into_iter().map(|weight| (weight.name, weight.value)) {
        match value {
            StateValue::Array(own) if name.ends_with("/own") => {
                let visits = if matches!(way, Way::Wrapped | Way::WrappedMoments) { 3.0 } else { 0.0 };
                assert!(sparse == SparseUpdate::Rows || own.iter().all(|&own| own == visits), "{way:?}: {name}");
            }
            StateValue::Array(slot) => found.extend(bits(&slot)),
            value => assert_eq!(value, StateValue::Iterations(3)),
        }
    }
    found
}

/// All that three steps change.
fn bits_after_three_steps<R: UpdateRule<f32>>(builder: OptimizerBuilder<R, f32>) -> Bits {
    let (mut found, opt) = after_three_steps(builder);
    for weight in opt.weights() {
        if let StateValue::Array(slot) = weight.value {
            found.extend(bits(&slot));
        }
    }
    found
}

fn after_three_steps<R: UpdateRule<f32>>(builder: OptimizerBuilder<R, f32>) -> (Bits, Optimizer<R, f32>) {
    let mut opt = builder.threads(1).build().unwrap();
    let number = |i: usize, j: usize| (i * 7919 + j * 104_729) as f32 % 10_007.0 * 1.1e-4 - 0.5;
    // A block is 256 rows; under Miri it is 64.
    let (rows, width) = (260, (BLOCK / 256).max(1));
    let mut whole = Array2::from_shape_fn((rows, width), |(i, j)| number(i, j));
    let mut scattered = Array2::from_shape_fn((rows, 2 * width), |(i, j)| number(i, j / 2));
    for step in 0..3 {
        let gradient = Array2::from_shape_fn((rows, width), |(i, j)| number(i + 3, j + step));
        let values = gradient.slice(s![..5, ..]);
        let indices = [250, 3, 258, 3, 7_usize];
        let variables =
            [Variable::new("whole", &mut whole), Variable::new("scattered", scattered.slice_mut(s![.., ..;2]))];
        let variables = variables.map(|variable| match step {
            0 | 1 => variable.gradient(&gradient),
            _ => variable.sparse_gradient(&indices, values),
        });
        opt.apply_gradients(variables).unwrap();
    }
    (bits(whole.iter().chain(&scattered)), opt)
}

type Built = OptimizerBuilder<Momentum, f32>;
type Bits = Vec<u32>;

fn bits<'n>(numbers: impl IntoIterator<Item = &'n f32>) -> Bits {
    numbers.into_iter().map(|number| number.to_bits()).collect()
}

fn all_are_one(both: bool, around: impl Fn(Built) -> Built) {
    for sparse in [SparseUpdate::Dense, SparseUpdate::Moments, SparseUpdate::Rows] {
        for ways in ALIKE {
            let expected = run(ways[0], sparse, both, &around);
            for way in &ways[1..] {
                assert!(run(*way, sparse, both, &around) == expected, "{way:?}, {sparse:?}");
            }
        }
    }
}

/// With what the engine does around them, in the same loop or in one of its own.
fn all_are_one_in_every_stage(with: impl Fn(Built) -> Built) {
    all_are_one(true, &with);
    all_are_one(true, |builder| with(builder).clipnorm(1.0).weight_decay(0.25).ema(Ema::new(0.75).overwrite_every(3)));
    all_are_one(true, |builder| with(builder).clipvalue(0.25).ema(Ema::new(0.75)));
}

#[test]
fn every_loop_gives_the_same() {
    all_are_one_in_every_stage(|builder| builder);
}

#[test]
fn every_loop_rounds_moments_alike() {
    for storage in [MomentStorage::Bf16 { seed: 7 }, MomentStorage::Float8 { seed: 7 }] {
        all_are_one_in_every_stage(|builder| builder.moments(storage));
        all_are_one(false, |builder| builder.moments(storage));
    }
}

/// Whether a slot is in 16 bits does not depend on what is in it.
#[test]
fn slots_in_full_may_come_before_moments() {
    let (learning_rate, sparse) = (0.1.into(), SparseUpdate::Dense);
    let rule = Momentum { learning_rate, way: Way::Last, sparse, both: true };
    let mut opt = Optimizer::builder(rule).moments(MomentStorage::Bf16 { seed: 7 }).build().unwrap();
    for len in [0, 3] {
        let (name, mut numbers) = (len.to_string(), vec![0.0; len]);
        opt.add_variables(&mut [Variable::new(name.as_str(), &mut numbers)]).unwrap();
        let kinds = ["own", "m", "v"].map(|slot| matches!(opt.slot(&name, slot), Ok(StateValue::Bf16(_))));
        assert_eq!(kinds, [false, true, true], "{len} elements");
    }
}

/// Momentum around which the gradient is used again: the wrapper adds it to a slot of its own and lets it move the
/// value.
#[derive(Debug, Clone)]
struct Twice {
    learning_rate: Hyper,
    momentum: Momentum,
    wrapper: Wrapper,
}

/// How the wrapper gets at the gradient after its inner rule has had it.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Wrapper {
    /// There is no inner rule: one function does all of it.
    None,
    /// A loop of its own.
    Parts,
    /// The engine's loop.
    Elementwise,
}

fn again<E: Real>(rate: &E, w: E, g: E, [own]: [E; 1]) -> (E, [E; 1]) {
    (w - *rate * g, [own + g])
}

fn twice<E: Real>(rate: &E, w: E, g: E, [own, m, v]: [E; 3]) -> (E, [E; 3]) {
    let (w, [m, v]) = element(rate, w, g, [m, v]);
    let (w, [own]) = again(rate, w, g, [own]);
    (w, [own, m, v])
}

struct Wrapped(f32, Wrapper, InWay);

impl Kernel<f32> for Wrapped {
    fn update(&self, mut block: Block<'_, f32>) -> Done {
        let (rate, sparse) = (&self.0, self.2.2);
        match self.1 {
            Wrapper::None => block.elementwise(sparse, rate, twice),
            Wrapper::Elementwise => {
                self.2.update(block.with_slots(1..));
                block.elementwise(sparse, rate, again)
            }
            Wrapper::Parts => {
                self.2.update(block.with_slots(1..));
                let parts = block.parts();
                let [own, ..] = parts.slots;
                for (i, g) in parts.gradient.into_iter().flatten().enumerate() {
                    (parts.value[i], [own[i]]) = again(rate, parts.value[i], *g, [own[i]]);
                }
                block.done()
            }
        }
    }

    fn visits_untouched_rows(&self) -> bool {
        self.2.visits_untouched_rows()
    }
}

nothing_to_configure!(Twice, learning_rate);

impl UpdateRule<f32> for Twice {
    fn slots(&self) -> Vec<SlotSpec> {
        [SlotSpec::zeros("sum")].into_iter().chain(UpdateRule::<f32>::slots(&self.momentum)).collect()
    }
    fn begin_step(&self, step: &Step, _shared: &mut [f64]) -> Box<dyn Kernel<f32>> {
        let rate = step.learning_rate as f32;
        let Momentum { way, sparse, .. } = self.momentum;
        Box::new(Wrapped(rate, self.wrapper, InWay(rate, way, sparse)))
    }
}

/// Clipped by norm, the gradient is the clipped one for everybody; weight decay happens once.
#[test]
fn a_wrapper_sees_the_clipped_gradient_after_its_inner_rule() {
    type Builder = OptimizerBuilder<Twice, f32>;
    let clips: [fn(Builder) -> Builder; 3] =
        [|builder| builder.clipnorm(0.5), |builder| builder.global_clipnorm(0.5), |builder| builder];
    let storages = [MomentStorage::Full, MomentStorage::Bf16 { seed: 7 }, MomentStorage::Float8 { seed: 7 }];
    for (clip, storage) in clips.iter().enumerate().flat_map(|clip| storages.map(|storage| (clip, storage))) {
        for sparse in [SparseUpdate::Dense, SparseUpdate::Moments, SparseUpdate::Rows] {
            let run = |wrapper, way| {
                let learning_rate = Hyper::from(0.1);
                let momentum = Momentum { learning_rate: learning_rate.clone(), way, sparse, both: true };
                let builder = Optimizer::builder(Twice { learning_rate, momentum, wrapper }).moments(storage);
                bits_after_three_steps(clip.1(builder).weight_decay(0.25).ema(Ema::new(0.75)))
            };
            let expected = run(Wrapper::None, Way::Elementwise);
            for wrapper in [Wrapper::Parts, Wrapper::Elementwise] {
                for inner in [Way::Elementwise, Way::Parts, Way::Both] {
                    let same = run(wrapper, inner) == expected;
                    assert!(same, "{wrapper:?} around {inner:?}, clip {}, {storage:?}, {sparse:?}", clip.0);
                }
            }
        }
    }
}
