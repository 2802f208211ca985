//! What an element has in the registers of a kernel: numbers of its arrays, and random numbers.

use std::collections::BTreeSet;

use opt_core::state::DType;
use opt_core::trace::Draws;

/// How numbers of the type of the graph are stored.
pub(super) const FULL: &str = "Full";

/// How numbers are stored, in the kernel's words.
pub(super) fn storage(dtype: DType) -> &'static str {
    match dtype {
        DType::Bf16 => "Bf16",
        DType::F16 => "F16",
        DType::I8 => "I8",
        _ => FULL,
    }
}

/// An array of a program in registers, by its name in the kernel.
pub(super) struct Used {
    pub(super) name: String,
    /// The address of the first element.
    pub(super) address: String,
    pub(super) storage: &'static str,
    pub(super) is_gradient: bool,
    pub(super) is_loaded: bool,
    pub(super) is_stored: bool,
}

impl Used {
    /// The pointer to the array of a segment.
    pub(super) fn pointer(&self) -> String {
        let Self { name, address, storage, .. } = self;
        match self.is_gradient {
            true => format!("const {storage}::One *__restrict__ const at_{name} = {address}"),
            false => format!("{storage}::One *const at_{name} = ({storage}::One *)({address})"),
        }
    }

    /// An element, read.
    pub(super) fn number(&self) -> String {
        let Self { name, storage, .. } = self;
        let stored = if self.is_gradient { format!("__ldg(at_{name} + i)") } else { format!("at_{name}[e]") };
        format!("{storage}::number({stored})")
    }

    /// A pack of elements, read.
    pub(super) fn pack(&self) -> String {
        let Self { name, storage, .. } = self;
        match self.is_gradient {
            true => format!("read_only<{storage}>(at_{name} + i)"),
            false => format!("read<{storage}>(at_{name} + e)"),
        }
    }

    /// The statement that writes an element.
    pub(super) fn store_number(&self) -> String {
        let Self { name, storage, .. } = self;
        format!("at_{name}[e] = {storage}::stored({name});")
    }

    /// The statement that writes a pack of elements.
    pub(super) fn store_pack(&self) -> String {
        let Self { name, storage, .. } = self;
        format!("write<{storage}>(at_{name} + e, {name});")
    }

    /// An initial value; none if the program does not read the array.
    pub(super) fn when_loaded(&self, value: &str) -> String {
        if self.is_loaded { format!(" = {value}") } else { String::new() }
    }

    /// A statement; none if the program does not change the array.
    pub(super) fn when_stored(&self, statement: &str) -> String {
        if self.is_stored { statement.to_owned() } else { String::new() }
    }
}

/// An array of random numbers: see [`Draws::pairs`].
pub(super) struct Random(pub(super) u8);

impl Random {
    pub(super) fn name(&self) -> String {
        format!("r{}", self.0)
    }

    /// The number of the step from which it is made, and its pair.
    pub(super) fn pair(&self) -> (usize, u8) {
        if self.0 == Draws::MASTER { (1, 0) } else { (0, self.0 / 2) }
    }

    /// The argument for an element.
    pub(super) fn number(&self, place: &str) -> String {
        let (source, pair) = self.pair();
        let is_upper = self.0 == Draws::MASTER || self.0.is_multiple_of(2);
        format!(", (T)(drawn(pair{source}{pair}, {place}) {})", if is_upper { ">> 16" } else { "& 0xffffu" })
    }
}

/// The sources of random numbers of a segment.
pub(super) fn sources(random: &[Random]) -> String {
    let sources: BTreeSet<usize> = random.iter().map(|random| random.pair().0).collect();
    let source =
        |source| format!("  const Index source{source} = mixed(parameters.step[{source}] + segment.variable);\n");
    sources.into_iter().map(source).collect()
}

/// The pairs of random numbers at a place.
pub(super) fn pairs(random: &[Random], indent: &str, place: &str) -> String {
    let pairs: BTreeSet<_> = random.iter().map(Random::pair).collect();
    let pair = |(source, pair)| {
        format!("{indent}const Pair pair{source}{pair} = pair_at(source{source}, {pair}u, {place});\n")
    };
    pairs.into_iter().map(pair).collect()
}
