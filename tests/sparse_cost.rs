//! The rows that a sparse step visits: only touched rows, where the semantics allow it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use optimizers::config::{Config, ConfigError, Configurable, HyperparameterError, Hyperparameters};
use optimizers::rule::{Block, Done, Kernel, SlotSpec, Step, VariableScalars, VariableStep};
use optimizers::{Ema, Nadam, NovoGrad, Optimizer, OptimizerBuilder, Sgd, UpdateRule, Variable};
use optimizers::{Hyper, Scalar};

const ROWS: usize = 40_000;
const WIDTH: usize = 16;

/// The numbers of elements that a rule was given, in touched rows and in others.
#[derive(Debug, Clone, Default)]
struct Visits(Arc<[AtomicUsize; 2]>);

impl Visits {
    fn take(&self) -> [usize; 2] {
        self.0.each_ref().map(|count| count.swap(0, Ordering::Relaxed))
    }
}

/// A rule that counts the elements that it is given.
#[derive(Debug)]
struct Counted<R> {
    inner: R,
    visits: Visits,
}

struct CountedStep<'a, T> {
    inner: Box<dyn Kernel<T> + 'a>,
    visits: Visits,
}

impl<T: Scalar> Kernel<T> for CountedStep<'_, T> {
    fn begin_variable(&self, variable: &VariableStep<'_>, scalars: &mut [f64]) -> VariableScalars {
        self.inner.begin_variable(variable, scalars)
    }

    fn update(&self, mut block: Block<'_, T>) -> Done {
        let place = usize::from(!block.is_touched());
        self.visits.0[place].fetch_add(block.parts().value.len(), Ordering::Relaxed);
        self.inner.update(block)
    }

    fn visits_untouched_rows(&self) -> bool {
        self.inner.visits_untouched_rows()
    }
}

impl<R: Hyperparameters> Configurable for Counted<R> {
    fn class_name(&self) -> &str {
        self.inner.class_name()
    }
    fn config(&self) -> Result<Config, ConfigError> {
        self.inner.config()
    }
    fn validate(&self) -> Result<(), HyperparameterError> {
        self.inner.validate()
    }
}

impl<R: Hyperparameters> Hyperparameters for Counted<R> {
    fn learning_rate(&self) -> &Hyper {
        self.inner.learning_rate()
    }
    fn learning_rate_mut(&mut self) -> &mut Hyper {
        self.inner.learning_rate_mut()
    }
}

impl<T: Scalar, R: UpdateRule<T>> UpdateRule<T> for Counted<R> {
    fn slots(&self) -> Vec<SlotSpec> {
        self.inner.slots()
    }
    fn needs_gradient_norm(&self) -> bool {
        self.inner.needs_gradient_norm()
    }
    fn begin_step<'a>(&'a self, step: &Step, shared: &mut [f64]) -> Box<dyn Kernel<T> + 'a> {
        Box::new(CountedStep { inner: self.inner.begin_step(step, shared), visits: self.visits.clone() })
    }
}

type Builder<R> = OptimizerBuilder<Counted<R>, f32>;

/// The visits of each of three steps that touch rows 7, 8 and 39,999, row 8 twice; other rows do not change.
fn visited<R: UpdateRule<f32>>(rule: R, options: impl Fn(Builder<R>) -> Builder<R>) -> [[usize; 2]; 3] {
    let visits = Visits::default();
    let counted = Counted { inner: rule, visits: visits.clone() };
    let mut opt = options(Optimizer::builder(counted)).threads(2).build().unwrap();
    let start: Vec<f32> = (0..ROWS * WIDTH).map(|i| (i % 13) as f32 - 6.5).collect();
    let mut w = ndarray::Array2::from_shape_vec((ROWS, WIDTH), start.clone()).unwrap();
    let gradient = ndarray::Array2::from_elem((4, WIDTH), 0.25_f32);
    let steps = [(); 3].map(|()| {
        let rows = [8_usize, ROWS - 1, 7, 8];
        opt.apply_gradients([Variable::new("embedding", &mut w).sparse_gradient(&rows, &gradient)]).unwrap();
        visits.take()
    });
    let moved = |row: usize| w.row(row).iter().zip(&start[row * WIDTH..]).all(|(w, start)| w != start);
    assert!([7, 8, ROWS - 1].into_iter().all(moved), "touched rows move");
    assert_eq!([0, 6, 9, 30_000].map(moved), [false; 4], "other rows stay");
    steps
}

const TOUCHED: usize = 3 * WIDTH;
const FEW: [[usize; 2]; 3] = [[TOUCHED, 0]; 3];
const ALL: [[usize; 2]; 3] = [[TOUCHED, ROWS * WIDTH - TOUCHED]; 3];

#[test]
fn rules_that_allow_it_visit_touched_rows_alone() {
    let legacy = || Sgd::new(0.5).legacy();
    assert_eq!(visited(legacy(), |builder| builder), FEW);
    assert_eq!(visited(legacy().momentum(0.5), |builder| builder), FEW);
    assert_eq!(visited(legacy().momentum(0.5).nesterov(true), |builder| builder), FEW);
    assert_eq!(visited(NovoGrad::new(0.5), |builder| builder), FEW);
    assert_eq!(visited(NovoGrad::nvidia(0.5), |builder| builder), FEW);
}

/// A clip visits only touched rows; the engine updates averages itself, without the rule.
#[test]
fn the_engine_adds_no_visits() {
    let legacy = || Sgd::new(0.5).legacy().momentum(0.5);
    assert_eq!(visited(legacy(), |builder| builder.global_clipnorm(0.5)), FEW);
    assert_eq!(visited(NovoGrad::new(0.5), |builder| builder.clipnorm(0.5)), FEW);
    assert_eq!(visited(NovoGrad::new(0.5), |builder| builder.ema(Ema::new(0.5))), FEW);
}

/// Checks the check: for rules whose moments decay in all rows, it counts visits of all rows.
#[test]
fn other_rules_visit_all() {
    assert_eq!(visited(Sgd::new(0.5).momentum(0.5), |builder| builder), ALL);
    assert_eq!(visited(Nadam::new(0.5), |builder| builder), ALL);
}
