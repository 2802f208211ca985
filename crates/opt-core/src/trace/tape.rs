//! The tape on which numbers record what is done to them. Each thread has at most one.

use std::cell::RefCell;
use std::sync::atomic::{AtomicU32, Ordering};

use super::graph::{Array, Constant, Node, Operation};
use super::numbers::Traced;
use super::{Untraceable, rounded};
use crate::dtype::DType;

/// An entry of the tape. Operands are places on the tape.
#[derive(Debug, Clone, Copy)]
pub(super) enum Entry {
    /// The number of an element.
    Load(Array, usize),
    /// A number that is the same for all elements.
    Uniform(f64),
    /// A constant, or the result of an operation.
    Node(Node),
}

/// What has been recorded so far.
#[derive(Debug)]
pub(super) struct Entries {
    /// The number of the tape. Numbers know it.
    pub(super) tape: u32,
    pub(super) dtype: DType,
    pub(super) entries: Vec<Entry>,
    /// Why what is recorded is not all that was done.
    pub(super) broken: Option<Untraceable>,
}

thread_local! {
    static CURRENT: RefCell<Option<Entries>> = const { RefCell::new(None) };
}

/// A recording on this thread. It ends when this value is dropped.
#[derive(Debug)]
pub(crate) struct Tape {
    /// The recording that this one interrupts.
    outer: Option<Entries>,
}

impl Tape {
    /// Starts to record numbers of this type.
    pub(crate) fn start(dtype: DType) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        // The first and the last number are taken: see `Traced`.
        let tape = NEXT.fetch_add(1, Ordering::Relaxed) % (u32::MAX - 1) + 1;
        let entries = Constant::ALL.map(|constant| Entry::Node(Node::Constant(constant))).to_vec();
        Self { outer: CURRENT.replace(Some(Entries { tape, dtype, entries, broken: None })) }
    }

    /// The number of an element of an array.
    pub(crate) fn load(&self, array: Array, element: usize) -> Traced {
        push(Entry::Load(array, element))
    }

    /// Reads what has been recorded.
    pub(super) fn read<V>(&self, read: impl FnOnce(&Entries) -> V) -> V {
        CURRENT.with_borrow(|entries| read(entries.as_ref().expect("the tape has not been dropped")))
    }
}

impl Drop for Tape {
    fn drop(&mut self) {
        CURRENT.set(self.outer.take());
    }
}

/// Adds an entry.
fn push(entry: Entry) -> Traced {
    CURRENT.with_borrow_mut(|entries| entries.as_mut().map_or(Traced::NOWHERE, |entries| entries.push(entry)))
}

/// A number that is the same for all elements, rounded to the type of the recording.
pub(super) fn literal(value: f64) -> Traced {
    CURRENT.with_borrow_mut(|entries| match entries {
        Some(entries) => entries.push(Entry::Uniform(rounded(entries.dtype, value))),
        None => Traced::NOWHERE,
    })
}

/// The result of an operation; computed now if both operands are the same for all elements.
pub(super) fn operation(operation: Operation, a: Traced, b: Traced) -> Traced {
    CURRENT.with_borrow_mut(|entries| {
        let Some(entries) = entries else { return Traced::NOWHERE };
        let [at, bt] = [a, b].map(|x| entries.place(x));
        entries.push(match (entries.uniform(at), entries.uniform(bt)) {
            (Some(a), Some(b)) => Entry::Uniform(operation.on(entries.dtype, a, b)),
            _ => Entry::Node(Node::Binary(operation, at, bt)),
        })
    })
}

/// The square root.
pub(super) fn root(x: Traced) -> Traced {
    CURRENT.with_borrow_mut(|entries| {
        let Some(entries) = entries else { return Traced::NOWHERE };
        let place = entries.place(x);
        // Rounding the root of 64 bits gives the root of 32 bits (S. Figueroa, 1995).
        let root = entries.uniform(place).map(|x| Entry::Uniform(rounded(entries.dtype, x.sqrt())));
        entries.push(root.unwrap_or(Entry::Node(Node::Sqrt(place))))
    })
}

/// The value of a number, if it is the same for all elements. If it is not, looking at it is a reason to refuse.
pub(super) fn value_of(x: Traced, reason: Untraceable) -> Option<f64> {
    CURRENT.with_borrow_mut(|entries| {
        let entries = entries.as_mut()?;
        let place = entries.place(x);
        let value = entries.uniform(place);
        if value.is_none() {
            entries.refuse(reason);
        }
        value
    })
}

impl Entries {
    fn push(&mut self, entry: Entry) -> Traced {
        self.entries.push(entry);
        Traced { tape: self.tape, place: self.entries.len() as u32 - 1 }
    }

    fn refuse(&mut self, reason: Untraceable) {
        self.broken = self.broken.or(Some(reason));
    }

    /// The place of a number on this tape.
    pub(super) fn place(&mut self, x: Traced) -> u32 {
        if x.tape != self.tape && !x.is_constant() {
            self.refuse(Untraceable::Foreign);
            return 0;
        }
        x.place
    }

    /// The value of a number, if it is the same for all elements.
    fn uniform(&self, place: u32) -> Option<f64> {
        match self.entries[place as usize] {
            Entry::Uniform(value) => Some(value),
            Entry::Node(Node::Constant(constant)) => Some(constant.value(self.dtype)),
            _ => None,
        }
    }
}
