//! Damage in every bit of a file, and in its length, is detected.

use opt_checkpoint::{Checkpoint, Damage, Error, LoadOptions, Mismatch};
use opt_conformance::problem::Rng;

use crate::run::{builder, problem, saved};

fn verify(file: Vec<u8>) -> Result<(), Error> {
    Checkpoint::from_bytes(file)?.verify()
}

/// The end of the header.
fn data(file: &[u8]) -> usize {
    8 + u64::from_le_bytes(file[..8].try_into().unwrap()) as usize
}

#[test]
fn every_flipped_bit_is_found() {
    let (mut file, mut found) = (saved(), [0_usize; 4]);
    verify(file.clone()).unwrap();
    for bit in 0..8 * file.len() {
        file[bit / 8] ^= 1 << (bit % 8);
        let error = verify(file.clone()).unwrap_err();
        assert!(error.is_damage(), "bit {bit}: {error}");
        found[match error {
            Error::Damaged { damage: Damage::NotACheckpoint | Damage::HeaderLength { .. }, .. } => 0,
            Error::Damaged { damage: Damage::HeaderChecksum { .. }, .. } => 1,
            Error::Mismatch { mismatches, .. } if matches!(mismatches[..], [Mismatch::Checksum { .. }]) => 2,
            _ => 3,
        }] += 1;
        file[bit / 8] ^= 1 << (bit % 8);
    }
    let [start, header, numbers, other] = found;
    assert_eq!(other, 0);
    assert_eq!(numbers, 8 * (file.len() - data(&file)), "each bit of a number damages its tensor and no other");
    assert!(start >= 8 * 8 && header > 8 * 1_000, "{start} {header}");
}

#[test]
fn every_shorter_file_is_found() {
    let file = saved();
    for length in 0..file.len() {
        let error = verify(file[..length].to_vec()).unwrap_err();
        assert!(matches!(error, Error::Damaged { .. }), "{length}: {error}");
    }
    let cut = Checkpoint::from_bytes(&file[..file.len() - 1]).unwrap_err().to_string();
    assert_eq!(cut, format!("(memory): the file has {} bytes instead of {}", file.len() - 1, file.len()));
}

#[test]
fn every_longer_file_is_found() {
    for more in [1, 8, 4_096] {
        let mut file = saved();
        file.resize(file.len() + more, 0);
        let error = verify(file).unwrap_err();
        assert!(matches!(error, Error::Damaged { damage: Damage::Length { .. }, .. }), "{error}");
    }
}

/// Damage by disks and copies: pages of zeros, pages of another file, moved bytes.
#[test]
fn larger_damage_is_found() {
    let (file, mut rng) = (saved(), Rng(3));
    let is_found = |file: Vec<u8>, what: &str| {
        assert!(verify(file).is_err_and(|error| error.is_damage()), "{what}");
    };
    for _ in 0..1_000 {
        let start = rng.below(file.len());
        let length = 1 + rng.below(512.min(file.len() - start));
        let mut zeros = file.clone();
        zeros[start..start + length].fill(0);
        if zeros != file {
            is_found(zeros, "zeros");
        }
        let mut noise = file.clone();
        noise[start..start + length].fill_with(|| rng.bits() as u8);
        if noise != file {
            is_found(noise, "noise");
        }
        let mut moved = file.clone();
        moved[start..].rotate_left(length.min(file.len() - start - 1));
        if moved != file {
            is_found(moved, "moved");
        }
    }
}

/// State of two variables of the same shape, exchanged. Other systems load it without an error.
#[test]
fn exchanged_tensors_are_found() {
    let file = saved();
    let checkpoint = Checkpoint::from_bytes(file.clone()).unwrap();
    let place = |name: &str| checkpoint.tensors().find(|tensor| tensor.name == name).unwrap().pieces[0].bytes.clone();
    let [a, b] = [place("v3/m"), place("v3/v")].map(|bytes| bytes.start as usize..bytes.end as usize);
    let mut exchanged = file.clone();
    exchanged[a.clone()].copy_from_slice(&file[b.clone()]);
    exchanged[b].copy_from_slice(&file[a]);
    let error = verify(exchanged).unwrap_err();
    let Error::Mismatch { mismatches, .. } = error else { panic!("{error}") };
    let names = mismatches.iter().map(|mismatch| match mismatch {
        Mismatch::Checksum { name, .. } => name.as_str(),
        other => panic!("{other}"),
    });
    assert_eq!(names.collect::<Vec<_>>(), ["v3/m", "v3/v"]);
}

#[test]
fn damage_outside_of_what_is_loaded_is_found() {
    let mut file = saved();
    let checkpoint = Checkpoint::from_bytes(file.clone()).unwrap();
    let place = checkpoint.tensors().find(|tensor| tensor.name == "embedding/m").unwrap().pieces[0].bytes.start;
    file[place as usize] ^= 1;
    let damaged = Checkpoint::from_bytes(file).unwrap();
    let (mut optimizer, mut variables) = (builder::<f32>().build().unwrap(), problem().start());
    let options = LoadOptions::new().only("^v3").unwrap();
    let error = options.load(&damaged, &mut optimizer, &mut variables).unwrap_err();
    assert!(error.is_damage(), "{error}");
    assert_eq!(variables, problem().start());
    assert_eq!(optimizer.variables().count(), 0);
    // The step counter is another tensor, and is intact.
    assert_eq!(damaged.iterations().unwrap(), 5);
}

#[test]
fn a_damaged_step_counter_is_found() {
    let mut file = saved();
    let checkpoint = Checkpoint::from_bytes(file.clone()).unwrap();
    let place = checkpoint.tensors().find(|tensor| tensor.name == "iterations").unwrap().pieces[0].bytes.start;
    file[place as usize] ^= 1;
    assert!(Checkpoint::from_bytes(file).unwrap().iterations().unwrap_err().is_damage());
}
