//! Variables in 16 bits: a run equals the run of their masters in 32 bits, and the variable is the master, rounded.

use std::fmt::Debug;

use half::{bf16, f16};
use ndarray::{Array2, ArrayD, ShapeBuilder, s};
use optimizers::View;
use optimizers::model::Half;
use optimizers::state::{StateEntry, StateValue};
use optimizers::{
    AdamW, Ema, Lookahead, MomentStorage, Nadam, NonFinite, NovoGrad, Optimizer, OptimizerBuilder, Parameters,
    RectifiedAdam, Sgd, UpdateRule, Variable,
};

type Rule = Box<dyn UpdateRule<f32>>;
type Halved = Optimizer<Rule, f32>;

/// A 16-bit type, with conversions of single numbers.
trait Narrow: Half + Copy + PartialEq + Debug {
    fn new(x: f32) -> Self;
    fn bits(self) -> u16;
    fn wide(self) -> f32;
}

impl Narrow for bf16 {
    fn new(x: f32) -> Self {
        Self::from_f32(x)
    }
    fn bits(self) -> u16 {
        self.to_bits()
    }
    fn wide(self) -> f32 {
        self.to_f32()
    }
}

impl Narrow for f16 {
    fn new(x: f32) -> Self {
        Self::from_f32(x)
    }
    fn bits(self) -> u16 {
        self.to_bits()
    }
    fn wide(self) -> f32 {
        self.to_f32()
    }
}

fn rules() -> Vec<(&'static str, Rule)> {
    vec![
        ("sgd", Box::new(Sgd::new(0.01))),
        ("nesterov", Box::new(Sgd::new(0.01).momentum(0.9).nesterov(true))),
        ("adamw", Box::new(AdamW::new(0.003))),
        ("nadam", Box::new(Nadam::new(0.003))),
        ("radam", Box::new(RectifiedAdam::new(0.003))),
        ("amsgrad", Box::new(RectifiedAdam::new(0.003).amsgrad(true))),
        ("novograd", Box::new(NovoGrad::new(0.003))),
        ("lookahead", Box::new(Lookahead::new(RectifiedAdam::new(0.003)).sync_period(2))),
    ]
}

/// Every stage of the engine is on.
fn composed(rule: Rule) -> OptimizerBuilder<Rule, f32> {
    Optimizer::builder(rule)
        .global_clipnorm(5.0)
        .weight_decay(0.1)
        .ema(Ema::new(0.75).overwrite_every(3))
        .non_finite(NonFinite::Error)
}

/// More than four slices, and not a whole number of blocks.
const SHAPE: (usize, usize) = (301, 1000);

/// Numbers that 16 bits hold exactly.
fn start<H: Narrow>((i, j): (usize, usize)) -> H {
    H::new(((i * 31 + j * 7) % 61) as f32 / 64.0 - 0.5)
}

/// Gradients that 16 bits hold exactly.
fn gradient(step: usize) -> Array2<f32> {
    Array2::from_shape_fn(SHAPE, |(i, j)| ((i * 17 + j * 5 + step * 23) % 97) as f32 / 64.0 - 0.7)
        .mapv(|g| bf16::from_f32(g).to_f32())
}

fn master(opt: &Halved, name: &str) -> ArrayD<f32> {
    match opt.slot(name, "master").unwrap() {
        StateValue::Array(master) => master.to_owned(),
        slot => panic!("{slot:?}"),
    }
}

fn bits(numbers: impl IntoIterator<Item = f32>) -> Vec<u32> {
    numbers.into_iter().map(f32::to_bits).collect()
}

/// All state except the masters.
fn rest(opt: &Halved) -> Vec<StateEntry<StateValue<'static, f32>>> {
    opt.weights().into_iter().filter(|weight| !weight.name.ends_with("/master")).collect()
}

/// Runs 16 and 32 bits side by side with the same gradients; after each step they must agree bit for bit.
fn follows<H: Narrow>(name: &str, mut half: Halved, mut full: Halved, strided: bool) {
    let (rows, columns) = SHAPE;
    let mut whole = Array2::from_shape_fn((2 * rows, 2 * columns).set_f(strided), |(i, j)| start::<H>((i / 2, j / 2)));
    let mut w = if strided { whole.slice_mut(s![..;2, ..;2]) } else { whole.slice_mut(s![..rows, ..columns]) };
    let mut owned = w.to_owned();
    let mut reference = w.mapv(H::wide);
    for step in 0..5 {
        let g = gradient(step);
        let g16 = g.mapv(H::new);
        let (g_f, g16_f) = (g.t().as_standard_layout().to_owned(), g16.t().as_standard_layout().to_owned());
        let variable = if strided { Variable::half("w", w.view_mut()) } else { Variable::half("w", &mut owned) };
        // Alternates between gradients in 32 bits and in 16, in both memory orders.
        let variable = match step {
            0 => variable.gradient(&g),
            1 => variable.half_gradient(&g16),
            2 => variable.half_gradient(g16_f.t()),
            3 => variable.gradient(g_f.t()),
            _ => variable.gradient(View::half(&g16)),
        };
        let report = half.apply_gradients([variable]).unwrap();
        let expected = full.apply_gradients([Variable::new("w", &mut reference).gradient(&g)]).unwrap();
        assert_eq!(report, expected, "{name}");
        let value = if strided { w.to_owned() } else { owned.clone() };
        assert_eq!(bits(master(&half, "w")), bits(reference.iter().copied()), "{name}: master, step {step}");
        assert!(value.iter().zip(&reference).all(|(w, &r)| w.bits() == H::new(r).bits()), "{name}: step {step}");
        assert_eq!(rest(&half), full.weights(), "{name}: slots, step {step}");
    }
    if strided {
        // The elements in between have not been changed.
        assert!(whole.indexed_iter().all(|((i, j), &w)| i % 2 + j % 2 == 0 || w == start((i / 2, j / 2))), "{name}");
    }
}

/// Both types, one on three threads and the other on one.
fn all_follow(build: impl Fn(Rule) -> OptimizerBuilder<Rule, f32>, strided: bool) {
    let optimizers =
        |threads: usize| rules().into_iter().map(move |(name, rule)| (name, rule, threads)).collect::<Vec<_>>();
    for ((name, half, _), (_, full, _)) in optimizers(3).into_iter().zip(optimizers(1)) {
        let (half, full) = (build(half).threads(3).build().unwrap(), build(full).threads(1).build().unwrap());
        follows::<bf16>(name, half, full, strided);
    }
    for ((name, half), (_, full)) in rules().into_iter().zip(rules()) {
        let (half, full) = (build(half).threads(1).build().unwrap(), build(full).threads(3).build().unwrap());
        follows::<f16>(name, half, full, strided);
    }
}

#[test]
fn a_run_is_that_of_the_masters() {
    all_follow(Optimizer::builder, false);
    all_follow(composed, false);
}

#[test]
fn scattered_numbers_are_no_different() {
    all_follow(composed, true);
}

#[test]
fn moments_in_16_bits_are_no_different() {
    all_follow(|rule| composed(rule).moments(MomentStorage::Bf16 { seed: 5 }), false);
}

#[test]
fn every_clip_sees_the_gradient_in_32_bits() {
    all_follow(|rule| Optimizer::builder(rule).clipvalue(0.25), false);
    all_follow(|rule| Optimizer::builder(rule).clipnorm(2.0), true);
}

#[test]
fn every_length_works() {
    for len in [0, 1, 3, 15, 16, 17, 255, 257, 8191, 8192, 8193, 65_537] {
        let numbers = |factor: f32| (0..len).map(move |i| (i % 100) as f32 * factor + 0.01);
        let mut w: Vec<f16> = numbers(0.01).map(f16::from_f32).collect();
        let mut reference: Vec<f32> = w.iter().map(|w| w.to_f32()).collect();
        let g: Vec<f16> = numbers(-0.02).map(f16::from_f32).collect();
        let wide: Vec<f32> = g.iter().map(|g| g.to_f32()).collect();
        let mut opt = Optimizer::builder(Nadam::new(0.01)).clipnorm(1.0).build().unwrap();
        let mut full = Optimizer::builder(Nadam::new(0.01)).clipnorm(1.0).build().unwrap();
        for _ in 0..3 {
            opt.apply_gradients([Variable::half("w", &mut w).half_gradient(&g)]).unwrap();
            full.apply_gradients([Variable::new("w", &mut reference).gradient(&wide)]).unwrap();
            assert!(w.iter().zip(&reference).all(|(w, &r)| *w == f16::from_f32(r)), "{len}");
        }
        assert_eq!(opt.state_bytes(), 12 * len);
    }
}

/// Rows of a sparse gradient, in 32 bits and in 16.
#[test]
fn sparse_gradients_work() {
    for (((name, half), (_, other)), (_, full)) in rules().into_iter().zip(rules()).zip(rules()) {
        let builders = [half, other, full].map(|rule| composed(rule).build().unwrap());
        let [mut half, mut other, mut full] = builders;
        let mut w = Array2::from_shape_fn(SHAPE, start::<bf16>);
        let mut column_major = Array2::from_shape_fn(SHAPE.f(), start::<bf16>);
        let mut reference = w.mapv(bf16::to_f32);
        for step in 0..4 {
            let rows = [7_i64, 290, 7, 100 + step as i64];
            let values = gradient(step).slice(s![..4, ..]).to_owned();
            let narrow = values.mapv(bf16::from_f32);
            half.apply_gradients([Variable::half("w", &mut w).sparse_gradient(&rows, &values)]).unwrap();
            other
                .apply_gradients([Variable::half("w", &mut column_major).sparse_gradient(&rows, View::half(&narrow))])
                .unwrap();
            full.apply_gradients([Variable::new("w", &mut reference).sparse_gradient(&rows, &values)]).unwrap();
            assert_eq!(bits(master(&half, "w")), bits(reference.iter().copied()), "{name}");
            assert!(w.iter().zip(&reference).all(|(w, &r)| *w == bf16::from_f32(r)), "{name}");
            assert_eq!((&column_major, rest(&half)), (&w, full.weights()), "{name}");
            assert_eq!(other.weights(), half.weights(), "{name}");
        }
    }
}

/// A model with all element types: both 16-bit types, and 32 bits.
#[derive(Clone, Parameters)]
struct Model {
    kernel: Array2<bf16>,
    bias: Vec<f16>,
    scale: [f32; 3],
}

impl Model {
    fn new() -> Self {
        let (kernel, bias) = (Array2::from_shape_fn((20, 30), start::<bf16>), vec![f16::from_f32(0.1); 30]);
        Self { kernel, bias, scale: [1.0, 2.0, 3.0] }
    }

    /// A quadratic with its minimum at 0.3.
    fn gradients(&self) -> Self {
        let mut gradients = self.clone();
        gradients.kernel.mapv_inplace(|w| bf16::from_f32(w.to_f32() - 0.3));
        gradients.bias.iter_mut().for_each(|w| *w = f16::from_f32(w.to_f32() - 0.3));
        gradients.scale.iter_mut().for_each(|w| *w -= 0.3);
        gradients
    }

    fn step(&mut self, opt: &mut Halved) {
        let gradients = self.gradients();
        opt.step(self, &gradients).unwrap();
    }

    fn bits(&self) -> Vec<u32> {
        let kernel = self.kernel.iter().map(|w| u32::from(w.to_bits()));
        let bias = self.bias.iter().map(|w| u32::from(w.to_bits()));
        kernel.chain(bias).chain(bits(self.scale)).collect()
    }
}

#[test]
fn a_restored_run_goes_on_to_the_bit() {
    for ((name, rule), (_, other)) in rules().into_iter().zip(rules()) {
        // Without an overwrite by the average, which would hide a lost master.
        let build = |rule: Rule| {
            let builder = Optimizer::builder(rule).ema(Ema::new(0.75)).moments(MomentStorage::Bf16 { seed: 3 });
            builder.weight_decay(0.1).build().unwrap()
        };
        let (mut model, mut opt) = (Model::new(), build(rule));
        (0..4).for_each(|_| model.step(&mut opt));
        let (mut restored, mut resumed) = (model.clone(), build(other));
        resumed.add_variables(&mut restored).unwrap();
        resumed.set_weights(opt.weights()).unwrap();
        for _ in 0..4 {
            model.step(&mut opt);
            restored.step(&mut resumed);
            assert_eq!(model.bits(), restored.bits(), "{name}");
        }
        assert_eq!(opt.weights(), resumed.weights(), "{name}");
        assert_eq!(opt.to_config(), resumed.to_config(), "{name}");
    }
}
