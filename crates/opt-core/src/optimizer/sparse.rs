//! Sparse gradients: each row once.

use super::resolve::InputGradient;
use crate::real::Scalar;
use crate::stage::Transform;

/// Rows of a variable in ascending order, each with its gradient.
#[derive(Debug)]
pub(crate) struct UniqueRows<T> {
    pub(crate) rows: Vec<usize>,
    /// `rows.len() * width` numbers.
    pub(crate) values: Vec<T>,
    /// The sum of squares of all of them, on all ranks; 0 until it is asked for.
    pub(crate) square_sum: f64,
}

impl<T: Scalar> UniqueRows<T> {
    /// Clips the values as they were given, then sums those of the same row in the order in which they were given.
    /// `None` for a dense gradient.
    pub(crate) fn new(gradient: &InputGradient<'_, T>, transform: Transform) -> Option<Self> {
        let InputGradient::Sparse { rows, values } = gradient else { return None };
        let given = values.as_standard_layout();
        let given = given.as_slice().unwrap_or_default();
        let width = if rows.is_empty() { 0 } else { given.len() / rows.len() };

        let mut order: Vec<usize> = (0..rows.len()).collect();
        order.sort_by_key(|&position| rows[position]);
        let mut unique =
            Self { rows: Vec::with_capacity(rows.len()), values: Vec::with_capacity(given.len()), square_sum: 0.0 };
        for position in order {
            let clipped = given[position * width..][..width].iter().map(|&g| transform.apply(g));
            if unique.rows.last() == Some(&rows[position]) {
                let start = unique.values.len() - width;
                unique.values[start..].iter_mut().zip(clipped).for_each(|(sum, g)| *sum = *sum + g);
            } else {
                unique.rows.push(rows[position]);
                unique.values.extend(clipped);
            }
        }
        Some(unique)
    }
}
