//! Products with a coefficient, as equations show them.

/// A term of a sum: a product with a coefficient.
#[derive(Debug, Clone)]
pub(super) struct Term {
    coefficient: f64,
    factors: Vec<String>,
    divisors: Vec<String>,
}

impl Term {
    pub(super) fn number(coefficient: f64) -> Self {
        Self { coefficient, factors: vec![], divisors: vec![] }
    }

    pub(super) fn of(factor: String) -> Self {
        Self { coefficient: 1.0, factors: vec![factor], divisors: vec![] }
    }

    pub(super) fn negated(self) -> Self {
        Self { coefficient: -self.coefficient, ..self }
    }

    pub(super) fn times(mut self, other: Self) -> Self {
        self.coefficient *= other.coefficient;
        self.factors.extend(other.factors);
        self.divisors.extend(other.divisors);
        self
    }

    pub(super) fn divided_by(mut self, divisor: String) -> Self {
        self.divisors.push(divisor);
        self
    }

    /// A sum of terms.
    pub(super) fn sum(terms: &[Self]) -> String {
        let mut text = String::new();
        for (place, term) in terms.iter().enumerate() {
            text += match (place, term.coefficient < 0.0) {
                (0, false) => "",
                (0, true) => "-",
                (_, false) => " + ",
                (_, true) => " - ",
            };
            text += &term.without_sign();
        }
        text
    }

    fn without_sign(&self) -> String {
        let mut parts = Vec::new();
        let magnitude = number(self.coefficient.abs());
        if magnitude != "1" || self.factors.is_empty() {
            parts.push(magnitude);
        }
        for same in self.factors.chunk_by(|a, b| a == b) {
            parts.push(if same.len() > 1 { format!("{}^{}", same[0], same.len()) } else { same[0].clone() });
        }
        let divisors: String = self.divisors.iter().map(|divisor| format!(" / {divisor}")).collect();
        parts.join(" ") + &divisors
    }
}

/// A number with seven digits at most.
pub(super) fn number(value: f64) -> String {
    let short: f64 = format!("{value:.6e}").parse().unwrap_or(value);
    let is_short = short == 0.0 || !short.is_finite() || (1e-4..1e7).contains(&short.abs());
    if is_short { format!("{short}") } else { format!("{short:e}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terms_are_written_as_in_books() {
        let x = || Term::of("x".to_owned());
        let terms =
            [x().negated(), Term::number(0.5).times(x()).times(x()), Term::number(-1.0).divided_by("y".to_owned())];
        assert_eq!(Term::sum(&terms), "-x + 0.5 x^2 - 1 / y");
    }

    #[test]
    fn numbers_have_seven_digits_at_most() {
        let texts = [0.1_f32.into(), 1.0 - 0.999, 1e-5, 12_345_678.9, 1.0 / 3.0, f64::INFINITY].map(number);
        assert_eq!(texts, ["0.1", "0.001", "1e-5", "1.234568e7", "0.3333333", "inf"]);
    }
}
