//! Steps whose work is shared by two threads end with the bits of one.

use ndarray::{Array2, s};
use opt_core::{Ema, Error, MomentStorage, Optimizer, OptimizerBuilder, Variable};
use opt_sgd::Sgd;

/// Elements that are worth a second thread. Miri takes milliseconds for each: blocks and all that is made of them are
/// smaller there.
const LARGE: usize = if cfg!(miri) { 5 * opt_core::rule::BLOCK } else { 300_000 };

/// Two steps over a large variable, a small one, rows of a third, and a large one whose numbers are not side by side.
fn steps(builder: OptimizerBuilder<Sgd, f32>) -> Result<(Vec<Vec<u32>>, u64), Error> {
    // Numbers that 16 bits have to round.
    let number = |i: usize| (i * 7919 % 10_007) as f32 * 1.1e-4 - 0.5;
    let (mut large, mut small) = ((0..LARGE).map(number).collect::<Vec<_>>(), [1.0_f32, -2.0]);
    let (mut rows, gradient) = ([0.5_f32; 12], (0..LARGE).map(|i| number(i + 7)).collect::<Vec<_>>());
    let lines = if cfg!(miri) { 50 } else { LARGE / 4 };
    let mut columns = Array2::from_shape_fn((lines, 8), |(i, j)| number(i + j));
    let column_gradient = Array2::from_shape_fn((lines, 8), |(i, j)| number(3 * i + j));
    let mut optimizer = builder.build()?;
    for _ in 0..2 {
        optimizer.apply_gradients([
            Variable::new("columns", columns.slice_mut(s![.., ..4])).gradient(column_gradient.slice(s![.., ..4])),
            Variable::new("large", &mut large).gradient(&gradient),
            Variable::new("small", &mut small).gradient(&[0.25, 0.5]),
            Variable::new("rows", (&mut rows[..], &[4, 3][..]))
                .sparse_gradient(&[2_usize, 0, 2], (&[0.5_f32; 9][..], &[3, 3][..])),
        ])?;
    }
    let bits = |values: &[f32]| values.iter().map(|value| value.to_bits()).collect();
    Ok((vec![bits(&large), bits(&small), bits(&rows), bits(columns.as_slice().unwrap())], optimizer.iterations()))
}

fn builder() -> OptimizerBuilder<Sgd, f32> {
    Optimizer::builder(Sgd::new(0.125).momentum(0.5))
}

fn two_are_one(builder: OptimizerBuilder<Sgd, f32>) {
    let one = steps(builder.clone().threads(1)).unwrap();
    assert_eq!(one.1, 2);
    assert!(one == steps(builder.threads(2)).unwrap());
}

#[test]
fn every_stage_is_shared() {
    two_are_one(builder().global_clipnorm(1.0).weight_decay(0.25).ema(Ema::new(0.75).overwrite_every(2)));
}

#[test]
fn moments_in_fewer_bits_are_shared() {
    two_are_one(builder().moments(MomentStorage::Bf16 { seed: 3 }));
    two_are_one(builder().moments(MomentStorage::Float8 { seed: 3 }));
}

/// A training that runs on a thread of rayon's pool shares its steps with the other threads there.
#[test]
fn a_pool_is_shared() {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap();
    assert!(pool.install(|| steps(builder())).unwrap() == steps(builder().threads(1)).unwrap());
}
