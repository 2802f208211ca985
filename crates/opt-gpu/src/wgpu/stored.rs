//! The arrays of a program in the buffers of a kernel: how their numbers are read and written.
//!
//! Several numbers of fewer bits share a word. A thread that updates all elements of a word changes a copy of it. Where
//! threads update single elements, they change words by atomic operations.

use opt_core::state::DType;
use opt_core::trace::Array;

use super::limits::WORD;
use crate::device::{Elements, Program};

/// The names of the buffers.
pub(super) const VALUE: &str = "value";
pub(super) const GRADIENT: &str = "gradient";
pub(super) const STATE: &str = "state";

/// The buffer in which an array is.
fn buffer(array: Array) -> &'static str {
    match array {
        Array::Value => VALUE,
        Array::Gradient => GRADIENT,
        _ => STATE,
    }
}

/// An array of a program, in a buffer.
pub(super) struct Stored<'a> {
    program: &'a Program,
    /// The name of the number in the kernel.
    name: String,
    dtype: DType,
    pub(super) buffer: &'static str,
    /// The words of the buffer before the array, and a plus sign; nothing if there are none.
    first: String,
    /// The place of the first element.
    place: &'static str,
    pub(super) is_changed: bool,
}

impl<'a> Stored<'a> {
    pub(super) fn of(program: &'a Program, (array, is_changed): (Array, bool)) -> Self {
        let (name, dtype) = (array.name(), program.dtype(array));
        let (buffer, place) = (buffer(array), if array == Array::Gradient { "j" } else { "i" });
        let before = program.place(array).map_or(&[][..], |place| &program.state[..place]);
        let words = [(4, "k.chunk_len"), (2, "((k.chunk_len + 1u) / 2u)"), (1, "((k.chunk_len + 3u) / 4u)")];
        let counts = words.map(|(bytes, words)| (before.iter().filter(|(_, of)| of.bytes() == bytes).count(), words));
        let first = counts.into_iter().filter(|(count, _)| *count > 0);
        let first = first.map(|(count, words)| format!("{count}u * {words} + ")).collect();
        Self { program, name, dtype, buffer, first, place, is_changed }
    }

    pub(super) fn is_narrow(&self) -> bool {
        self.in_a_word() > 1
    }

    /// The number of elements of a word.
    fn in_a_word(&self) -> usize {
        WORD / self.dtype.bytes()
    }

    /// Whether the buffer is one of words, because it has an array of fewer bits.
    pub(super) fn is_in_words(&self) -> bool {
        let is_narrow = |(_, dtype): &(Array, DType)| dtype.bytes() < WORD;
        self.is_narrow() || self.buffer == STATE && self.program.state.iter().any(is_narrow)
    }

    /// Whether other threads may change other elements of the same words.
    pub(super) fn is_atomic(&self) -> bool {
        let is_written = |(array, is_changed)| is_changed && buffer(array) == self.buffer;
        self.is_in_words() && self.program.elements != Elements::All && self.program.arrays().any(is_written)
    }

    /// A word of the buffer, read.
    fn word(&self, place: &str) -> String {
        let word = format!("{}[{}{place}]", self.buffer, self.first);
        if self.is_atomic() { format!("atomicLoad(&{word})") } else { word }
    }

    /// The words of the elements of a thread.
    pub(super) fn words(&self, pack: usize) -> Option<String> {
        let Self { name, place, .. } = self;
        let in_a_word = self.in_a_word();
        let words = 0..(pack / in_a_word).max(1);
        let words: Vec<String> = words.map(|word| self.word(&format!("{place} / {in_a_word}u + {word}u"))).collect();
        let is_needed = self.is_narrow() && !self.is_atomic();
        is_needed.then(|| format!("var {name}_words = array<u32, {}>({});", words.len(), words.join(", ")))
    }

    /// Statements that store the words again, those that have an element of the thread.
    pub(super) fn store_words(&self, pack: usize) -> Vec<String> {
        let Self { name, buffer, first, place, is_changed, .. } = self;
        let in_a_word = self.in_a_word();
        let count = if self.is_narrow() && *is_changed && !self.is_atomic() { pack / in_a_word } else { 0 };
        let store = |word: usize| {
            let to = format!("{buffer}[{first}{place} / {in_a_word}u + {word}u]");
            format!("if j + {}u < k.len {{ {to} = {name}_words[{word}]; }}", word * in_a_word)
        };
        (0..count).map(store).collect()
    }

    /// The word with the number of an element, and the bits of it.
    fn narrow_word(&self) -> (String, String, usize) {
        let Self { name, place, .. } = self;
        let in_a_word = self.in_a_word();
        let bits = 8 * self.dtype.bytes();
        if self.is_atomic() {
            (self.word(&format!("{place} / {in_a_word}u")), format!("({place} % {in_a_word}u) * {bits}u"), bits)
        } else if self.program.elements == Elements::All {
            (format!("{name}_words[e / {in_a_word}u]"), format!("(e % {in_a_word}u) * {bits}u"), bits)
        } else {
            (format!("{name}_words[0]"), format!("({place} % {in_a_word}u) * {bits}u"), bits)
        }
    }

    /// The statement that reads the number of an element.
    pub(super) fn load(&self) -> String {
        let Self { name, place, .. } = self;
        if !self.is_narrow() {
            let number = self.word(&format!("{place} + e"));
            return match self.is_in_words() {
                true => format!("var {name} = bitcast<f32>({number});"),
                false => format!("var {name} = {number};"),
            };
        }
        let (word, shift, bits) = self.narrow_word();
        match self.dtype {
            DType::I8 => format!("var {name} = f32(extractBits(bitcast<i32>({word}), {shift}, {bits}u));"),
            dtype => format!("var {name} = stored_number(({word} >> ({shift})) & 0xffffu, {});", dtype == DType::F16),
        }
    }

    /// The statement that stores the number of an element.
    pub(super) fn store(&self) -> String {
        let Self { name, buffer, first, place, .. } = self;
        if !self.is_narrow() {
            let to = format!("{buffer}[{first}{place} + e]");
            return match (self.is_atomic(), self.is_in_words()) {
                (true, _) => format!("atomicStore(&{to}, bitcast<u32>({name}));"),
                (false, true) => format!("{to} = bitcast<u32>({name});"),
                (false, false) => format!("{to} = {name};"),
            };
        }
        let (word, shift, bits) = self.narrow_word();
        let new = match self.dtype {
            DType::I8 => format!("bitcast<u32>(i32({name}))"),
            dtype => format!("stored_bits({name}, {})", dtype == DType::F16),
        };
        let changed = format!("insertBits({word}, {new}, {shift}, {bits}u)");
        if self.is_atomic() {
            // No other thread changes these bits of the word.
            let to = format!("{buffer}[{first}{place} / {}u]", self.in_a_word());
            format!("atomicXor(&{to}, extractBits({word} ^ {changed}, {shift}, {bits}u) << ({shift}));")
        } else {
            format!("{word} = {changed};")
        }
    }
}
