//! Faults: each becomes an error on every remaining rank, in time.

use std::process;
use std::thread;
use std::time::Duration;

use ndarray::{Array1, array};
use opt_core::Error;
use opt_core::collective::{CollectiveError, Numbers};
use opt_mesh::{Distributed, Engine, Mesh};
use opt_mesh_mpi::{Mpi, MpiError};
use optimizers::{Optimizer, OptimizerBuilder, Sgd, Variable};

type Opt = Optimizer<Sgd, f64>;

const LIMIT: Duration = Duration::from_secs(1);

fn build(builder: OptimizerBuilder<Sgd, f64>, mesh: &Mesh) -> Opt {
    let distributed = Distributed::new(mesh).mean_gradients_over(["batch"]).build().unwrap();
    builder.distributed(distributed).build().unwrap()
}

fn step(opt: &mut Opt, w: &mut Array1<f64>) -> Result<(), Error> {
    let gradient = Array1::ones(2);
    opt.apply_gradients([Variable::new("w", w).gradient(&gradient)]).map(drop)
}

/// A mesh, an optimizer and a variable after one good step.
fn begun(ranks: usize) -> (Mesh, Opt, Array1<f64>) {
    let mesh = Mesh::new(Mpi::options().limit(LIMIT).start().unwrap(), &[("batch", ranks)]).unwrap();
    let mut opt = build(Optimizer::builder(Sgd::new(0.5)), &mesh);
    let mut w = array![1.0, 2.0];
    step(&mut opt, &mut w).unwrap();
    (mesh, opt, w)
}

/// A step that must fail without changing anything.
fn fails(mesh: &Mesh, opt: &mut Opt, w: &mut Array1<f64>) {
    let error = step(opt, w).unwrap_err();
    let unchanged = *w == array![0.5, 1.5] && opt.iterations() == 1;
    println!("rank {}: {error}, {}", mesh.rank(), if unchanged { "nothing changed" } else { "CHANGED" });
}

pub(super) fn twice() {
    let first = Mpi::start().unwrap();
    assert_eq!(Mpi::start().unwrap_err(), MpiError::StartedBefore);
    assert_eq!(first.world().sum(Numbers::F64(vec![2.0])), Ok(Numbers::F64(vec![2.0])));
}

/// If one rank would do something else, all ranks get an error; the job continues.
pub(super) fn disagreement() {
    let (mesh, mut opt, mut w) = begun(4);
    if mesh.rank() == 3 {
        opt.set_learning_rate(0.25).unwrap();
    }
    let error = step(&mut opt, &mut w).unwrap_err();
    assert!(matches!(error, Error::Collective(CollectiveError::Disagreement { rank: 3, .. })), "{error}");
    assert_eq!((&w, opt.iterations()), (&array![0.5, 1.5], 1));
    opt.set_learning_rate(0.5).unwrap();
    step(&mut opt, &mut w).unwrap();
    assert_eq!((&w, opt.iterations()), (&array![0.0, 1.0], 2));
}

/// If one rank cannot continue, all ranks get an error.
pub(super) fn refusal() {
    let (mesh, mut opt, mut w) = begun(3);
    let mut wrong = array![1.0];
    let error = if mesh.rank() == 1 { step(&mut opt, &mut wrong) } else { step(&mut opt, &mut w) }.unwrap_err();
    match error {
        Error::VariableShape { .. } => assert_eq!(mesh.rank(), 1),
        Error::Collective(CollectiveError::Refused { rank: 1, .. }) => assert_ne!(mesh.rank(), 1),
        other => panic!("{other}"),
    }
    step(&mut opt, &mut w).unwrap();
    assert_eq!(w, array![0.0, 1.0]);
}

/// If a rank unwinds while the others wait, the hook aborts the job.
pub(super) fn panic() {
    let (mesh, mut opt, mut w) = begun(3);
    assert!(mesh.rank() != 1, "out of luck");
    fails(&mesh, &mut opt, &mut w);
}

/// If a rank is gone while the others wait, mpirun ends the job.
pub(super) fn exit() {
    let (mesh, mut opt, mut w) = begun(3);
    if mesh.rank() == 1 {
        process::exit(3);
    }
    fails(&mesh, &mut opt, &mut w);
}

/// The others time out and report it, and the job is aborted.
pub(super) fn late() {
    let (mesh, mut opt, mut w) = begun(3);
    if mesh.rank() == 2 {
        thread::sleep(LIMIT * 15);
    }
    fails(&mesh, &mut opt, &mut w);
    // From now on calls fail at once.
    println!("rank {}: {}", mesh.rank(), step(&mut opt, &mut w).unwrap_err());
}

/// A rank ends normally while the other one continues.
pub(super) fn early() {
    let (mesh, mut opt, mut w) = begun(2);
    if mesh.rank() == 1 {
        fails(&mesh, &mut opt, &mut w);
    }
}
