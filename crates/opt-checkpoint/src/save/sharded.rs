//! A checkpoint that several ranks write: a folder of shards, and a manifest that commits them.

use std::collections::{BTreeMap, HashSet};
use std::fmt::Write as _;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use opt_core::collective::Collective;

use super::content::{Entry, Numbers};
use super::write::{Plan, Written};
use super::{Action, AtomicFile, Element, Error, Manifest, Saved};
use crate::atomic;
use crate::format::{Lies, MANIFEST, Shard, Sharded, Whole};
use crate::ranks;
use crate::source::Source;
use crate::tensors;

type Planned<'s, 'o, T> = Plan<'s, 'o, T>;

/// The calls between ranks: they agree on the content; rank 0 has made the folder; all ranks have written their
/// shards; rank 0 has written the manifest. If a call fails because a rank refuses, one more call follows, to clean
/// up.
pub(super) fn save<T: Element>(
    world: &dyn Collective,
    plan: Result<Planned<'_, '_, T>, Error>,
    path: &Path,
) -> Result<Saved, Error> {
    let is_first = world.rank() == 0;
    let plan = ranks::same(world, "the checkpoint", plan, |plan| described(plan, path))?;
    let has_configuration = plan.manifest.config.is_some();
    let created = if is_first { create(path) } else { Ok(()) };
    ranks::all(world, created, |()| Vec::new())?;
    let (commit, own) = divided(plan);
    let written = own.map(|(plan, parts)| write_shard(plan, parts, world.rank(), path)).transpose();
    let (shard, shards) = match ranks::all(world, written, |shard| serde_json::to_vec(shard).unwrap_or_default()) {
        Ok(written) => written,
        Err(error) => {
            if ranks::is_refusal(&error) {
                abandon(world, path);
            }
            return Err(error);
        }
    };
    drop(shard);
    let committed = if is_first { write_manifest(commit, &shards, path) } else { Ok(0) };
    match ranks::all(world, committed, |bytes| bytes.to_le_bytes().to_vec()) {
        Ok((_, bytes)) => {
            let bytes = bytes[0].as_slice().try_into().map_err(|_| ranks::unreadable(0))?;
            Ok(Saved { path: path.to_owned(), bytes: u64::from_le_bytes(bytes), has_configuration })
        }
        Err(error) => {
            if ranks::is_refusal(&error) {
                abandon(world, path);
            }
            Err(error)
        }
    }
}

/// Everything that must be the same on all ranks, line by line.
fn described<T: Element>(plan: &Plan<'_, '_, T>, path: &Path) -> String {
    let Manifest { config, contents, extra, tracked, variables, .. } = &plan.manifest;
    let config = config.as_ref().map_or_else(|| "none".to_owned(), ToString::to_string);
    let mut text = format!("{}\n{config}\n{contents} weights\nextra {extra}\n", path.display());
    for Entry { name, numbers, place } in &plan.tensors {
        let _ = match (numbers, place) {
            (Numbers::Whole(count), _) => writeln!(text, "{name:?} {count}"),
            (Numbers::Scalar(number), _) => writeln!(text, "{name:?} {number:e}, bits {:x}", number.to_bits()),
            (Numbers::Array(_), Some(place)) => {
                writeln!(text, "{name:?} {} {:?} ({})", numbers.dtype(), place.whole, place.layout)
            }
            (Numbers::Array(_), None) => Ok(()),
        };
    }
    let _ = writeln!(text, "variables {variables:?}\nslots of {tracked:?}");
    text
}

fn create(path: &Path) -> Result<(), Error> {
    match fs::create_dir(path) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        created => created.map_err(Error::io(Action::Create, path)),
    }?;
    atomic::sync_folder(atomic::folder(path)).map_err(Error::io(Action::Sync, path))
}

/// The parts in a shard.
type Parts = BTreeMap<String, crate::region::Region>;

/// The manifest that rank 0 writes to commit, and this rank's shard, if it owns any data.
type Divided<'s, 'o, T> = (Plan<'s, 'o, T>, Option<(Plan<'s, 'o, T>, Parts)>);

fn divided<'s, 'o, T: Element>(plan: Plan<'s, 'o, T>) -> Divided<'s, 'o, T> {
    let Plan { mut manifest, tensors, observer } = plan;
    let (arrays, numbers): (Vec<_>, Vec<_>) = tensors.into_iter().partition(|entry| entry.place.is_some());
    let names: HashSet<&str> = numbers.iter().map(|entry| entry.name.as_str()).collect();
    manifest.tensors.retain(|name, _| names.contains(name.as_str()));
    let mut layouts = BTreeMap::new();
    let (mut parts, mut whole, mut own) = (Parts::new(), BTreeMap::new(), Vec::new());
    for entry in arrays {
        let Some(place) = &entry.place else { continue };
        let (dtype, layout, shape) = (entry.numbers.dtype(), place.layout.clone(), place.whole.to_vec());
        whole.insert(entry.name.clone(), Whole { dtype, layout, shape });
        if place.owned && !place.part.shape.contains(&0) {
            layouts.insert(entry.name.clone(), Lies { offset: place.part.offset.clone(), whole: place.whole.to_vec() });
            parts.insert(entry.name.clone(), (*place.part).clone());
            own.push(entry);
        }
    }
    let of_shard = Manifest {
        config: None,
        extra: serde_json::Value::Null,
        layouts,
        tensors: parts.keys().map(|name| (name.clone(), crate::Checksum::default())).collect(),
        tracked: Vec::new(),
        variables: Vec::new(),
        ..manifest.clone()
    };
    manifest.sharded = Some(Sharded { ranks: 0, shards: Vec::new(), tensors: whole });
    let commit = Plan { manifest, tensors: numbers, observer: None };
    let shard = (!own.is_empty()).then(|| (Plan { manifest: of_shard, tensors: own, observer }, parts));
    (commit, shard)
}

fn write_shard<T: Element>(plan: Plan<'_, '_, T>, parts: Parts, rank: usize, path: &Path) -> Result<Shard, Error> {
    let unnamed = path.join(format!("shard-{rank:05}"));
    let mut file = AtomicFile::create(&unnamed)?;
    let Written { bytes, checksum } = plan.write(file.file(), &unnamed)?;
    let shard = Shard { bytes, checksum, parts, rank };
    file.rename(path.join(shard.file_name()));
    file.commit()?;
    Ok(shard)
}

/// Commits the shards of all ranks; returns the number of bytes of all files together.
fn write_manifest<T: Element>(mut plan: Plan<'_, '_, T>, shards: &[Vec<u8>], path: &Path) -> Result<u64, Error> {
    let mut written: Vec<Shard> = Vec::new();
    for (rank, text) in shards.iter().enumerate() {
        let shard: Option<Shard> = serde_json::from_slice(text).map_err(|_| ranks::unreadable(rank))?;
        written.extend(shard);
    }
    let bytes: u64 = written.iter().map(|shard| shard.bytes).sum();
    if let Some(sharded) = &mut plan.manifest.sharded {
        (sharded.ranks, sharded.shards) = (shards.len(), written);
        tensors::check(sharded).map_err(|problem| Error::Placement { problem })?;
    }
    let saved = super::write_file(plan, &path.join(MANIFEST))?;
    remove_unnamed(path)?;
    Ok(bytes + saved.bytes)
}

/// Removes all shards that the manifest does not name, and temporary files. No other writer exists.
fn remove_unnamed(path: &Path) -> Result<(), Error> {
    let named: HashSet<String> = match tensors::read_header(&Source::File(path.join(MANIFEST))) {
        Ok(header) => header.manifest.sharded.into_iter().flat_map(|sharded| sharded.shards).collect::<Vec<_>>(),
        Err(Error::Io { source, .. }) if source.kind() == ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(error),
    }
    .iter()
    .map(Shard::file_name)
    .collect();
    let mut removed = Ok(());
    for file in fs::read_dir(path).map_err(Error::io(Action::Read, path))? {
        let file = file.map_err(Error::io(Action::Read, path))?;
        let name = file.file_name().to_string_lossy().into_owned();
        if Shard::is_file_name(&name) && !named.contains(&name) {
            // Continues even if one of them cannot be removed.
            let this = fs::remove_file(file.path()).map_err(Error::io(Action::Remove, &file.path()));
            removed = removed.and(this);
        }
    }
    removed
}

/// Rank 0 removes the useless files, as far as it can. A later checkpoint removes the rest.
fn abandon(world: &dyn Collective, path: &Path) {
    // When all ranks have arrived here, no rank is writing any more.
    let here = world.gather(Vec::new());
    if here.is_ok() && world.rank() == 0 {
        let _ = remove_unnamed(path);
        // Removes the folder only if it is empty now.
        let _ = fs::remove_dir(path);
    }
}
