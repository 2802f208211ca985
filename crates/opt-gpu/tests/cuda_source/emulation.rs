//! Kernels on the CPU: compiled as C++, with memory that is checked to the last byte.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use half::{bf16, f16};
use opt_conformance::recording::are_same;
use opt_gpu::cuda::tables::{self, Span};
use opt_gpu::device::Element;
use optimizers::state::DType;

/// Memory of a launch; between its arrays are bytes that nobody may change.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Memory(pub(crate) Vec<u8>);

impl Memory {
    const UNUSED: u8 = 0xa5;
    const ALIGNMENT: usize = 256;

    pub(crate) fn new() -> Self {
        Self(vec![Self::UNUSED; Self::ALIGNMENT])
    }

    /// Places arrays of the same length, `shift` elements behind an aligned address, each directly behind the one
    /// before if they are `tight`. (Numbers in more bytes than others stay where numbers of their size can be.)
    pub(crate) fn place<T: Element>(&mut self, arrays: &[(DType, &[T])], shift: usize, tight: bool) -> Span {
        let dtypes: Vec<DType> = arrays.iter().map(|(dtype, _)| *dtype).collect();
        let sizes = || dtypes.iter().map(|dtype| dtype.bytes());
        let [largest, smallest] = [sizes().max(), sizes().min()].map(|size| size.unwrap_or(1));
        let len = arrays.first().map_or(0, |(_, numbers)| numbers.len());
        let loose = tables::stride(&dtypes, len).unwrap();
        let stride = if tight { len.next_multiple_of(largest / smallest) } else { loose };
        let start = self.0.len() + shift * largest;
        self.0.resize(start + sizes().sum::<usize>() * stride + 16, Self::UNUSED);
        self.0.resize(self.0.len().next_multiple_of(Self::ALIGNMENT), Self::UNUSED);
        let span = Span { pointer: start as u64, arrays: dtypes, len, stride };
        for (array, (_, numbers)) in arrays.iter().enumerate() {
            numbers.iter().enumerate().for_each(|(element, number)| self.set(&span, array, element, *number));
        }
        span
    }

    /// Places the indices of rows.
    pub(crate) fn place_rows(&mut self, indices: &[u32]) -> Span {
        // As bits of numbers, which are copied and not computed with.
        let indices: Vec<f32> = indices.iter().map(|index| f32::from_bits(*index)).collect();
        self.place(&[(DType::F32, &indices)], 0, false)
    }

    /// Stores a number, which must be one of the array's type.
    pub(crate) fn set<T: Element>(&mut self, span: &Span, array: usize, element: usize, number: T) {
        let dtype = span.arrays[array];
        assert!(are_same(number, stored(dtype, number)), "{number} is not in {dtype:?}");
        let bytes = bytes(dtype, number);
        self.element(span, array, element).copy_from_slice(&bytes);
    }

    /// Makes all NaN of a buffer the same.
    pub(crate) fn unify<T: Element>(&mut self, span: &Span) {
        for (array, dtype) in span.arrays.iter().enumerate() {
            for element in 0..span.len {
                let place = self.element(span, array, element);
                let wide: f64 = number::<T>(*dtype, place).as_();
                if wide.is_nan() {
                    place.copy_from_slice(&bytes(*dtype, T::literal(f64::NAN)));
                }
            }
        }
    }

    fn element(&mut self, span: &Span, array: usize, element: usize) -> &mut [u8] {
        let size = span.arrays[array].bytes();
        let place = span.array(array) as usize + element * size;
        &mut self.0[place..place + size]
    }
}

/// A number as it is stored.
fn bytes<T: Element>(dtype: DType, number: T) -> Vec<u8> {
    let single = number.to_f32();
    match dtype {
        DType::Bf16 => bf16::from_f32(single).to_ne_bytes().to_vec(),
        DType::F16 => f16::from_f32(single).to_ne_bytes().to_vec(),
        DType::I8 => (single as i8).to_ne_bytes().to_vec(),
        _ => bytemuck::bytes_of(&number).to_vec(),
    }
}

/// A stored number.
fn number<T: Element>(dtype: DType, bytes: &[u8]) -> T {
    match dtype {
        DType::Bf16 => T::from_f32(bytemuck::pod_read_unaligned::<bf16>(bytes).to_f32()),
        DType::F16 => T::from_f32(bytemuck::pod_read_unaligned::<f16>(bytes).to_f32()),
        DType::I8 => T::from_f32(bytemuck::pod_read_unaligned::<i8>(bytes).into()),
        _ => bytemuck::pod_read_unaligned(bytes),
    }
}

/// A number of a type that is near to another number.
pub(crate) fn stored<T: Element>(dtype: DType, near: T) -> T {
    number(dtype, &bytes(dtype, near))
}

/// What a launch leaves.
pub(crate) struct After {
    pub(crate) results: Vec<u64>,
    pub(crate) memory: Memory,
}

/// Kernels, and launches of them.
#[derive(Default)]
pub(crate) struct Emulation {
    kernels: String,
    calls: String,
    count: usize,
    input: Vec<u64>,
    sizes: Vec<[usize; 2]>,
}

/// A kernel of an [`Emulation`].
#[derive(Clone, Copy)]
pub(crate) struct Kernel(usize);

impl Emulation {
    /// Adds one of the kernels of a program, as a copy of its source.
    pub(crate) fn step(&mut self, source: &str, name: &str) -> Kernel {
        let third = match name {
            "by_value" => "*(const Parameters *)p",
            _ => "{{((const Index *)p)[0], ((const Index *)p)[1]}, (const T *)((const Index *)p + 2)}",
        };
        self.add(source, name, "in_turn", &format!("(const Segment *)s, (const Chunk *)c, {third}"))
    }

    /// Adds the kernel that measures.
    pub(crate) fn measure(&mut self, source: &str) -> Kernel {
        self.add(source, "measure", "at_once", "(const Question *)s, (const Chunk *)c, (Part *)r")
    }

    /// Adds a kernel that has only its own words and the results.
    pub(crate) fn other(&mut self, source: &str, name: &str) -> Kernel {
        self.add(source, name, "in_turn", "(const Index *)s, (Index *)r")
    }

    fn add(&mut self, source: &str, name: &str, grid: &str, arguments: &str) -> Kernel {
        let kernel = self.count;
        self.count += 1;
        // Names of C are the same in all namespaces.
        let source = ["by_value", "by_table", "measure", "pairs"]
            .into_iter()
            .fold(source.to_owned(), |source, name| source.replace(&format!("{name}("), &format!("{name}{kernel}(")));
        let call = format!(
            "static void call(const void *s, const void *c, const void *p, void *r) {{ {name}{kernel}({arguments}); }}"
        );
        // Functions for numbers in 16 bits are there once for each namespace.
        write!(self.kernels, "namespace k{kernel} {{\n#undef NARROW_C\n{source}\n{call}\n}}\n").unwrap();
        writeln!(self.calls, "case {kernel}: {grid}(blocks, [=] {{ k{kernel}::call(s, c, p, r); }}); break;").unwrap();
        Kernel(kernel)
    }

    /// Adds a launch. A segment has `shape[0]` words, of which the first `shape[1]` are addresses.
    pub(crate) fn launch(
        &mut self,
        kernel: Kernel,
        shape: [usize; 2],
        [segments, chunks, parameters]: [&[u64]; 3],
        results: usize,
        memory: &Memory,
    ) {
        let words: Vec<u64> = bytemuck::pod_collect_to_vec(&memory.0);
        let head = [kernel.0, shape[0], shape[1], segments.len(), chunks.len(), parameters.len(), results, words.len()];
        self.input.extend(head.map(|number| number as u64));
        [segments, chunks, parameters, &words].into_iter().for_each(|part| self.input.extend(part));
        self.sizes.push([results, words.len()]);
    }

    /// Runs all launches.
    pub(crate) fn run(self, name: &str) -> Vec<After> {
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
        let [source, program, input, output] =
            [".cpp", "", ".in", ".out"].map(|extension| folder.join(format!("{name}{extension}")));
        let text = include_str!("emulation.cpp").replace("KERNELS\n", &self.kernels).replace("CALLS\n", &self.calls);
        fs::write(&source, text).unwrap();
        fs::write(&input, bytemuck::cast_slice::<u64, u8>(&self.input)).unwrap();
        let compiler = env::var_os("CXX").unwrap_or_else(|| "c++".into());
        let flags = ["-std=c++20", "-O1", "-ffp-contract=off", "-fno-strict-aliasing", "-w", "-pthread", "-o"];
        // Where an address is not aligned as its type says, the program stops, as it does on a GPU.
        let flags = [&["-fsanitize=alignment", "-fsanitize-undefined-trap-on-error"], &flags[..]].concat();
        run(Command::new(compiler).args(flags).args([program.as_path(), &source, Path::new("-lm")]));
        run(Command::new(&program).args([&input, &output]));
        let words: Vec<u64> = bytemuck::pod_collect_to_vec(&fs::read(output).unwrap());
        let mut rest = &words[..];
        let mut take = |count| {
            let (taken, left) = rest.split_at(count);
            rest = left;
            taken.to_vec()
        };
        let after = self.sizes.iter().map(|[results, memory]| After {
            results: take(*results),
            memory: Memory(bytemuck::pod_collect_to_vec(&take(*memory))),
        });
        let after: Vec<After> = after.collect();
        assert!(rest.is_empty());
        after
    }
}

fn run(command: &mut Command) {
    let shown = format!("{command:?}");
    match command.output() {
        Err(error) => panic!("{shown}: {error}. This test compiles C++: install a compiler, or name one in CXX"),
        Ok(output) => assert!(output.status.success(), "{shown}: {}", String::from_utf8_lossy(&output.stderr)),
    }
}
