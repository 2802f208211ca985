//! The number of calls between ranks in a step, and their bytes.

use ndarray::{Array1, Array2, ArrayD};
use optimizers::mesh::{Distributed, Mesh, Traffic};
use optimizers::{DynOptimizer, NonFinite, Sgd};
use optimizers::{NovoGrad, Optimizer, OptimizerBuilder, UpdateRule, Variable};

type Builder = OptimizerBuilder<Box<dyn UpdateRule<f32>>, f32>;

/// The size of the model below, in bytes.
const MODEL: u64 = 4 * (30 * 20 + 20 + 20 * 10);
/// The message of a rank before each step: that it is ready, and five numbers.
const AGREEMENT: u64 = 1 + 5 * 8;

fn optimizer(distributed: Distributed, options: impl Fn(Builder) -> Builder) -> DynOptimizer<f32> {
    options(Optimizer::builder(Sgd::new(0.1).momentum(0.9)).boxed()).distributed(distributed).build().unwrap()
}

/// The calls and bytes of the second step, on rank 0 of four.
fn traffic(
    distributed: impl Fn(&Mesh) -> Distributed + Sync,
    options: impl Fn(Builder) -> Builder + Sync,
    sparse: bool,
) -> Traffic {
    let traffic = Mesh::threads(&[("batch", 4)], |mesh| {
        let mut opt = optimizer(distributed(mesh), &options);
        let mut values: Vec<ArrayD<f32>> =
            vec![Array2::zeros((30, 20)).into_dyn(), Array1::zeros(20).into_dyn(), Array2::zeros((20, 10)).into_dyn()];
        let gradients = values.clone();
        let rows = Array2::ones((2, 10));
        let mut before = mesh.traffic();
        for _ in 0..2 {
            before = mesh.traffic();
            let variables = ["a", "b", "c"].into_iter().zip(&mut values).zip(&gradients);
            let variables = variables.map(|((name, value), gradient)| match name {
                "c" if sparse => Variable::new(name, value).sparse_gradient(&[3, 7], &rows),
                _ => Variable::new(name, value).gradient(gradient),
            });
            opt.apply_gradients(variables).unwrap();
        }
        let after = mesh.traffic();
        assert!(after.time > before.time);
        let mut step = Traffic::default();
        step.sums = after.sums - before.sums;
        step.sum_bytes = after.sum_bytes - before.sum_bytes;
        step.gathers = after.gathers - before.gathers;
        step.gather_bytes = after.gather_bytes - before.gather_bytes;
        step
    });
    traffic.unwrap()[0]
}

fn counted(traffic: Traffic) -> (u64, u64, u64, u64) {
    (traffic.sums, traffic.sum_bytes, traffic.gathers, traffic.gather_bytes)
}

fn reduced(mesh: &Mesh) -> Distributed {
    Distributed::new(mesh).mean_gradients_over(["batch"]).build().unwrap()
}

#[test]
fn without_reduction_ranks_only_agree() {
    let plain = |mesh: &Mesh| Distributed::new(mesh).same_gradients_over(["batch"]).build().unwrap();
    assert_eq!(counted(traffic(plain, |builder| builder, false)), (0, 0, 1, AGREEMENT));
}

#[test]
fn all_gradients_are_summed_once() {
    assert_eq!(counted(traffic(reduced, |builder| builder, false)), (1, MODEL, 1, AGREEMENT));
}

/// One number of 8 bytes for each variable, in one call; one more number says whether all are finite.
#[test]
fn all_norms_are_summed_in_one_call() {
    let clip = |builder: Builder| builder.global_clipnorm(1.0);
    assert_eq!(counted(traffic(reduced, clip, false)), (2, MODEL + 3 * 8, 1, AGREEMENT));
    let check = |builder: Builder| builder.non_finite(NonFinite::SkipStep);
    assert_eq!(counted(traffic(reduced, check, false)), (2, MODEL + 4 * 8, 1, AGREEMENT));
}

#[test]
fn buckets_have_the_size_that_was_asked_for() {
    let buckets =
        |mesh: &Mesh| Distributed::new(mesh).mean_gradients_over(["batch"]).bucket_bytes(900).build().unwrap();
    // 2,400 bytes alone; 80 and 800 together.
    assert_eq!(counted(traffic(buckets, |builder| builder, false)), (2, MODEL, 1, AGREEMENT));
    let smaller =
        |mesh: &Mesh| Distributed::new(mesh).mean_gradients_over(["batch"]).bucket_bytes(800).build().unwrap();
    assert_eq!(counted(traffic(smaller, |builder| builder, false)), (3, MODEL, 1, AGREEMENT));
}

/// A count, indices and rows are exchanged instead of the whole table.
#[test]
fn sparse_gradients_cost_their_rows() {
    let rows = 8 + 2 * 8 + 4 * 2 * 10;
    let dense = MODEL - 4 * 20 * 10;
    assert_eq!(counted(traffic(reduced, |builder| builder, true)), (1, dense, 2, AGREEMENT + rows));
}

/// NovoGrad needs the norm of a sparse gradient after rows of the same index are summed, which is a second sum.
#[test]
fn norms_of_unique_rows_are_one_more_sum() {
    let plain = |mesh: &Mesh| Distributed::new(mesh).same_gradients_over(["batch"]).build().unwrap();
    let novograd = |_| Optimizer::builder(NovoGrad::new(0.1)).boxed();
    assert_eq!(counted(traffic(plain, novograd, false)), (1, 3 * 8, 1, AGREEMENT));
    assert_eq!(counted(traffic(plain, novograd, true)), (2, 3 * 8 + 8, 1, AGREEMENT));
}

/// Each rank sends its updated part to the others: a quarter of the model.
#[test]
fn sharded_state_costs_one_gather_of_the_parts() {
    let sharded =
        |mesh: &Mesh| Distributed::new(mesh).mean_gradients_over(["batch"]).shard_state_over("batch").build().unwrap();
    let part = 4 * (30 * 5 + 5 + 5 * 10);
    assert_eq!(part * 4, MODEL);
    assert_eq!(counted(traffic(sharded, |builder| builder, false)), (1, MODEL, 2, AGREEMENT + part));
}
