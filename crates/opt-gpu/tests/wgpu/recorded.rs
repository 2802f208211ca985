//! Recorded steps of all forms have the engine's bits.

use std::collections::{BTreeMap, HashSet};

use opt_conformance::forms::{Builder, forms};
use opt_conformance::halves::recorded_halves;
use opt_conformance::problem::{Gradient, Problem, Rng};
use opt_core::state::DType;
use opt_core::trace::{Array, Constant, Draws, Graph, Narrow, Node, Operation, Update};
use opt_gpu::device::Elements;

use crate::device;
use crate::trial::Tried;

/// Not a multiple of a workgroup.
const ROWS: usize = 407;
const WIDTH: usize = 3;

/// An update, with its name and the number of slots.
pub(crate) type Recorded = (String, Update, usize);

/// A step of each graph, with the elements that it is for.
pub(crate) fn recorded() -> Vec<(Elements, Recorded)> {
    let mut seen: HashSet<(Elements, Graph)> = HashSet::new();
    let mut steps = Vec::new();
    let mut rng = Rng(5);
    for gradient in [Gradient::Dense(rng.array(&[4, 2])), Gradient::Sparse(vec![2, 0], rng.array(&[2, 2]))] {
        let variables = vec![("w".to_owned(), rng.array(&[4, 2]))];
        let problem = Problem { variables, steps: vec![vec![gradient]] };
        for (name, builder) in forms() {
            let of_form = of_form(&problem, &name, builder);
            steps.extend(of_form.into_iter().filter(|(of, (_, update, _))| seen.insert((*of, update.graph.clone()))));
        }
    }
    steps
}

/// The first steps of an optimizer, with the elements that they are for.
fn of_form(problem: &Problem, name: &str, builder: Builder<f32>) -> Vec<(Elements, Recorded)> {
    let mut optimizer = builder.build().unwrap();
    let mut variables = problem.start::<f32>();
    optimizer.add_variables(&mut variables).unwrap();
    let mut steps = Vec::new();
    for step in 0..7 {
        let of = problem.record(0, &mut optimizer, &mut variables).unwrap().remove(0);
        let touched = if of.untouched.is_none() { Elements::All } else { Elements::Rows };
        for (elements, update) in [(touched, Some(of.update)), (Elements::OtherRows, of.untouched)] {
            if let Some(update) = update.filter(|update| !update.graph.stores.is_empty()) {
                steps.push((elements, (format!("{name}, step {step}"), update, of.slots.len())));
            }
        }
        problem.step(0, &mut optimizer, &mut variables).unwrap();
    }
    steps
}

#[test]
fn recorded_steps_have_the_bits_of_the_engine() {
    let Some(device) = device() else { return };
    let mut counts = BTreeMap::new();
    for (seed, (elements, (name, update, slots))) in (1..).zip(recorded()) {
        let tried = Tried::new(&device, &name, update, slots, elements);
        tried.check(&device, &[tried.variable(&device, seed, ROWS, WIDTH)]);
        *counts.entry(format!("{elements:?}")).or_insert(0) += 1;
    }
    println!("{counts:?} kernels");
    assert!(counts.values().all(|count| *count > 10) && counts.len() == 3, "{counts:?}");
}

/// Variables in 16 bits, with gradients of every type; rows end within a word.
#[test]
fn variables_in_16_bits_have_the_bits_of_the_engine() {
    let Some(device) = device() else { return };
    let chunked = device.clone().with_chunks_of(256);
    for (seed, (name, of)) in (1..).zip(recorded_halves()) {
        let touched = if of.untouched.is_none() { Elements::All } else { Elements::Rows };
        for (elements, update) in [(touched, Some(of.update)), (Elements::OtherRows, of.untouched)] {
            let Some(update) = update else { continue };
            for gradient in [DType::F32, DType::Bf16, DType::F16] {
                let slots = of.slots.len();
                let tried = Tried::with_gradient(&device, &name, update.clone(), slots, elements, gradient);
                tried
                    .check(&device, &[tried.variable(&device, seed, 67, 3), tried.variable(&device, seed + 100, 5, 1)]);
                tried
                    .check(&chunked, &[tried.variable(&chunked, seed, 401, 3), tried.variable(&chunked, seed, 127, 6)]);
            }
        }
    }
}

/// Two arrays of the state, and what the operations make of them.
fn every_operation() -> Update {
    let (_, (_, mut update, _)) = recorded().swap_remove(0);
    use Operation::{Add, Clamp, Div, Flush, Max, Mul, Sub};
    let state = |slot| Array::Slot(slot);
    let mut nodes = vec![Node::Load(state(0)), Node::Load(state(1)), Node::Constant(Constant::Largest)];
    let results = [Add, Sub, Mul, Div, Max, Flush, Clamp].map(|operation| Node::Binary(operation, 0, 1));
    nodes.extend(results);
    nodes.extend([Node::Sqrt(0), Node::Binary(Max, 2, 0), Node::Constant(Constant::Smallest), Node::Parameter(0)]);
    update.parameters = vec![f64::from(f32::from_bits(3))];
    update.graph.stores = (3..nodes.len() as u32).zip(2..).map(|(node, slot)| (state(slot), node)).collect();
    update.graph.nodes = nodes;
    update
}

#[test]
fn every_operation_has_the_bits_of_the_engine_also_with_thirteen_slots() {
    let Some(device) = device() else { return };
    let update = every_operation();
    let slots = 2 + update.graph.stores.len();
    assert_eq!(slots, 13);
    let tried = Tried::new(&device, "every operation", update, slots, Elements::All);
    tried.check(&device, &[tried.variable(&device, 3, 60_001, 1)]);
    let chunked = device.with_chunks_of(64);
    tried.check(&chunked, &[tried.variable(&chunked, 3, 401, 1)]);
}

/// What rounds to 16 bits, of numbers of all sizes.
fn every_rounding(of: fn(Narrow) -> Operation) -> Update {
    use Narrow::{Alone, Correction, Current, Join, Nearest, Part};
    let (_, (_, mut update, _)) = recorded().swap_remove(0);
    let random = Array::Random(Draws::MASTER);
    let loads = [Array::Slot(0), random, Array::Value, Array::Correction, Array::Master, Array::Random(0)];
    let mut nodes: Vec<Node> = loads.into_iter().map(Node::Load).collect();
    let operands = [(Nearest, 0, 0), (Part, 0, 1), (Correction, 0, 1), (Alone, 0, 1), (Join, 2, 3), (Current, 4, 2)];
    nodes.extend(operands.map(|(narrow, a, b)| Node::Binary(of(narrow), a, b)));
    nodes.push(Node::Binary(Operation::Moment, 0, 5));
    // So that one sees in which types variable and correction are stored.
    let own = [(Array::Value, 7), (Array::Correction, 8)];
    let slots = (6..nodes.len() as u32).zip(1..).map(|(node, slot)| (Array::Slot(slot), node));
    update.graph.stores = slots.chain(own).collect();
    update.graph.nodes = nodes;
    update.parameters = Vec::new();
    update
}

#[test]
fn every_rounding_has_the_bits_of_the_engine() {
    let Some(device) = device() else { return };
    for of in [Operation::Bf16 as fn(Narrow) -> Operation, Operation::F16] {
        let tried = Tried::new(&device, "every rounding", every_rounding(of), 8, Elements::All);
        tried.check(&device, &[tried.variable(&device, 3, 60_001, 1)]);
    }
}
