//! Bare loops: the lower limit that memory sets.
//!
//! A bare loop reads a gradient and adds it to as many arrays as the steps of a contestant read and write. The arrays
//! have the same sizes and are cut into the same tasks, on as many threads, with one fork and join. Where a norm must
//! be known first, a loop that only sums runs over the gradients before, with its own fork and join. Nothing else is
//! computed. The loops are compiled for the same instruction sets as the engine.
//!
//! A second bare loop does the same and asks for the numbers in advance, as the engine does.

mod arrays;
mod kernels;

use std::cell::RefCell;
use std::time::{Duration, Instant};

use rayon::prelude::*;
use rayon::{ThreadPool, ThreadPoolBuildError, ThreadPoolBuilder};

pub use arrays::Arrays;
pub use kernels::Add;

use crate::Element;
use crate::sampling::Subject;
use crate::traffic::Traffic;

/// The number of elements that a thread processes at a time, as in the engine.
const CHUNK: usize = 64 * 1024;

/// Below this many elements, waking another thread takes longer than the work; as in the engine.
const WORTH_WAKING: usize = 4 * CHUNK;

/// A part of one tensor's arrays.
#[derive(Debug)]
struct Piece<'a, T> {
    gradient: &'a [T],
    wide: Vec<&'a mut [T]>,
    narrow: Vec<&'a mut [u16]>,
    tiny: Vec<&'a mut [u8]>,
    /// Gradient and weights in 16 bits, in place of the gradient.
    halves: Option<(&'a [u16], &'a mut [u16])>,
    /// The sum of the gradient, if it is computed first.
    sum: Option<T>,
}

/// A bare loop over arrays.
#[derive(Debug)]
pub struct Bare<'a, T> {
    traffic: Traffic,
    /// Groups of pieces with about [`CHUNK`] elements.
    tasks: Vec<Vec<Piece<'a, T>>>,
    pool: Option<ThreadPool>,
    step: usize,
}

impl<'a, T: Element> Bare<'a, T> {
    /// A loop that moves this traffic, over arrays that are made as needed.
    ///
    /// # Errors
    ///
    /// When the threads cannot be started.
    pub fn new(arrays: &'a mut Arrays<T>, traffic: Traffic, threads: usize) -> Result<Self, ThreadPoolBuildError> {
        let worth_waking = threads > 1 && arrays.elements() >= WORTH_WAKING;
        let pool = worth_waking.then(|| ThreadPoolBuilder::new().num_threads(threads).build()).transpose()?;
        Ok(Self { traffic, tasks: tasks(arrays.pieces(traffic)), pool, step: 0 })
    }

    /// Passes over the arrays that steps would read and write, in a loop that prefetches or not. All of them start on a
    /// thread of the pool, which is then awake.
    pub fn steps(&mut self, steps: usize, ahead: bool) {
        let Self { traffic, tasks, pool, step } = self;
        let sums = tasks.iter().flatten().any(|piece| piece.sum.is_some());
        let fork = pool.is_some();
        let mut passes = || {
            for step in *step..*step + steps {
                if sums {
                    each(tasks, fork, Piece::sum);
                }
                each(tasks, fork, |piece| piece.add(traffic.wide_at(step), ahead));
            }
        };
        match &*pool {
            Some(pool) => pool.install(passes),
            None => passes(),
        }
        *step += steps;
    }
}

/// A bare loop, with or without prefetches, over arrays that both use in turns.
#[derive(Debug)]
pub struct Turns<'b, 'a, T> {
    /// The arrays.
    pub bare: &'b RefCell<Bare<'a, T>>,
    /// Whether the loop prefetches.
    pub ahead: bool,
}

impl<T: Element> Subject for Turns<'_, '_, T> {
    fn run(&mut self, steps: usize) -> anyhow::Result<Duration> {
        let start = Instant::now();
        self.bare.borrow_mut().steps(steps, self.ahead);
        Ok(start.elapsed())
    }
}

/// Pieces in the order of memory; small pieces are grouped.
fn tasks<T>(pieces: Vec<Piece<'_, T>>) -> Vec<Vec<Piece<'_, T>>> {
    let mut tasks = vec![Vec::new()];
    let mut elements = 0;
    for piece in pieces {
        if elements > 0 && elements + piece.gradient.len() > CHUNK {
            tasks.push(Vec::new());
            elements = 0;
        }
        elements += piece.gradient.len();
        tasks.last_mut().expect("there is a first task").push(piece);
    }
    tasks
}

fn each<'a, T: Element>(tasks: &mut [Vec<Piece<'a, T>>], fork: bool, work: impl Fn(&mut Piece<'a, T>) + Sync) {
    if fork {
        tasks.par_iter_mut().with_max_len(1).for_each(|task| task.iter_mut().for_each(&work));
    } else {
        tasks.iter_mut().flatten().for_each(work);
    }
}

impl<T: Element> Piece<'_, T> {
    fn sum(&mut self) {
        if let Some(sum) = &mut self.sum {
            *sum = kernels::sum(self.gradient);
        }
    }

    /// Adds the gradient to the first `wide` arrays.
    fn add(&mut self, wide: usize, ahead: bool) {
        let wide = &mut self.wide[..wide];
        if let Some((gradient, weights)) = &mut self.halves {
            kernels::add_halves(gradient, weights, wide, &mut self.tiny, T::literal(1.0), ahead);
        } else if self.tiny.is_empty() {
            kernels::add_to_all(self.gradient, wide, &mut self.narrow, ahead);
        } else {
            kernels::add_to_all(self.gradient, wide, &mut self.tiny, ahead);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shapes::Shape;
    use crate::traffic::{Sweep, cached_bytes};

    /// The number of additions to each array, for two tensors, after some passes.
    fn additions(traffic: Traffic, threads: usize, passes: usize) -> Vec<Vec<f64>> {
        let shape = Shape { name: String::new(), tensors: vec![vec![4 * CHUNK + 7], vec![3, 5]] };
        let mut arrays = Arrays::<f64>::new(&shape);
        let mut bare = Bare::new(&mut arrays, traffic, threads).unwrap();
        (0..passes).for_each(|pass| bare.steps(1, pass % 2 == 1));
        drop(bare);
        arrays.additions()
    }

    #[test]
    fn every_element_of_every_array_is_touched_once() {
        for threads in [1, 2] {
            for state in 0..5 {
                let counts = additions(Traffic::state(state).after(Sweep::All), threads, 2);
                assert_eq!(counts.len(), 1 + state);
                assert!(counts.iter().flatten().all(|&count| count == 2.0), "{state} on {threads} threads");
            }
        }
    }

    #[test]
    fn weights_in_16_bits_are_touched_too() {
        let shape = Shape::single(1_000);
        let mut arrays = Arrays::<f32>::new(&shape);
        let mut bare = Bare::new(&mut arrays, Traffic::halves(1).tiny(2).correction(), 1).unwrap();
        bare.steps(2, false);
        bare.steps(1, true);
        let piece = &bare.tasks[0][0];
        let (gradient, weights) = piece.halves.as_ref().unwrap();
        assert!(gradient.iter().zip(weights.iter()).all(|(g, w)| *w == g.wrapping_mul(3).wrapping_add(1)));
        assert!(piece.wide.len() == 1 && piece.wide[0].iter().all(|w| *w == 4.0));
        assert!(piece.tiny.len() == 3 && piece.tiny.iter().all(|tiny| tiny.iter().all(|t| *t == 4)));
    }

    #[test]
    fn periodic_arrays_are_touched_periodically() {
        let counts = additions(Traffic::state(1).every(3), 2, 7);
        let firsts: Vec<f64> = counts.iter().map(|counts| counts[0]).collect();
        assert_eq!(firsts, [7.0, 7.0, 2.0]);
    }

    #[test]
    fn gradients_are_summed_where_a_norm_comes_first() {
        let large = cached_bytes() / size_of::<f64>() + 1;
        let shape = Shape { name: String::new(), tensors: vec![vec![large], vec![10]] };
        let gradients_summed = |sweep| -> usize {
            let mut arrays = Arrays::<f64>::new(&shape);
            let mut bare = Bare::new(&mut arrays, Traffic::state(1).after(sweep), 2).unwrap();
            bare.steps(1, false);
            let pieces = bare.tasks.iter().flatten();
            let summed = pieces.filter(|piece| {
                let expected: f64 = piece.gradient.iter().sum();
                piece.sum.is_some_and(|sum| (sum - expected).abs() < 1e-9)
            });
            summed.map(|piece| piece.gradient.len()).sum()
        };
        let summed = [Sweep::Nothing, Sweep::ByVariable, Sweep::All].map(gradients_summed);
        assert_eq!(summed, [0, large, large + 10]);
    }

    #[test]
    fn small_tensors_share_a_task_and_large_ones_do_not() {
        let mut arrays = Arrays::<f32>::new(&Shape::many(1_000, 1_000));
        let sizes = |arrays| -> Vec<usize> {
            let bare = Bare::<f32>::new(arrays, Traffic::state(1), 1).unwrap();
            bare.tasks.iter().map(|task| task.iter().map(|piece| piece.gradient.len()).sum()).collect()
        };
        assert_eq!(sizes(&mut arrays), [[65_000; 15].as_slice(), &[25_000]].concat());
        assert_eq!(sizes(&mut Arrays::new(&Shape::single(CHUNK + 1))), [CHUNK, 1]);
    }
}
