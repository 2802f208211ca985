//! Kernels on the CPU: compiled as C++, with memory that is checked to the last byte.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use opt_gpu::cuda::tables::{self, Span};
use opt_gpu::device::Element;

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
    /// before if they are `tight`.
    pub(crate) fn place<T: Element>(&mut self, arrays: &[Vec<T>], shift: usize, tight: bool) -> Span {
        let (size, len) = (size_of::<T>(), arrays[0].len());
        let stride = if tight { len } else { tables::stride(T::DTYPE, len).unwrap() };
        let start = self.0.len() + shift * size;
        self.0.resize(start + arrays.len() * stride * size + 16, Self::UNUSED);
        self.0.resize(self.0.len().next_multiple_of(Self::ALIGNMENT), Self::UNUSED);
        let span = Span { pointer: start as u64, dtype: T::DTYPE, arrays: arrays.len(), len, stride };
        for (array, numbers) in arrays.iter().enumerate() {
            numbers.iter().enumerate().for_each(|(element, number)| self.set(&span, array, element, *number));
        }
        span
    }

    /// Places the indices of rows.
    pub(crate) fn place_rows(&mut self, indices: &[u32]) -> Span {
        // As bits of numbers, which are copied and not computed with.
        self.place(&[indices.iter().map(|index| f32::from_bits(*index)).collect()], 0, false)
    }

    pub(crate) fn set<T: Element>(&mut self, span: &Span, array: usize, element: usize, number: T) {
        let place = span.pointer as usize + (array * span.stride + element) * size_of::<T>();
        self.0[place..place + size_of::<T>()].copy_from_slice(bytemuck::bytes_of(&number));
    }
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
        let third = if name == "by_value" { "*(const Parameters *)p" } else { "(const T *)p" };
        self.add(source, name, "in_turn", &format!("(const Segment *)s, (const Chunk *)c, {third}"))
    }

    /// Adds the kernel that measures.
    pub(crate) fn measure(&mut self, source: &str) -> Kernel {
        self.add(source, "measure", "at_once", "(const Question *)s, (const Chunk *)c, (Part *)r")
    }

    fn add(&mut self, source: &str, name: &str, grid: &str, arguments: &str) -> Kernel {
        let kernel = self.count;
        self.count += 1;
        // Names of C are the same in all namespaces.
        let source = ["by_value", "by_table", "measure"]
            .into_iter()
            .fold(source.to_owned(), |source, name| source.replace(&format!("{name}("), &format!("{name}{kernel}(")));
        let call = format!(
            "static void call(const void *s, const void *c, const void *p, void *r) {{ {name}{kernel}({arguments}); }}"
        );
        write!(self.kernels, "namespace k{kernel} {{\n{source}\n{call}\n}}\n").unwrap();
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
