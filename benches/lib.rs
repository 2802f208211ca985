//! What the benchmarks measure: models as lists of tensors, and bare loops that move the same bytes.

use optimizers::Variable;

/// Named tensors of 32-bit numbers with gradients.
#[derive(Debug, Clone)]
pub struct Model {
    names: Vec<String>,
    values: Vec<Vec<f32>>,
    gradients: Vec<Vec<f32>>,
}

impl Model {
    /// `tensors` tensors of `size` elements.
    #[must_use]
    pub fn new(tensors: usize, size: usize) -> Self {
        let wave = |phase: usize| (0..size).map(|i| ((i * 7 + phase * 13) % 101) as f32 / 101.0 - 0.5).collect();
        Self {
            names: (0..tensors).map(|tensor| format!("layers.{tensor}.kernel")).collect(),
            values: (0..tensors).map(wave).collect(),
            gradients: (tensors..2 * tensors).map(wave).collect(),
        }
    }

    /// The tensors as a step takes them.
    pub fn variables(&mut self) -> impl Iterator<Item = Variable<'_, f32>> {
        let named = self.names.iter().zip(&mut self.values).zip(&self.gradients);
        named.map(|((name, value), gradient)| Variable::new(name.as_str(), value).gradient(gradient))
    }
}

/// Arrays for a bare loop.
#[derive(Debug, Clone)]
pub struct Streams {
    value: Vec<f32>,
    gradient: Vec<f32>,
    slot: Option<Vec<f32>>,
}

impl Streams {
    /// A value and a gradient of `size` elements each, and a slot if asked for.
    #[must_use]
    pub fn new(size: usize, slot: bool) -> Self {
        Self { value: vec![1.0; size], gradient: vec![1e-3; size], slot: slot.then(|| vec![0.0; size]) }
    }

    /// Reads each array once and writes each but the gradient once, with next to no arithmetic: what memory allows.
    pub fn pass(&mut self) {
        let pairs = self.value.iter_mut().zip(&self.gradient);
        match &mut self.slot {
            None => pairs.for_each(|(w, g)| *w += *g),
            Some(slot) => pairs.zip(slot).for_each(|((w, g), m)| {
                *m += *g;
                *w += *m;
            }),
        }
    }
}
