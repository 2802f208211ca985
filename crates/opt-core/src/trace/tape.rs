//! The tape on which numbers record what is done to them. Each thread has at most one.

use std::cell::RefCell;
use std::sync::atomic::{AtomicU32, Ordering};

use super::graph::{Array, Constant, Node, Operation};
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

/// A place on a tape, which it knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    /// The number of the tape: 0 for constants, which every tape has at the same places.
    tape: u32,
    number: u32,
}

impl Place {
    /// The place of a result outside of a recording.
    const NOWHERE: Self = Self { tape: u32::MAX, number: 0 };

    pub(super) const fn of_constant(constant: Constant) -> Self {
        Self { tape: 0, number: constant as u32 }
    }
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
        // The first and the last number are taken: see `Place`.
        let tape = NEXT.fetch_add(1, Ordering::Relaxed) % (u32::MAX - 1) + 1;
        // Most recordings are shorter.
        let mut entries = Vec::with_capacity(256);
        entries.extend(Constant::ALL.map(|constant| Entry::Node(Node::Constant(constant))));
        Self { outer: CURRENT.replace(Some(Entries { tape, dtype, entries, broken: None })) }
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
pub(super) fn push(entry: Entry) -> Place {
    CURRENT.with_borrow_mut(|entries| entries.as_mut().map_or(Place::NOWHERE, |entries| entries.push(entry)))
}

/// A number that is the same for all elements, rounded to the type of the recording.
pub(super) fn literal(value: f64) -> Place {
    CURRENT.with_borrow_mut(|entries| match entries {
        Some(entries) => entries.push(Entry::Uniform(rounded(entries.dtype, value))),
        None => Place::NOWHERE,
    })
}

/// The result of an operation; computed now if both operands are the same for all elements.
pub(super) fn operation(operation: Operation, a: Place, b: Place) -> Place {
    CURRENT.with_borrow_mut(|entries| {
        let Some(entries) = entries else { return Place::NOWHERE };
        let [at, bt] = [a, b].map(|x| entries.number(x));
        entries.push(match (entries.uniform(at), entries.uniform(bt)) {
            (Some(a), Some(b)) => Entry::Uniform(operation.on(entries.dtype, a, b)),
            _ => Entry::Node(Node::Binary(operation, at, bt)),
        })
    })
}

/// The square root.
pub(super) fn root(x: Place) -> Place {
    CURRENT.with_borrow_mut(|entries| {
        let Some(entries) = entries else { return Place::NOWHERE };
        let number = entries.number(x);
        // Rounding the root of 64 bits gives the root of 32 bits (S. Figueroa, 1995).
        let root = entries.uniform(number).map(|x| Entry::Uniform(rounded(entries.dtype, x.sqrt())));
        entries.push(root.unwrap_or(Entry::Node(Node::Sqrt(number))))
    })
}

/// The value of a number, if it is the same for all elements. If it is not, looking at it is a reason to refuse.
pub(super) fn value_of(x: Place, reason: Untraceable) -> Option<f64> {
    CURRENT.with_borrow_mut(|entries| {
        let entries = entries.as_mut()?;
        let number = entries.number(x);
        let value = entries.uniform(number);
        if value.is_none() {
            entries.refuse(reason);
        }
        value
    })
}

impl Entries {
    fn push(&mut self, entry: Entry) -> Place {
        self.entries.push(entry);
        Place { tape: self.tape, number: self.entries.len() as u32 - 1 }
    }

    fn refuse(&mut self, reason: Untraceable) {
        self.broken = self.broken.or(Some(reason));
    }

    /// The number of a place, if it is on this tape.
    pub(super) fn find(&self, place: Place) -> Option<u32> {
        (place.tape == self.tape || place.tape == 0).then_some(place.number)
    }

    /// The number of a place; one of another tape is a reason to refuse.
    fn number(&mut self, place: Place) -> u32 {
        let number = self.find(place);
        if number.is_none() {
            self.refuse(Untraceable::Foreign);
        }
        number.unwrap_or_default()
    }

    /// The value of a number, if it is the same for all elements.
    fn uniform(&self, number: u32) -> Option<f64> {
        match self.entries[number as usize] {
            Entry::Uniform(value) => Some(value),
            Entry::Node(Node::Constant(constant)) => Some(constant.value(self.dtype)),
            _ => None,
        }
    }
}
