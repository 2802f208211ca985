//! Prints a recorded step as equations.
//!
//! The nodes of the graph are printed as lines `name <- expression`, in the order of the engine. A node has a line if
//! it is stored, if it is used more than once, or if it is the result of a stage of the engine. A line takes the name
//! of the array that its number replaces, as long as nothing needs the old number later.

use std::collections::BTreeMap;
use std::fmt;

use super::RecordedVariable;
use super::graph::{Array, Graph, Node, Operation, Update};
use super::narrow::Narrow;
use super::simplify::simplified;
use super::term::{Term, number};
use crate::ema::Ema;
use crate::master::Master;

impl fmt::Display for RecordedVariable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { variable, rule, iteration, learning_rate, .. } = self;
        writeln!(f, "{variable}: step {} of {rule}, learning rate {}", iteration + 1, number(*learning_rate))?;
        self.write(f, &self.update)?;
        if let Some(untouched) = &self.untouched {
            writeln!(f, "rows that the gradient does not touch:")?;
            self.write(f, untouched)?;
        }
        Ok(())
    }
}

impl RecordedVariable {
    fn write(&self, f: &mut fmt::Formatter<'_>, update: &Update) -> fmt::Result {
        let lines = Equations::new(update).lines(|array| self.name(array));
        if lines.is_empty() {
            writeln!(f, "  nothing changes")?;
        }
        for (equation, stage) in lines {
            match stage {
                Some(stage) => writeln!(f, "  {equation:<40}  # {stage}")?,
                None => writeln!(f, "  {equation}")?,
            }
        }
        Ok(())
    }

    /// The name of an array in equations.
    fn name(&self, array: Array) -> String {
        match array {
            Array::Value => "w".to_owned(),
            Array::Gradient => "g".to_owned(),
            Array::Slot(slot) => self.slots[usize::from(slot)].clone(),
            Array::Average => Ema::SLOT.to_owned(),
            Array::Master => Master::MASTER.to_owned(),
            Array::Correction => Master::CORRECTION.to_owned(),
            Array::Random(_) => "random".to_owned(),
        }
    }
}

/// The name of a stage of the engine.
type Stage = &'static str;

/// The equations of an update.
struct Equations {
    update: Update,
    /// The nodes that have a line, in order; with the stage that a line is, if it is one.
    stages: BTreeMap<u32, Option<Stage>>,
    /// The last line that needs a node; a node that is stored is needed to the end.
    needed_until: BTreeMap<u32, u32>,
}

/// The names that nodes have so far.
type Names = BTreeMap<u32, String>;

impl Equations {
    fn new(update: &Update) -> Self {
        let (simple, became) = simplified(update);
        let mut uses = BTreeMap::<u32, usize>::new();
        let mut waiting: Vec<u32> = simple.graph.stores.iter().map(|(_, node)| *node).collect();
        let stored = waiting.clone();
        while let Some(node) = waiting.pop() {
            let count = uses.entry(node).or_default();
            *count += 1;
            if *count == 1 {
                waiting.extend(simple.node(node).operands());
            }
        }
        let has_operands = |node: &u32| simple.node(*node).operands().next().is_some();
        let shared = uses.iter().filter(|(_, count)| **count > 1).map(|(node, _)| *node);
        let plain = shared.chain(stored.iter().copied()).map(|node| (node, None));
        let of_engine = engine_stages(&update.graph).into_iter();
        let of_engine = of_engine.map(|(node, stage)| (became[node as usize], Some(stage)));
        let chosen = before_wrappers(&simple).map(|node| (node, None)).chain(of_engine);
        let lines = plain.chain(chosen.filter(|(node, _)| uses.contains_key(node)));
        let stages: BTreeMap<u32, Option<Stage>> = lines.filter(|(node, _)| has_operands(node)).collect();

        let mut needed_until = BTreeMap::new();
        for line in stages.keys() {
            let mut waiting: Vec<u32> = simple.node(*line).operands().collect();
            while let Some(node) = waiting.pop() {
                needed_until.insert(node, *line);
                if !stages.contains_key(&node) {
                    waiting.extend(simple.node(node).operands());
                }
            }
        }
        needed_until.extend(stored.into_iter().map(|node| (node, u32::MAX)));
        Self { update: simple, stages, needed_until }
    }

    /// The lines, with the stages that they are.
    fn lines(&self, array_name: impl Fn(Array) -> String) -> Vec<(String, Option<Stage>)> {
        let Graph { nodes, stores, .. } = &self.update.graph;
        let mut names = Names::new();
        // The node whose number the name of an array stands for.
        let mut holders = BTreeMap::<Array, u32>::new();
        for (number, node) in (0..).zip(nodes) {
            if let Node::Load(array) = node {
                names.insert(number, array_name(*array));
                holders.insert(*array, number);
            }
        }
        let mut lines = Vec::new();
        let mut temporaries = 1..;
        for (&node, stage) in &self.stages {
            let is_free = |array: &Array| {
                let needed = holders.get(array).and_then(|holder| self.needed_until.get(holder));
                needed.is_none_or(|until| *until <= node)
            };
            let own: Vec<Array> = stores.iter().filter(|(_, of)| *of == node).map(|(array, _)| *array).collect();
            let is_own = |array: &Array| own.is_empty() || own.contains(array) || stage.is_some();
            let lineage = lineage(&self.update, node).filter(is_own);
            let array = lineage.into_iter().chain(own.iter().copied()).find(is_free);
            let name = match array {
                Some(array) => array_name(array),
                None => format!("t{}", temporaries.next().unwrap_or(0)),
            };
            lines.push((format!("{name} <- {}", self.expression(node, &names)), *stage));
            holders.extend(array.map(|array| (array, node)));
            names.insert(node, name);
        }
        for &(array, node) in stores {
            let (name, number) = (array_name(array), self.operand(node, &names));
            if name != number {
                lines.push((format!("{name} <- {number}"), None));
            }
        }
        lines
    }

    /// A node as it is computed.
    fn expression(&self, node: u32, names: &Names) -> String {
        Term::sum(&self.terms(node, names))
    }

    /// A node as an argument of a function: its name, or its expression.
    fn argument(&self, node: u32, names: &Names) -> String {
        names.get(&node).cloned().unwrap_or_else(|| self.expression(node, names))
    }

    /// A node as a factor: its name, or its expression, in parentheses where they are needed.
    fn operand(&self, node: u32, names: &Names) -> String {
        let text = self.argument(node, names);
        let needs_parentheses = !names.contains_key(&node)
            && matches!(
                self.update.node(node),
                Node::Binary(Operation::Add | Operation::Sub | Operation::Mul | Operation::Div, ..)
            );
        if needs_parentheses { format!("({text})") } else { text }
    }

    /// The terms of the sum that a node computes.
    fn terms(&self, node: u32, names: &Names) -> Vec<Term> {
        let terms = |operand| {
            if names.contains_key(&operand) { vec![self.term(operand, names)] } else { self.terms(operand, names) }
        };
        match self.update.node(node) {
            Node::Binary(Operation::Add, a, b) => [terms(a), terms(b)].concat(),
            Node::Binary(Operation::Sub, zero, b) if self.update.value(zero) == Some(0.0) => {
                vec![self.term(b, names).negated()]
            }
            Node::Binary(Operation::Sub, a, b) => [terms(a), vec![self.term(b, names).negated()]].concat(),
            _ => vec![self.product(node, names)],
        }
    }

    /// A node as a term of a sum.
    fn term(&self, node: u32, names: &Names) -> Term {
        match self.update.node(node) {
            Node::Binary(Operation::Add | Operation::Sub, ..) => Term::of(self.operand(node, names)),
            _ if names.contains_key(&node) => Term::of(self.operand(node, names)),
            _ => self.product(node, names),
        }
    }

    /// The product that a node computes, if it is no sum.
    fn product(&self, node: u32, names: &Names) -> Term {
        let argument = |node| self.argument(node, names);
        match self.update.node(node) {
            Node::Binary(Operation::Mul, a, b) => self.term(a, names).times(self.term(b, names)),
            Node::Binary(Operation::Div, a, b) => self.term(a, names).divided_by(self.operand(b, names)),
            Node::Sqrt(a) => Term::of(format!("sqrt({})", argument(a))),
            Node::Binary(Operation::Max, a, b) => Term::of(format!("max({}, {})", argument(a), argument(b))),
            Node::Binary(Operation::Clamp, a, b) => {
                let limit = argument(b);
                Term::of(format!("clip({}, -{limit}, {limit})", argument(a)))
            }
            Node::Binary(Operation::Moment, a, _) => Term::of(format!("bf16({})", argument(a))),
            Node::Binary(Operation::Bf16(narrow), a, b) => {
                Term::of(of_half("bf16", narrow, &argument(a), &argument(b)))
            }
            Node::Binary(Operation::F16(narrow), a, b) => Term::of(of_half("f16", narrow, &argument(a), &argument(b))),
            _ => Term::number(self.update.value(node).unwrap_or(f64::NAN)),
        }
    }
}

/// What is done with a variable in 16 bits; random numbers are left out.
fn of_half(dtype: &str, narrow: Narrow, a: &str, b: &str) -> String {
    match narrow {
        Narrow::Nearest | Narrow::Part | Narrow::Alone => format!("{dtype}({a})"),
        Narrow::Current | Narrow::Join => format!("master({a}, {b})"),
        Narrow::Correction => format!("correction({a})"),
    }
}

/// The array whose number a node replaces: `beta m + (1 - beta) g` is m again.
fn lineage(update: &Update, node: u32) -> Option<Array> {
    match update.node(node) {
        Node::Load(array) => Some(array),
        Node::Binary(Operation::Mul, a, b) if update.value(a).is_some() => lineage(update, b),
        Node::Binary(_, a, _) => lineage(update, a),
        Node::Parameter(_) | Node::Constant(_) | Node::Sqrt(_) => None,
    }
}

/// The values that are compared with a slot: what the rule inside of Lookahead has made of the variable.
fn before_wrappers(update: &Update) -> impl Iterator<Item = u32> {
    update.graph.nodes.iter().filter_map(|node| match *node {
        Node::Binary(Operation::Sub, value, slot) => {
            let is_slot = matches!(update.node(slot), Node::Load(Array::Slot(_)));
            (is_slot && lineage(update, value) == Some(Array::Value)).then_some(value)
        }
        _ => None,
    })
}

/// The nodes that are results of the engine's stages: the gradient, clipped and multiplied by two factors; the decayed
/// value.
fn engine_stages(graph: &Graph) -> Vec<(u32, Stage)> {
    let is_parameter = |node: u32| matches!(graph.nodes[node as usize], Node::Parameter(_));
    let find = |is_it: &dyn Fn(Node) -> bool| (0..).zip(&graph.nodes).find(|(_, node)| is_it(**node)).map(|(at, _)| at);
    let scaled = |x: u32| {
        find(&|node| matches!(node, Node::Binary(Operation::Mul, a, factor) if a == x && is_parameter(factor)))
    };
    let mut stages = Vec::new();
    if let Some(g) = find(&|node| node == Node::Load(Array::Gradient)) {
        let clipped = find(&|node| matches!(node, Node::Binary(Operation::Clamp, a, _) if a == g)).unwrap_or(g);
        stages.push((scaled(clipped).and_then(scaled).unwrap_or(clipped), "the gradient, clipped and scaled"));
    }
    let is_master = |node| match node {
        Node::Binary(Operation::Bf16(narrow) | Operation::F16(narrow), ..) => {
            matches!(narrow, Narrow::Current | Narrow::Join)
        }
        _ => false,
    };
    if let Some(w) = find(&is_master).or_else(|| find(&|node| node == Node::Load(Array::Value)))
        && let Some(part) = scaled(w)
        && let Some(decayed) = find(&|node| node == Node::Binary(Operation::Sub, w, part))
    {
        stages.push((decayed, "weight decay"));
    }
    stages
}
