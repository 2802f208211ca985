//! Simplifies an update for reading. What is left out changes bits only of NaN, of infinities, of -0 and of denormal
//! numbers. It also leaves out that a master takes over what somebody else has written into the variable.

use super::graph::{Graph, Node, Operation, Update};
use super::narrow::Narrow;

/// Leaves out factors of 1, terms with a factor of 0, what makes small numbers 0, and what looks for changes in
/// variables in 16 bits. Returns the simpler update, and
/// which of its nodes each node has become.
pub(super) fn simplified(update: &Update) -> (Update, Vec<u32>) {
    let Graph { dtype, nodes, stores } = &update.graph;
    let graph = Graph { dtype: *dtype, nodes: Vec::with_capacity(nodes.len()), stores: Vec::new() };
    let mut simple = Update { graph, parameters: update.parameters.clone() };
    let mut became = Vec::with_capacity(nodes.len());
    for node in nodes {
        let node = node.renumbered(|operand| became[operand as usize]);
        let other = same_number(&simple, node);
        became.push(other.unwrap_or(simple.graph.nodes.len() as u32));
        if other.is_none() {
            simple.graph.nodes.push(node);
        }
    }
    let stores = stores.iter().map(|(array, node)| (*array, became[*node as usize]));
    simple.graph.stores = stores.filter(|(array, node)| simple.node(*node) != Node::Load(*array)).collect();
    (simple, became)
}

/// The earlier node that is the same number.
fn same_number(update: &Update, node: Node) -> Option<u32> {
    let is = |number: u32, value: f64| update.value(number) == Some(value);
    match node {
        Node::Binary(Operation::Mul | Operation::Div, zero, _) if is(zero, 0.0) => Some(zero),
        Node::Binary(Operation::Mul, _, zero) if is(zero, 0.0) => Some(zero),
        Node::Binary(Operation::Mul, one, x) if is(one, 1.0) => Some(x),
        Node::Binary(Operation::Mul | Operation::Div, x, one) if is(one, 1.0) => Some(x),
        Node::Binary(Operation::Add, zero, x) if is(zero, 0.0) => Some(x),
        Node::Binary(Operation::Add | Operation::Sub, x, zero) if is(zero, 0.0) => Some(x),
        Node::Binary(Operation::Flush, x, _) => Some(x),
        Node::Binary(Operation::Bf16(Narrow::Current) | Operation::F16(Narrow::Current), master, _) => Some(master),
        _ => None,
    }
}
