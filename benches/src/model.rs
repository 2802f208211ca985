//! Weights and gradients of a list of tensors.

use optimizers::Variable;

use crate::Element;
use crate::shapes::Shape;

/// Named tensors with gradients.
///
/// Gradients are between 0.01 and 1 in size, of random sign, and do not change: neither they nor the moments that rules
/// make of them come near the denormal numbers, which would be timed instead of memory.
#[derive(Debug, Clone)]
pub struct Model<T> {
    tensors: Vec<Tensor<T>>,
}

#[derive(Debug, Clone)]
struct Tensor<T> {
    name: String,
    shape: Vec<usize>,
    value: Vec<T>,
    gradient: Vec<T>,
}

impl<T: Element> Model<T> {
    /// A model of this shape, always with the same numbers.
    #[must_use]
    pub fn new(shape: &Shape) -> Self {
        let mut random = Random::new(0x5eed);
        let tensor = |(number, (shape, size)): (usize, (&Vec<usize>, usize))| Tensor {
            name: format!("layers.{number}.weight"),
            shape: shape.clone(),
            value: (0..size).map(|_| T::literal(random.signed())).collect(),
            gradient: (0..size).map(|_| T::literal(random.signed())).collect(),
        };
        Self { tensors: shape.tensors.iter().zip(shape.sizes()).enumerate().map(tensor).collect() }
    }

    /// The tensors as a step takes them.
    pub fn variables(&mut self) -> impl Iterator<Item = Variable<'_, T>> {
        self.tensors.iter_mut().map(|Tensor { name, shape, value, gradient }| {
            Variable::new(name.as_str(), (&mut value[..], &shape[..])).gradient((&gradient[..], &shape[..]))
        })
    }

    /// Whether no weight is infinite or NaN.
    #[must_use]
    pub fn is_finite(&self) -> bool {
        self.tensors.iter().all(|tensor| tensor.value.iter().all(|w| w.is_finite()))
    }
}

/// G. L. Steele, D. Lea, C. H. Flood, "Fast splittable pseudorandom number generators", 2014: `SplitMix64`.
#[derive(Debug)]
pub struct Random(u64);

impl Random {
    /// Always the same numbers for the same seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Between 0.01 and 1 in size, of either sign.
    pub fn signed(&mut self) -> f64 {
        let bits = self.next();
        let size = 0.01 + 0.99 * ((bits >> 11) as f64 / (1_u64 << 53) as f64);
        if bits & 1 == 0 { size } else { -size }
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}
