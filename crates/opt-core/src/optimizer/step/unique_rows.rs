//! Sparse gradients whose rows have been summed, so that each row appears once.

use super::input::SparseGradient;
use crate::loops;
use crate::real::Scalar;

/// Rows of a variable in ascending order, each with its gradient.
#[derive(Debug)]
pub(crate) struct UniqueRows<T> {
    pub(crate) rows: Vec<usize>,
    /// The gradients of the rows: `rows.len() * width` numbers.
    pub(crate) values: Vec<T>,
    /// The sum of squares of the values over all ranks. Present if there are ranks and the rule needs it.
    pub(crate) square_sum: Option<f64>,
}

impl<T: Scalar> UniqueRows<T> {
    /// Clips the values as they were given (by value, then by a factor), then sums values of the same row, in the order
    /// in which they were given.
    pub(crate) fn new(gradient: &SparseGradient<'_, T>, limit: Option<f64>, scale: f64) -> Self {
        let SparseGradient { rows, values } = gradient;
        let given = values.to_rows();
        let factors = loops::factors(scale);
        let width = if rows.is_empty() { 0 } else { given.len() / rows.len() };

        let mut order: Vec<usize> = (0..rows.len()).collect();
        order.sort_by_key(|&position| rows[position]);
        let mut unique =
            Self { rows: Vec::with_capacity(rows.len()), values: Vec::with_capacity(given.len()), square_sum: None };
        for position in order {
            let clipped = given[position * width..][..width].iter().map(|&g| loops::clipped(g, limit, factors));
            if unique.rows.last() == Some(&rows[position]) {
                let start = unique.values.len() - width;
                unique.values[start..].iter_mut().zip(clipped).for_each(|(sum, g)| *sum = *sum + g);
            } else {
                unique.rows.push(rows[position]);
                unique.values.extend(clipped);
            }
        }
        unique
    }
    /// The sum that a given value has become a part of, by its place in the values.
    pub(crate) fn summed(&self, gradient: &SparseGradient<'_, T>, place: usize) -> T {
        let width = self.values.len() / self.rows.len();
        let row = self.rows.binary_search(&gradient.rows[place / width]).expect("each given row has a sum");
        self.values[row * width + place % width]
    }
}
