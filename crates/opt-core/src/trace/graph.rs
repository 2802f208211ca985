//! The graph of a recorded step, taken from the tape, and its evaluation.

use half::{bf16, f16};

use super::narrow::Narrow;
use crate::dtype::DType;
use crate::precision::stochastic;
use crate::real::Scalar;

/// An array of one number for each element of a variable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Array {
    /// The variable.
    Value,
    /// Its gradient, as it was given.
    Gradient,
    /// An array slot of the rule, by its place among the array slots.
    Slot(u8),
    /// The average that the engine keeps.
    Average,
    /// The master of a variable in 16 bits, in full: see [`Master::Full`](crate::Master::Full).
    Master,
    /// The correction of a variable in 16 bits: see [`Master::Bits24`](crate::Master::Bits24).
    Correction,
    /// Random numbers from 0 to 65,535, by which others are rounded. They are stored nowhere: see
    /// [`Draws`](super::Draws).
    Random(u8),
}

/// A number that is the same in every step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Constant {
    /// 0.
    Zero,
    /// The smallest normal number above 0 of the element type.
    Smallest,
    /// The largest finite number of the element type.
    Largest,
}

/// An operation on two numbers, rounded once to the element type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Operation {
    /// `a + b`.
    Add,
    /// `a - b`.
    Sub,
    /// `a * b`.
    Mul,
    /// `a / b`.
    Div,
    /// The larger one; NaN if either is: `a > b || a != a ? a : b`.
    Max,
    /// 0 if the magnitude of a is below b, else a.
    Flush,
    /// `a > b ? b : a < -b ? -b : a`; NaN stays NaN.
    Clamp,
    /// The moment a in bfloat16, rounded by the random number b.
    Moment,
    /// Something with a variable in bfloat16.
    Bf16(Narrow),
    /// Something with a variable in 16-bit floating point.
    F16(Narrow),
}

/// A number of a graph. Operands are numbers of earlier nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Node {
    /// An element of an array, before the step.
    Load(Array),
    /// A parameter, by its place among the parameters.
    Parameter(u32),
    /// A constant.
    Constant(Constant),
    /// The result of an operation.
    Binary(Operation, u32, u32),
    /// The square root.
    Sqrt(u32),
}

/// The structure of an update: what happens to each element, without the numbers that are the same for all elements.
/// It is the key under which compiled kernels can be kept.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Graph {
    /// The element type.
    pub dtype: DType,
    /// The nodes, operands before results, in the order of the engine.
    pub nodes: Vec<Node>,
    /// The arrays that change, and the nodes that they get. (The others keep their numbers.)
    pub stores: Vec<(Array, u32)>,
}

/// The update of an element: a graph and its parameters.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Update {
    /// The structure.
    pub graph: Graph,
    /// The numbers that are the same for all elements, rounded to the element type.
    pub parameters: Vec<f64>,
}

impl Constant {
    /// All constants, in the order of their places on a tape.
    pub(super) const ALL: [Self; 3] = [Self::Zero, Self::Smallest, Self::Largest];

    /// The value in an element type.
    #[must_use]
    pub fn value(self, dtype: DType) -> f64 {
        match (self, dtype) {
            (Self::Zero, _) => 0.0,
            (Self::Smallest, DType::F32) => f64::from(f32::MIN_POSITIVE),
            (Self::Smallest, _) => f64::MIN_POSITIVE,
            (Self::Largest, DType::F32) => f64::from(f32::MAX),
            (Self::Largest, _) => f64::MAX,
        }
    }
}

impl Operation {
    /// The result for numbers of an element type.
    pub fn apply<T: Scalar>(self, a: T, b: T) -> T {
        match self {
            Self::Add => a + b,
            Self::Sub => a - b,
            Self::Mul => a * b,
            Self::Div => a / b,
            Self::Max => a.max(b),
            Self::Flush => a.flushed(b),
            Self::Clamp => a.clamped(b),
            Self::Moment => T::from_f32(stochastic::rounded(a.to_f32(), b.to_f32() as u32).to_f32()),
            Self::Bf16(narrow) => T::from_f32(narrow.apply::<bf16>(a.to_f32(), b.to_f32())),
            Self::F16(narrow) => T::from_f32(narrow.apply::<f16>(a.to_f32(), b.to_f32())),
        }
    }

    /// As [`apply`](Self::apply), for an element type that is known at run time.
    pub(super) fn on(self, dtype: DType, a: f64, b: f64) -> f64 {
        if dtype == DType::F32 { f64::from(self.apply(a as f32, b as f32)) } else { self.apply(a, b) }
    }
}

impl Node {
    /// The nodes that this one is computed from.
    pub fn operands(self) -> impl Iterator<Item = u32> {
        let (first, second) = match self {
            Self::Load(_) | Self::Parameter(_) | Self::Constant(_) => (None, None),
            Self::Binary(_, a, b) => (Some(a), Some(b)),
            Self::Sqrt(a) => (Some(a), None),
        };
        first.into_iter().chain(second)
    }

    /// The same node with other numbers for its operands.
    pub(super) fn renumbered(self, number: impl Fn(u32) -> u32) -> Self {
        match self {
            Self::Binary(operation, a, b) => Self::Binary(operation, number(a), number(b)),
            Self::Sqrt(a) => Self::Sqrt(number(a)),
            leaf => leaf,
        }
    }
}

impl Graph {
    /// The arrays that the update reads or changes, sorted; and whether it changes them.
    #[must_use]
    pub fn arrays(&self) -> Vec<(Array, bool)> {
        let is_changed = |array| self.stores.iter().any(|(store, _)| *store == array);
        let loads = self.nodes.iter().filter_map(|node| if let Node::Load(array) = node { Some(*array) } else { None });
        let mut arrays: Vec<Array> = loads.chain(self.stores.iter().map(|(array, _)| *array)).collect();
        arrays.sort_unstable();
        arrays.dedup();
        arrays.into_iter().map(|array| (array, is_changed(array))).collect()
    }

    /// Whether it rounds to fewer bits.
    #[must_use]
    pub fn rounds(&self) -> bool {
        let rounds = |operation| matches!(operation, Operation::Moment | Operation::Bf16(_) | Operation::F16(_));
        self.nodes.iter().any(|node| matches!(node, Node::Binary(operation, ..) if rounds(*operation)))
    }

    /// Computes the update of an element in the element type of the graph. `parameters` are those of an [`Update`],
    /// `load` gives the numbers before the step. Returns the arrays that change, with their new numbers. They have the
    /// engine's bits.
    pub fn evaluate<T: Scalar>(&self, parameters: &[f64], load: impl Fn(Array) -> T) -> Vec<(Array, T)> {
        let Self { dtype, nodes, stores } = self;
        let mut values: Vec<T> = Vec::with_capacity(nodes.len());
        for node in nodes {
            values.push(match *node {
                Node::Load(array) => load(array),
                Node::Parameter(parameter) => T::literal(parameters[parameter as usize]),
                Node::Constant(constant) => T::literal(constant.value(*dtype)),
                Node::Binary(operation, a, b) => operation.apply(values[a as usize], values[b as usize]),
                Node::Sqrt(a) => values[a as usize].sqrt(),
            });
        }
        stores.iter().map(|&(array, node)| (array, values[node as usize])).collect()
    }
}

impl Update {
    /// Computes the update of an element in the element type of the graph: see [`Graph::evaluate`].
    pub fn evaluate<T: Scalar>(&self, load: impl Fn(Array) -> T) -> Vec<(Array, T)> {
        self.graph.evaluate(&self.parameters, load)
    }

    /// Copies arrays: each of the first ones gets the number of the second one.
    #[must_use]
    pub fn copying(dtype: DType, copies: &[(Array, Array)]) -> Self {
        let nodes = copies.iter().map(|(_, from)| Node::Load(*from)).collect();
        let stores = copies.iter().map(|(to, _)| *to).zip(0..).collect();
        Self { graph: Graph { dtype, nodes, stores }, parameters: Vec::new() }
    }

    /// Puts `sum + factor * gradient` into the variable, where the sum is the first slot; without a sum, only the
    /// product. So gradients are accumulated.
    #[must_use]
    pub fn adding(dtype: DType, has_sum: bool, factor: f64) -> Self {
        let mut nodes = vec![Node::Load(Array::Gradient), Node::Parameter(0), Node::Binary(Operation::Mul, 0, 1)];
        if has_sum {
            nodes.extend([Node::Load(Array::Slot(0)), Node::Binary(Operation::Add, 3, 2)]);
        }
        let stores = vec![(Array::Value, nodes.len() as u32 - 1)];
        Self { graph: Graph { dtype, nodes, stores }, parameters: vec![super::rounded(dtype, factor)] }
    }

    /// A node.
    pub(super) fn node(&self, number: u32) -> Node {
        self.graph.nodes[number as usize]
    }

    /// The value of a number that is the same for all elements.
    pub(super) fn value(&self, number: u32) -> Option<f64> {
        match self.node(number) {
            Node::Parameter(parameter) => Some(self.parameters[parameter as usize]),
            Node::Constant(constant) => Some(constant.value(self.graph.dtype)),
            _ => None,
        }
    }

    /// Whether both are the same, bit for bit.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        let bits = |update: &Self| update.parameters.iter().map(|parameter| parameter.to_bits()).collect::<Vec<_>>();
        self.graph == other.graph && bits(self) == bits(other)
    }
}
