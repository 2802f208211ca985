//! Nadam's arithmetic in one loop over four slices, without an engine: it shows how far the arithmetic alone is from
//! its bare loop.

use std::thread;

use multiversion::multiversion;

/// A variable, its gradient and its moments.
#[derive(Debug)]
pub struct ByHand {
    w: Vec<f32>,
    g: Vec<f32>,
    m: Vec<f32>,
    v: Vec<f32>,
}

impl ByHand {
    /// This many elements of the order of 1, with warm state.
    #[must_use]
    pub fn new(len: usize) -> Self {
        let numbers = |seed: usize| (0..len).map(|i| ((i + seed) * 7919 % 1000) as f32 * 1e-3 + 1e-3).collect();
        Self { w: numbers(1), g: numbers(2), m: numbers(3), v: numbers(4) }
    }

    /// One step; each thread has the same number of elements.
    pub fn step(&mut self, threads: usize) {
        let part = self.w.len().div_ceil(threads).max(1);
        let values = self.w.chunks_mut(part).zip(self.g.chunks(part));
        let moments = self.m.chunks_mut(part).zip(self.v.chunks_mut(part));
        thread::scope(|scope| {
            for ((w, g), (m, v)) in values.zip(moments) {
                scope.spawn(|| nadam(w, g, m, v));
            }
        });
    }
}

#[multiversion(targets("x86_64+avx512f+avx512vl+avx512dq+avx512bw", "x86_64+avx2+fma"))]
fn nadam(w: &mut [f32], g: &[f32], m: &mut [f32], v: &mut [f32]) {
    let flushed = |x: f32| if x.abs() < f32::MIN_POSITIVE { 0.0 } else { x };
    for (((w, &g), m), v) in w.iter_mut().zip(g).zip(m).zip(v) {
        *m = flushed(0.9 * *m + 0.1 * g);
        *v = flushed(0.999 * *v + 0.001 * (g * g));
        *w -= (1e-5 * g + 9e-5 * *m) / ((*v * 1.5).sqrt() + 1e-7);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_do_the_same() {
        let [one, three] = [1, 3].map(|threads| {
            let mut by_hand = ByHand::new(1_001);
            (0..3).for_each(|_| by_hand.step(threads));
            by_hand
        });
        assert_eq!((one.w, one.m, one.v), (three.w, three.m, three.v));
    }
}
