//! The mean over seeds, and the spread between them.

use std::fmt;

/// Mean and standard deviation of a few numbers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Summary {
    pub(crate) mean: f64,
    /// `None` for a single number.
    pub(crate) deviation: Option<f64>,
}

impl Summary {
    pub(crate) fn of(numbers: impl IntoIterator<Item = f64>) -> Self {
        let numbers: Vec<f64> = numbers.into_iter().collect();
        let count = numbers.len() as f64;
        let mean = numbers.iter().sum::<f64>() / count;
        let squares = numbers.iter().map(|number| (number - mean).powi(2)).sum::<f64>();
        Self { mean, deviation: (numbers.len() > 1).then(|| (squares / (count - 1.0)).sqrt()) }
    }
}

/// Such as `1.7712 ± 0.0031`; with a sign if the format asks for one.
impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if f.sign_plus() {
            write!(f, "{:+.4}", self.mean)?;
        } else {
            write!(f, "{:.4}", self.mean)?;
        }
        self.deviation.map_or(Ok(()), |deviation| write!(f, " ± {deviation:.4}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mean_and_deviation() {
        assert_eq!(Summary::of([1.0, 3.0, 5.0]), Summary { mean: 3.0, deviation: Some(2.0) });
        assert_eq!(Summary::of([2.0, 2.5]).to_string(), "2.2500 ± 0.3536");
        assert_eq!(format!("{:+}", Summary::of([0.125])), "+0.1250");
    }
}
