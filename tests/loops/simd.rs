//! Every loop in every instruction set that the dispatch can choose: the same bits, the recorded runs, the laws, and
//! the numbers of the textbook.

mod subjects;
mod tensors;

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use ndarray::ArrayD;
use opt_conformance::golden::File;
use opt_conformance::laws::{self, Broken, Subject};
use opt_conformance::problem::{Gradient, Problem, Rng};
use opt_conformance::replay::Registries;
use opt_conformance::textbook::{self, Formula, Naive};
use opt_conformance::{Verdict, golden_folder, replay};
use opt_core::simd::{self, Level};
use optimizers::core::{BLOCK, Scalar, WeightValue};
use optimizers::{Lookahead, Nadam, NovoGrad, RectifiedAdam, Sgd};
use subjects::{OPTIONS, Rule, around, fits, levels, rules};
use tensors::Tensors;

/// Elements of what is handed to a thread.
const TASK: usize = 64 * 1024;

/// How many numbers fit in a register: 64 bits in SSE2 and NEON first, 16 bits in AVX-512 last.
const WIDTHS: [usize; 5] = [2, 4, 8, 16, 32];

/// Around every width, the block and the task.
fn sizes() -> Vec<usize> {
    let around_widths = WIDTHS.into_iter().flat_map(|w| [w - 1, w, w + 1, 4 * w + 3]);
    [0, 1].into_iter().chain(around_widths).chain([BLOCK - 1, BLOCK, BLOCK + 1, TASK + 1]).collect()
}

/// The limit is one for the whole process.
struct Limited(#[expect(dead_code, reason = "held, not read")] MutexGuard<'static, ()>);

impl Limited {
    fn begin() -> Self {
        static LIMIT: Mutex<()> = Mutex::new(());
        Self(LIMIT.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Runs `work` in one instruction set and in no other.
    fn run<R>(&self, level: Level, work: impl FnOnce() -> R) -> R {
        simd::limit(level);
        simd::take_ran();
        let result = work();
        assert_eq!(simd::take_ran(), [level], "loops ran elsewhere");
        simd::limit(Level::Avx512);
        result
    }
}

/// Variables and state after some steps, as bits.
type Bits = BTreeMap<String, Vec<u64>>;

fn bits<T: Scalar>(values: impl IntoIterator<Item = T>) -> Vec<u64> {
    values.into_iter().map(|value| value.as_().to_bits()).collect()
}

fn trained<T: Scalar>(rule: Rule<T>, options: &str, threads: usize, start: &Tensors<T>, steps: &[Tensors<T>]) -> Bits {
    let mut opt = around(rule, options).threads(threads).build().unwrap();
    let mut tensors = start.clone();
    for gradients in steps {
        opt.apply_gradients(tensors.with(gradients)).unwrap();
    }
    let variables = tensors.names.into_iter().zip(tensors.values.into_iter().map(bits));
    let weights = opt.weights().into_iter().map(|weight| match weight.value {
        WeightValue::Iterations(count) => (weight.name, vec![count]),
        WeightValue::Scalar(number) => (weight.name, bits([number])),
        WeightValue::Array(values) => (weight.name, bits(values)),
    });
    variables.chain(weights).collect()
}

/// Every rule in every composition, in every instruction set, with one thread and with three.
fn same_bits<T: Scalar>() {
    const STEPS: usize = 4;
    let limited = Limited::begin();
    // The last one is what makes it worth to wake other threads.
    let sizes: Vec<usize> = sizes().into_iter().chain([3 * TASK]).collect();
    let start = Tensors::new(&sizes, 1);
    let gradients: Vec<_> = (2..2 + STEPS as u64).map(|seed| Tensors::<T>::new(&sizes, seed)).collect();
    let count = rules::<T>().len();
    for options in OPTIONS.into_iter().filter(|options| fits::<T>(options)) {
        for number in 0..count {
            let run = |level, threads| {
                let (name, rule) = rules().swap_remove(number);
                (name, limited.run(level, || trained(rule, options, threads, &start, &gradients)))
            };
            let (name, want) = run(Level::Baseline, 1);
            for (threads, level) in
                [1, 3].into_iter().flat_map(|threads| levels().into_iter().map(move |l| (threads, l)))
            {
                let (_, got) = run(level, threads);
                let differs = got.keys().find(|&key| got[key] != want[key]);
                assert_eq!((differs, got.len()), (None, want.len()), "{name}, {options}, {level:?}, {threads} threads");
            }
        }
    }
}

#[test]
fn same_bits_in_32_bits() {
    same_bits::<f32>();
}

#[test]
fn same_bits_in_64_bits() {
    same_bits::<f64>();
}

#[test]
fn recorded_runs() {
    let limited = Limited::begin();
    let registries = Registries { float32: optimizers::registry(), float64: optimizers::registry() };
    let files = std::fs::read_dir(golden_folder()).unwrap().map(|file| file.unwrap().path());
    let files = files.filter(|path| path.extension().is_some_and(|extension| extension == "json"));
    let cases: Vec<_> =
        files.flat_map(|path| File::read(&path).unwrap_or_else(|error| panic!("{error}")).cases).collect();
    for level in levels() {
        let verdicts = limited.run(level, || cases.iter().map(|case| replay(case, &registries)).collect::<Vec<_>>());
        for (case, verdict) in cases.iter().zip(&verdicts) {
            assert!(!matches!(verdict, Verdict::Failed(_)), "{level:?}: {}: {verdict:?}", case.name());
        }
        let passed = verdicts.iter().filter(|verdict| **verdict == Verdict::Passed).count();
        assert!(passed > 100, "{level:?}: only {passed} recorded runs");
    }
}

type Law<R> = fn(&R) -> Result<(), Broken>;

/// Also keeps `more`, which do not hold for every rule.
fn keeps_the_laws<R: Subject>(rule: &R, more: &[Law<R>]) {
    let limited = Limited::begin();
    let laws: [Law<R>; 9] = [
        laws::duplicate_rows_are_summed,
        laws::f32_follows_f64,
        laws::missing_gradients_leave_alone,
        laws::order_does_not_matter,
        laws::rejected_steps_leave_no_trace,
        laws::restoring_continues,
        laws::scattered_memory_does_not_matter,
        laws::skipped_steps_leave_no_trace,
        laws::threads_do_not_matter,
    ];
    for level in levels() {
        for law in laws.iter().chain(more) {
            if let Err(broken) = limited.run(level, || law(rule)) {
                panic!("{level:?}: {broken}");
            }
        }
    }
}

#[test]
fn laws() {
    keeps_the_laws(
        &Sgd::new(0.125).momentum(0.5).nesterov(true),
        &[laws::splitting_changes_nothing, laws::full_sparse_gradients_are_dense, laws::finite_stays_finite],
    );
    keeps_the_laws(&Nadam::new(0.125), &[laws::splitting_changes_nothing, laws::full_sparse_gradients_are_dense]);
    keeps_the_laws(
        &RectifiedAdam::new(0.125).amsgrad(true).beta_1(0.5).beta_2(0.9375).weight_decay(0.0625),
        &[laws::splitting_changes_nothing, laws::full_sparse_gradients_are_dense],
    );
    keeps_the_laws(&NovoGrad::new(0.125).beta_2(0.75).weight_decay(0.0625), &[]);
}

/// A tensor of each size; as one row, so that the textbook is not slow.
fn problem(steps: usize) -> Problem {
    let mut rng = Rng(23);
    let shapes: Vec<[usize; 2]> = sizes().into_iter().map(|size| [1, size]).collect();
    let mut arrays = || shapes.iter().map(|shape| rng.array(shape)).collect::<Vec<ArrayD<f64>>>();
    let names = shapes.iter().enumerate().map(|(i, [_, size])| format!("{i} of {size}"));
    let variables = names.zip(arrays()).collect();
    Problem { variables, steps: (0..steps).map(|_| arrays().into_iter().map(Gradient::Dense).collect()).collect() }
}

/// Within the roundings of each step: see the law `f32_follows_f64`. In 64 bits there is room for the textbook, which
/// adds squares one by one.
fn agrees<T: Scalar>(problem: &Problem, want: &[BTreeMap<String, Vec<f64>>], rule: Rule<T>, options: &str) {
    let mut opt = around(rule, options).build().unwrap();
    let mut variables = problem.start::<T>();
    for (number, want) in want.iter().enumerate() {
        problem.step(number, &mut opt, &mut variables).unwrap();
        let tolerance = match size_of::<T>() {
            4 => 16.0 * (number + 1) as f64 * f64::from(f32::EPSILON) / 2.0,
            _ => 1e-12,
        };
        for (name, got) in &variables.0 {
            let far = got.iter().zip(&want[name]).find(|(got, want)| {
                let close = (got.as_() - *want).abs() <= tolerance * want.abs().max(1.0);
                !close
            });
            assert!(far.is_none(), "{options}, step {number}, {name}: {far:?}");
        }
    }
}

type Textbook<'p> = (Rule<f32>, Rule<f64>, Box<dyn Fn() -> Box<dyn Formula> + 'p>);

fn textbooks(problem: &Problem) -> Vec<(f64, Textbook<'_>)> {
    macro_rules! pair {
        ($eta:expr, $rule:expr, $formula:expr) => {
            (
                $eta,
                (Box::new($rule) as Rule<f32>, Box::new($rule) as Rule<f64>, Box::new(move || Box::new($formula) as _)),
            )
        };
    }
    let sgd = |mu, nesterov| textbook::Sgd { mu, nesterov, ..textbook::Sgd::default() };
    vec![
        pair!(0.125, Sgd::new(0.125), sgd(0.0, false)),
        pair!(0.125, Sgd::new(0.125).momentum(0.75), sgd(0.75, false)),
        pair!(0.125, Sgd::new(0.125).momentum(0.75).nesterov(true), sgd(0.75, true)),
        pair!(
            0.0625,
            Nadam::new(0.0625).beta_1(0.75).beta_2(0.875).epsilon(1e-3),
            textbook::Nadam {
                beta_1: 0.75,
                beta_2: 0.875,
                epsilon: 1e-3,
                schedule_decay: Some(0.004),
                ..textbook::Nadam::default()
            }
        ),
        pair!(
            0.0625,
            RectifiedAdam::new(0.0625).beta_1(0.75).beta_2(0.9375).epsilon(1e-3).sma_threshold(4.5),
            textbook::RectifiedAdam {
                beta_1: 0.75,
                beta_2: 0.9375,
                epsilon: 1e-3,
                threshold: 4.5,
                ..textbook::RectifiedAdam::default()
            }
        ),
        pair!(
            0.0625,
            NovoGrad::new(0.0625).beta_1(0.75).beta_2(0.875).epsilon(1e-3).weight_decay(0.25),
            textbook::NovoGrad {
                beta_1: 0.75,
                beta_2: 0.875,
                epsilon: 1e-3,
                weight_decay: 0.25,
                ..textbook::NovoGrad::default()
            }
        ),
        pair!(
            0.125,
            Lookahead::new(Sgd::new(0.125).momentum(0.75)).sync_period(2).slow_step_size(0.75),
            textbook::Lookahead::new(sgd(0.75, false), 2, 0.75, problem)
        ),
    ]
}

#[test]
fn the_textbook_agrees() {
    let limited = Limited::begin();
    let problem = problem(7);
    let naive = [
        ("alone", Naive::default()),
        (
            "global clip + decay + ema",
            Naive {
                global_clipnorm: Some(0.5),
                weight_decay: Some(0.0625),
                ema: Some((0.75, Some(3))),
                ..Naive::default()
            },
        ),
    ];
    for (options, naive) in naive {
        let count = textbooks(&problem).len();
        for number in 0..count {
            let pair = || textbooks(&problem).swap_remove(number);
            let (eta, (_, _, formula)) = pair();
            let want = naive.run(&problem, |_| eta, &mut *formula());
            for level in levels() {
                let (_, (narrow, wide, _)) = pair();
                limited.run(level, || {
                    agrees(&problem, &want, narrow, options);
                    agrees(&problem, &want, wide, options);
                });
            }
        }
    }
}
