//! Reads and writes numbers block by block, whatever their layout in memory.

use half::{bf16, f16};
use ndarray::IxDyn;
use ndarray::iter::{Iter, IterMut};

use super::storage::{AnyValues, NOT_LENT, Value, Values, write_sum};
use crate::loops::{self, BLOCK, Buffer};
use crate::precision::extended::Extended;
use crate::precision::master::Masters;
use crate::precision::{Any, HalfFloat, map};
use crate::real::Scalar;

impl<T> Value<'_, T> {
    /// A cursor that visits the numbers block by block.
    pub(crate) fn cursor<'c>(&'c mut self, buffer: &'c mut Buffer<T>) -> Cursor<'c, T> {
        match self {
            Self::Slice(slice) => Cursor::Slice(slice),
            Self::Strided(view) => {
                let block = Vec::with_capacity(BLOCK);
                Cursor::Strided(Box::new(Scattered { elements: view.iter_mut(), block, buffer }))
            }
            Self::Later { .. } => unreachable!("{NOT_LENT}"),
        }
    }
}

impl<T> Values<'_, T> {
    /// A reader of the numbers, block by block.
    fn reader(&self) -> Reader<'_, T> {
        match self {
            Self::Slice(slice) => Reader::Slice(slice),
            Self::Strided(view) => Reader::Strided(Box::new(view.iter())),
            Self::Sum(sum) => {
                let last = map!(&sum.last, values => values.reader());
                Reader::Sum(Box::new(SumReader { sum: sum.sum, last, factor: sum.factor, buffer: Buffer::new() }))
            }
        }
    }
}

impl<T: Scalar> AnyValues<'_, T> {
    /// A reader of the numbers, block by block.
    pub(crate) fn reader(&self) -> AnyReader<'_, T> {
        map!(self, values => values.reader())
    }
}

/// Lends the blocks of a value, whatever its layout in memory.
pub(crate) enum Cursor<'a, T> {
    Slice(&'a mut [T]),
    Strided(Box<Scattered<'a, T>>),
}

/// Elements that are not contiguous in memory, and a buffer for a block of them.
pub(crate) struct Scattered<'a, T> {
    elements: IterMut<'a, T, IxDyn>,
    block: Vec<&'a mut T>,
    buffer: &'a mut Buffer<T>,
}

impl<T: Copy + Default> Cursor<'_, T> {
    /// Lends the elements `at..at + n`; blocks must be visited or skipped in order.
    #[inline]
    pub(crate) fn visit(&mut self, at: usize, n: usize, change: impl FnOnce(&mut [T])) {
        match self {
            Self::Slice(slice) => change(&mut slice[at..at + n]),
            Self::Strided(scattered) => {
                let Scattered { elements, block, buffer } = scattered.as_mut();
                block.clear();
                block.extend(elements.take(n));
                let buffer = buffer.first(n);
                buffer.iter_mut().zip(&*block).for_each(|(to, from)| *to = **from);
                change(buffer);
                block.iter_mut().zip(&*buffer).for_each(|(to, from)| **to = *from);
            }
        }
    }

    pub(crate) fn skip(&mut self, n: usize) {
        if let Self::Strided(scattered) = self {
            scattered.elements.by_ref().take(n).for_each(drop);
        }
    }
}

/// A cursor over a variable; for a 16-bit variable, over the variable and its master.
pub(crate) type AnyCursor<'m, 'a, T> = Any<Cursor<'m, T>, Halves<'m, 'a, bf16, T>, Halves<'m, 'a, f16, T>>;

/// A cursor over a 16-bit variable, its master, and a buffer for a block of the master.
pub(crate) struct Halves<'m, 'a, H, T> {
    pub(crate) cursor: Cursor<'m, H>,
    pub(crate) master: &'m mut Masters<'a, T>,
    pub(crate) buffer: &'m mut Buffer<T>,
}

impl<T: Scalar> AnyCursor<'_, '_, T> {
    /// Lends the elements `at..at + n`; blocks must be visited or skipped in order.
    #[inline]
    pub(crate) fn visit(&mut self, at: usize, n: usize, change: impl FnOnce(&mut [T])) {
        match self {
            Self::Full(cursor) => cursor.visit(at, n, change),
            Self::Bf16(halves) => halves.visit(at, n, change),
            Self::F16(halves) => halves.visit(at, n, change),
        }
    }

    pub(crate) fn skip(&mut self, n: usize) {
        match self {
            Self::Full(cursor) => cursor.skip(n),
            Self::Bf16(halves) => halves.cursor.skip(n),
            Self::F16(halves) => halves.cursor.skip(n),
        }
    }
}

impl<H: Extended, T: Scalar> Halves<'_, '_, H, T> {
    /// Lends the elements `at..at + n` of the master, then rounds them into the variable.
    #[inline]
    pub(crate) fn visit(&mut self, at: usize, n: usize, change: impl FnOnce(&mut [T])) {
        let Self { cursor, master, buffer } = self;
        cursor.visit(at, n, |half| master.visit(at, half, buffer, change));
    }
}

/// Reads numbers block by block, whatever their layout in memory.
pub(crate) enum Reader<'a, T> {
    Slice(&'a [T]),
    Strided(Box<Iter<'a, T, IxDyn>>),
    Sum(Box<SumReader<'a, T>>),
}

/// Reads a sum block by block.
pub(crate) struct SumReader<'a, T> {
    sum: Option<&'a [T]>,
    last: AnyReader<'a, T>,
    factor: f64,
    buffer: Buffer<T>,
}

impl<H: HalfFloat> Reader<'_, H> {
    /// The next numbers, widened.
    pub(crate) fn read<'t, T: Scalar>(&mut self, to: &'t mut [T]) -> &'t mut [T] {
        match self {
            Self::Slice(slice) => {
                let (front, back) = slice.split_at(to.len());
                H::widen(to, front);
                *slice = back;
            }
            Self::Strided(elements) => {
                for (to, &from) in to.iter_mut().zip(elements) {
                    H::widen(std::slice::from_mut(to), &[from]);
                }
            }
            Self::Sum(_) => unreachable!("sums are read in the element type of the optimizer"),
        }
        to
    }
}

/// A reader of numbers of any element type.
pub(crate) type AnyReader<'a, T> = Any<Reader<'a, T>, Reader<'a, bf16>, Reader<'a, f16>>;

impl<T: Scalar> AnyReader<'_, T> {
    /// The next `n` numbers, clipped to `-limit..=limit`. They are copied into the buffer only if that is necessary.
    #[inline(always)]
    pub(crate) fn block<'b>(&'b mut self, n: usize, limit: Option<T>, buffer: &'b mut Buffer<T>) -> &'b [T] {
        let buffer = match self {
            Self::Full(Reader::Slice(slice)) => {
                let (front, back) = slice.split_at(n);
                *slice = back;
                let Some(limit) = limit else { return front };
                let buffer = buffer.first(n);
                loops::clip_by_value(buffer, front, limit);
                return buffer;
            }
            Self::Full(Reader::Strided(elements)) => {
                let buffer = buffer.first(n);
                buffer.iter_mut().zip(elements).for_each(|(to, from)| *to = *from);
                buffer
            }
            Self::Full(Reader::Sum(reader)) => {
                let SumReader { sum, last, factor, buffer: own } = &mut **reader;
                let last = last.block(n, None, own);
                let front = sum.as_mut().map(|sum| sum.split_off(..n).expect("as long as the last gradients"));
                let buffer = buffer.first(n);
                write_sum(buffer, front, last, *factor);
                buffer
            }
            Self::Bf16(reader) => reader.read(buffer.first(n)),
            Self::F16(reader) => reader.read(buffer.first(n)),
        };
        if limit.is_some() {
            buffer.iter_mut().for_each(|g| *g = loops::clamp(*g, limit));
        }
        buffer
    }
}
