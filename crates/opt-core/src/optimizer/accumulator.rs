//! The sum of a variable's gradients over micro-steps.

use super::step::input::SparseGradient;
use crate::loops;
use crate::real::Scalar;

/// The slot of accumulated gradients.
pub(crate) const ACCUMULATOR: &str = "accumulator";

/// The slot of marks: for each row 0 for no accumulated gradient, 1 for a sparse and 2 for a dense one; in all rows 3
/// for sparse gradients without rows. A variable without rows has one mark.
pub(crate) const ACCUMULATED: &str = "accumulated";

/// The gradients of a variable that micro-steps have summed.
#[derive(Debug, Clone, Default)]
pub(crate) enum Accumulator<T> {
    #[default]
    None,
    /// None, but the memory of earlier sums.
    Spare(Vec<T>),
    /// The sum of gradients of which one at least is dense, in the order in which the variable is stored.
    Dense(Vec<T>),
    /// Rows in ascending order, each once, and their values.
    Rows(Vec<usize>, Vec<T>),
}

impl<T: Scalar> Accumulator<T> {
    pub(crate) fn is_empty(&self) -> bool {
        matches!(self, Self::None | Self::Spare(_))
    }

    /// Forgets the sum, and keeps its memory.
    pub(crate) fn clear(&mut self) {
        *self = match std::mem::take(self) {
            Self::Dense(sum) | Self::Spare(sum) => Self::Spare(sum),
            Self::None | Self::Rows(..) => Self::None,
        };
    }

    /// The number of bytes.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::None => 0,
            Self::Spare(sum) | Self::Dense(sum) => size_of_val(&sum[..]),
            Self::Rows(rows, values) => size_of_val(&rows[..]) + size_of_val(&values[..]),
        }
    }

    /// The sum as an array, and for each row whether it has one: 0 for none, 1 for a sparse one, 2 for a dense one; 3
    /// if the gradients had no rows.
    pub(crate) fn to_arrays(&self, len: usize, rows: usize) -> (Vec<T>, Vec<T>) {
        match self {
            Self::None | Self::Spare(_) => (vec![T::zero(); len], vec![T::zero(); rows]),
            Self::Dense(sum) => (sum.clone(), vec![T::literal(2.0); rows]),
            Self::Rows(touched, values) => {
                let others = T::literal(if touched.is_empty() { 3.0 } else { 0.0 });
                let (mut sum, mut marks) = (vec![T::zero(); len], vec![others; rows]);
                let width = len / rows.max(1);
                for (place, &row) in touched.iter().enumerate() {
                    sum[row * width..][..width].copy_from_slice(&values[place * width..][..width]);
                    marks[row] = T::literal(1.0);
                }
                (sum, marks)
            }
        }
    }

    /// Whether marks are those of a dense sum.
    pub(crate) fn are_dense(marks: &[T]) -> bool {
        marks.iter().any(|&mark| mark == T::literal(2.0))
    }

    /// The reverse of [`to_arrays`](Self::to_arrays), which takes the marks for a dense sum in any order of axes.
    pub(crate) fn from_arrays(sum: Vec<T>, marks: &[T]) -> Self {
        if Self::are_dense(marks) {
            return Self::Dense(sum);
        }
        let rows: Vec<usize> = (0..marks.len()).filter(|&row| marks[row] == T::literal(1.0)).collect();
        if rows.is_empty() {
            let had_no_rows = marks.contains(&T::literal(3.0));
            return if had_no_rows { Self::Rows(Vec::new(), Vec::new()) } else { Self::None };
        }
        let width = sum.len() / marks.len();
        let values = rows.iter().flat_map(|row| &sum[row * width..][..width]).copied().collect();
        Self::Rows(rows, values)
    }

    /// Memory for a dense sum: with the sum so far, or anything if there is none.
    pub(crate) fn into_dense(self, len: usize, width: usize) -> Vec<T> {
        match self {
            Self::Dense(sum) => sum,
            Self::Spare(sum) if sum.len() == len => sum,
            Self::None | Self::Spare(_) => vec![T::zero(); len],
            Self::Rows(rows, values) => {
                let mut sum = vec![T::zero(); len];
                add_rows(&mut sum, width, &rows, &values, 1.0);
                sum
            }
        }
    }

    /// Adds a sparse gradient.
    pub(crate) fn add_sparse(&mut self, sparse: &SparseGradient<'_, T>, width: usize, factor: f64) {
        let given = sparse.values.to_rows();
        if let Self::Dense(sum) = self {
            return add_rows(sum, width, &sparse.rows, &given, factor);
        }
        let (mut rows, mut values) = match std::mem::take(self) {
            Self::Rows(rows, values) => (rows, values),
            _ => (Vec::new(), Vec::new()),
        };
        let mut new: Vec<usize> = sparse.rows.iter().copied().filter(|row| rows.binary_search(row).is_err()).collect();
        new.sort_unstable();
        new.dedup();
        if !new.is_empty() {
            let (before, sums) = (rows, values);
            rows = before.iter().copied().chain(new).collect();
            rows.sort_unstable();
            values = vec![T::zero(); rows.len() * width];
            let places: Vec<usize> = before.iter().map(|row| place_of(&rows, *row)).collect();
            for (old, place) in places.into_iter().enumerate() {
                values[place * width..][..width].copy_from_slice(&sums[old * width..][..width]);
            }
        }
        let places: Vec<usize> = sparse.rows.iter().map(|row| place_of(&rows, *row)).collect();
        add_rows(&mut values, width, &places, &given, factor);
        *self = Self::Rows(rows, values);
    }
}

/// The place of a row in a list that has it.
fn place_of(rows: &[usize], row: usize) -> usize {
    rows.binary_search(&row).expect("the list has every row")
}

/// Adds a multiple of values to rows.
pub(crate) fn add_rows<T: Scalar>(sum: &mut [T], width: usize, rows: &[usize], values: &[T], factor: f64) {
    for (place, row) in rows.iter().enumerate() {
        loops::add(&mut sum[row * width..][..width], &values[place * width..][..width], T::literal(factor));
    }
}
