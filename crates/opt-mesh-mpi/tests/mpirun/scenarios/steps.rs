//! Steps of optimizers.

use ndarray::{Array2, ArrayD};
use opt_conformance::golden::File;
use opt_conformance::replay::Registries;
use opt_conformance::{Verdict, golden_folder, replay_on};
use opt_mesh::{Distributed, DistributedBuilder, Layout, Mesh};
use opt_mesh_mpi::Mpi;
use optimizers::{Ema, Lookahead, NovoGrad, Optimizer, Sgd, UpdateRule, Variable};

fn number(key: usize) -> f64 {
    ((key * 7919 + 13) as f64).sin()
}

fn array(rows: usize, columns: usize, key: usize) -> Array2<f64> {
    Array2::from_shape_fn((rows, columns), |(i, j)| number(key + i * 100 + j))
}

/// Five steps with gradients that differ from rank to rank; returns the variables afterwards, as whole arrays.
fn train(
    mesh: &Mesh,
    rule: Box<dyn UpdateRule<f64>>,
    distributed: impl Fn(DistributedBuilder) -> DistributedBuilder,
) -> Vec<ArrayD<f64>> {
    let layout = Layout::new([None, Some("model")]);
    let builder = Distributed::new(mesh).layout("kernel", &[9, 5], layout.clone());
    let builder = builder.mean_gradients_over(["batch"]).same_gradients_over(["model"]);
    let distributed = distributed(builder).build().unwrap();
    let builder = Optimizer::builder(rule).ema(Ema::new(0.5));
    let mut opt = builder.distributed(distributed).build().unwrap();
    let mut kernel = mesh.scatter(&layout, &array(9, 5, 0).into_dyn().view()).unwrap();
    let mut bias = array(1, 7, 1000).into_dyn();
    let mut embedding = array(6, 2, 2000).into_dyn();
    for step in 0..5 {
        let replica = mesh.coordinates()[0] * 31 + step * 17;
        let gradient = mesh.scatter(&layout, &array(9, 5, 3000 + replica).into_dyn().view()).unwrap();
        let other = array(1, 7, 4000 + replica);
        let (rows, values) = (vec![(replica * 3) % 6, 2], array(2, 2, 5000 + replica));
        let variables = [
            Variable::new("kernel", &mut kernel).gradient(&gradient),
            Variable::new("bias", &mut bias).gradient(&other),
            Variable::new("embedding", &mut embedding).sparse_gradient(&rows, &values),
        ];
        opt.apply_gradients(variables).unwrap();
    }
    vec![mesh.gather(&layout, &[9, 5], &kernel.view()).unwrap(), bias, embedding]
}

const MESH: [(&str, usize); 2] = [("batch", 2), ("model", 2)];

fn rules() -> [Box<dyn UpdateRule<f64>>; 2] {
    [Box::new(Sgd::new(0.1).momentum(0.9)), Box::new(Lookahead::new(NovoGrad::new(0.05)).sync_period(2))]
}

/// Processes give the bits of threads: two replicas have only one order of addition, and short sums use the same
/// order.
pub(super) fn step() {
    let mesh = Mesh::new(Mpi::start().unwrap(), &MESH).unwrap();
    for (rule, again) in rules().into_iter().zip(rules()) {
        let again = std::sync::Mutex::new(vec![again]);
        let values = train(&mesh, rule, |distributed| distributed);
        // The same on threads, by rank 0 alone.
        if mesh.rank() == 0 {
            let number = again.lock().unwrap()[0].slots().len();
            let threads = Mesh::threads(&MESH, |mesh| {
                let rule = rules().into_iter().find(|rule| rule.slots().len() == number).unwrap();
                train(mesh, rule, |distributed| distributed)
            });
            assert!(threads.unwrap().iter().all(|other| *other == values));
        }
        let own: Vec<u8> = values.iter().flatten().flat_map(|x| x.to_le_bytes()).collect();
        assert!(mesh.world().gather(own.clone()).unwrap().iter().all(|other| *other == own));
    }
}

/// Neither option changes a bit.
pub(super) fn overlap_and_parts() {
    let mesh = Mesh::new(Mpi::start().unwrap(), &MESH).unwrap();
    for number in 0..2 {
        let rule = || rules().into_iter().nth(number).unwrap();
        let plain = train(&mesh, rule(), |distributed| distributed);
        assert_eq!(train(&mesh, rule(), |distributed| distributed.bucket_bytes(100).overlap(true)), plain);
        let parts = train(&mesh, rule(), |distributed| distributed.shard_state_over("batch"));
        for (part, plain) in parts.iter().flatten().zip(plain.iter().flatten()) {
            // NovoGrad's norms are sums over parts, added in another order.
            let tolerance = if number == 1 { 64.0 * f64::EPSILON } else { 0.0 };
            let close = (part - plain).abs() <= tolerance;
            assert!(close, "{part:?} {plain:?}");
        }
    }
}

/// Recorded runs of DTensor, compared shard by shard.
pub(super) fn parity() {
    let mpi = Mpi::start().unwrap();
    let registries = Registries { float32: optimizers::registry(), float64: optimizers::registry() };
    let cases = File::read(&golden_folder().join("dtensor_sgd.json")).unwrap().cases;
    assert_eq!(cases.len(), 9);
    for case in cases {
        let dimensions = case.mesh().unwrap().to_vec();
        let dimensions: Vec<(&str, usize)> = dimensions.iter().map(|(name, size)| (name.as_str(), *size)).collect();
        let mesh = Mesh::new(mpi.clone(), &dimensions).unwrap();
        assert_eq!(replay_on(&mesh, &case, &registries), Verdict::Passed, "{}", case.name());
    }
}
