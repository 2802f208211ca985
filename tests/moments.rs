//! Moments in 16 bits: their cost, their rounding errors, and resuming bit for bit.

use half::bf16;
use ndarray::{Array2, ShapeBuilder};
use optimizers::state::StateValue;
use optimizers::{
    Adam, Ema, Error, Lookahead, MomentStorage, Nadam, NovoGrad, Optimizer, RectifiedAdam, Sgd, UpdateRule, Variable,
};

type Rule = Box<dyn UpdateRule<f32>>;

fn rules() -> Vec<(&'static str, Rule, usize)> {
    vec![
        ("momentum", Box::new(Sgd::new(0.05).momentum(0.9)), 2),
        ("adam", Box::new(Adam::new(0.01)), 4),
        ("nadam", Box::new(Nadam::new(0.01)), 4),
        ("radam", Box::new(RectifiedAdam::new(0.01)), 4),
        // The maximum of v is not a moment.
        ("amsgrad", Box::new(RectifiedAdam::new(0.01).amsgrad(true)), 8),
        ("novograd", Box::new(NovoGrad::new(0.01)), 2),
        ("lookahead", Box::new(Lookahead::new(RectifiedAdam::new(0.01)).sync_period(2)), 8),
    ]
}

/// A variable of 300 by 700, more than three slices, in either memory order, and a small variable.
struct Model {
    kernel: Array2<f32>,
    bias: Vec<f32>,
}

impl Model {
    fn new(column_major: bool) -> Self {
        let value = |(row, column): (usize, usize)| ((row * 700 + column) % 97) as f32 / 97.0 - 0.4;
        Self { kernel: Array2::from_shape_fn((300, 700).set_f(column_major), value), bias: vec![0.5; 700] }
    }

    /// A gradient that is small against the moments, from a quadratic with its minimum at 0.25.
    fn step(&mut self, opt: &mut Optimizer<Rule, f32>) {
        let gradients = (self.kernel.mapv(|w| w - 0.25), self.bias.iter().map(|w| w - 0.25).collect::<Vec<_>>());
        opt.apply_gradients([
            Variable::new("kernel", &mut self.kernel).gradient(&gradients.0),
            Variable::new("bias", &mut self.bias).gradient(&gradients.1),
        ])
        .unwrap();
    }

    fn bits(&self) -> Vec<u32> {
        self.kernel.iter().chain(&self.bias).map(|w| w.to_bits()).collect()
    }

    fn largest_error(&self) -> f32 {
        self.kernel.iter().chain(&self.bias).map(|w| (w - 0.25).abs()).fold(0.0, f32::max)
    }
}

fn narrow(rule: Rule, threads: usize, seed: u64) -> Optimizer<Rule, f32> {
    Optimizer::builder(rule).moments(MomentStorage::Bf16 { seed }).ema(Ema::new(0.9)).threads(threads).build().unwrap()
}

fn bits_after(rule: Rule, threads: usize, seed: u64, column_major: bool, steps: usize) -> Vec<u32> {
    let (mut model, mut opt) = (Model::new(column_major), narrow(rule, threads, seed));
    (0..steps).for_each(|_| model.step(&mut opt));
    model.bits()
}

#[test]
fn same_bits_for_any_number_of_threads_and_memory_order_but_not_for_any_seed() {
    for ((name, rule, _), (_, other, _)) in rules().into_iter().zip(rules()) {
        assert_eq!(bits_after(rule, 1, 7, false, 5), bits_after(other, 3, 7, false, 5), "{name}");
    }
    for ((name, rule, _), (_, other, _)) in rules().into_iter().zip(rules()) {
        assert_eq!(bits_after(rule, 2, 7, true, 5), bits_after(other, 2, 7, false, 5), "{name}");
    }
    for ((name, rule, _), (_, other, _)) in rules().into_iter().zip(rules()) {
        assert_ne!(bits_after(rule, 2, 7, false, 5), bits_after(other, 2, 8, false, 5), "{name}");
    }
}

#[test]
fn a_restored_run_goes_on_to_the_bit() {
    for ((name, rule, _), (_, other, _)) in rules().into_iter().zip(rules()) {
        let (mut model, mut opt) = (Model::new(true), narrow(rule, 2, 3));
        (0..3).for_each(|_| model.step(&mut opt));

        let (mut restored, mut resumed) = (Model::new(true), narrow(other, 1, 3));
        restored.kernel.assign(&model.kernel);
        restored.bias.clone_from(&model.bias);
        resumed
            .add_variables(&mut [
                Variable::new("kernel", &mut restored.kernel),
                Variable::new("bias", &mut restored.bias),
            ])
            .unwrap();
        resumed.set_weights(opt.weights()).unwrap();
        for _ in 0..4 {
            model.step(&mut opt);
            restored.step(&mut resumed);
            assert_eq!(model.bits(), restored.bits(), "{name}");
        }
        assert_eq!(opt.weights(), resumed.weights(), "{name}");
    }
}

#[test]
fn state_takes_what_it_says() {
    for (name, rule, bytes) in rules() {
        let (mut model, mut opt) = (Model::new(false), narrow(rule, 1, 0));
        model.step(&mut opt);
        let elements = 300 * 700 + 700;
        let scalars = if name == "novograd" { 16 } else { 0 };
        assert_eq!(opt.state_bytes(), elements * (bytes + size_of::<f32>()) + scalars, "{name}");
        assert_eq!(opt.state_bytes_of([[300, 700]]), 300 * 700 * (bytes + size_of::<f32>()) + scalars / 2, "{name}");
    }
}

/// Stochastic rounding keeps what nearest rounding would lose: near the minimum, gradients are far smaller than the
/// last digit of the moments.
#[test]
fn training_ends_where_it_does_in_full() {
    for ((name, rule, _), (_, full, _)) in rules().into_iter().zip(rules()) {
        let (mut model, mut opt) = (Model::new(false), narrow(rule, 2, 1));
        let (mut reference, mut reference_opt) = (Model::new(false), Optimizer::new(full).unwrap());
        for _ in 0..150 {
            model.step(&mut opt);
            reference.step(&mut reference_opt);
        }
        let (error, expected) = (model.largest_error(), reference.largest_error());
        let close = (error - expected).abs() < 0.02;
        assert!(close, "{name}: {error} away from the minimum, {expected} in full");
    }
}

#[test]
fn slots_are_what_they_are() {
    let (mut model, mut opt) = (Model::new(false), narrow(Box::new(Lookahead::new(Nadam::new(0.1))), 1, 0));
    model.step(&mut opt);
    assert!(
        matches!(opt.slot("kernel", "m"), Ok(StateValue::Bf16(m)) if m.shape() == [300, 700] && m[[0, 0]] != bf16::ZERO)
    );
    assert!(matches!(opt.slot("kernel", "slow"), Ok(StateValue::Array(_))));
    let m = opt.weights().into_iter().find(|weight| weight.name == "kernel/m").unwrap();
    assert!(matches!(m.value, StateValue::Array(m) if m.iter().all(|&m| bf16::from_f32(m).to_f32() == m)));
    let refused = opt.copy_slot("m", &mut [Variable::new("bias", &mut model.bias)]);
    assert!(matches!(refused, Err(Error::UnknownSlot { .. })), "{refused:?}");
}

#[test]
fn variables_of_64_bits_keep_their_moments() {
    let built = Optimizer::<_, f64>::builder(Nadam::new(0.1)).moments(MomentStorage::Bf16 { seed: 0 }).build();
    assert!(matches!(built, Err(Error::MomentStorage { .. })));
}
