//! Checkpoints that processes write together.

use std::path::PathBuf;

use ndarray::{ArrayD, IxDyn};
use opt_mesh::{Distributed, Layout, Mesh};
use opt_mesh_mpi::Mpi;
use optimizers::checkpoint::CheckpointDir;
use optimizers::{Nadam, Optimizer};

type Model = Vec<ArrayD<f64>>;

const SHAPE: [usize; 2] = [7, 3];

fn array(key: f64) -> ArrayD<f64> {
    ArrayD::from_shape_fn(IxDyn(&SHAPE), |index| (key + (index[0] * 10 + index[1]) as f64).sin())
}

/// A sharded and a replicated variable, with sharded state.
struct Training {
    opt: Optimizer<Nadam, f64>,
    model: Model,
}

impl Training {
    fn new(mesh: &Mesh) -> Self {
        let layout = Layout::new([None, Some("model")]);
        let distributed = Distributed::new(mesh).layout("0", &SHAPE, layout.clone()).shard_state_over("batch");
        let distributed = distributed.same_gradients_over(["batch", "model"]);
        let opt = Optimizer::builder(Nadam::new(0.01)).distributed(distributed.build().unwrap()).build().unwrap();
        let cut = mesh.scatter(&layout, &array(0.0).view()).unwrap();
        Self { opt, model: vec![cut, array(1.0)] }
    }

    fn step(&mut self) {
        let gradients = self.model.clone();
        self.opt.step(&mut self.model, &gradients).unwrap();
    }

    fn state(&self) -> (Model, Vec<optimizers::state::StateEntry<optimizers::state::StateValue<'static, f64>>>) {
        (self.model.clone(), self.opt.weights())
    }
}

/// A run that is saved and resumed on the same processes, on others, or on one, ends bit for bit like one that was
/// not.
pub(super) fn checkpoints() {
    let mpi = Mpi::start().unwrap();
    let mesh = Mesh::new(mpi.clone(), &[("batch", 2), ("model", 2)]).unwrap();
    // Rank 0 chooses the path.
    let own = tempfile::tempdir().unwrap();
    let place = mesh.world().broadcast(0, own.path().to_str().unwrap().as_bytes().to_vec()).unwrap();
    let folder = PathBuf::from(String::from_utf8(place).unwrap());
    let mut through = Training::new(&mesh);
    let mut directory = CheckpointDir::create_on(mesh.world(), &folder).unwrap().keep(1);
    for _ in 0..2 {
        through.step();
        directory.save(&through.opt, &through.model).unwrap();
    }
    drop(directory);
    let resume = |mesh: &Mesh| {
        let mut resumed = Training::new(mesh);
        let directory = CheckpointDir::open(&folder);
        assert_eq!(directory.list().unwrap().len(), 1);
        let latest = directory.open_latest_valid_on(mesh.world()).unwrap().unwrap();
        latest.checkpoint.load(&mut resumed.opt, &mut resumed.model).unwrap();
        resumed.step();
        resumed
    };
    through.step();
    assert_eq!(resume(&mesh).state(), through.state());
    let other = Mesh::new(mpi, &[("model", 1), ("batch", 4)]).unwrap();
    let moved = resume(&other);
    let layout = Layout::new([None, Some("model")]);
    let want = mesh.gather(&layout, &SHAPE, &through.model[0].view()).unwrap();
    assert_eq!(moved.model, [want.clone(), through.model[1].clone()]);
    if mesh.rank() == 0 {
        let threads = Mesh::threads(&[("model", 3), ("batch", 1)], |mesh| {
            let resumed = resume(mesh);
            mesh.gather(&layout, &SHAPE, &resumed.model[0].view()).unwrap()
        });
        assert_eq!(threads.unwrap(), [want.clone(), want.clone(), want]);
    }
    // No rank removes the folder before all are done.
    mesh.world().gather(Vec::new()).unwrap();
}
