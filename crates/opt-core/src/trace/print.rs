//! Prints a graph as statements of a programming language.

use super::graph::{Array, Constant, Graph, Node, Operation};

/// A language, and how it writes the parts of an update of one element. [`Graph::statements`] does the rest.
pub trait Language {
    /// An element of an array.
    fn element(&self, array: Array) -> String;

    /// A parameter.
    fn parameter(&self, parameter: u32) -> String;

    /// A constant.
    fn constant(&self, constant: Constant) -> String;

    /// The result of an operation, rounded once; it is not combined with other operations.
    fn operation(&self, operation: Operation, a: &str, b: &str) -> String;

    /// The square root, rounded once.
    fn sqrt(&self, x: &str) -> String;

    /// The statement that gives a name to a number.
    fn define(&self, name: &str, value: &str) -> String;
}

impl Graph {
    /// The update of one element as statements of a language. All numbers are computed before the first one is stored.
    #[must_use]
    pub fn statements(&self, language: &impl Language) -> Vec<String> {
        let mut statements = Vec::new();
        let mut numbers: Vec<String> = Vec::with_capacity(self.nodes.len());
        for node in &self.nodes {
            let of = |number: u32| numbers[number as usize].as_str();
            let value = match *node {
                Node::Parameter(parameter) => {
                    numbers.push(language.parameter(parameter));
                    continue;
                }
                Node::Constant(constant) => {
                    numbers.push(language.constant(constant));
                    continue;
                }
                Node::Load(array) => language.element(array),
                Node::Binary(operation, a, b) => language.operation(operation, of(a), of(b)),
                Node::Sqrt(a) => language.sqrt(of(a)),
            };
            let name = format!("x{}", numbers.len());
            statements.push(language.define(&name, &value));
            numbers.push(name);
        }
        let stores = self.stores.iter();
        statements
            .extend(stores.map(|(array, node)| format!("{} = {};", language.element(*array), numbers[*node as usize])));
        statements
    }
}

impl Array {
    /// Its name in programs: `w`, `g`, `s0`, `a`, `m`, `c`, `r0`.
    #[must_use]
    pub fn name(self) -> String {
        match self {
            Self::Value => "w".to_owned(),
            Self::Gradient => "g".to_owned(),
            Self::Slot(slot) => format!("s{slot}"),
            Self::Average => "a".to_owned(),
            Self::Master => "m".to_owned(),
            Self::Correction => "c".to_owned(),
            Self::Random(random) => format!("r{random}"),
        }
    }
}
