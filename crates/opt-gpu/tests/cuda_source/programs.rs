//! Programs of all rules, to compile and to run.

use std::collections::HashSet;

use half::{bf16, f16};
use opt_conformance::forms::{Builder, forms};
use opt_conformance::problem::{Gradient, Problem, Rng};
use opt_gpu::device::{Elements, Program};
use optimizers::model::Half;
use optimizers::state::DType;
use optimizers::trace::{Array, Narrow, Node, Operation, RecordedVariable, Update};
use optimizers::{Adam, Ema, Master, MomentStorage, Optimizer, Scalar, Variable};

/// Steps until every structure has been seen.
const STEPS: usize = 7;

/// An update of every structure that a rule has in any form, of elements with a gradient and without.
pub(crate) fn updates<T: Scalar>() -> Vec<Update> {
    different(forms::<T>().into_iter().flat_map(|(_, builder)| train(builder)))
}

/// One update of every structure.
fn different(updates: impl Iterator<Item = Update>) -> Vec<Update> {
    let mut seen = HashSet::new();
    updates.filter(|update| seen.insert(update.graph.clone())).collect()
}

/// The updates of elements with a gradient and without.
fn both(recorded: Vec<RecordedVariable>) -> impl Iterator<Item = Update> {
    recorded.into_iter().flat_map(|of| [Some(of.update), of.untouched]).flatten()
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
        updates.extend(both(recorded));
        problem.step(step, &mut optimizer, &mut variables).unwrap();
    }
    updates
}

/// Updates of variables in 16 bits, for every storage of their masters and moments.
pub(crate) fn halves() -> Vec<Update> {
    let masters = [Master::Full, Master::Bits24 { seed: 3 }, Master::None { seed: 3 }];
    let moments = [MomentStorage::Full, MomentStorage::Bf16 { seed: 5 }];
    let all = masters.into_iter().flat_map(|master| moments.map(|moments| (master, moments)));
    let mut halves = different(all.flat_map(|(master, moments)| {
        [train_half(master, moments, bf16::ONE), train_half(master, moments, f16::ONE)].into_iter().flatten()
    }));
    // No rule has more than two moments, but a program may draw four numbers for them.
    for (from, to) in [(0, 2), (1, 3)] {
        let other = halves.iter().find_map(|update| with_random(update, from, to));
        halves.push(other.expect("there are moments in 16 bits"));
    }
    halves.extend(
        [Operation::Bf16(Narrow::Nearest), Operation::F16(Narrow::Nearest)]
            .map(|operation| showing(&halves[0], operation)),
    );
    halves
}

/// An update that only rounds the master: no operation before that makes its NaN those of the processor.
fn showing(update: &Update, operation: Operation) -> Update {
    let mut update = update.clone();
    update.graph.nodes = vec![Node::Load(Array::Master), Node::Binary(operation, 0, 0)];
    update.graph.stores = vec![(Array::Value, 1)];
    update
}

/// An update with another random number in place of one.
fn with_random(update: &Update, from: u8, to: u8) -> Option<Update> {
    let mut update = update.clone();
    let node = update.graph.nodes.iter_mut().find(|node| **node == Node::Load(Array::Random(from)))?;
    *node = Node::Load(Array::Random(to));
    Some(update)
}

fn train_half<H: Half + Copy>(master: Master, moments: MomentStorage, one: H) -> Vec<Update> {
    let builder = Optimizer::<_, f32>::builder(Adam::new(0.125)).master(master).moments(moments);
    let mut optimizer = builder.ema(Ema::new(0.75).overwrite_every(3)).weight_decay(0.0625).build().unwrap();
    let mut values = [[one; 4], [one; 4]];
    let mut updates = Vec::new();
    for _ in 0..STEPS {
        updates.extend(both(optimizer.record(half_variables(&mut values)).unwrap()));
        optimizer.apply_gradients(half_variables(&mut values)).unwrap();
    }
    updates
}

/// A variable with a gradient, and one with gradients of some rows.
fn half_variables<H: Half>([dense, embedding]: &mut [[H; 4]; 2]) -> [Variable<'_, f32>; 2] {
    let embedding = Variable::half("embedding", (&mut embedding[..], &[4, 1]));
    [Variable::half("dense", dense).gradient(&[0.5; 4]), embedding.sparse_gradient(&[2, 0], (&[0.5, 0.25], &[2, 1]))]
}

/// The program of an update whose gradient, if it reads one, is stored in this type. The state has the arrays with the
/// smallest numbers first, and always an average.
pub(crate) fn program(update: &Update, elements: Elements, gradient: DType) -> Program {
    let graph = update.graph.clone();
    let half = |node: &Node| match node {
        Node::Binary(Operation::Bf16(_), ..) => Some(DType::Bf16),
        Node::Binary(Operation::F16(_), ..) => Some(DType::F16),
        _ => None,
    };
    let value = graph.nodes.iter().find_map(half).unwrap_or(graph.dtype);
    let moments = graph
        .stores
        .iter()
        .filter(|(_, node)| matches!(graph.nodes[*node as usize], Node::Binary(Operation::Moment, ..)));
    let moments: Vec<Array> = moments.map(|(array, _)| *array).collect();
    let dtype = |array: Array| match array {
        Array::Correction => DType::I8,
        _ if moments.contains(&array) => DType::Bf16,
        _ => graph.dtype,
    };
    let arrays: Vec<Array> = graph.arrays().into_iter().map(|(array, _)| array).collect();
    let slots = arrays.iter().filter_map(|array| if let Array::Slot(slot) = array { Some(slot + 1) } else { None });
    let masters = arrays.iter().copied().filter(|array| matches!(array, Array::Master | Array::Correction));
    let kept = (0..slots.max().unwrap_or(0)).map(Array::Slot).chain(masters).chain([Array::Average]);
    let mut state: Vec<(Array, DType)> = kept.map(|array| (array, dtype(array))).collect();
    state.sort_by_key(|(array, dtype)| (dtype.bytes(), *array));
    let gradient = if arrays.contains(&Array::Gradient) { gradient } else { graph.dtype };
    Program { graph, elements, value, gradient, state }
}

/// The types in which gradients of an update in 32 bits are stored.
pub(crate) const GRADIENTS: [DType; 3] = [DType::F32, DType::Bf16, DType::F16];

/// The elements of which a program can update some.
pub(crate) fn kinds(update: &Update) -> &'static [Elements] {
    match update.graph.nodes.contains(&Node::Load(Array::Gradient)) {
        true => &[Elements::All, Elements::Rows],
        false => &[Elements::All, Elements::OtherRows],
    }
}
