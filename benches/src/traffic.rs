//! The fewest bytes that a step must move.
//!
//! Each array is counted once per step for reading and once for writing. Data that may stay in the cache between two
//! uses in a step is counted once.

use std::fs;
use std::sync::LazyLock;

use crate::shapes::Shape;

/// The number of elements that share a scale if moments have 8 bits.
pub const GROUP: usize = 32;

/// The arrays that the steps of one contestant read and write, per parameter.
///
/// The gradient is read. The other arrays are read and written: the weights, and the state of the rule and of the
/// stages around it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Traffic {
    /// Arrays in the element type, weights included unless they are [halves](Self::halves).
    pub wide: usize,
    /// Arrays of two bytes an element.
    pub narrow: usize,
    /// Arrays of one byte an element, and one for each [`GROUP`] elements.
    pub tiny: usize,
    /// Whether weights and gradients are in 16 bits.
    pub halves: bool,
    /// An array of one byte an element: what the master of a weight in 16 bits has more than the weight.
    pub correction: bool,
    /// Whether the gradient is read twice.
    pub sweep: Sweep,
    /// An array that only some steps use.
    pub periodic: Option<Periodic>,
}

/// The gradients of which a norm is needed before the update may start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sweep {
    /// None.
    Nothing,
    /// All of them: a global norm. The gradient is read twice.
    All,
    /// Each variable's own. The gradient is read twice only if it does [not stay in the cache](cached_bytes).
    ByVariable,
}

/// One more array in each `period`-th step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Periodic {
    /// The period of such steps.
    pub period: usize,
}

impl Traffic {
    /// The weights and this many arrays of state, in the element type.
    #[must_use]
    pub const fn state(arrays: usize) -> Self {
        let (halves, correction) = (false, false);
        Self { wide: 1 + arrays, narrow: 0, tiny: 0, halves, correction, sweep: Sweep::Nothing, periodic: None }
    }

    /// Weights and gradients in 16 bits, and this many arrays of state in the element type, masters included.
    #[must_use]
    pub const fn halves(arrays: usize) -> Self {
        Self { wide: arrays, halves: true, ..Self::state(0) }
    }

    /// Adds the corrections of masters in 24 bits.
    #[must_use]
    pub const fn correction(self) -> Self {
        Self { correction: true, ..self }
    }

    /// Adds this many arrays of state with two bytes an element.
    #[must_use]
    pub const fn narrow(self, arrays: usize) -> Self {
        Self { narrow: self.narrow + arrays, ..self }
    }

    /// Adds this many arrays of state with one byte an element, and one for each [`GROUP`].
    #[must_use]
    pub const fn tiny(self, arrays: usize) -> Self {
        Self { tiny: self.tiny + arrays, ..self }
    }

    /// Adds one array of state in the element type: an average.
    #[must_use]
    pub const fn average(self) -> Self {
        Self { wide: self.wide + 1, ..self }
    }

    /// Adds a norm of these gradients before the update.
    #[must_use]
    pub const fn after(self, sweep: Sweep) -> Self {
        Self { sweep, ..self }
    }

    /// Adds one array in each `period`-th step: the slow weights of Lookahead.
    #[must_use]
    pub const fn every(self, period: usize) -> Self {
        Self { periodic: Some(Periodic { period }), ..self }
    }

    /// The number of steps in which each kind of step occurs.
    #[must_use]
    pub fn cycle(&self) -> usize {
        self.periodic.map_or(1, |periodic| periodic.period)
    }

    /// Arrays in the element type that the step with this number (from 0) reads and writes.
    #[must_use]
    pub fn wide_at(&self, step: usize) -> usize {
        self.wide + usize::from(self.periodic.is_some_and(|periodic| (step + 1).is_multiple_of(periodic.period)))
    }

    /// Whether a tensor's gradient is read in a separate pass that reaches memory.
    #[must_use]
    pub fn sweeps(&self, elements: usize, element_bytes: usize) -> bool {
        match self.sweep {
            Sweep::Nothing => false,
            Sweep::All => true,
            Sweep::ByVariable => elements * element_bytes > cached_bytes(),
        }
    }

    /// The fewest bytes per parameter and step, on average over a [`cycle`](Self::cycle).
    #[must_use]
    pub fn min_bytes_per_param(&self, shape: &Shape, element_bytes: usize) -> f64 {
        let swept: usize = shape.sizes().filter(|&elements| self.sweeps(elements, element_bytes)).sum();
        let twice = swept as f64 / shape.params().max(1) as f64;
        let periodic = self.periodic.map_or(0.0, |periodic| 2.0 / periodic.period as f64);
        let gradient = if self.halves { 2 } else { element_bytes } as f64 * (1.0 + twice);
        let weights = if self.halves { 4.0 } else { 0.0 };
        let wide = element_bytes as f64 * (2.0 * self.wide as f64 + periodic);
        let tiny = 2.0 * (1.0 + 1.0 / GROUP as f64) * self.tiny as f64 + 2.0 * f64::from(u8::from(self.correction));
        gradient + weights + wide + 4.0 * self.narrow as f64 + tiny
    }
}

/// Gradients up to this size are expected to be in the cache when the update follows their norm: half of a core's
/// second-level cache, as Linux reports it; 512 KiB if it does not.
#[must_use]
pub fn cached_bytes() -> usize {
    static BYTES: LazyLock<usize> = LazyLock::new(|| {
        let file = fs::read_to_string("/sys/devices/system/cpu/cpu0/cache/index2/size");
        file.ok().and_then(|text| kibibytes(&text)).map_or(512 * 1024, |size| size * 1024 / 2)
    });
    *BYTES
}

fn kibibytes(text: &str) -> Option<usize> {
    text.trim().strip_suffix('K')?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_those_of_the_streams() {
        let shape = Shape::single(100_000_000);
        let bytes = |traffic: Traffic| traffic.min_bytes_per_param(&shape, 4);
        assert_eq!([0, 1, 2, 3].map(|arrays| bytes(Traffic::state(arrays))), [12.0, 20.0, 28.0, 36.0]);
        assert_eq!(bytes(Traffic::state(1).average()), 28.0);
        assert_eq!(bytes(Traffic::state(1).after(Sweep::All)), 24.0);
        assert_eq!(bytes(Traffic::state(1).after(Sweep::ByVariable)), 24.0);
        assert_eq!(bytes(Traffic::state(0).narrow(2)), 20.0);
        assert_eq!(bytes(Traffic::state(0).tiny(2)), 16.125);
        assert_eq!([0, 1, 3].map(|arrays| bytes(Traffic::halves(arrays))), [6.0, 14.0, 30.0]);
        assert_eq!(bytes(Traffic::halves(0).correction().tiny(2)), 12.125);
        assert!((bytes(Traffic::state(1).every(6)) - (20.0 + 8.0 / 6.0)).abs() < 1e-12);
        assert_eq!(Traffic::state(2).min_bytes_per_param(&shape, 8), 56.0);
    }

    #[test]
    fn small_gradients_stay_in_the_cache() {
        let (traffic, fits) = (Traffic::state(1).after(Sweep::ByVariable), cached_bytes() / 4);
        assert_eq!(traffic.min_bytes_per_param(&Shape::single(fits), 4), 20.0);
        assert_eq!(traffic.min_bytes_per_param(&Shape::single(fits + 1), 4), 24.0);
        let mixed = Shape { name: String::new(), tensors: vec![vec![fits], vec![3, fits]] };
        assert_eq!(traffic.min_bytes_per_param(&mixed, 4), 23.0);
    }

    #[test]
    fn the_slow_weights_are_touched_once_in_a_cycle() {
        let traffic = Traffic::state(1).every(3);
        assert_eq!([0, 1, 2, 3, 5].map(|step| traffic.wide_at(step)), [2, 2, 3, 2, 3]);
        assert_eq!((traffic.cycle(), Traffic::state(1).cycle()), (3, 1));
    }

    #[test]
    fn the_size_of_the_cache_is_read() {
        assert_eq!([kibibytes("1024K\n"), kibibytes("2M"), kibibytes("")], [Some(1024), None, None]);
        assert!(cached_bytes() > 0);
    }
}
