//! Hostile manifests of shards: with valid checksums, beside intact shards.

use std::fs;
use std::path::Path;

use opt_checkpoint::{Checkpoint, Error};
use serde_json::{Value, json};

use crate::hostile::{file, with_little_memory};
use crate::sharded::{Training, saved};

const MANIFEST: &str = "manifest.safetensors";

/// A manifest, its tensors, and their numbers.
fn read(path: &Path) -> (Value, Value, Vec<u8>) {
    let bytes = fs::read(path).unwrap();
    let (length, rest) = bytes.split_first_chunk().unwrap();
    let (header, numbers) = rest.split_at(u64::from_le_bytes(*length) as usize);
    let mut tensors: Value = serde_json::from_slice(header).unwrap();
    let metadata = tensors.as_object_mut().unwrap().remove("__metadata__").unwrap();
    let mut manifest: Value = serde_json::from_str(metadata["opt-checkpoint"].as_str().unwrap()).unwrap();
    manifest.as_object_mut().unwrap().remove("checksum");
    (manifest, tensors, numbers.to_vec())
}

/// Opens, verifies and loads on one process, up to the first error.
fn load(folder: &Path) -> Result<u64, Error> {
    Checkpoint::open(folder)?.verify()?;
    Ok(Training::new(None).load(folder)?.iterations)
}

/// Positions in a manifest, and the values put there.
fn changes() -> Vec<(&'static str, Value)> {
    let (most, huge) = (u64::MAX, 1_u64 << 40);
    vec![
        ("/sharded/ranks", json!(0)),
        ("/sharded/ranks", json!(1)),
        ("/sharded/ranks", json!(-4)),
        ("/sharded/shards", json!([])),
        ("/sharded/shards", json!("all")),
        ("/sharded/shards/0/rank", json!(1)),
        ("/sharded/shards/0/rank", json!(most)),
        ("/sharded/shards/0/checksum", json!("../../../etc/pass")),
        ("/sharded/shards/0/checksum", json!("0123456789abcdef")),
        ("/sharded/shards/0/parts", json!({})),
        ("/sharded/shards/0/parts/kernel/offset", json!([most, 0])),
        ("/sharded/shards/0/parts/kernel/offset", json!([2, 0])),
        ("/sharded/shards/0/parts/kernel/offset", json!([0])),
        ("/sharded/shards/0/parts/kernel/offset", json!([0, -1])),
        ("/sharded/shards/0/parts/kernel/shape", json!([most, most])),
        ("/sharded/shards/0/parts/kernel/shape", json!([huge, 3])),
        ("/sharded/shards/0/parts/kernel/shape", json!([1, 6])),
        ("/sharded/shards/0/parts/kernel/shape", json!([0, 3])),
        ("/sharded/shards/0/parts/kernel/shape", json!([])),
        ("/sharded/tensors", json!({})),
        ("/sharded/tensors/kernel", json!({"dtype": "F32", "shape": [8, 3]})),
        ("/sharded/tensors/kernel/dtype", json!("F64")),
        ("/sharded/tensors/kernel/dtype", json!("F33")),
        ("/sharded/tensors/kernel/shape", json!([9, 3])),
        ("/sharded/tensors/kernel/shape", json!([3, 8])),
        ("/sharded/tensors/kernel/shape", json!([24])),
        ("/sharded/tensors/kernel/shape", json!([])),
        ("/sharded/tensors/kernel/shape", json!([most, most])),
        ("/sharded/tensors/kernel/shape", json!([huge, huge, 0])),
        ("/sharded/tensors/nothing/shape", json!([1, 2])),
        ("/sharded/tensors/nothing/shape", json!([huge, 2])),
        ("/sharded/more", json!(1)),
        ("/sharded/tensors/ghost", json!({"dtype": "F32", "layout": "", "shape": [huge]})),
        ("/sharded/tensors/ghost", json!({"dtype": "F32", "layout": "", "shape": [0, most]})),
        ("/sharded/tensors/iterations", json!({"dtype": "U64", "layout": "", "shape": []})),
        ("/sharded/shards/0/parts/ghost", json!({"offset": [0], "shape": [0]})),
        ("/layouts/kernel", json!({"offset": [0, 0], "whole": [8, 3]})),
        ("/variables", json!(["bias", "kernel", "nothing", "short", "table", "ghost"])),
        ("/sharded", json!(null)),
    ]
}

/// Sets a value at a JSON pointer; in an object the key may be new.
fn put(manifest: &mut Value, pointer: &str, value: Value) {
    if let Some(place) = manifest.pointer_mut(pointer) {
        *place = value;
        return;
    }
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    manifest.pointer_mut(parent).unwrap().as_object_mut().unwrap().insert(key.to_owned(), value);
}

#[test]
fn hostile_manifests_are_refused_with_little_memory() {
    if !with_little_memory("hostile_shards::hostile_manifests_are_refused_with_little_memory") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    saved(folder.path(), 2);
    let path = folder.path().join(MANIFEST);
    let (manifest, tensors, numbers) = read(&path);
    let write = |manifest: &Value| fs::write(&path, [file(manifest, &tensors, 0), numbers.clone()].concat()).unwrap();
    write(&manifest);
    assert_eq!(load(folder.path()).unwrap(), 2, "the one that they are made from is good");

    let mut alone = Training::new(None);
    alone.step();
    let before = alone.state();
    for (pointer, value) in changes() {
        let mut changed = manifest.clone();
        put(&mut changed, pointer, value.clone());
        assert!(changed != manifest, "{pointer}: {value} is what it was");
        write(&changed);
        assert!(load(folder.path()).is_err(), "{pointer}: {value} was accepted");
        assert!(alone.load(folder.path()).is_err() && alone.state() == before, "{pointer}: {value}");
    }
}

/// A shard has the length in the manifest.
#[test]
fn lengths_of_shards_are_compared() {
    let folder = tempfile::tempdir().unwrap();
    saved(folder.path(), 1);
    let path = folder.path().join(MANIFEST);
    let (mut manifest, tensors, numbers) = read(&path);
    put(&mut manifest, "/sharded/shards/0/bytes", json!(8));
    fs::write(&path, [file(&manifest, &tensors, 0), numbers].concat()).unwrap();
    assert!(load(folder.path()).is_err());
}
