//! Folders of checkpoints.

use std::fs;
use std::path::Path;

use ndarray::ArrayD;
use opt_checkpoint::{CheckpointDir, Error};
use opt_core::{Optimizer, Variable};
use opt_sgd::Sgd;
use tempfile::TempDir;

/// A training of one number that adds 1 in each step.
struct Training {
    w: [f32; 1],
    opt: Optimizer<Sgd, f32>,
}

impl Training {
    fn new() -> Self {
        Self { w: [0.0], opt: Optimizer::new(Sgd::new(1.0)).unwrap() }
    }

    fn step(&mut self) {
        self.opt.apply_gradients([Variable::new("w", &mut self.w).gradient(&[-1.0])]).unwrap();
    }

    fn save(&mut self, directory: &mut CheckpointDir) {
        directory.save(&self.opt, &[Variable::new("w", &mut self.w)]).unwrap();
    }

    fn resume(&mut self, directory: &CheckpointDir) -> usize {
        let latest = directory.open_latest_valid().unwrap().unwrap();
        latest.checkpoint.load(&mut self.opt, &mut [Variable::new("w", &mut self.w)]).unwrap();
        latest.rejected.len()
    }
}

fn steps(directory: &CheckpointDir) -> Vec<u64> {
    directory.list().unwrap().iter().map(|stored| stored.step).collect()
}

/// A folder with one checkpoint for each of these steps.
fn folder(count: usize, keep: usize) -> (TempDir, CheckpointDir, Training) {
    let folder = tempfile::tempdir().unwrap();
    let mut directory = CheckpointDir::create(folder.path()).unwrap().keep(keep);
    let mut training = Training::new();
    for _ in 0..count {
        training.step();
        training.save(&mut directory);
    }
    (folder, directory, training)
}

fn damage(path: &Path, flip: usize) {
    let mut bytes = fs::read(path).unwrap();
    let place = bytes.len() - flip;
    bytes[place] ^= 1;
    fs::write(path, bytes).unwrap();
}

#[test]
fn the_newest_few_are_kept() {
    let (_folder, directory, _) = folder(7, 3);
    assert_eq!(steps(&directory), [7, 6, 5]);
    let one = folder(4, 0);
    assert_eq!(steps(&one.1), [4], "one is always kept");
}

#[test]
fn damaged_ones_are_passed_over_and_named() {
    let (_folder, directory, _) = folder(4, 3);
    let stored = directory.list().unwrap();
    damage(&stored[0].path, 1);
    fs::write(&stored[1].path, &fs::read(&stored[1].path).unwrap()[..100]).unwrap();
    let latest = directory.open_latest_valid().unwrap().unwrap();
    assert_eq!(latest.stored, stored[2]);
    let rejected: Vec<_> =
        latest.rejected.iter().map(|rejected| (&rejected.path, rejected.error.is_damage())).collect();
    assert_eq!(rejected, [(&stored[0].path, true), (&stored[1].path, true)]);
    let mut training = Training::new();
    assert_eq!(training.resume(&directory), 2);
    assert_eq!((training.opt.iterations(), training.w), (2, [2.0]));
}

#[test]
fn damaged_ones_do_not_push_out_whole_ones() {
    let (_folder, mut directory, mut training) = folder(3, 2);
    // Truncation is detected without reading the whole file.
    let newest = directory.list().unwrap()[0].path.clone();
    fs::write(&newest, &fs::read(&newest).unwrap()[..100]).unwrap();
    for _ in 0..2 {
        training.step();
        training.save(&mut directory);
    }
    assert_eq!(steps(&directory), [5, 4, 3], "3 is damaged and does not count");
}

#[test]
fn none_that_is_whole_is_an_error_and_none_at_all_is_not() {
    let (_folder, directory, _) = folder(2, 3);
    for stored in directory.list().unwrap() {
        damage(&stored.path, 3);
    }
    let error = directory.open_latest_valid().unwrap_err();
    assert!(matches!(&error, Error::NoneValid { rejected, .. } if rejected.len() == 2), "{error}");
    assert!(error.to_string().contains("00000002-step-2.safetensors"), "{error}");
    let empty = tempfile::tempdir().unwrap();
    assert!(CheckpointDir::open(empty.path()).open_latest_valid().unwrap().is_none());
    assert!(CheckpointDir::open(empty.path().join("no")).open_latest_valid().unwrap().is_none());
}

#[test]
fn who_goes_back_goes_on_from_there() {
    let (_folder, mut directory, _) = folder(5, 9);
    let third = directory.list().unwrap()[2].clone();
    let mut training = Training::new();
    let checkpoint = opt_checkpoint::Checkpoint::open(&third.path).unwrap();
    checkpoint.load(&mut training.opt, &mut [Variable::new("w", &mut training.w)]).unwrap();
    training.w = [40.0];
    training.step();
    training.save(&mut directory);
    let mut resumed = Training::new();
    resumed.resume(&directory);
    assert_eq!((resumed.opt.iterations(), resumed.w), (4, [41.0]), "not step 5 of the run before");
}

#[test]
fn the_same_step_can_be_saved_twice() {
    let (_folder, mut directory, mut training) = folder(1, 9);
    training.w = [7.0];
    training.save(&mut directory);
    assert_eq!(steps(&directory), [1, 1]);
    let mut resumed = Training::new();
    resumed.resume(&directory);
    assert_eq!(resumed.w, [7.0]);
}

#[test]
fn one_writer_at_a_time() {
    let (folder, directory, mut training) = folder(1, 3);
    let second = CheckpointDir::create(folder.path());
    assert!(matches!(second, Err(Error::InUse { .. })), "{second:?}");
    let mut reader = CheckpointDir::open(folder.path());
    assert!(reader.open_latest_valid().unwrap().is_some());
    let refused = reader.save(&training.opt, &[Variable::new("w", &mut training.w)]);
    assert!(matches!(refused, Err(Error::InUse { .. })), "{refused:?}");
    drop(directory);
    assert!(CheckpointDir::create(folder.path()).is_ok());
}

#[test]
fn what_a_dead_writer_left_is_removed_and_nothing_else() {
    let (folder, directory, _) = folder(1, 3);
    drop(directory);
    let path = |name: &str| folder.path().join(name);
    let half = path(".00000002-step-2.safetensors.Xy12Ab.tmp");
    let others =
        ["notes.txt", ".hidden.tmp", "step-3.safetensors", "00000009-step-x.safetensors", "9-step-9.safetensors"];
    for path in others.map(path).iter().chain([&half]) {
        fs::write(path, "half").unwrap();
    }
    let directory = CheckpointDir::create(folder.path()).unwrap();
    assert!(!half.exists());
    assert!(others.map(path).iter().all(|path| path.exists()));
    assert_eq!(steps(&directory), [1], "other files are no checkpoints");
}

#[test]
fn a_failed_save_leaves_the_folder_as_it_was() {
    let (folder, mut directory, training) = folder(2, 2);
    let before = names(folder.path());
    let mut wrong = ArrayD::<f32>::zeros(vec![3]);
    let error = directory.save(&training.opt, &[Variable::new("w", &mut wrong)]).unwrap_err();
    assert!(matches!(error, Error::Optimizer(opt_core::Error::VariableShape { .. })), "{error}");
    assert_eq!(names(folder.path()), before);
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(folder).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Resuming takes the newest valid checkpoint, names the damaged ones, and changes nothing where there is none.
#[test]
fn a_run_resumes_from_the_newest_valid_checkpoint() {
    let empty = tempfile::tempdir().unwrap();
    let mut training = Training::new();
    training.step();
    let before = training.opt.weights();
    let resumed =
        CheckpointDir::open(empty.path()).resume(&mut training.opt, &mut [Variable::new("w", &mut training.w)]);
    assert!(resumed.unwrap().is_none());
    assert_eq!((training.w, training.opt.weights()), ([1.0], before));

    let (_folder, directory, _) = folder(3, 3);
    let newest = directory.list().unwrap()[0].path.clone();
    damage(&newest, 1);
    let mut variables = [Variable::new("w", &mut training.w)];
    let resumed = directory.resume(&mut training.opt, &mut variables).unwrap().unwrap();
    assert_eq!((resumed.loaded.iterations, resumed.stored.step), (2, 2));
    assert_eq!(resumed.rejected.iter().map(|damaged| &damaged.path).collect::<Vec<_>>(), [&newest]);
    assert_eq!((training.w, training.opt.iterations()), ([2.0], 2));

    let mut other = [0.0; 2];
    let refused = directory.resume(&mut training.opt, &mut [Variable::new("w", &mut other)]);
    assert!(matches!(refused, Err(Error::Mismatch { .. })), "{refused:?}");
    assert_eq!((training.w, training.opt.iterations()), ([2.0], 2));
}
