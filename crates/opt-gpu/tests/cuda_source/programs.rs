//! Programs of all rules, to compile and to run.

use std::collections::HashSet;

use opt_conformance::forms::{Builder, forms};
use opt_conformance::problem::{Gradient, Problem, Rng};
use opt_gpu::device::{Elements, Program};
use optimizers::trace::{Array, Node, Update};
use optimizers::{Optimizer, Scalar};

/// Steps until every structure has been seen.
const STEPS: usize = 7;

/// An update of every structure that a rule has in any form, of elements with a gradient and without.
pub(crate) fn updates<T: Scalar>() -> Vec<Update> {
    let mut seen = HashSet::new();
    let mut updates: Vec<Update> = forms::<T>().into_iter().flat_map(|(_, builder)| train(builder)).collect();
    updates.retain(|update| seen.insert(update.graph.clone()));
    updates
}

fn train<T: Scalar>(builder: Builder<T>) -> Vec<Update> {
    let mut optimizer: Optimizer<_, T> = builder.build().unwrap();
    let mut problem = Problem::dense(5, &[&[3], &[4, 2]], STEPS);
    for step in &mut problem.steps {
        step[1] = Gradient::Sparse(vec![2, 0], Rng(6).array(&[2, 2]));
    }
    let mut variables = problem.start::<T>();
    optimizer.add_variables(&mut variables).unwrap();
    let mut updates = Vec::new();
    for step in 0..STEPS {
        let recorded = problem.record(step, &mut optimizer, &mut variables).unwrap();
        updates.extend(recorded.into_iter().flat_map(|of| [Some(of.update), of.untouched]).flatten());
        problem.step(step, &mut optimizer, &mut variables).unwrap();
    }
    updates
}

/// The program of an update, with the average behind the slots.
pub(crate) fn program(update: &Update, elements: Elements) -> Program {
    let slots = update.graph.arrays().into_iter().filter_map(|(array, _)| match array {
        Array::Slot(slot) => Some(usize::from(slot) + 1),
        _ => None,
    });
    Program { average: slots.max().unwrap_or(0), graph: update.graph.clone(), elements }
}

/// The elements of which a program can update some.
pub(crate) fn kinds(update: &Update) -> &'static [Elements] {
    match update.graph.nodes.contains(&Node::Load(Array::Gradient)) {
        true => &[Elements::All, Elements::Rows],
        false => &[Elements::All, Elements::OtherRows],
    }
}
