//! Shards that are missing or damaged, and ranks that fail while they write.

use std::fs;
use std::path::Path;

use opt_checkpoint::{Action, Checkpoint, Damage, Error, Mismatch, SaveOptions};
use opt_core::collective::CollectiveError;
use optimizers::mesh::{Mesh, MeshError};

use crate::sharded::{RANKS, Training, after, files, saved, shards};
use crate::writing::{CHILD, limited};

/// The reason that opening gives for the only shard that cannot be used.
fn rejected(folder: &Path, shard: &Path) -> Damage {
    let error = Checkpoint::open(folder).unwrap_err();
    assert!(error.is_damage() && error.to_string().contains(shard.to_str().unwrap()), "{error}");
    let Error::Shards { path, rejected } = error else { panic!("{error}") };
    assert_eq!((path.as_path(), rejected.len(), rejected[0].path.as_path()), (folder, 1, shard));
    match rejected.into_iter().next().unwrap().error {
        Error::Damaged { damage, .. } => damage,
        error => panic!("{error}"),
    }
}

/// Neither one process nor ranks load anything.
fn is_refused(folder: &Path) {
    let mut alone = Training::new(None);
    alone.step();
    let before = alone.state();
    assert!(alone.load(folder).is_err());
    assert_eq!(alone.state(), before);
    after(1, |_, training| {
        let before = training.state();
        // Opening finds most damage, on each rank; loading finds the rest.
        assert!(training.load(folder).is_err());
        assert_eq!(training.state(), before);
    });
}

#[test]
fn shards_that_are_missing_cut_short_or_of_another_checkpoint_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let [path, other] = ["run", "other"].map(|name| folder.path().join(name));
    saved(&path, 2);
    saved(&other, 3);
    for (shard, foreign) in shards(&path).iter().zip(shards(&other)) {
        let bytes = fs::read(shard).unwrap();
        fs::remove_file(shard).unwrap();
        assert_eq!(rejected(&path, shard), Damage::ShardMissing);
        is_refused(&path);
        fs::copy(&foreign, shard).unwrap();
        assert!(matches!(rejected(&path, shard), Damage::ForeignShard { .. }));
        is_refused(&path);
        fs::write(shard, &bytes[..bytes.len() - 1]).unwrap();
        assert!(matches!(rejected(&path, shard), Damage::Length { .. }));
        is_refused(&path);
        fs::write(shard, &bytes).unwrap();
    }
    Checkpoint::open(&path).unwrap().verify().unwrap();
    let all = shards(&path);
    fs::remove_file(&all[1]).unwrap();
    fs::write(&all[3], "").unwrap();
    let Error::Shards { rejected, .. } = Checkpoint::open(&path).unwrap_err() else { panic!() };
    assert_eq!(rejected.iter().map(|shard| &shard.path).collect::<Vec<_>>(), [&all[1], &all[3]], "all are named");
    // Without the manifest there is no checkpoint.
    fs::remove_file(path.join("manifest.safetensors")).unwrap();
    assert!(matches!(Checkpoint::open(&path), Err(Error::Io { action: Action::Read, .. })));
}

#[test]
fn flipped_bits_are_found_all_over_every_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run");
    saved(&path, 2);
    let mut numbers = 0;
    for (name, mut bytes) in files(&path) {
        let file = path.join(&name);
        for place in (0..bytes.len()).step_by(3) {
            bytes[place] ^= 1 << (place % 8);
            fs::write(&file, &bytes).unwrap();
            let error = Checkpoint::open(&path).and_then(|checkpoint| checkpoint.verify()).unwrap_err();
            assert!(error.is_damage(), "{name} {place}: {error}");
            if let Error::Mismatch { mismatches, .. } = &error {
                numbers += 1;
                let [Mismatch::ShardChecksum { path, .. }] = &mismatches[..] else {
                    assert!(matches!(mismatches[..], [Mismatch::Checksum { .. }]) && name.starts_with("manifest"));
                    bytes[place] ^= 1 << (place % 8);
                    continue;
                };
                assert_eq!(*path, file);
            }
            bytes[place] ^= 1 << (place % 8);
        }
        fs::write(&file, &bytes).unwrap();
    }
    assert!(numbers > 150, "{numbers} bytes of numbers");
    Checkpoint::open(&path).unwrap().verify().unwrap();
}

/// A number in a shard that only one rank reads.
#[test]
fn damage_that_one_rank_sees_stops_all() {
    let folder = tempfile::tempdir().unwrap();
    saved(folder.path(), 2);
    let shard = shards(folder.path()).swap_remove(3);
    let mut bytes = fs::read(&shard).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&shard, bytes).unwrap();
    Checkpoint::open(folder.path()).unwrap();
    is_refused(folder.path());
}

/// Nothing is committed, the previous checkpoint is unchanged, and all ranks get the error.
fn fails(path: &Path, work: impl Fn(&Mesh, &mut Training) -> Error + Sync) -> Vec<Error> {
    let before = files(path);
    let errors = after(2, work);
    assert!(files(path) == before, "other files than before");
    Checkpoint::open(path).unwrap().verify().unwrap();
    // The next checkpoint succeeds.
    saved(path, 2);
    Checkpoint::open(path).unwrap().verify().unwrap();
    errors
}

#[test]
fn a_rank_that_cannot_write_stops_all() {
    let folder = tempfile::tempdir().unwrap();
    let [path, other] = ["run", "other"].map(|name| folder.path().join(name));
    saved(&path, 1);
    saved(&other, 2);
    // A folder is in the place of rank 2's shard.
    let taken = path.join(shards(&other)[2].file_name().unwrap());
    fs::create_dir(&taken).unwrap();
    let before = files(&path);
    let errors = after(2, |_, training| training.save(&path).unwrap_err());
    assert!(matches!(&errors[2], Error::Io { action: Action::Rename, .. }), "{}", errors[2]);
    for error in [&errors[0], &errors[1], &errors[3]] {
        let Error::Optimizer(opt_core::Error::Collective(CollectiveError::Refused { rank: 2, reason })) = error else {
            panic!("{error}");
        };
        assert!(reason.contains(taken.to_str().unwrap()), "{reason}");
    }
    assert!(files(&path) == before, "what was written in vain is still there");
    fs::remove_dir(taken).unwrap();
    Checkpoint::open(&path).unwrap().verify().unwrap();
    assert_eq!(Checkpoint::open(&path).unwrap().iterations().unwrap(), 1);
    saved(&path, 2);
    assert_eq!(Checkpoint::open(&path).unwrap().iterations().unwrap(), 2);
    assert!(files(&path) == files(&other), "shards of the checkpoint before are still there");
}

#[test]
fn a_rank_that_has_slots_for_more_stops_all() {
    let folder = tempfile::tempdir().unwrap();
    saved(folder.path(), 1);
    let errors = fails(folder.path(), |mesh, training| {
        let (opt, variables) = training.parts();
        let variables: Vec<_> = variables.into_iter().skip(usize::from(mesh.rank() == 1)).collect();
        SaveOptions::new().save(folder.path(), opt, &variables).unwrap_err()
    });
    assert!(matches!(&errors[1], Error::VariablesMissing { .. }), "{}", errors[1]);
    assert!(errors[3].to_string().starts_with("rank 1 refuses: "), "{}", errors[3]);
}

/// A rank is lost while it writes: the others get an error, and their files are not a checkpoint.
#[test]
fn a_rank_that_dies_stops_all() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run");
    saved(&path, 1);
    let errors = std::sync::Mutex::new(Vec::new());
    let ended = Mesh::threads(&[("x", RANKS)], |mesh| {
        let mut training = Training::new(Some(mesh));
        (0..2).for_each(|_| training.step());
        let (opt, variables) = training.parts();
        let dies = mesh.rank() == 3;
        let options = SaveOptions::new().observer(|_| assert!(!dies, "out of luck"));
        let error = options.save(&path, opt, &variables).unwrap_err();
        errors.lock().unwrap().push(error);
    });
    assert!(matches!(ended, Err(MeshError::RankPanicked { rank: 3, .. })), "{ended:?}");
    let errors = errors.into_inner().unwrap();
    assert_eq!(errors.len(), 3);
    for error in errors {
        assert!(error.to_string().starts_with("rank 3 is lost: panicked: out of luck"), "{error}");
    }
    let checkpoint = Checkpoint::open(&path).unwrap();
    checkpoint.verify().unwrap();
    assert_eq!(
        (checkpoint.iterations().unwrap(), files(&path).len()),
        (1, 2 * RANKS),
        "shards of three ranks are left"
    );
    saved(&path, 3);
    assert_eq!((Checkpoint::open(&path).unwrap().iterations().unwrap(), files(&path).len()), (3, RANKS + 1));
}

/// Room for the shards of some ranks only: rank 0 also writes the replicated data.
#[cfg(unix)]
#[test]
fn a_disk_that_is_full_for_one_rank_stops_all() {
    if let Some(path) = std::env::var_os(CHILD) {
        let errors = fails_after_limit(Path::new(&path));
        assert!(matches!(&errors[0], Error::Io { action: Action::Write, .. }), "{}", errors[0]);
        assert!(errors[1..].iter().all(|error| error.to_string().starts_with("rank 0 refuses: ")), "{errors:?}");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run");
    saved(&path, 1);
    let largest =
        |name: &str| files(&path).iter().filter(|(file, _)| file.starts_with(name)).map(|(_, b)| b.len()).max();
    let (first, others) = (largest("shard-00000").unwrap(), largest("shard-00001").unwrap());
    let blocks = others.div_ceil(512);
    assert!(blocks * 512 < first, "{first} {others}");
    limited(blocks, "sharded_faults::a_disk_that_is_full_for_one_rank_stops_all", &path);
    let checkpoint = Checkpoint::open(&path).unwrap();
    checkpoint.verify().unwrap();
    assert_eq!(checkpoint.iterations().unwrap(), 1);
}

#[cfg(unix)]
fn fails_after_limit(path: &Path) -> Vec<Error> {
    let before = files(path);
    let errors = after(2, |_, training| training.save(path).unwrap_err());
    assert!(files(path) == before, "other files than before");
    errors
}
