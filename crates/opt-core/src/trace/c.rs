//! Prints a graph as a function in C.

use std::fmt::Write;

use super::graph::{Array, Constant, Graph, Operation};
use super::narrow::Narrow;
use super::print::Language;
use crate::dtype::DType;

/// C99 in one element type. An element of an array is `w[i]`, `g[i]`, `s0[i]`, `a[i]`; a parameter is `p[0]`.
#[derive(Debug, Clone, Copy)]
pub struct C {
    in_32_bits: bool,
}

impl Graph {
    /// The update as a function in C99, of this name: `void step(size_t n, const float *p, float *w, const float *g)`.
    /// Its arguments are the number of elements, the [parameters](super::Update::parameters), and the
    /// [arrays](Self::arrays), which must not overlap.
    ///
    /// Each operation is written alone. The bits are those of the engine if the compiler combines none of them: gcc and
    /// clang do not with `-ffp-contract=off` and without `-ffast-math`.
    #[must_use]
    pub fn to_c(&self, function: &str) -> String {
        let language = C::new(self.dtype);
        let number = language.number();
        let arrays = self.arrays().into_iter().map(|(array, is_changed)| {
            let constant = if is_changed { "" } else { "const " };
            format!(", {constant}{number} *restrict {}", array.name())
        });
        let arrays: String = arrays.collect();
        let mut text = String::from("#include <math.h>\n#include <stddef.h>\n\n");
        if self.rounds() {
            text += C::NARROW;
        }
        // Writing to a string does not fail.
        let _ = writeln!(text, "void {function}(size_t n, const {number} *restrict p{arrays}) {{");
        text.push_str("  for (size_t i = 0; i < n; i++) {\n");
        for statement in self.statements(&language) {
            let _ = writeln!(text, "    {statement}");
        }
        text.push_str("  }\n}\n");
        text
    }
}

impl C {
    /// The functions that [operations](Operation) on numbers in 16 bits call, after a definition of `NARROW`, if another
    /// one than `static inline` is needed. `stored_number` and `stored_bits` read and write such numbers.
    pub const NARROW: &str = include_str!("narrow.c");

    /// The language for an element type.
    #[must_use]
    pub fn new(dtype: DType) -> Self {
        Self { in_32_bits: dtype == DType::F32 }
    }

    fn number(&self) -> &'static str {
        if self.in_32_bits { "float" } else { "double" }
    }

    /// The name of a function of the library for this type.
    fn function(&self, name: &str) -> String {
        let suffix = if self.in_32_bits { "f" } else { "" };
        format!("{name}{suffix}")
    }
}

impl Language for C {
    fn element(&self, array: Array) -> String {
        format!("{}[i]", array.name())
    }

    fn parameter(&self, parameter: u32) -> String {
        format!("p[{parameter}]")
    }

    fn constant(&self, constant: Constant) -> String {
        let number = match (constant, self.in_32_bits) {
            (Constant::Zero, true) => "0.0f",
            (Constant::Zero, false) => "0.0",
            (Constant::Smallest, true) => "0x1p-126f",
            (Constant::Smallest, false) => "0x1p-1022",
            (Constant::Largest, true) => "0x1.fffffep127f",
            (Constant::Largest, false) => "0x1.fffffffffffffp1023",
        };
        number.to_owned()
    }

    fn operation(&self, operation: Operation, a: &str, b: &str) -> String {
        let zero = self.constant(Constant::Zero);
        match operation {
            Operation::Add => format!("{a} + {b}"),
            Operation::Sub => format!("{a} - {b}"),
            Operation::Mul => format!("{a} * {b}"),
            Operation::Div => format!("{a} / {b}"),
            Operation::Max => format!("{a} > {b} || {a} != {a} ? {a} : {b}"),
            Operation::Flush => format!("{}({a}) < {b} ? {zero} : {a}", self.function("fabs")),
            Operation::Clamp => format!("{a} > {b} ? {b} : {a} < {zero} - {b} ? {zero} - {b} : {a}"),
            Operation::Moment => format!("rounded_moment({a}, {b})"),
            Operation::Bf16(narrow) => call(narrow, a, b, 0),
            Operation::F16(narrow) => call(narrow, a, b, 1),
        }
    }

    fn sqrt(&self, x: &str) -> String {
        format!("{}({x})", self.function("sqrt"))
    }

    fn define(&self, name: &str, value: &str) -> String {
        format!("const {} {name} = {value};", self.number())
    }
}

/// A call of a function of [`C::NARROW`].
fn call(narrow: Narrow, a: &str, b: &str, f16: u32) -> String {
    match narrow.function() {
        (name, true) => format!("{name}({a}, {b}, {f16}u)"),
        (name, false) => format!("{name}({a}, {f16}u)"),
    }
}
