//! Prints programs as WGSL.
//!
//! A compiler of WGSL may fuse operations, reorder them, and assume that there is no NaN. So each result goes through
//! `exact`, which a compiler cannot see through, because it does not know that `k.zero` is 0; and everything that
//! compares numbers looks at their bits.

use opt_core::trace::{Array, Constant, Draws, Language, Narrow, Operation};

use super::bindings::Bindings;
use super::limits::{THREADS, WORD};
use super::stored::{GRADIENT, STATE, Stored, VALUE};
use crate::device::{Elements, Program};

/// What every kernel begins with. The uniform is made by `Arrays::dispatch_of`.
const HEAD: &str = include_str!("head.wgsl");

/// What kernels need besides if numbers are stored in fewer bits, or rounded to them.
const NARROW: &str = include_str!("narrow.wgsl");

/// The kernel of a program: a function called `step`.
pub(super) fn print(program: &Program, bindings: &Bindings) -> String {
    let mut text = HEAD.to_owned();
    let arrays: Vec<Stored<'_>> = program.arrays().map(|of| Stored::of(program, of)).collect();
    if program.graph.rounds() || arrays.iter().any(Stored::is_narrow) {
        text += NARROW;
    }
    for (place, name, access) in [
        (Bindings::PARAMETERS, "p", bindings.parameters.then_some("read")),
        (Bindings::VALUE, VALUE, bindings.value.map(access)),
        (Bindings::GRADIENT, GRADIENT, bindings.gradient.then_some("read")),
        (Bindings::STATE, STATE, bindings.state.map(access)),
        (Bindings::ROWS, "rows", bindings.rows.then_some("read")),
    ] {
        // All arrays of a buffer are read alike.
        let number = match arrays.iter().find(|array| array.buffer == name) {
            Some(array) if array.is_atomic() => "atomic<u32>",
            Some(array) if array.is_in_words() => "u32",
            None if name == "rows" => "u32",
            _ => "f32",
        };
        if let Some(access) = access {
            text += &format!("@group(0) @binding({place}) var<storage, {access}> {name}: array<{number}>;\n");
        }
    }
    let pack = pack(program);
    text += &format!("\n@compute @workgroup_size({THREADS})\n");
    text += "fn step(@builtin(global_invocation_id) id: vec3<u32>) {\n";
    text += &format!("  let j = id.x * {pack}u;\n  if j >= k.len {{ return; }}\n");
    text += index(program.elements);
    let mut add = |lines: Vec<String>| lines.iter().for_each(|line| text += &format!("  {line}\n"));
    add(arrays.iter().filter_map(|array| array.words(pack)).collect());
    add(vec![if pack == 1 {
        "{ let e = 0u;".to_owned()
    } else {
        format!("for (var e = 0u; e < min({pack}u, k.len - j); e++) {{")
    }]);
    add(arrays.iter().map(Stored::load).collect());
    add(program.graph.statements(&Wgsl));
    add(arrays.iter().filter(|array| array.is_changed).map(Stored::store).collect());
    add(vec!["}".to_owned()]);
    add(arrays.iter().flat_map(|array| array.store_words(pack)).collect());
    text + "}\n"
}

/// The number of elements that a thread updates: as many as share a word, so that no two threads write the same one.
/// (Rows may end within a word; there, words are changed by atomic operations.)
pub(super) fn pack(program: &Program) -> usize {
    let in_a_word = |(array, _)| WORD / program.dtype(array).bytes();
    if program.elements == Elements::All { program.arrays().map(in_a_word).max().unwrap_or(1) } else { 1 }
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

/// The language. Arrays are variables of the kernel.
struct Wgsl;

impl Language for Wgsl {
    fn element(&self, array: Array) -> String {
        match array {
            Array::Random(Draws::MASTER) => "f32(random_bits(k.masters, i + e) >> 16u)".to_owned(),
            Array::Random(random) => {
                let pair = ["k.moments.xy", "k.moments.zw"][usize::from(random / 2)];
                let half = if random % 2 == 0 { ">> 16u" } else { "& 0xffffu" };
                format!("f32(random_bits({pair}, i + e) {half})")
            }
            stored => stored.name(),
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
            Operation::Moment => format!("rounded_moment({a}, {b})"),
            Operation::Bf16(narrow) => call(narrow, a, b, false),
            Operation::F16(narrow) => call(narrow, a, b, true),
        }
    }

    fn sqrt(&self, x: &str) -> String {
        format!("exact(sqrt({x}))")
    }

    fn define(&self, name: &str, value: &str) -> String {
        format!("let {name} = {value};")
    }
}

/// A call of a function of `narrow.wgsl`.
fn call(narrow: Narrow, a: &str, b: &str, f16: bool) -> String {
    match narrow.function() {
        (name, true) => format!("{name}({a}, {b}, {f16})"),
        (name, false) => format!("{name}({a}, {f16})"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_go_through_a_function_that_compilers_cannot_see_through() {
        let operations = [Operation::Add, Operation::Sub, Operation::Mul, Operation::Div]
            .map(|operation| Wgsl.operation(operation, "a", "b"));
        assert_eq!(operations, ["exact(a + b)", "exact(a - b)", "exact(a * b)", "exact(a / b)"]);
        assert_eq!(Wgsl.sqrt("a"), "exact(sqrt(a))");
    }
}
