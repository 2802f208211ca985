//! The arrays under a bare loop.

use super::{CHUNK, Piece};
use crate::Element;
use crate::random::Random;
use crate::shapes::Shape;
use crate::traffic::Traffic;

/// Arrays with the sizes of a shape, one allocation for each tensor, as an optimizer has them. They are kept from
/// loop to loop.
#[derive(Debug)]
pub struct Arrays<T> {
    gradients: Vec<Vec<T>>,
    /// Array by array, tensor by tensor.
    wide: Vec<Vec<Vec<T>>>,
    narrow: Vec<Vec<Vec<u16>>>,
    tiny: Vec<Vec<Vec<u8>>>,
    /// Gradients and weights in 16 bits, if a loop needs them.
    halves: Vec<Vec<Vec<u16>>>,
}

impl<T: Element> Arrays<T> {
    /// Makes only the gradients.
    #[must_use]
    pub fn new(shape: &Shape) -> Self {
        let mut random = Random::new(0xba5e);
        let gradients = shape.sizes().map(|size| (0..size).map(|_| T::literal(random.signed())).collect());
        let gradients = gradients.collect();
        Self { gradients, wide: Vec::new(), narrow: Vec::new(), tiny: Vec::new(), halves: Vec::new() }
    }

    /// The number of elements of all tensors.
    pub(super) fn elements(&self) -> usize {
        self.gradients.iter().map(Vec::len).sum()
    }

    /// The arrays for this traffic, cut into pieces.
    pub(super) fn pieces(&mut self, traffic: Traffic) -> Vec<Piece<'_, T>> {
        let wide = traffic.wide + usize::from(traffic.periodic.is_some());
        let (narrow, tiny) = (traffic.narrow, traffic.tiny + usize::from(traffic.correction));
        let halves = if traffic.halves { 2 } else { 0 };
        grow(&mut self.wide, wide, &self.gradients, T::literal(1.0));
        grow(&mut self.narrow, narrow, &self.gradients, 1);
        grow(&mut self.tiny, tiny, &self.gradients, 1);
        grow(&mut self.halves, halves, &self.gradients, 1);

        let mut pieces = Vec::new();
        let mut wide: Vec<_> = self.wide[..wide].iter_mut().map(|tensors| tensors.iter_mut()).collect();
        let mut narrow: Vec<_> = self.narrow[..narrow].iter_mut().map(|tensors| tensors.iter_mut()).collect();
        let mut tiny: Vec<_> = self.tiny[..tiny].iter_mut().map(|tensors| tensors.iter_mut()).collect();
        let mut halves: Vec<_> = self.halves[..halves].iter_mut().map(|tensors| tensors.iter_mut()).collect();
        for gradient in &self.gradients {
            let mut halves: Vec<_> = halves.iter_mut().map(|tensors| chunks(tensors.next())).collect();
            let mut wide: Vec<_> = wide.iter_mut().map(|tensors| chunks(tensors.next())).collect();
            let mut narrow: Vec<_> = narrow.iter_mut().map(|tensors| chunks(tensors.next())).collect();
            let mut tiny: Vec<_> = tiny.iter_mut().map(|tensors| chunks(tensors.next())).collect();
            let sum = traffic.sweeps(gradient.len(), size_of::<T>()).then(T::default);
            pieces.extend(gradient.chunks(CHUNK).map(|gradient| Piece {
                gradient,
                wide: wide.iter_mut().filter_map(Iterator::next).collect(),
                narrow: narrow.iter_mut().filter_map(Iterator::next).collect(),
                tiny: tiny.iter_mut().filter_map(Iterator::next).collect(),
                halves: match &mut halves[..] {
                    [gradients, weights] => gradients.next().map(|gradient| &*gradient).zip(weights.next()),
                    _ => None,
                },
                sum,
            }));
        }
        pieces
    }
}

/// Makes arrays of ones until there are this many. They are written, so that their pages exist: zeroed memory of the
/// operating system would not have pages yet. No array is dropped before the end, so that each loop gets the same
/// memory as the previous one.
fn grow<E: Copy, T>(arrays: &mut Vec<Vec<Vec<E>>>, count: usize, sizes: &[Vec<T>], one: E) {
    while arrays.len() < count {
        arrays.push(sizes.iter().map(|tensor| vec![one; tensor.len()]).collect());
    }
}

fn chunks<E>(tensor: Option<&mut Vec<E>>) -> impl Iterator<Item = &mut [E]> {
    tensor.map(Vec::as_mut_slice).unwrap_or_default().chunks_mut(CHUNK)
}

#[cfg(test)]
impl Arrays<f64> {
    /// For each array, the number of additions to each element, over all tensors.
    pub(super) fn additions(&self) -> Vec<Vec<f64>> {
        let of = |tensors: &Vec<Vec<f64>>| {
            let pairs = tensors.iter().flatten().zip(self.gradients.iter().flatten());
            pairs.map(|(&value, &gradient)| ((value - 1.0) / gradient).round()).collect()
        };
        self.wide.iter().map(of).collect()
    }
}
