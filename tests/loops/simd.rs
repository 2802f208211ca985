//! Every loop in every instruction set that the dispatch can choose: bits, recorded runs, laws, and the textbook
//! oracle.

use std::collections::BTreeMap;

use loops::{OPTIONS, Rule, around, fits, levels, rules};
use ndarray::ArrayD;
use opt_conformance::golden::File;
use opt_conformance::laws::{self, Law, Subject};
use opt_conformance::problem::{Gradient, Problem, Rng};
use opt_conformance::replay::Registries;
use opt_conformance::tensors::Tensors;
use opt_conformance::textbook::{self, Formula, Naive};
use opt_conformance::{Verdict, golden_folder, replay};
use opt_core::simd::Level;
use optimizers::Scalar;
use optimizers::rule::BLOCK;
use optimizers::state::StateValue;
use optimizers::{Adam, Lookahead, Nadam, NovoGrad, RectifiedAdam, Sgd};

use super::limited::{Limited, side_by_side};

/// The number of elements that are handed to a thread.
const TASK: usize = 64 * 1024;

/// The numbers that fit in a register: 64-bit numbers in SSE2 and NEON first, 16-bit numbers in AVX-512 last.
const WIDTHS: [usize; 5] = [2, 4, 8, 16, 32];

/// Sizes around every width, the block and the task.
fn sizes() -> Vec<usize> {
    let around_widths = WIDTHS.into_iter().flat_map(|w| [w - 1, w, w + 1, 4 * w + 3]);
    [0, 1].into_iter().chain(around_widths).chain([BLOCK - 1, BLOCK, BLOCK + 1, TASK + 1]).collect()
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
        StateValue::Iterations(count) => (weight.name, vec![count]),
        StateValue::Scalar(number) => (weight.name, bits([number])),
        StateValue::Array(values) => (weight.name, bits(values)),
        StateValue::Bf16(_) => unreachable!("weights are widened"),
    });
    variables.chain(weights).collect()
}

/// Every rule in every composition, in every instruction set, with one thread and with three.
fn same_bits<T: Scalar>() {
    const STEPS: usize = 4;
    let limited = Limited::begin();
    // The last size is large enough to wake other threads.
    let sizes: Vec<usize> = sizes().into_iter().chain([3 * TASK]).collect();
    let start = Tensors::new(&sizes, 1);
    let gradients: Vec<_> = (2..2 + STEPS as u64).map(|seed| Tensors::<T>::new(&sizes, seed)).collect();
    let count = rules::<T>().len();
    for options in OPTIONS.into_iter().filter(|options| fits::<T>(options)) {
        let run = |level, threads| {
            let one = |number| {
                let (name, rule) = rules().swap_remove(number);
                (name, trained(rule, options, threads, &start, &gradients))
            };
            limited.run(level, || side_by_side(count, one))
        };
        let want = run(Level::Baseline, 1);
        for (threads, level) in [1, 3].into_iter().flat_map(|threads| levels().into_iter().map(move |l| (threads, l))) {
            for ((name, got), (_, want)) in run(level, threads).iter().zip(&want) {
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
        let verdicts = limited.run(level, || side_by_side(cases.len(), |number| replay(&cases[number], &registries)));
        for (case, verdict) in cases.iter().zip(&verdicts) {
            assert!(!matches!(verdict, Verdict::Failed(_)), "{level:?}: {}: {verdict:?}", case.name());
        }
        let passed = verdicts.iter().filter(|verdict| **verdict == Verdict::Passed).count();
        assert!(passed > 100, "{level:?}: only {passed} recorded runs");
    }
}

/// Checks all laws that every rule keeps, and `more`, which not every rule keeps.
fn keeps_the_laws(rule: &Subject, more: &[Law]) {
    let limited = Limited::begin();
    let laws: [Law; 9] = [
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
    let laws = [&laws, more].concat();
    for level in levels() {
        for kept in limited.run(level, || side_by_side(laws.len(), |number| laws[number](rule))) {
            if let Err(broken) = kept {
                panic!("{level:?}: {broken}");
            }
        }
    }
}

#[test]
fn laws() {
    keeps_the_laws(
        &Subject::new(&Sgd::new(0.125).momentum(0.5).nesterov(true)),
        &[laws::splitting_changes_nothing, laws::full_sparse_gradients_are_dense, laws::finite_stays_finite],
    );
    keeps_the_laws(
        &Subject::new(&Adam::new(0.125).amsgrad(true).beta_1(0.5).beta_2(0.9375)),
        &[laws::splitting_changes_nothing, laws::full_sparse_gradients_are_dense],
    );
    keeps_the_laws(
        &Subject::new(&Nadam::new(0.125)),
        &[laws::splitting_changes_nothing, laws::full_sparse_gradients_are_dense],
    );
    keeps_the_laws(
        &Subject::new(&RectifiedAdam::new(0.125).amsgrad(true).beta_1(0.5).beta_2(0.9375).weight_decay(0.0625)),
        &[laws::splitting_changes_nothing, laws::full_sparse_gradients_are_dense],
    );
    keeps_the_laws(&Subject::new(&NovoGrad::new(0.125).beta_2(0.75).weight_decay(0.0625)), &[]);
}

/// A tensor of each size, with one row, so that the textbook oracle is fast.
fn problem(steps: usize) -> Problem {
    let mut rng = Rng(23);
    let shapes: Vec<[usize; 2]> = sizes().into_iter().map(|size| [1, size]).collect();
    let mut arrays = || shapes.iter().map(|shape| rng.array(shape)).collect::<Vec<ArrayD<f64>>>();
    let names = shapes.iter().enumerate().map(|(i, [_, size])| format!("{i} of {size}"));
    let variables = names.zip(arrays()).collect();
    Problem { variables, steps: (0..steps).map(|_| arrays().into_iter().map(Gradient::Dense).collect()).collect() }
}

/// Within the rounding errors of each step: see the law `f32_follows_f64`. In 64 bits there is room for the textbook
/// oracle, which adds squares one by one.
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
            Adam::new(0.0625).beta_1(0.75).beta_2(0.875).epsilon(1e-3).amsgrad(true),
            textbook::Adam {
                beta_1: 0.75,
                beta_2: 0.875,
                epsilon: 1e-3,
                epsilon_first: true,
                amsgrad: true,
                ..textbook::Adam::default()
            }
        ),
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
        let pair = |number| textbooks(&problem).swap_remove(number);
        let wanted = side_by_side(count, |number| {
            let (eta, (_, _, formula)) = pair(number);
            naive.run(&problem, |_| eta, &mut *formula())
        });
        let both = |number: usize| {
            let (_, (narrow, wide, _)) = pair(number);
            agrees(&problem, &wanted[number], narrow, options);
            agrees(&problem, &wanted[number], wide, options);
        };
        for level in levels() {
            limited.run(level, || side_by_side(count, both));
        }
    }
}
