//! Masters of variables in 16 bits in fewer bits: runs are close to those with masters in full, and depend on nothing
//! but the seed.

use std::io::Cursor;

use half::{bf16, f16};
use ndarray::{Array2, s};
use optimizers::checkpoint::{Checkpoint, LoadOptions, SaveOptions};
use optimizers::state::{DType, StateValue};
use optimizers::{
    Accumulate, Adam, AdamW, Description, Ema, Error, Lookahead, Master, MomentStorage, Nadam, NovoGrad, Optimizer,
    OptimizerBuilder, Parameters, RectifiedAdam, Sgd, UpdateRule, Variable, ViewMut,
};

type Rule = Box<dyn UpdateRule<f32>>;
type Opt = Optimizer<Rule, f32>;

const MASTERS: [Master; 2] = [Master::Bits24 { seed: 7 }, Master::None { seed: 7 }];

fn rules() -> Vec<(&'static str, Rule)> {
    vec![
        ("momentum", Box::new(Sgd::new(0.01).momentum(0.9))),
        ("adamw", Box::new(AdamW::new(0.003))),
        ("nadam", Box::new(Nadam::new(0.003))),
        ("radam", Box::new(RectifiedAdam::new(0.003))),
        ("novograd", Box::new(NovoGrad::new(0.003))),
        ("lookahead", Box::new(Lookahead::new(RectifiedAdam::new(0.003)).sync_period(2))),
    ]
}

/// Every stage of the engine is on.
fn composed(rule: Rule, master: Master) -> OptimizerBuilder<Rule, f32> {
    let builder = Optimizer::builder(rule).global_clipnorm(5.0).weight_decay(0.1).ema(Ema::new(0.75));
    builder.moments(MomentStorage::Float8 { seed: 7 }).master(master)
}

/// More than four slices, and not a whole number of blocks.
const SHAPE: (usize, usize) = (301, 1000);

#[derive(Clone, Parameters)]
struct Model {
    kernel: Array2<bf16>,
    bias: Vec<f16>,
    scale: [f32; 3],
}

impl Model {
    fn new((rows, columns): (usize, usize)) -> Self {
        let number = |(i, j): (usize, usize)| ((i * 31 + j * 7) % 61) as f32 / 64.0 - 0.5;
        let kernel = Array2::from_shape_fn((rows, columns), |place| bf16::from_f32(number(place)));
        let bias = (0..columns).map(|j| f16::from_f32(number((1, j)))).collect();
        Self { kernel, bias, scale: [1.0, 2.0, 3.0] }
    }

    /// The gradients of a quadratic with its minimum at 0.3.
    fn gradients(&self) -> Self {
        let mut gradients = self.clone();
        gradients.kernel.mapv_inplace(|w| bf16::from_f32(w.to_f32() - 0.3));
        gradients.bias.iter_mut().for_each(|w| *w = f16::from_f32(w.to_f32() - 0.3));
        gradients.scale.iter_mut().for_each(|w| *w -= 0.3);
        gradients
    }

    fn step(&mut self, opt: &mut Opt) {
        let gradients = self.gradients();
        opt.step(self, &gradients).unwrap();
    }

    fn bits(&self) -> Vec<u32> {
        let kernel = self.kernel.iter().map(|w| u32::from(w.to_bits()));
        let bias = self.bias.iter().map(|w| u32::from(w.to_bits()));
        kernel.chain(bias).chain(self.scale.map(f32::to_bits)).collect()
    }
}

/// The master of a number of bfloat16, by the formula of [`Master::Bits24`].
fn master(w: bf16, correction: f64) -> f32 {
    let (sign, magnitude) = (u32::from(w.to_bits() >> 15), i64::from(w.to_bits() & 0x7FFF));
    f32::from_bits(sign << 31 | ((magnitude * 256 + correction as i64) as u32) << 8)
}

fn masters(opt: &Opt, model: &Model) -> Vec<f32> {
    let corrections = opt.slot("kernel", "correction").unwrap();
    assert!(matches!(corrections, StateValue::Bf16(_)));
    model.kernel.iter().zip(corrections.to_f64()).map(|(w, correction)| master(*w, correction)).collect()
}

/// The same bits for any number of threads, and wherever the numbers lie in memory.
#[test]
fn bits_depend_on_nothing_but_the_seed() {
    for master in MASTERS {
        for place in 0..rules().len() {
            let trained = |threads: usize| {
                let mut opt = composed(rules().swap_remove(place).1, master).threads(threads).build().unwrap();
                let mut model = Model::new(SHAPE);
                (0..4).for_each(|_| model.step(&mut opt));
                (model.bits(), opt.weights())
            };
            let one = trained(1);
            assert!(trained(3) == one, "{}", rules()[place].0);
        }
        let scattered = |step: usize| {
            let mut opt = composed(Box::new(Adam::new(0.003)), master).threads(3).build().unwrap();
            let mut room = Array2::from_elem((SHAPE.0, SHAPE.1 * step), bf16::from_f32(0.7));
            for _ in 0..4 {
                let mut w = room.slice_mut(s![.., ..;step]);
                let gradient = w.mapv(|w| w.to_f32() - 0.3);
                opt.apply_gradients([Variable::half("w", w.view_mut()).gradient(&gradient)]).unwrap();
            }
            (room.slice(s![.., ..;step]).to_owned(), opt.weights())
        };
        assert!(scattered(2) == scattered(1));
        let seeds = [7, 8].map(|seed| {
            let master = if let Master::None { .. } = master { Master::None { seed } } else { Master::Bits24 { seed } };
            let mut opt = composed(Box::new(Adam::new(0.003)), master).build().unwrap();
            let mut model = Model::new((20, 30));
            (0..4).for_each(|_| model.step(&mut opt));
            (model.bits(), opt.weights())
        });
        assert!(seeds[0] != seeds[1]);
    }
}

/// Rules work on a number in 32 bits: one step is that of a master in full, rounded.
#[test]
fn a_step_is_that_of_a_master_in_full() {
    for place in 0..rules().len() {
        let [(full, of_full), (narrow, of_narrow)] = [Master::Full, MASTERS[0]].map(|master| {
            let mut opt = Optimizer::builder(rules().swap_remove(place).1).master(master).build().unwrap();
            let mut model = Model::new((20, 30));
            model.step(&mut opt);
            (model, opt)
        });
        let exact = of_full.slot("kernel", "master").unwrap().to_f64();
        for ((master, exact), w) in masters(&of_narrow, &narrow).into_iter().zip(exact).zip(&narrow.kernel) {
            assert!((f64::from(master) - exact).abs() <= exact.abs() * 2.0_f64.powi(-14), "{master}, not {exact}");
            // Near a tie, the master may have been rounded to the other side of it.
            let [low, high] = [-1.0, 1.0].map(|side| bf16::from_f64(exact + side * exact.abs() * 2.0_f64.powi(-14)));
            assert!([low, high].contains(w), "{w}, not {exact}");
        }
        // What is not rounded is the same.
        assert_eq!(full.scale, narrow.scale);
    }
}

/// Steps that are small against the last digit of the master add up on average, across numbers of bfloat16 and a power
/// of two.
#[test]
fn small_steps_add_up() {
    // Exact in 32 bits, so that only the rounding of masters counts.
    let rate = 2.0_f64.powi(-19);
    let moved = |master: Master, gradient: f32, steps: i32, len: usize| {
        let mut opt = Optimizer::builder(Sgd::new(rate)).master(master).build().unwrap();
        let (mut w, gradient) = (vec![bf16::ONE; len], vec![gradient; len]);
        for _ in 0..steps {
            opt.apply_gradients([Variable::half("w", &mut w).gradient(&gradient)]).unwrap();
        }
        let corrections = opt.slot("w", "correction").map(|slot| slot.to_f64()).unwrap_or(vec![0.0; len]);
        let masters = w.iter().zip(corrections).map(|(w, correction)| f64::from(self::master(*w, correction)));
        masters.sum::<f64>() / len as f64 - 1.0
    };
    // The last digits of numbers from 1 on, in 24 bits and in 16.
    for (master, digit) in MASTERS.into_iter().zip([2.0_f64.powi(-15), 2.0_f64.powi(-7)]) {
        for (steps, len) in [(200, 20_000), (20_000, 200)] {
            for gradient in [1.0, -1.0] {
                let (mean, end) = (moved(master, gradient, steps, len), f64::from(steps) * rate * -f64::from(gradient));
                // Each step is rounded up with this chance, so this is five standard deviations at most.
                let chance = rate / digit;
                let far = 5.0 * digit * (f64::from(steps) * chance / len as f64).sqrt();
                assert!((mean - end).abs() < far, "{master:?}, {steps}: {mean}, not {end} within {far}");
            }
        }
    }
}

#[test]
fn a_run_resumes_to_the_bit_at_every_step() {
    for master in MASTERS {
        for (name, rule) in rules() {
            let mut opt = composed(rule, master).build().unwrap();
            let mut model = Model::new((20, 30));
            for step in 0..6 {
                let mut file = Cursor::new(Vec::new());
                SaveOptions::new().write(&mut file, &opt, &model.variables()).unwrap();
                let file = Checkpoint::from_bytes(file.into_inner()).unwrap();
                let mut resumed = Optimizer::from_config(file.config().unwrap(), &optimizers::registry()).unwrap();
                let mut loaded = Model::new((20, 30));
                file.load(&mut resumed, &mut loaded).unwrap();
                assert_eq!(resumed.weights(), opt.weights(), "{name}, {step}");
                model.step(&mut opt);
                loaded.step(&mut resumed);
                assert!(model.bits() == loaded.bits() && resumed.weights() == opt.weights(), "{name}, {step}");
            }
        }
    }
}

/// A step in phases and the sum of micro-steps are steps.
#[test]
fn every_kind_of_step_keeps_masters() {
    for master in MASTERS {
        let build = || Optimizer::builder(Adam::new(0.003)).master(master);
        let gradient: Vec<f32> = (0..600).map(|i| ((i * 17) % 97) as f32 / 64.0 - 0.7).collect();
        let halves: Vec<f32> = gradient.iter().map(|g| g / 2.0).collect();
        let mut whole = (build().build().unwrap(), Model::new((20, 30)).kernel.into_raw_vec_and_offset().0);
        let mut phases = (build().build().unwrap(), whole.1.clone());
        let mut summed = (build().accumulate(Accumulate::sum(2)).build().unwrap(), whole.1.clone());
        for _ in 0..5 {
            whole.0.apply_gradients([Variable::half("w", &mut whole.1).gradient(&gradient)]).unwrap();
            let described = Description::new("w", [600]).dtype(DType::Bf16).gradient(&gradient);
            let mut step = phases.0.begin([described]).unwrap();
            step.update(0, ViewMut::half(&mut phases.1)).unwrap();
            step.finish().unwrap();
            for _ in 0..2 {
                summed.0.apply_gradients([Variable::half("w", &mut summed.1).gradient(&halves)]).unwrap();
            }
        }
        assert!(phases.1 == whole.1 && phases.0.weights() == whole.0.weights());
        let correction = |opt: &Optimizer<Adam, f32>| opt.slot("w", "correction").map(|slot| slot.to_f64()).ok();
        assert!(summed.1 == whole.1 && correction(&summed.0) == correction(&whole.0));
    }
}

/// A sparse gradient changes its rows, and no others.
#[test]
fn rows_without_a_gradient_keep_their_masters() {
    for master in MASTERS {
        let mut opt = Optimizer::builder(Sgd::new(0.003)).master(master).build().unwrap();
        let mut w = Model::new((20, 30)).kernel;
        let gradient = w.mapv(|w| w.to_f32() - 0.3);
        opt.apply_gradients([Variable::half("w", &mut w).gradient(&gradient)]).unwrap();
        let corrections = |opt: &Optimizer<Sgd, f32>| {
            let corrections = opt.slot("w", "correction").map(|slot| slot.to_f64());
            Array2::from_shape_vec((20, 30), corrections.unwrap_or(vec![0.0; 600])).unwrap()
        };
        let before = (w.clone(), corrections(&opt));
        let rows = Variable::half("w", &mut w).sparse_gradient(&[3_usize, 17], &[1.0; 60][..]);
        assert!(opt.apply_gradients([rows]).is_err(), "the values have the wrong shape");
        let values = Array2::<f32>::ones((2, 30));
        opt.apply_gradients([Variable::half("w", &mut w).sparse_gradient(&[3_usize, 17], &values)]).unwrap();
        let after = corrections(&opt);
        for row in 0..20 {
            let same = w.row(row) == before.0.row(row) && after.row(row) == before.1.row(row);
            assert_eq!(same, row != 3 && row != 17, "{master:?}, {row}");
        }
    }
}

/// A part of a file that has no corrections is loaded, and they start anew; whatever else is there stays.
#[test]
fn loaded_variables_start_without_corrections() {
    let mut opt = composed(Box::new(Adam::new(0.003)), MASTERS[0]).build().unwrap();
    let mut model = Model::new((20, 30));
    let mut file = Cursor::new(Vec::new());
    SaveOptions::new().write(&mut file, &opt, &model.variables()).unwrap();
    let file = Checkpoint::from_bytes(file.into_inner()).unwrap();
    (0..3).for_each(|_| model.step(&mut opt));
    let trained = model.clone();
    let options = LoadOptions::new().only("^kernel$").unwrap();
    let loaded = options.load(&file, &mut opt, &mut model).unwrap();
    assert!(loaded.restarted.contains(&"kernel/correction".to_owned()), "{:?}", loaded.restarted);
    assert!(model.kernel == Model::new((20, 30)).kernel && model.bias == trained.bias);
    let corrections = |variable: &str| opt.slot(variable, "correction").unwrap().to_f64();
    assert!(corrections("kernel").iter().all(|correction| *correction == 0.0));
    assert!(corrections("bias").iter().any(|correction| *correction != 0.0));
}

/// Averages are swapped in and out without a trace, and copied for good.
#[test]
fn averages_come_and_go() {
    for master in [Master::Full, MASTERS[0], MASTERS[1]] {
        for ema in [Ema::new(0.75), Ema::new(0.75).overwrite_every(2), Ema::new(0.75).keras3()] {
            let mut opt = Optimizer::builder(rules().remove(1).1).ema(ema).master(master).build().unwrap();
            let mut model = Model::new((20, 30));
            (0..3).for_each(|_| model.step(&mut opt));
            let before = (model.bits(), opt.weights());
            let average = opt.slot("kernel", "average").unwrap().to_f64();
            let shown: Vec<f64> = average.iter().map(|a| f64::from(bf16::from_f64(*a).to_f32())).collect();
            let guard = opt.swap_in_averages(&mut model).unwrap();
            assert!(guard.kernel.iter().map(|w| f64::from(w.to_f32())).eq(shown.iter().copied()));
            drop(guard);
            assert!((model.bits(), opt.weights()) == before, "{master:?}");
            opt.finalize_variable_values(&mut model).unwrap();
            // In 24 bits the average may end on the other side of a tie.
            let near = |w: &bf16, a: &f64| (f64::from(w.to_f32()) - a).abs() <= a.abs() / 256.0;
            assert!(model.kernel.iter().zip(&average).all(|(w, a)| near(w, a)));
            if master == MASTERS[0] {
                let masters = masters(&opt, &model);
                let far = masters.iter().zip(&average).map(|(m, a)| (f64::from(*m) - a).abs() / a.abs());
                assert!(far.fold(0.0, f64::max) <= 2.0_f64.powi(-15), "rounded to nearest");
            }
        }
    }
}

/// Variables without a gradient in a step, whose averages Keras 3 updates, keep their corrections.
#[test]
fn variables_without_a_gradient_keep_their_masters() {
    for master in MASTERS {
        let mut opt =
            Optimizer::builder(rules().remove(1).1).ema(Ema::new(0.75).keras3()).master(master).build().unwrap();
        let mut model = Model::new((20, 30));
        (0..3).for_each(|_| model.step(&mut opt));
        let state = |opt: &Opt| opt.slot("kernel", "correction").map(|slot| slot.to_f64()).ok();
        let before = (model.kernel.clone(), state(&opt), opt.slot("kernel", "average").unwrap().to_f64());
        let Model { kernel, scale, .. } = &mut model;
        let gradient = [0.5; 3];
        opt.apply_gradients([Variable::half("kernel", kernel), Variable::new("scale", scale).gradient(&gradient)])
            .unwrap();
        assert!((model.kernel.clone(), state(&opt)) == (before.0, before.1), "{master:?}");
        assert_ne!(opt.slot("kernel", "average").unwrap().to_f64(), before.2);
    }
}

/// What somebody writes into a variable is where the next step starts, within half a digit; after a reset, exactly.
#[test]
fn written_variables_are_taken() {
    for written in [0.0, -0.0, 1.0, -3.0, 1e30, f32::MIN_POSITIVE, f32::INFINITY, f32::NAN] {
        for reset in [false, true] {
            let mut opt = Optimizer::builder(Sgd::new(0.01)).master(MASTERS[0]).build().unwrap();
            let mut w: Vec<bf16> = (0..100).map(|i| bf16::from_f32(i as f32 / 7.0)).collect();
            let step = |opt: &mut Optimizer<Sgd, f32>, w: &mut Vec<bf16>, gradient: f32| {
                opt.apply_gradients([Variable::half("w", w).gradient(&vec![gradient; 100])]).unwrap();
            };
            step(&mut opt, &mut w, 1.0);
            assert!(opt.slot("w", "correction").unwrap().to_f64().iter().any(|correction| *correction < 0.0));
            w.fill(bf16::from_f32(written));
            if reset {
                opt.reset_slots(&mut [Variable::half("w", &mut w)], &["correction"]).unwrap();
                assert_eq!(opt.slot("w", "correction").unwrap().to_f64(), [0.0; 100]);
            }
            step(&mut opt, &mut w, 0.0);
            let same = |w: &bf16| w.to_bits() == bf16::from_f32(written).to_bits() || w.is_nan() && written.is_nan();
            assert!(w.iter().all(same), "{written}: {w:?}");
            let corrections = opt.slot("w", "correction").unwrap().to_f64();
            let must_be_0 = reset || !written.is_finite();
            assert!(!must_be_0 || corrections.iter().all(|correction| *correction == 0.0), "{written}");
        }
    }
}

#[test]
fn impossible_corrections_are_refused() {
    let mut w = vec![bf16::ONE; 3];
    let mut opt = Optimizer::builder(Sgd::new(0.01)).master(MASTERS[0]).build().unwrap();
    opt.add_variables(&mut [Variable::half("w", &mut w)]).unwrap();
    let mut assign = |corrections: [f32; 3]| {
        let mut weights = opt.weights();
        weights[1].value = ndarray::arr1(&corrections).into_dyn().into();
        opt.set_weights(weights)
    };
    for wrong in [128.0, -129.0, 0.5, f32::NAN, f32::INFINITY] {
        assert!(matches!(assign([0.0, wrong, 0.0]), Err(Error::WeightRange { .. })), "{wrong}");
    }
    assign([127.0, -128.0, 3.0]).unwrap();
    assert_eq!(opt.slot("w", "correction").unwrap().to_f64(), [127.0, -128.0, 3.0]);
    // It is not the variable in full, and cannot stand in its place.
    assert!(matches!(opt.copy_slot("correction", &mut [Variable::half("w", &mut w)]), Err(Error::UnknownSlot { .. })));
    assert!(matches!(opt.slot("w", "master"), Err(Error::UnknownSlot { .. })));
    assert_eq!(opt.copy_slots(), ["correction"]);
}

/// A file with masters in full is not one with corrections, and says so.
#[test]
fn a_file_of_another_storage_is_refused() {
    let [mut full, mut narrow] =
        [Master::Full, MASTERS[0]].map(|master| composed(Box::new(Adam::new(0.01)), master).build().unwrap());
    let mut model = Model::new((20, 30));
    model.step(&mut full);
    let mut file = Cursor::new(Vec::new());
    SaveOptions::new().write(&mut file, &full, &model.variables()).unwrap();
    let file = Checkpoint::from_bytes(file.into_inner()).unwrap();
    let refused = file.load(&mut narrow, &mut Model::new((20, 30))).unwrap_err().to_string();
    assert!(refused.contains("kernel/correction") && refused.contains("kernel/master"), "{refused}");
}

#[test]
fn optimizers_in_64_bits_have_no_masters() {
    for master in MASTERS {
        let built = Optimizer::<_, f64>::builder(Sgd::new(0.1)).master(master).build();
        assert!(matches!(built, Err(Error::Master { .. })), "{master:?}");
    }
    assert!(Optimizer::<_, f64>::builder(Sgd::new(0.1)).master(Master::Full).build().is_ok());
}

/// AdamW with moments in 8 bits has 5 1/16 bytes for each element of a variable in bfloat16: 2 of the variable itself.
#[test]
fn corrections_take_one_byte() {
    let len = 1 << 16;
    for (master, bytes) in [(Master::Full, 4), (MASTERS[0], 1), (MASTERS[1], 0)] {
        let builder = Optimizer::builder(AdamW::new(0.01)).moments(MomentStorage::Float8 { seed: 1 }).master(master);
        let mut opt = builder.build().unwrap();
        let mut w = vec![bf16::ONE; len];
        opt.apply_gradients([Variable::half("w", &mut w).gradient(&vec![1.0; len])]).unwrap();
        assert_eq!(opt.state_bytes(), len * (2 + bytes) + len / 16);
    }
}
