//! Prints programs as WGSL.
//!
//! A compiler of WGSL may fuse operations, reorder them, and assume that there is no NaN. So each result goes through
//! `exact`, which a compiler cannot see through, because it does not know that `k.zero` is 0; and everything that
//! compares numbers looks at their bits.

use opt_core::trace::{Array, Constant, Language, Operation};

use super::bindings::Bindings;
use super::limits::THREADS;
use crate::device::{Elements, Program};

/// What every kernel begins with. The uniform is made by `Arrays::dispatch_of`.
const HEAD: &str = include_str!("head.wgsl");

/// The kernel of a program: a function called `step`.
pub(super) fn print(program: &Program, bindings: &Bindings) -> String {
    let mut text = HEAD.to_owned();
    for (place, name, access, number) in [
        (Bindings::PARAMETERS, "p", bindings.parameters.then_some("read"), "f32"),
        (Bindings::VALUE, "w", bindings.value.map(access), "f32"),
        (Bindings::GRADIENT, "g", bindings.gradient.then_some("read"), "f32"),
        (Bindings::STATE, "s", bindings.state.map(access), "f32"),
        (Bindings::ROWS, "rows", bindings.rows.then_some("read"), "u32"),
    ] {
        if let Some(access) = access {
            text += &format!("@group(0) @binding({place}) var<storage, {access}> {name}: array<{number}>;\n");
        }
    }
    text += &format!("\n@compute @workgroup_size({THREADS})\n");
    text += "fn step(@builtin(global_invocation_id) id: vec3<u32>) {\n";
    text += "  let j = id.x;\n  if j >= k.len { return; }\n";
    text += index(program.elements);
    for statement in program.graph.statements(&Wgsl { program }) {
        text += &format!("  {statement}\n");
    }
    text + "}\n"
}

fn access(is_changed: bool) -> &'static str {
    if is_changed { "read_write" } else { "read" }
}

/// Statements that make `i`, the place of the element in this chunk of the variable, or return. `j` is its place in the
/// dispatch.
fn index(elements: Elements) -> &'static str {
    match elements {
        Elements::All => "  let i = j;\n",
        // The difference wraps around if the element is before the chunk.
        Elements::Rows => {
            "  let row = rows[(k.first + j) / k.width - k.first_row];
  let i = row * k.width + (k.first + j) % k.width - k.chunk_start;
  if i >= k.chunk_len { return; }
"
        }
        Elements::OtherRows => {
            "  if rows[(k.first + j) / k.width - k.first_row] != 0u { return; }
  let i = j;
"
        }
    }
}

/// The language, and the program that is printed.
struct Wgsl<'a> {
    program: &'a Program,
}

impl Language for Wgsl<'_> {
    fn element(&self, array: Array) -> String {
        match (array, self.program.place(array)) {
            (Array::Gradient, _) => "g[j]".to_owned(),
            (_, None) => "w[i]".to_owned(),
            (_, Some(place)) => format!("s[{place}u * k.chunk_len + i]"),
        }
    }

    fn parameter(&self, parameter: u32) -> String {
        format!("p[k.parameters + {parameter}u]")
    }

    fn constant(&self, constant: Constant) -> String {
        let number = match constant {
            // Of a 0 that they know, compilers would make x + 0 to x, which changes -0.
            Constant::Zero => "exact(0.0f)",
            Constant::Smallest => "exact(0x1p-126f)",
            Constant::Largest => "exact(0x1.fffffep127f)",
        };
        number.to_owned()
    }

    fn operation(&self, operation: Operation, a: &str, b: &str) -> String {
        match operation {
            Operation::Add => format!("exact({a} + {b})"),
            Operation::Sub => format!("exact({a} - {b})"),
            Operation::Mul => format!("exact({a} * {b})"),
            Operation::Div => format!("exact({a} / {b})"),
            Operation::Max => format!("larger({a}, {b})"),
            Operation::Flush => format!("flushed({a}, {b})"),
            Operation::Clamp => format!("clamped({a}, {b})"),
        }
    }

    fn sqrt(&self, x: &str) -> String {
        format!("exact(sqrt({x}))")
    }

    fn define(&self, name: &str, value: &str) -> String {
        format!("let {name} = {value};")
    }
}

#[cfg(test)]
mod tests {
    use opt_core::{Optimizer, Variable};
    use optimizers::Sgd;

    use super::*;

    #[test]
    fn results_go_through_a_function_that_compilers_cannot_see_through() {
        let mut optimizer = Optimizer::new(Sgd::new(0.5).momentum(0.25)).unwrap();
        let (mut w, g) = ([1.0_f32], [1.0]);
        let recorded = optimizer.record([Variable::new("w", &mut w).gradient(&g)]).unwrap().remove(0);
        let program = Program { graph: recorded.update.graph, average: 1, elements: Elements::All };
        let language = Wgsl { program: &program };
        let operations = [Operation::Add, Operation::Sub, Operation::Mul, Operation::Div]
            .map(|operation| language.operation(operation, "a", "b"));
        assert_eq!(operations, ["exact(a + b)", "exact(a - b)", "exact(a * b)", "exact(a / b)"]);
        assert_eq!(language.sqrt("a"), "exact(sqrt(a))");
    }
}
