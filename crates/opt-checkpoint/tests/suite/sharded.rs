//! Checkpoints that several ranks write together.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use ndarray::{ArrayD, IxDyn};
use opt_checkpoint::{Checkpoint, CheckpointDir, Contents, Damage, Error, LoadOptions, SaveOptions, Saved, save};
use opt_core::collective::{CollectiveError, Distribution, Placement};
use opt_core::state::StateValue;
use opt_core::{Optimizer, Variable};
use opt_novograd::NovoGrad;
use optimizers::mesh::{Distributed, Layout, Mesh};
use optimizers::{Ema, MomentStorage};

pub(crate) const RANKS: usize = 4;

type Opt = Optimizer<NovoGrad, f32>;

/// Names, shapes, and how rows are cut: evenly, unevenly, down to nothing, not at all.
const VARIABLES: [(&str, &[usize], bool); 5] = [
    ("bias", &[5], false),
    ("kernel", &[8, 3], true),
    ("nothing", &[0, 2], false),
    ("short", &[2, 2], true),
    ("table", &[6, 2], true),
];

/// One rank of a training, or the whole training on one process.
pub(crate) struct Training {
    pub(crate) opt: Opt,
    pub(crate) values: Vec<ArrayD<f32>>,
}

fn layout(is_cut: bool) -> Layout {
    if is_cut { Layout::new([Some("x"), None]) } else { Layout::replicated() }
}

pub(crate) fn distributed(mesh: &Mesh) -> Distributed {
    let builder = VARIABLES
        .iter()
        .filter(|(.., is_cut)| *is_cut)
        .fold(Distributed::new(mesh), |builder, variable| builder.layout(variable.0, variable.1, layout(true)));
    builder.same_gradients_over(mesh.dimensions().iter().map(|(name, _)| name)).build().unwrap()
}

impl Training {
    pub(crate) fn new(mesh: Option<&Mesh>) -> Self {
        Self::distributed(mesh, |mesh| Box::new(distributed(mesh)))
    }

    fn distributed(mesh: Option<&Mesh>, distribution: impl Fn(&Mesh) -> Box<dyn Distribution>) -> Self {
        let builder = Optimizer::builder(NovoGrad::new(0.125).amsgrad(true)).ema(Ema::new(0.5));
        let builder = builder.moments(MomentStorage::Bf16 { seed: 3 });
        let opt = match mesh {
            None => builder.build(),
            Some(mesh) => builder.distributed(std::sync::Arc::<dyn Distribution>::from(distribution(mesh))).build(),
        };
        let values = (0..).zip(VARIABLES).map(|(i, (_, shape, is_cut))| {
            let mut number = i as f32;
            let mut next = || {
                number = (number * 1.75 + 0.375) % 2.0;
                number
            };
            let whole = ArrayD::from_shape_simple_fn(IxDyn(shape), &mut next);
            mesh.map_or_else(|| whole.clone(), |mesh| mesh.scatter(&layout(is_cut), &whole.view()).unwrap())
        });
        Self { opt: opt.unwrap(), values: values.collect() }
    }

    pub(crate) fn step(&mut self) {
        let gradients = self.values.clone();
        let names = VARIABLES.iter().map(|variable| variable.0);
        let variables = names.zip(&mut self.values).zip(&gradients);
        self.opt.apply_gradients(variables.map(|((name, value), g)| Variable::new(name, value).gradient(g))).unwrap();
    }

    pub(crate) fn parts(&mut self) -> (&mut Opt, Vec<Variable<'_, f32>>) {
        let names = VARIABLES.iter().map(|variable| variable.0);
        (&mut self.opt, names.zip(&mut self.values).map(|(name, value)| Variable::new(name, value)).collect())
    }

    pub(crate) fn save(&mut self, path: &Path) -> Result<Saved, Error> {
        let (opt, variables) = self.parts();
        save(path, opt, &variables)
    }

    pub(crate) fn load(&mut self, path: &Path) -> Result<opt_checkpoint::Loaded, Error> {
        let (opt, mut variables) = self.parts();
        Checkpoint::open(path)?.load(opt, &mut variables)
    }

    /// All state on this rank.
    pub(crate) fn state(&self) -> (Vec<ArrayD<f32>>, Vec<StateValue<'static, f32>>) {
        (self.values.clone(), self.opt.weights().into_iter().map(|weight| weight.value).collect())
    }
}

/// What all ranks do after so many steps.
pub(crate) fn after<R: Send>(steps: usize, work: impl Fn(&Mesh, &mut Training) -> R + Sync) -> Vec<R> {
    let ranks = Mesh::threads(&[("x", RANKS)], |mesh| {
        let mut training = Training::new(Some(mesh));
        (0..steps).for_each(|_| training.step());
        work(mesh, &mut training)
    });
    ranks.unwrap()
}

/// A folder with a sharded checkpoint of this step.
pub(crate) fn saved(path: &Path, steps: usize) -> Vec<Saved> {
    after(steps, |_, training| training.save(path).unwrap())
}

pub(crate) fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let files = fs::read_dir(folder).unwrap().map(|file| file.unwrap());
    files.map(|file| (file.file_name().into_string().unwrap(), fs::read(file.path()).unwrap_or_default())).collect()
}

pub(crate) fn shards(folder: &Path) -> Vec<PathBuf> {
    files(folder).keys().filter(|name| name.starts_with("shard-")).map(|name| folder.join(name)).collect()
}

#[test]
fn every_number_is_written_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run");
    let told = saved(&path, 2);
    let files = files(&path);
    let bytes: usize = files.values().map(Vec::len).sum();
    assert!(told.iter().all(|saved| saved.path == path && saved.bytes == bytes as u64 && saved.has_configuration));
    assert_eq!((files.len(), shards(&path).len()), (RANKS + 1, RANKS));
    let checkpoint = Checkpoint::open(&path).unwrap();
    assert_eq!((checkpoint.ranks(), checkpoint.iterations().unwrap()), (Some(RANKS), 2));
    checkpoint.verify().unwrap();
    for tensor in checkpoint.tensors() {
        let elements = |shape: &[usize]| shape.iter().product::<usize>();
        let pieces: usize = tensor.pieces.iter().map(|piece| elements(&piece.shape)).sum();
        assert_eq!(pieces, elements(&tensor.shape), "{}", tensor.name);
        let places: Vec<&[usize]> = tensor.pieces.iter().map(|piece| piece.offset.as_slice()).collect();
        match tensor.name.as_str() {
            "bias" | "bias/m" => assert_eq!(places, [&[0]], "one of the ranks writes it"),
            "kernel" | "kernel/average" => assert_eq!(places, [[0, 0], [2, 0], [4, 0], [6, 0]]),
            "table/m" => assert_eq!(places, [[0, 0], [2, 0], [4, 0], [5, 0]]),
            "short" => assert_eq!(places, [[0, 0], [1, 0]]),
            _ => {}
        }
    }
    // The file of one rank is what safetensors reads.
    let shard = &files[shards(&path)[1].file_name().unwrap().to_str().unwrap()];
    let tensors = safetensors::SafeTensors::deserialize(shard).unwrap();
    assert_eq!(tensors.tensor("kernel").unwrap().shape(), [2, 3]);
    assert_eq!(tensors.tensor("kernel/m").unwrap().dtype(), safetensors::Dtype::BF16);
    assert!(tensors.tensor("bias").is_err() && tensors.tensor("iterations").is_err());
    // The same training gives the same bytes.
    saved(&folder.path().join("again"), 2);
    let again = self::files(&folder.path().join("again"));
    assert!(again == files, "other bytes");
}

#[test]
fn one_shard_is_no_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    saved(folder.path(), 1);
    for shard in shards(folder.path()) {
        let error = Checkpoint::open(&shard).unwrap_err();
        assert!(matches!(error, Error::Damaged { damage: Damage::Sharded { .. }, .. }), "{error}");
    }
    let manifest = folder.path().join("manifest.safetensors");
    Checkpoint::open(&manifest).unwrap().verify().unwrap();
    let error = Checkpoint::from_bytes(fs::read(manifest).unwrap()).unwrap_err();
    assert!(matches!(error, Error::Damaged { damage: Damage::Sharded { .. }, .. }), "{error}");
}

#[test]
fn ranks_get_back_what_they_had() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run");
    let states = after(3, |_, training| {
        training.save(&path).unwrap();
        training.state()
    });
    let loaded = after(0, |_, training| {
        let loaded = training.load(&path).unwrap();
        assert_eq!((loaded.iterations, loaded.configuration_compared), (3, true));
        training.state()
    });
    assert_eq!(loaded, states);
    // An optimizer that was at work is replaced as well.
    let loaded = after(1, |_, training| {
        training.load(&path).unwrap();
        training.state()
    });
    assert_eq!(loaded, states);
    let mut alone = Training::new(None);
    alone.load(&path).unwrap();
    let mut want = Training::new(None);
    want.opt.add_variables(&mut Training::new(None).parts().1).unwrap();
    assert_eq!(alone.opt.weights().len(), want.opt.weights().len());
    assert_eq!(alone.values[1].shape(), [8, 3]);
    for (rank, (values, _)) in states.iter().enumerate() {
        assert_eq!(values[0], alone.values[0]);
        assert_eq!(values[1], alone.values[1].slice(ndarray::s![2 * rank..2 * rank + 2, ..]).into_dyn());
    }
}

#[test]
fn parts_of_it_and_variables_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run");
    let states = after(2, |_, training| {
        let (opt, variables) = training.parts();
        SaveOptions::new().contents(Contents::Averaged).save(folder.path().join("averaged"), opt, &variables).unwrap();
        training.save(&path).unwrap();
        training.state()
    });
    let loaded = after(2, |_, training| {
        training.values.iter_mut().for_each(|value| value.fill(7.0));
        let (opt, mut variables) = training.parts();
        let options = LoadOptions::new().only("^(kernel|table)").unwrap();
        let loaded = options.load(&Checkpoint::open(&path).unwrap(), opt, &mut variables).unwrap();
        assert!(loaded.kept.contains(&"bias/m".to_owned()) && loaded.loaded.contains(&"table/average".to_owned()));
        training.state()
    });
    for (loaded, saved) in loaded.iter().zip(&states) {
        assert_eq!((&loaded.0[1], &loaded.0[4], &loaded.1), (&saved.0[1], &saved.0[4], &saved.1));
        assert!(loaded.0[0].iter().all(|number| *number == 7.0), "what is not asked for stays");
    }
    let averages = after(0, |mesh, training| {
        let checkpoint = Checkpoint::open(folder.path().join("averaged")).unwrap();
        let ranks = distributed(mesh);
        let loaded = LoadOptions::new().load_variables_on(&ranks, &checkpoint, &mut training.parts().1).unwrap();
        assert_eq!(loaded.iterations, 2);
        training.values[4].clone()
    });
    let want = after(2, |_, training| {
        let opt_core::state::StateValue::Array(average) = training.opt.slot("table", "average").unwrap() else {
            panic!()
        };
        average.to_owned()
    });
    assert_eq!(averages, want);
}

#[test]
fn a_mismatch_on_one_rank_is_one_on_all() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run");
    saved(&path, 2);
    let errors = after(1, |mesh, training| {
        let before = training.state();
        let (opt, mut variables) = training.parts();
        if mesh.rank() == 2 {
            variables.pop();
        }
        let error = Checkpoint::open(&path).unwrap().load(opt, &mut variables).unwrap_err();
        assert_eq!(training.state(), before);
        error
    });
    assert!(matches!(&errors[2], Error::Mismatch { .. }), "{}", errors[2]);
    for error in [&errors[0], &errors[1], &errors[3]] {
        let refused =
            matches!(error, Error::Optimizer(opt_core::Error::Collective(CollectiveError::Refused { rank: 2, .. })));
        assert!(refused && error.to_string().contains("table"), "{error}");
    }
}

#[test]
fn ranks_have_to_save_and_load_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run");
    let told = |error: Error| match error {
        Error::Optimizer(opt_core::Error::Collective(CollectiveError::Disagreement { rank, found, .. })) => {
            (rank, found)
        }
        error => panic!("{error}"),
    };
    let extras = after(1, |mesh, training| {
        let (opt, variables) = training.parts();
        told(SaveOptions::new().extra((mesh.rank() == 1).into()).save(&path, opt, &variables).unwrap_err())
    });
    assert!(extras.iter().all(|found| *found == (1, "extra true".to_owned())), "{extras:?}");
    let paths = after(1, |mesh, training| {
        told(training.save(&folder.path().join(format!("run-{}", mesh.rank() / 3))).unwrap_err())
    });
    assert!(paths.iter().all(|(rank, found)| *rank == 3 && found.ends_with("run-1")), "{paths:?}");
    assert!(files(folder.path()).is_empty());
    saved(&path, 1);
    let other = folder.path().join("other");
    saved(&other, 2);
    let loads =
        after(0, |mesh, training| told(training.load(if mesh.rank() == 3 { &other } else { &path }).unwrap_err()));
    assert!(loads.iter().all(|(rank, found)| *rank == 3 && found.ends_with("other")), "{loads:?}");
    let errors = after(1, |_, training| {
        let (opt, variables) = training.parts();
        SaveOptions::new().write(&mut std::io::Cursor::new(Vec::new()), opt, &variables).unwrap_err()
    });
    assert!(errors.iter().all(|error| matches!(error, Error::OnRanks)), "one rank alone has no file to write");
}

/// Ranks of which none, or all, write the replicated data.
#[derive(Debug)]
struct Wrong(Distributed, bool);

impl Distribution for Wrong {
    fn world(&self) -> &dyn opt_core::collective::Collective {
        self.0.world()
    }
    fn placement(&self, variable: &str, shape: &[usize]) -> Result<std::sync::Arc<Placement>, CollectiveError> {
        let placement = Placement::clone(&*self.0.placement(variable, shape)?);
        Ok(Placement { counts: self.1, ..placement }.into())
    }
}

#[test]
fn what_no_rank_writes_or_two_do_is_found() {
    let folder = tempfile::tempdir().unwrap();
    for (counts, problem) in [(false, "have 0 of "), (true, "overlap")] {
        let errors = Mesh::threads(&[("x", RANKS)], |mesh| {
            let mut training = Training::distributed(Some(mesh), |mesh| Box::new(Wrong(distributed(mesh), counts)));
            training.save(&folder.path().join("run")).unwrap_err().to_string()
        });
        assert!(errors.unwrap().iter().all(|error| error.contains(problem)), "{problem}");
        assert!(files(folder.path()).is_empty(), "nothing is left");
    }
}

#[test]
fn a_folder_of_them_is_kept_by_all_ranks() {
    let folder = tempfile::tempdir().unwrap();
    let steps = after(0, |mesh, training| {
        let mut directory = CheckpointDir::create_on(mesh.world(), folder.path()).unwrap().keep(2);
        assert!(directory.open_latest_valid_on(mesh.world()).unwrap().is_none());
        for _ in 0..4 {
            training.step();
            let (opt, variables) = training.parts();
            directory.save(opt, &variables).unwrap();
        }
        let second = CheckpointDir::create_on(mesh.world(), folder.path()).unwrap_err();
        assert!(second.to_string().contains("is in use by another writer"), "{second}");
        directory.list().unwrap().iter().map(|stored| (stored.number, stored.step)).collect::<Vec<_>>()
    });
    assert!(steps.iter().all(|steps| *steps == [(4, 4), (3, 3)]), "{steps:?}");
    let path = folder.path().join("00000004-step-4.sharded");
    let newest = shards(&path).swap_remove(2);
    let mut bytes = fs::read(&newest).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&newest, bytes).unwrap();
    // The remains of a dead writer: a folder without a manifest.
    let half = folder.path().join("00000005-step-5.sharded");
    fs::create_dir(&half).unwrap();
    fs::copy(&newest, half.join(newest.file_name().unwrap())).unwrap();
    assert_eq!(CheckpointDir::open(folder.path()).list().unwrap().len(), 2, "without a manifest there is none");
    let resumed = after(0, |mesh, training| {
        let directory = CheckpointDir::create_on(mesh.world(), folder.path()).unwrap();
        assert!(!half.exists());
        let latest = directory.open_latest_valid_on(mesh.world()).unwrap().unwrap();
        let (opt, mut variables) = training.parts();
        latest.checkpoint.load(opt, &mut variables).unwrap();
        assert_eq!((latest.stored.step, opt.iterations(), latest.rejected.len()), (3, 3, 1));
        (latest.rejected[0].path.clone(), latest.rejected[0].error.to_string())
    });
    let name = newest.file_name().unwrap().to_str().unwrap();
    assert!(resumed.iter().all(|(found, error)| *found == path && error.contains(name)), "{resumed:?}");
    // One process finds the same, and continues with a file of its own.
    let mut alone = Training::new(None);
    let mut directory = CheckpointDir::create(folder.path()).unwrap();
    let latest = directory.open_latest_valid().unwrap().unwrap();
    assert!(latest.rejected[0].error.is_damage());
    let (opt, mut variables) = alone.parts();
    latest.checkpoint.load(opt, &mut variables).unwrap();
    alone.step();
    let (opt, variables) = alone.parts();
    directory.save(opt, &variables).unwrap();
    assert!(folder.path().join("00000005-step-4.safetensors").exists());
}
