//! Prints programs as CUDA C.
//!
//! A launch updates elements of many variables: a table of segments says where their arrays are, a table of chunks
//! which elements of which segment a block updates. [`tables`](super::tables) has the host's side of both.

use opt_core::state::DType;
use opt_core::trace::{Array, C, Constant, Language, Node, Operation};

use crate::device::{Elements, Program};

/// The threads of a block.
pub(super) const THREADS: u32 = 256;
/// The number of elements that a block updates.
pub(super) const CHUNK: usize = 4_096;
/// The number of elements that a block measures.
pub(super) const PART: usize = 16_384;
/// The bytes of a kernel's arguments, without its two tables.
pub(super) const ARGUMENT: usize = 4_096 - 16;

/// The kernel for launches whose variables all have the same parameters, which are an argument.
pub(super) const BY_VALUE: &str = "by_value";
/// The kernel for launches whose variables have parameters of their own, in a table.
pub(super) const BY_TABLE: &str = "by_table";
/// The kernel that measures gradients.
pub(super) const MEASURE: &str = "measure";

/// CUDA C in one element type; arrays are registers.
struct Cuda<'a> {
    program: &'a Program,
}

/// The number of elements in 16 bytes, which a thread loads at once.
pub(super) fn width(dtype: DType) -> usize {
    if dtype == DType::F32 { 4 } else { 2 }
}

/// The number of parameters of a program.
pub(super) fn parameters(program: &Program) -> usize {
    let places = program.graph.nodes.iter().filter_map(|node| match node {
        Node::Parameter(place) => Some(*place as usize + 1),
        _ => None,
    });
    places.max().unwrap_or(0)
}

/// The kernels of a program.
#[must_use]
pub fn step(program: &Program) -> String {
    let cuda = Cuda { program };
    let arrays = cuda.arrays();
    let joined = |separator: &str, text: &dyn Fn(&Used) -> String| -> String {
        arrays.iter().map(text).filter(|text| !text.is_empty()).collect::<Vec<_>>().join(separator)
    };
    let statements: String = program.graph.statements(&cuda).iter().map(|line| format!("  {line}\n")).collect();
    let updated = joined("", &|array| format!(", T &{}", array.name));
    let pointers = joined("", &|array| format!("  {};\n", array.pointer()));
    let packs = joined("", &|array| format!("      Pack {}{};\n", array.name, array.when_loaded(&array.pack())));
    let of_packs = joined("", &|array| format!(", {}.each[k]", array.name));
    let stored_packs =
        joined("", &|array| array.when_stored(&format!("      *(Vector *)(at_{0} + e) = {0}.all;\n", array.name)));
    let numbers = joined("", &|array| format!("    T {}{};\n", array.name, array.when_loaded(&array.number())));
    let of_numbers = joined("", &|array| format!(", {}", array.name));
    let stored = joined("", &|array| array.when_stored(&format!("    at_{0}[e] = {0};\n", array.name)));
    let place = match program.elements {
        Elements::All => "  return i;\n",
        Elements::Rows => {
            "  const Index e = __ldg(segment.rows + i / segment.width) * segment.width + i % segment.width;
  return e < segment.len ? e : NOWHERE;\n"
        }
        Elements::OtherRows => "  return __ldg(segment.rows + i / segment.width) == 0 ? i : NOWHERE;\n",
    };
    let count = parameters(program);
    let by_value = if count * size(program.graph.dtype) <= ARGUMENT { BY_VALUE_KERNEL } else { "" };
    let head = head(program.graph.dtype);
    format!(
        "{head}
struct Segment {{
  T *value;
  const T *gradient;
  T *state;
  const unsigned *rows;
  Index stride, len, count, width, parameters, is_aligned;
}};

constexpr unsigned PARAMETERS = {count};

struct Parameters {{
  T p[PARAMETERS > 0 ? PARAMETERS : 1];
}};

// The element of the variable to which the number i of those that the kernel goes through belongs.
static __device__ __forceinline__ Index place(const Segment &segment, Index i) {{
{place}}}

static __device__ __forceinline__ void update(const T *p{updated}) {{
{statements}}}

static __device__ __forceinline__ void step(const T *p, const Segment &segment, const Chunk &chunk) {{
{pointers}  const bool is_aligned = segment.is_aligned;
  const Index begin = (Index)chunk.number * CHUNK;
  const Index end = begin + CHUNK < segment.count ? begin + CHUNK : segment.count;
  Index i = begin + threadIdx.x * (is_aligned ? WIDTH : 1);
  if (is_aligned) {{
    for (; i + WIDTH <= end; i += THREADS * WIDTH) {{
      const Index e = place(segment, i);
      if (e == NOWHERE) continue;
{packs}#pragma unroll
      for (unsigned k = 0; k < WIDTH; k++) update(p{of_packs});
{stored_packs}    }}
  }}
  // All elements of the chunk, or those of the last pack, which one thread has.
  for (; i < end; i += is_aligned ? 1 : THREADS) {{
    const Index e = place(segment, i);
    if (e == NOWHERE) continue;
{numbers}    update(p{of_numbers});
{stored}  }}
}}
{by_value}{BY_TABLE_KERNEL}"
    )
}

const BY_VALUE_KERNEL: &str = r#"
extern "C" __global__ void __launch_bounds__(THREADS)
    by_value(const Segment *segments, const Chunk *chunks, const Parameters parameters) {
  const Chunk chunk = chunks[blockIdx.x];
  const Segment segment = segments[chunk.segment];
  step(parameters.p, segment, chunk);
}
"#;

const BY_TABLE_KERNEL: &str = r#"
extern "C" __global__ void __launch_bounds__(THREADS)
    by_table(const Segment *segments, const Chunk *chunks, const T *table) {
  const Chunk chunk = chunks[blockIdx.x];
  const Segment segment = segments[chunk.segment];
  Parameters parameters;
#pragma unroll
  for (unsigned k = 0; k < PARAMETERS; k++) parameters.p[k] = __ldg(table + segment.parameters + k);
  step(parameters.p, segment, chunk);
}
"#;

/// The kernel that measures gradients in an element type.
#[must_use]
pub fn measure(dtype: DType) -> String {
    head(dtype) + include_str!("measure.cu")
}

/// The types and functions that all kernels have.
fn head(dtype: DType) -> String {
    let (number, vector) = if dtype == DType::F32 { ("float", "float4") } else { ("double", "double2") };
    let common = include_str!("common.cu");
    let width = width(dtype);
    format!(
        "typedef unsigned long long Index;
typedef {number} T;
typedef {vector} Vector;
constexpr unsigned WIDTH = {width}, THREADS = {THREADS}, CHUNK = {CHUNK}, PART = {PART};
constexpr Index NOWHERE = ~0ull;

{common}"
    )
}

/// The bytes of a number.
pub(super) fn size(dtype: DType) -> usize {
    if dtype == DType::F32 { 4 } else { 8 }
}

/// An array of a program in registers, by its name in the kernel.
struct Used {
    name: String,
    array: Array,
    is_loaded: bool,
    is_stored: bool,
    place: Option<usize>,
}

impl Used {
    /// The pointer to the array of a segment.
    fn pointer(&self) -> String {
        let name = &self.name;
        match (self.array, self.place) {
            (Array::Gradient, _) => format!("const T *__restrict__ const at_{name} = segment.gradient"),
            (_, Some(place)) => format!("T *const at_{name} = segment.state + {place} * segment.stride"),
            (_, None) => format!("T *const at_{name} = segment.value"),
        }
    }

    /// An element, read.
    fn number(&self) -> String {
        let name = &self.name;
        if self.array == Array::Gradient { format!("__ldg(at_{name} + i)") } else { format!("at_{name}[e]") }
    }

    /// A pack of elements, read.
    fn pack(&self) -> String {
        let name = &self.name;
        if self.array == Array::Gradient { format!("read_only(at_{name} + i)") } else { format!("read(at_{name} + e)") }
    }

    /// An initial value; none if the program does not read the array.
    fn when_loaded(&self, value: &str) -> String {
        if self.is_loaded { format!(" = {value}") } else { String::new() }
    }

    /// A statement; none if the program does not change the array.
    fn when_stored(&self, statement: &str) -> String {
        if self.is_stored { statement.to_owned() } else { String::new() }
    }
}

impl Cuda<'_> {
    /// The arrays of the program.
    fn arrays(&self) -> Vec<Used> {
        let graph = &self.program.graph;
        let is_loaded = |array| graph.nodes.contains(&Node::Load(array));
        let used = |(array, is_stored)| Used {
            name: self.element(array),
            array,
            is_loaded: is_loaded(array),
            is_stored,
            place: self.program.place(array),
        };
        graph.arrays().into_iter().map(used).collect()
    }

    /// The language that CUDA C extends.
    fn c(&self) -> C {
        C::new(self.program.graph.dtype)
    }
}

impl Language for Cuda<'_> {
    fn element(&self, array: Array) -> String {
        match (array, self.program.place(array)) {
            (_, Some(place)) => format!("s{place}"),
            (Array::Gradient, None) => "g".to_owned(),
            (_, None) => "w".to_owned(),
        }
    }

    fn parameter(&self, parameter: u32) -> String {
        self.c().parameter(parameter)
    }

    fn constant(&self, constant: Constant) -> String {
        self.c().constant(constant)
    }

    fn operation(&self, operation: Operation, a: &str, b: &str) -> String {
        self.c().operation(operation, a, b)
    }

    fn sqrt(&self, x: &str) -> String {
        self.c().sqrt(x)
    }

    fn define(&self, name: &str, value: &str) -> String {
        format!("const T {name} = {value};")
    }
}
