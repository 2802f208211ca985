//! Moments in fewer bits: their cost, their rounding errors, and resuming bit for bit.

use half::bf16;
use ndarray::{Array2, ShapeBuilder};
use optimizers::state::StateValue;
use optimizers::{
    Adam, Ema, Error, Lookahead, MomentStorage, Nadam, NovoGrad, Optimizer, RectifiedAdam, Sgd, UpdateRule, Variable,
};

type Rule = Box<dyn UpdateRule<f32>>;

/// Rules, with their numbers of moments and of other arrays.
fn rules() -> Vec<(&'static str, Rule, (usize, usize))> {
    vec![
        ("momentum", Box::new(Sgd::new(0.05).momentum(0.9)), (1, 0)),
        ("adam", Box::new(Adam::new(0.01)), (2, 0)),
        ("nadam", Box::new(Nadam::new(0.01)), (2, 0)),
        ("radam", Box::new(RectifiedAdam::new(0.01)), (2, 0)),
        // The maximum of v is not a moment.
        ("amsgrad", Box::new(RectifiedAdam::new(0.01).amsgrad(true)), (2, 1)),
        ("novograd", Box::new(NovoGrad::new(0.01)), (1, 0)),
        ("lookahead", Box::new(Lookahead::new(RectifiedAdam::new(0.01)).sync_period(2)), (2, 1)),
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

    fn mean_error(&self) -> f64 {
        let errors = self.kernel.iter().chain(&self.bias).map(|w| f64::from((w - 0.25).abs()));
        errors.sum::<f64>() / (self.kernel.len() + self.bias.len()) as f64
    }

    fn largest_error(&self) -> f32 {
        self.kernel.iter().chain(&self.bias).map(|w| (w - 0.25).abs()).fold(0.0, f32::max)
    }
}

/// The storages, with a seed.
const STORAGES: [fn(u64) -> MomentStorage; 2] =
    [|seed| MomentStorage::Bf16 { seed }, |seed| MomentStorage::Float8 { seed }];

/// Every storage with every rule, by its place.
fn storages_and_rules() -> impl Iterator<Item = (fn(u64) -> MomentStorage, usize)> {
    STORAGES.into_iter().flat_map(|storage| (0..rules().len()).map(move |rule| (storage, rule)))
}

fn rule(place: usize) -> Rule {
    rules().swap_remove(place).1
}

fn narrow(rule: Rule, threads: usize, storage: MomentStorage) -> Optimizer<Rule, f32> {
    Optimizer::builder(rule).moments(storage).ema(Ema::new(0.9)).threads(threads).build().unwrap()
}

fn bits_after(rule: Rule, threads: usize, storage: MomentStorage, column_major: bool, steps: usize) -> Vec<u32> {
    let (mut model, mut opt) = (Model::new(column_major), narrow(rule, threads, storage));
    (0..steps).for_each(|_| model.step(&mut opt));
    model.bits()
}

#[test]
fn same_bits_for_any_number_of_threads_and_memory_order_but_not_for_any_seed() {
    for (storage, place) in storages_and_rules() {
        let bits = |threads: usize, seed: u64, column_major: bool| {
            bits_after(rule(place), threads, storage(seed), column_major, 5)
        };
        let (name, expected) = (rules()[place].0, bits(1, 7, false));
        assert!(bits(3, 7, false) == expected && bits(2, 7, true) == expected, "{name}, {:?}", storage(7));
        assert!(bits(2, 8, false) != expected, "{name}, {:?}", storage(7));
    }
}

#[test]
fn a_restored_run_goes_on_to_the_bit() {
    for (storage, place) in storages_and_rules() {
        let (mut model, mut opt) = (Model::new(true), narrow(rule(place), 2, storage(3)));
        (0..3).for_each(|_| model.step(&mut opt));

        let (mut restored, mut resumed) = (Model::new(true), narrow(rule(place), 1, storage(3)));
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
            assert_eq!(model.bits(), restored.bits(), "{}, {:?}", rules()[place].0, storage(3));
        }
        assert_eq!(opt.weights(), resumed.weights(), "{}, {:?}", rules()[place].0, storage(3));
    }
}

/// Two moments in 8 bits take 2 1/16 bytes.
#[test]
fn state_takes_what_it_says() {
    for (storage, place) in storages_and_rules() {
        let (name, rule, (moments, others)) = rules().swap_remove(place);
        let (mut model, mut opt) = (Model::new(false), narrow(rule, 1, storage(0)));
        model.step(&mut opt);
        let moment = |len: usize| match storage(0) {
            MomentStorage::Bf16 { .. } => 2 * len,
            _ => len + len / 512 * 16 + (len % 512).min(16),
        };
        // The average is another array.
        let bytes = |len: usize| moments * moment(len) + (others + 1) * len * size_of::<f32>();
        let scalars = if name == "novograd" { 16 } else { 0 };
        assert_eq!(opt.state_bytes(), bytes(300 * 700) + bytes(700) + scalars, "{name}, {:?}", storage(0));
        assert_eq!(opt.state_bytes_of([[300, 700]]), bytes(300 * 700) + scalars / 2, "{name}, {:?}", storage(0));
    }
    let opt = Optimizer::<_, f32>::builder(Nadam::new(0.1)).moments(MomentStorage::Float8 { seed: 0 }).build().unwrap();
    assert_eq!(opt.state_bytes_of([[512, 16]]) as f64, 512.0 * 16.0 * 2.0625);
}

/// Stochastic rounding keeps what nearest rounding would lose: near the minimum, gradients are far smaller than the
/// last digit of the moments.
#[test]
fn training_ends_where_it_does_in_full() {
    for (storage, place) in storages_and_rules() {
        let (mut model, mut opt) = (Model::new(false), narrow(rule(place), 2, storage(1)));
        let (mut reference, mut reference_opt) = (Model::new(false), Optimizer::new(rule(place)).unwrap());
        for _ in 0..150 {
            model.step(&mut opt);
            reference.step(&mut reference_opt);
        }
        let (name, storage) = (rules()[place].0, storage(1));
        // In 8 bits each update has an error of an eighth. It is right on average, over steps and over elements.
        let far = if matches!(storage, MomentStorage::Float8 { .. }) { 0.06 } else { 0.02 };
        let (error, expected) = (model.largest_error(), reference.largest_error());
        let close = (error - expected).abs() < far;
        assert!(close, "{name}, {storage:?}: {error} away from the minimum, {expected} in full");
        let (error, expected) = (model.mean_error(), reference.mean_error());
        let close = (error - expected).abs() < 0.002;
        assert!(close, "{name}, {storage:?}: on average {error} away from the minimum, {expected} in full");
    }
}

#[test]
fn slots_are_what_they_are() {
    for storage in STORAGES {
        let rule = Box::new(Lookahead::new(Nadam::new(0.1)));
        let (mut model, mut opt) = (Model::new(false), narrow(rule, 1, storage(0)));
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
}

#[test]
fn variables_of_64_bits_keep_their_moments() {
    let built = Optimizer::<_, f64>::builder(Nadam::new(0.1)).moments(MomentStorage::Bf16 { seed: 0 }).build();
    assert!(matches!(built, Err(Error::MomentStorage { .. })));
}

/// An element with such a gradient is lost, as with moments in full. Its neighbours, which share a scale with it, train
/// on, and a restored run as well.
#[test]
fn a_gradient_that_is_not_finite_harms_one_element() {
    let lost = [40, 650];
    let step = |w: &mut Vec<f32>, opt: &mut Optimizer<Rule, f32>| {
        let mut gradient: Vec<f32> = w.iter().enumerate().map(|(i, w)| w - 0.25 + (i % 7) as f32 * 0.01).collect();
        if opt.iterations() == 2 {
            (gradient[lost[0]], gradient[lost[1]]) = (f32::INFINITY, f32::NAN);
        }
        opt.apply_gradients([Variable::new("w", w).gradient(&gradient)]).unwrap();
    };
    let (mut full, mut in_full) = (vec![1.0; 700], narrow(Box::new(Adam::new(0.01)), 1, MomentStorage::Full));
    (0..6).for_each(|_| step(&mut full, &mut in_full));
    for storage in STORAGES.map(|storage| storage(5)) {
        let make = || narrow(Box::new(Adam::new(0.01)), 1, storage);
        let (mut w, mut opt) = (vec![1.0; 700], make());
        (0..6).for_each(|_| step(&mut w, &mut opt));
        for (i, (w, full)) in w.iter().zip(&full).enumerate() {
            let close = (w - full).abs() < 0.02;
            assert!(if lost.contains(&i) { w.is_nan() } else { close }, "{storage:?}: element {i} is {w}, not {full}");
        }
        let (mut copy, mut resumed) = (w.clone(), make());
        resumed.restore(&mut [Variable::new("w", &mut copy)], opt.weights()).unwrap();
        for _ in 0..3 {
            step(&mut w, &mut opt);
            step(&mut copy, &mut resumed);
        }
        assert!(w.iter().map(|w| w.to_bits()).eq(copy.iter().map(|w| w.to_bits())), "{storage:?}");
    }
}
