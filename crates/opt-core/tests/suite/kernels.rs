//! What kernels are told of the rows of a sparse gradient, and what they say of them; the order of a rule's state.

use opt_core::rule::{
    Block, Done, Kernel, SlotSpec, SparseUpdate, Step, VariableScalars, VariableStep, WeightsOrder, elementwise,
};
use opt_core::{Hyper, Optimizer, UpdateRule, Variable};
use opt_sgd::Sgd;

/// What a rule says of rows without a gradient saves the visits.
#[test]
fn untouched_rows_are_visited_where_they_change() {
    let visits = |sparse: SparseUpdate| {
        let kernel = elementwise(1.0, |k: &f64, w, g, []: [f64; 0]| (w - k * g, [])).sparse(sparse);
        Kernel::<f64>::visits_untouched_rows(&kernel)
    };
    assert_eq!([SparseUpdate::Dense, SparseUpdate::Moments, SparseUpdate::Rows].map(visits), [true, true, false]);
}

/// Marks the rows that have a gradient with 1, and all others with 2. Its state goes variable by variable.
#[derive(Debug)]
struct Marks(Hyper);

struct Mark;

impl Kernel<f64> for Mark {
    fn begin_variable(&self, variable: &VariableStep<'_>, _scalars: &mut [f64]) -> VariableScalars {
        assert_eq!(variable.gradient_square_sum, None, "nobody has asked for it");
        VariableScalars::default()
    }
    fn update(&self, mut block: Block<'_, f64>) -> Done {
        let mark = if block.is_touched() { 1.0 } else { 2.0 };
        block.parts().value.fill(mark);
        block.done()
    }
    fn visits_untouched_rows(&self) -> bool {
        true
    }
}

nothing_to_configure!(Marks, 0);

impl UpdateRule<f64> for Marks {
    fn slots(&self) -> Vec<SlotSpec> {
        vec![SlotSpec::zeros("m"), SlotSpec::scalar("v", 0.0)]
    }
    fn begin_step(&self, _step: &Step, _shared: &mut [f64]) -> Box<dyn Kernel<f64>> {
        Box::new(Mark)
    }
    fn weights_order(&self) -> WeightsOrder {
        WeightsOrder::ByVariable
    }
}

#[test]
fn kernels_are_told_which_rows_have_a_gradient() {
    let boxed: Box<dyn UpdateRule<f64>> = Box::new(Marks(1.0.into()));
    let mut opt = Optimizer::new(boxed).unwrap();
    let mut rows = [0.0; 8];
    let rows_of_two = (&mut rows[..], &[4, 2][..]);
    let values = (&[1.0; 4][..], &[2, 2][..]);
    opt.apply_gradients([Variable::new("rows", rows_of_two).sparse_gradient(&[3, 1], values)]).unwrap();
    assert_eq!(rows, [2.0, 2.0, 1.0, 1.0, 2.0, 2.0, 1.0, 1.0]);
}

#[test]
fn state_has_the_order_that_the_rule_wants_boxed_or_not() {
    fn names<R: UpdateRule<f64>>(rule: R) -> Vec<String> {
        let mut opt = Optimizer::new(rule).unwrap();
        let (mut a, mut b) = (0.0, 0.0);
        opt.add_variables(&mut [Variable::new("a", &mut a), Variable::new("b", &mut b)]).unwrap();
        opt.weights().into_iter().map(|weight| weight.name).collect()
    }
    let marks = || Marks(1.0.into());
    assert_eq!(names(marks()), ["iterations", "a/m", "a/v", "b/m", "b/v"]);
    assert_eq!(names(Box::new(marks()) as Box<dyn UpdateRule<f64>>), names(marks()));
    assert_eq!(names(Sgd::new(1.0).momentum(0.5)), ["iterations", "a/momentum", "b/momentum"]);
}
