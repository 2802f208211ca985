//! Numbers of variables and gradients, with the axes in stored order, wherever they lie in memory.

use std::borrow::Cow;

use half::{bf16, f16};
use ndarray::iter::{Iter, IterMut};
use ndarray::{ArrayViewD, ArrayViewMutD, Axis, IxDyn};

use crate::loops;
use crate::precision::{Any, Narrow, each, map, split};
use crate::real::Scalar;
use crate::rule::{BLOCK, Buffer};

/// The numbers of a variable.
pub(crate) type AnyValue<'a, T> = Any<Value<'a, T>, Value<'a, bf16>, Value<'a, f16>>;

/// Numbers to read.
pub(crate) type AnyValues<'a, T> = Any<Values<'a, T>, Values<'a, bf16>, Values<'a, f16>>;

/// The numbers of a variable, of one type.
#[derive(Debug)]
pub(crate) enum Value<'a, T> {
    Slice(&'a mut [T]),
    Strided(Box<ArrayViewMutD<'a, T>>),
}

/// Numbers to read, of one type.
#[derive(Debug)]
pub(crate) enum Values<'a, T> {
    Slice(&'a [T]),
    Strided(Box<ArrayViewD<'a, T>>),
}

/// Elements of a view that must stay together: it can be cut along axis 0 only.
fn row_width(len: usize, shape: &[usize]) -> usize {
    len / shape.first().copied().unwrap_or(1).max(1)
}

impl<'a, T> Value<'a, T> {
    fn len(&self) -> usize {
        match self {
            Self::Slice(slice) => slice.len(),
            Self::Strided(view) => view.len(),
        }
    }

    /// The same for a shorter time.
    fn reborrow(&mut self) -> Value<'_, T> {
        match self {
            Self::Slice(slice) => Value::Slice(slice),
            Self::Strided(view) => Value::Strided(Box::new(view.view_mut())),
        }
    }

    /// Calls `visit` with each element, in stored order.
    pub(crate) fn for_each(&mut self, visit: impl FnMut(&mut T)) {
        match self {
            Self::Slice(slice) => slice.iter_mut().for_each(visit),
            Self::Strided(view) => view.iter_mut().for_each(visit),
        }
    }

    fn width(&self) -> usize {
        match self {
            Self::Slice(_) => 1,
            Self::Strided(view) => row_width(view.len(), view.shape()),
        }
    }

    /// Cuts before an element, the first of a row.
    fn split_at(self, at: usize, row: usize) -> (Self, Self) {
        match self {
            Self::Slice(slice) => {
                let (front, back) = slice.split_at_mut(at);
                (Self::Slice(front), Self::Slice(back))
            }
            Self::Strided(view) => {
                let (front, back) = view.split_at(Axis(0), row);
                (Self::Strided(Box::new(front)), Self::Strided(Box::new(back)))
            }
        }
    }

    fn read(&self) -> Values<'_, T> {
        match self {
            Self::Slice(slice) => Values::Slice(slice),
            Self::Strided(view) => Values::Strided(Box::new(view.view())),
        }
    }

    /// A walk over the numbers, block by block.
    pub(crate) fn cursor<'c>(&'c mut self, buffer: &'c mut Buffer<T>) -> Cursor<'c, T> {
        match self {
            Self::Slice(slice) => Cursor::Slice(slice),
            Self::Strided(view) => {
                let block = Vec::with_capacity(BLOCK);
                Cursor::Strided(Box::new(Scattered { elements: view.iter_mut(), block, buffer }))
            }
        }
    }
}

impl<'a, T> AnyValue<'a, T> {
    /// The numbers, where those of 16 bits have been refused.
    pub(crate) fn into_full(self) -> Value<'a, T> {
        match self {
            Self::Full(value) => value,
            Self::Bf16(_) | Self::F16(_) => unreachable!("variables of 16 bits have been refused"),
        }
    }

    pub(crate) fn len(&self) -> usize {
        each!(self, value => value.len())
    }

    /// The same for a shorter time.
    pub(crate) fn reborrow(&mut self) -> AnyValue<'_, T> {
        map!(self, value => value.reborrow())
    }

    /// Elements that must stay together.
    pub(crate) fn width(&self) -> usize {
        each!(self, value => value.width())
    }

    /// Cuts before an element, the first of a row.
    pub(crate) fn split_at(self, at: usize, row: usize) -> (Self, Self) {
        split!(self, value => value.split_at(at, row))
    }
}

impl<T: Scalar> AnyValue<'_, T> {
    /// A copy, in stored order.
    pub(crate) fn to_vec(&self) -> Vec<T> {
        map!(self, value => value.read()).to_rows().into_owned()
    }
}

impl<'a, T> Values<'a, T> {
    fn len(&self) -> usize {
        match self {
            Self::Slice(slice) => slice.len(),
            Self::Strided(view) => view.len(),
        }
    }

    /// The same for a shorter time.
    fn reborrow(&self) -> Values<'_, T> {
        match self {
            Self::Slice(slice) => Values::Slice(slice),
            Self::Strided(view) => Values::Strided(Box::new(view.view())),
        }
    }

    fn width(&self) -> usize {
        match self {
            Self::Slice(_) => 1,
            Self::Strided(view) => row_width(view.len(), view.shape()),
        }
    }

    /// Cuts before an element, the first of a row.
    fn split_at(self, at: usize, row: usize) -> (Self, Self) {
        match self {
            Self::Slice(slice) => {
                let (front, back) = slice.split_at(at);
                (Self::Slice(front), Self::Slice(back))
            }
            Self::Strided(view) => {
                let (front, back) = view.split_at(Axis(0), row);
                (Self::Strided(Box::new(front)), Self::Strided(Box::new(back)))
            }
        }
    }

    /// A walk over the numbers, block by block.
    fn reader(&self) -> Reader<'_, T> {
        match self {
            Self::Slice(slice) => Reader::Slice(slice),
            Self::Strided(view) => Reader::Strided(Box::new(view.iter())),
        }
    }
}

impl<T: Copy> Values<'_, T> {
    /// The elements, row by row.
    fn to_rows(&self) -> Cow<'_, [T]> {
        match self {
            Self::Slice(slice) => Cow::Borrowed(slice),
            Self::Strided(view) => Cow::Owned(view.iter().copied().collect()),
        }
    }
}

impl<'a, T> AnyValues<'a, T> {
    /// The numbers, where those of 16 bits have been refused.
    pub(crate) fn into_full(self) -> Values<'a, T> {
        match self {
            Self::Full(values) => values,
            Self::Bf16(_) | Self::F16(_) => unreachable!("gradients of 16 bits have been refused"),
        }
    }

    pub(crate) fn len(&self) -> usize {
        each!(self, values => values.len())
    }

    /// The same for a shorter time.
    pub(crate) fn reborrow(&self) -> AnyValues<'_, T> {
        map!(self, values => values.reborrow())
    }

    /// Whether they can be cut anywhere.
    pub(crate) fn is_slice(&self) -> bool {
        each!(self, values => matches!(values, Values::Slice(_)))
    }

    /// Elements that must stay together.
    pub(crate) fn width(&self) -> usize {
        each!(self, values => values.width())
    }

    /// Cuts before an element, the first of a row.
    pub(crate) fn split_at(self, at: usize, row: usize) -> (Self, Self) {
        split!(self, values => values.split_at(at, row))
    }
}

impl<T: Scalar> AnyValues<'_, T> {
    /// A walk over the numbers, block by block.
    pub(crate) fn reader(&self) -> AnyReader<'_, T> {
        map!(self, values => values.reader())
    }

    /// The elements, row by row, in the element type of the optimizer.
    pub(crate) fn to_rows(&self) -> Cow<'_, [T]> {
        fn widened<T: Scalar, H: Narrow>(values: &Values<'_, H>) -> Vec<T> {
            let mut wide = vec![T::zero(); values.len()];
            H::widen(&mut wide, &values.to_rows());
            wide
        }
        match self {
            Self::Full(values) => values.to_rows(),
            Self::Bf16(values) => Cow::Owned(widened(values)),
            Self::F16(values) => Cow::Owned(widened(values)),
        }
    }
}

/// Gives blocks of a value, wherever it lies in memory.
pub(crate) enum Cursor<'a, T> {
    Slice(&'a mut [T]),
    Strided(Box<Scattered<'a, T>>),
}

/// The elements of a value that are not side by side, and room for a block of them.
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

/// A cursor over a variable; over one of 16 bits with its master.
pub(crate) type AnyCursor<'a, T> = Any<Cursor<'a, T>, Halves<'a, bf16, T>, Halves<'a, f16, T>>;

/// A variable of 16 bits, and its master.
pub(crate) struct Halves<'a, H, T> {
    pub(crate) cursor: Cursor<'a, H>,
    pub(crate) master: &'a mut [T],
}

impl<T: Scalar> AnyCursor<'_, T> {
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

impl<H: Narrow, T: Scalar> Halves<'_, H, T> {
    /// Lends the master of the elements `at..at + n`; the variable gets it rounded.
    #[inline]
    pub(crate) fn visit(&mut self, at: usize, n: usize, change: impl FnOnce(&mut [T])) {
        let master = &mut self.master[at..at + n];
        self.cursor.visit(at, n, |half| {
            H::take_changed(master, half);
            change(master);
            H::round(half, master);
        });
    }
}

/// Reads numbers block by block, wherever they lie in memory.
pub(crate) enum Reader<'a, T> {
    Slice(&'a [T]),
    Strided(Box<Iter<'a, T, IxDyn>>),
}

impl<H: Narrow> Reader<'_, H> {
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
        }
        to
    }
}

/// A reader of numbers of any type.
pub(crate) type AnyReader<'a, T> = Any<Reader<'a, T>, Reader<'a, bf16>, Reader<'a, f16>>;

impl<T: Scalar> AnyReader<'_, T> {
    /// The next `n` numbers, within `-limit..=limit`; in the buffer, if they are not as they should be already.
    #[inline]
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
            Self::Bf16(reader) => reader.read(buffer.first(n)),
            Self::F16(reader) => reader.read(buffer.first(n)),
        };
        if limit.is_some() {
            buffer.iter_mut().for_each(|g| *g = loops::clamp(*g, limit));
        }
        buffer
    }
}
