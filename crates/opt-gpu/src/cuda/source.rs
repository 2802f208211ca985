//! Prints programs as CUDA C.
//!
//! A launch updates elements of many variables: a table of segments says where their arrays are, a table of chunks
//! which elements of which segment a block updates. [`tables`](super::tables) has the host's side of both.

use opt_core::state::DType;
use opt_core::trace::{Array, C, Constant, Language, Node, Operation};

use super::registers::{FULL, Random, Used, pairs, sources, storage};
use crate::device::{DeviceError, Elements, Program};

/// The threads of a block.
pub(super) const THREADS: u32 = 256;
/// The number of elements that a block updates.
pub(super) const CHUNK: usize = 4_096;
/// The number of elements that a block measures.
pub(super) const PART: usize = 16_384;
/// The bytes of a kernel's arguments, without its two tables.
pub(super) const ARGUMENT: usize = 4_096 - 16;
/// The bytes before the parameters: the numbers of the step.
const OF_STEP: usize = 16;

/// The kernel for launches whose variables all have the same parameters, which are an argument.
pub(super) const BY_VALUE: &str = "by_value";
/// The kernel for launches whose variables have parameters of their own, in a table.
pub(super) const BY_TABLE: &str = "by_table";
/// The kernel that measures gradients.
pub(super) const MEASURE: &str = "measure";
/// The types of gradients that are measured.
pub(super) const MEASURED: [DType; 4] = [DType::F32, DType::F64, DType::Bf16, DType::F16];

/// CUDA C in one element type; arrays are registers.
struct Cuda<'a> {
    program: &'a Program,
}

/// The number of elements that a thread loads at once: 16 bytes, less of what is stored in fewer bits.
pub(super) fn width(dtype: DType) -> usize {
    if dtype == DType::F64 { 2 } else { 4 }
}

/// The number of parameters of a program.
pub(super) fn parameters(program: &Program) -> usize {
    let places = program.graph.nodes.iter().filter_map(|node| match node {
        Node::Parameter(place) => Some(*place as usize + 1),
        _ => None,
    });
    places.max().unwrap_or(0)
}

/// Whether so many parameters fit into the argument of a kernel.
pub(super) fn fits(dtype: DType, parameters: usize) -> bool {
    parameters * dtype.bytes() <= ARGUMENT - OF_STEP
}

/// Checks that the kernels of a program can read and write its arrays.
///
/// # Errors
///
/// [`DeviceError::Unsupported`] if one is stored neither in the type of the graph nor, in 32 bits, in fewer bits.
pub fn check(program: &Program) -> Result<(), DeviceError> {
    let dtype = program.graph.dtype;
    let stored = program.arrays().map(|(array, _)| program.dtype(array));
    let mut others = stored.filter(|stored| *stored != dtype);
    let refused = others.find(|stored| dtype != DType::F32 || storage(*stored) == FULL);
    refused.map_or(Ok(()), |dtype| Err(DeviceError::Unsupported { device: "CUDA".to_owned(), dtype }))
}

/// The kernels of a program.
#[must_use]
pub fn step(program: &Program) -> String {
    let cuda = Cuda { program };
    let arrays = cuda.arrays();
    let joined = |text: &dyn Fn(&Used) -> String| -> String { arrays.iter().map(text).collect() };
    let statements: String = program.graph.statements(&cuda).iter().map(|line| format!("  {line}\n")).collect();
    let random = cuda.random();
    let drawn = |text: &dyn Fn(&Random) -> String| -> String { random.iter().map(text).collect() };
    let updated = joined(&|array| format!(", T &{}", array.name)) + &drawn(&|random| format!(", T {}", random.name()));
    let pointers = joined(&|array| format!("  {};\n", array.pointer())) + &sources(&random);
    let packs = joined(&|array| format!("      Pack {}{};\n", array.name, array.when_loaded(&array.pack())));
    let of_packs = joined(&|array| format!(", {}.each[k]", array.name)) + &drawn(&|random| random.number("e + k"));
    let stored_packs = joined(&|array| array.when_stored(&format!("      {}\n", array.store_pack())));
    let numbers = joined(&|array| format!("    T {}{};\n", array.name, array.when_loaded(&array.number())));
    let of_numbers = joined(&|array| format!(", {}", array.name)) + &drawn(&|random| random.number("e"));
    let stored = joined(&|array| array.when_stored(&format!("    {}\n", array.store_number())));
    // Chunks lie between multiples of 2^32, rows lie anywhere.
    let (of_chunk, of_pack, of_number) = match program.elements {
        Elements::Rows => (String::new(), pairs(&random, "      ", "e"), pairs(&random, "    ", "e")),
        _ => (pairs(&random, "  ", "begin"), String::new(), String::new()),
    };
    let place = match program.elements {
        Elements::All => "  return i;\n",
        Elements::Rows => {
            "  const Index e = __ldg(segment.rows + i / segment.width) * segment.width + i % segment.width;
  return e < segment.len ? e : NOWHERE;\n"
        }
        Elements::OtherRows => "  return __ldg(segment.rows + i / segment.width) == 0 ? i : NOWHERE;\n",
    };
    let dtype = program.graph.dtype;
    let count = parameters(program);
    let by_value = if fits(dtype, count) { BY_VALUE_KERNEL } else { "" };
    let head = head(dtype, cuda.is_narrow());
    let [value, gradient] = [program.value, program.gradient].map(storage);
    format!(
        "{head}
struct Segment {{
  {value}::One *value;
  const {gradient}::One *gradient;
  char *state;
  const unsigned *rows;
  Index stride, len, count, width, parameters, is_aligned, variable;
}};

constexpr unsigned PARAMETERS = {count};

struct Parameters {{
  Index step[2];
  T p[PARAMETERS > 0 ? PARAMETERS : 1];
}};

struct Table {{
  Index step[2];
  const T *p;
}};

// The element of the variable to which the number i of those that the kernel goes through belongs.
static __device__ __forceinline__ Index place(const Segment &segment, Index i) {{
{place}}}

static __device__ __forceinline__ void update(const T *p{updated}) {{
{statements}}}

static __device__ __forceinline__ void step(const Parameters &parameters, const Segment &segment, const Chunk &chunk) {{
{pointers}  const bool is_aligned = segment.is_aligned;
  const Index begin = (Index)chunk.number * CHUNK;
  const Index end = begin + CHUNK < segment.count ? begin + CHUNK : segment.count;
{of_chunk}  Index i = begin + threadIdx.x * (is_aligned ? WIDTH : 1);
  if (is_aligned) {{
    for (; i + WIDTH <= end; i += THREADS * WIDTH) {{
      const Index e = place(segment, i);
      if (e == NOWHERE) continue;
{of_pack}{packs}#pragma unroll
      for (unsigned k = 0; k < WIDTH; k++) update(parameters.p{of_packs});
{stored_packs}    }}
  }}
  // All elements of the chunk, or those of the last pack, which one thread has.
  for (; i < end; i += is_aligned ? 1 : THREADS) {{
    const Index e = place(segment, i);
    if (e == NOWHERE) continue;
{of_number}{numbers}    update(parameters.p{of_numbers});
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
  step(parameters, segment, chunk);
}
"#;

const BY_TABLE_KERNEL: &str = r#"
extern "C" __global__ void __launch_bounds__(THREADS)
    by_table(const Segment *segments, const Chunk *chunks, const Table table) {
  const Chunk chunk = chunks[blockIdx.x];
  const Segment segment = segments[chunk.segment];
  Parameters parameters = {{table.step[0], table.step[1]}};
#pragma unroll
  for (unsigned k = 0; k < PARAMETERS; k++) parameters.p[k] = __ldg(table.p + segment.parameters + k);
  step(parameters, segment, chunk);
}
"#;

/// The kernel that measures gradients that are stored in a type.
#[must_use]
pub fn measure(dtype: DType) -> String {
    let storage = storage(dtype);
    let number = if dtype == DType::F64 { DType::F64 } else { DType::F32 };
    format!("{}\ntypedef {storage} Gradient;\n{}", head(number, storage != FULL), include_str!("measure.cu"))
}

/// The types and functions that all kernels have, and those for numbers in fewer bits.
fn head(dtype: DType, is_narrow: bool) -> String {
    let (number, vector) = if dtype == DType::F32 { ("float", "float4") } else { ("double", "double2") };
    let common = include_str!("common.cu");
    let (functions, narrow) = if is_narrow { (C::NARROW, include_str!("narrow.cu")) } else { ("", "") };
    let width = width(dtype);
    format!(
        "typedef unsigned long long Index;
typedef {number} T;
typedef {vector} Vector;
constexpr unsigned WIDTH = {width}, THREADS = {THREADS}, CHUNK = {CHUNK}, PART = {PART};
constexpr Index NOWHERE = ~0ull;
#define NARROW static __device__ __forceinline__

{functions}{common}{narrow}"
    )
}

impl Cuda<'_> {
    /// The arrays of the program.
    fn arrays(&self) -> Vec<Used> {
        let is_loaded = |array| self.program.graph.nodes.contains(&Node::Load(array));
        let used = |(array, is_stored)| Used {
            name: self.element(array),
            address: self.address(array),
            storage: storage(self.program.dtype(array)),
            is_gradient: array == Array::Gradient,
            is_loaded: is_loaded(array),
            is_stored,
        };
        self.program.arrays().map(used).collect()
    }

    /// The address of an array of a segment.
    fn address(&self, array: Array) -> String {
        match (array, self.program.place(array)) {
            (Array::Gradient, _) => "segment.gradient".to_owned(),
            (_, Some(place)) => {
                let before: usize = self.program.state[..place].iter().map(|(_, dtype)| dtype.bytes()).sum();
                format!("segment.state + {before} * segment.stride")
            }
            (_, None) => "segment.value".to_owned(),
        }
    }

    /// The random numbers of the program.
    fn random(&self) -> Vec<Random> {
        let random = |(array, _)| if let Array::Random(random) = array { Some(Random(random)) } else { None };
        self.program.graph.arrays().into_iter().filter_map(random).collect()
    }

    /// Whether it has to do with numbers in fewer bits.
    fn is_narrow(&self) -> bool {
        let graph = &self.program.graph;
        graph.rounds()
            || graph
                .arrays()
                .iter()
                .any(|(array, _)| matches!(array, Array::Random(_)) || storage(self.program.dtype(*array)) != FULL)
    }

    /// The language that CUDA C extends.
    fn c(&self) -> C {
        C::new(self.program.graph.dtype)
    }
}

impl Language for Cuda<'_> {
    fn element(&self, array: Array) -> String {
        match (array, self.program.place(array)) {
            (Array::Random(random), _) => Random(random).name(),
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
