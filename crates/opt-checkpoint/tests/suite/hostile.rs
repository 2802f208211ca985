//! Hostile headers with valid checksums, not written by this library.

use std::process::Command;

use opt_checkpoint::{Checkpoint, Damage, Error};
use serde_json::{Value, json};

/// Set in the process whose memory is limited.
const LIMITED: &str = "OPT_CHECKPOINT_LIMITED";

/// A header that begins like ours and has a valid checksum, whatever follows.
fn sealed(rest: &str, data: usize) -> Vec<u8> {
    let start = r#"{"__metadata__":{"opt-checkpoint":"{\"checksum\":\""#;
    let json = [start, "0000000000000000", rest].concat();
    let mut file = (json.len() as u64).to_le_bytes().to_vec();
    file.extend(json.as_bytes());
    let digits = format!("{:016x}", xxhash_rust::xxh3::xxh3_64(&file));
    let place = 8 + start.len();
    file[place..place + 16].copy_from_slice(digits.as_bytes());
    file.resize(file.len() + data, 0);
    file
}

/// A file with this manifest and these tensors. `manifest` has no checksum of the header.
pub(crate) fn file(manifest: &Value, tensors: &Value, data: usize) -> Vec<u8> {
    let manifest = manifest.to_string();
    let escaped = Value::from(manifest.strip_prefix('{').unwrap()).to_string();
    let tensors = tensors.to_string();
    let rest = format!(r#"\",{}}},{}"#, escaped.strip_prefix('"').unwrap(), tensors.strip_prefix('{').unwrap());
    sealed(&rest, data)
}

/// One variable `w` of two numbers, and the step counter.
fn good() -> (Value, Value, usize) {
    let zeros = |count: usize| format!("{:016x}", xxhash_rust::xxh3::xxh3_64(&vec![0; count]));
    let manifest = json!({
        "config": null, "contents": "raw", "extra": null, "format": 1, "layouts": {},
        "tensors": {"iterations": zeros(8), "w": zeros(8)}, "tracked": [], "variables": ["w"],
    });
    let tensors = json!({
        "iterations": {"dtype": "U64", "shape": [], "data_offsets": [0, 8]},
        "w": {"dtype": "F32", "shape": [2], "data_offsets": [8, 16]},
    });
    (manifest, tensors, 16)
}

fn changed(pointer: &str, value: Value) -> Vec<u8> {
    let (mut manifest, mut tensors, data) = good();
    let in_tensors = pointer.strip_prefix("/TENSORS").map(str::to_owned);
    let place = match &in_tensors {
        Some(pointer) => tensors.pointer_mut(pointer),
        None => manifest.pointer_mut(pointer),
    };
    *place.unwrap() = value;
    file(&manifest, &tensors, data)
}

/// Each with its name.
fn hostile() -> Vec<(&'static str, Vec<u8>)> {
    let (manifest, tensors, data) = good();
    let with = |name: &str, value: Value| {
        let mut manifest = manifest.clone();
        manifest[name] = value;
        file(&manifest, &tensors, data)
    };
    let length = |length: u64| {
        let mut file = file(&manifest, &tensors, data);
        file[..8].copy_from_slice(&length.to_le_bytes());
        file
    };
    let huge = 1_u64 << 40;
    vec![
        ("a header of 2^64 bytes", length(u64::MAX)),
        ("a header of 2^63 bytes", length(1 << 63)),
        ("a header of 99 MB", length(99_000_000)),
        ("a header of nothing", length(0)),
        ("no tensors", file(&manifest, &json!({}), data)),
        ("a tensor more", {
            let mut tensors = tensors.clone();
            tensors["x"] = json!({"dtype": "F32", "shape": [0], "data_offsets": [16, 16]});
            file(&manifest, &tensors, data)
        }),
        (
            "numbers of 4 TB",
            changed("/TENSORS/w", json!({"dtype": "F32", "shape": [huge], "data_offsets": [8, 8 + 4 * huge]})),
        ),
        ("a shape that overflows", changed("/TENSORS/w/shape", json!([huge, huge, 2]))),
        ("a shape that overflows to the right size", changed("/TENSORS/w/shape", json!([1_u64 << 63, 4]))),
        ("a negative shape", changed("/TENSORS/w/shape", json!([-2]))),
        ("a shape of another size", changed("/TENSORS/w/shape", json!([3]))),
        ("overlapping tensors", changed("/TENSORS/w/data_offsets", json!([4, 12]))),
        ("the same bytes twice", changed("/TENSORS/w/data_offsets", json!([0, 8]))),
        ("offsets in the wrong order", changed("/TENSORS/w/data_offsets", json!([16, 8]))),
        ("offsets at the end of numbers", changed("/TENSORS/w/data_offsets", json!([u64::MAX - 8, u64::MAX]))),
        ("a gap", changed("/TENSORS/w/data_offsets", json!([9, 17]))),
        ("an unknown type", changed("/TENSORS/w/dtype", json!("F33"))),
        ("deep JSON", sealed(&format!("\\\"}}\"}},\"a\":{}", "[".repeat(200_000)), 0)),
        ("a deep manifest", sealed(&format!("\\\",\\\"extra\\\":{}", "[".repeat(200_000)), 0)),
        ("nothing after the checksum", sealed("", 16)),
        ("a manifest of one field", sealed(r#"\"}"},"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}"#, 0)),
        ("no text", {
            let mut file = sealed("\\\"}\"}}....", 0);
            let end = file.len();
            file[end - 3..].copy_from_slice(&[0xff, 0xfe, 0xfd]);
            sealed_again(file)
        }),
        ("an unknown field", with("more", json!(1))),
        ("unknown contents", with("contents", json!("best"))),
        ("a negative format", with("format", json!(-1))),
        ("a later format", with("format", json!(2))),
        ("a variable that is not there", with("variables", json!(["w", "x"]))),
        ("a variable twice", with("variables", json!(["w", "w"]))),
        ("slots of an unknown variable", with("tracked", json!(["x"]))),
        ("slots twice", with("tracked", json!(["w", "w"]))),
        (
            "a checksum too many",
            with("tensors", json!({"w": "0".repeat(16), "iterations": "0".repeat(16), "x": "0".repeat(16)})),
        ),
        ("a checksum too few", with("tensors", json!({"w": "0".repeat(16)}))),
        ("a checksum that is none", changed("/tensors/w", json!("0x"))),
        ("a part of a mesh", with("layouts", json!({"w": {"offset": [0], "whole": [4]}}))),
        ("wrong checksums", changed("/tensors/w", json!("0".repeat(16)))),
        ("a counter of four bytes", {
            let (mut manifest, mut tensors, _) = good();
            tensors["iterations"] = json!({"dtype": "U32", "shape": [], "data_offsets": [0, 4]});
            tensors["w"]["data_offsets"] = json!([4, 12]);
            manifest["tensors"]["iterations"] = json!(format!("{:016x}", xxhash_rust::xxh3::xxh3_64(&[0; 4])));
            file(&manifest, &tensors, 12)
        }),
    ]
}

/// Computes the checksum of a changed header.
fn sealed_again(mut file: Vec<u8>) -> Vec<u8> {
    let place = 8 + r#"{"__metadata__":{"opt-checkpoint":"{\"checksum\":\""#.len();
    file[place..place + 16].fill(b'0');
    let digits = format!("{:016x}", xxhash_rust::xxh3::xxh3_64(&file));
    file[place..place + 16].copy_from_slice(digits.as_bytes());
    file
}

/// Opens, verifies and loads, up to the first error.
fn read(file: Vec<u8>) -> Result<u64, Error> {
    let checkpoint = Checkpoint::from_bytes(file)?;
    checkpoint.verify()?;
    let mut w = [1.0_f32; 2];
    let mut opt = opt_core::Optimizer::new(opt_sgd::Sgd::new(0.1))?;
    Ok(checkpoint.load(&mut opt, &mut [opt_core::Variable::new("w", &mut w)])?.iterations)
}

/// Runs a test again, in a process that is limited to 256 MB; true in that process.
pub(crate) fn with_little_memory(name: &str) -> bool {
    if std::env::var_os(LIMITED).is_some() {
        return true;
    }
    let line = r#"ulimit -v 262144 && exec "$0" --exact "$1""#;
    let test = std::env::current_exe().unwrap();
    let output = Command::new("sh").arg("-c").arg(line).arg(test).arg(name).env(LIMITED, "1").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    assert!(String::from_utf8_lossy(&output.stdout).contains("1 passed"));
    false
}

#[test]
fn the_file_that_they_are_made_from_is_good() {
    let (manifest, tensors, data) = good();
    assert_eq!(read(file(&manifest, &tensors, data)).unwrap(), 0);
}

/// Headers alone cause no allocation.
#[test]
fn hostile_headers_are_refused_with_little_memory() {
    if !with_little_memory("hostile::hostile_headers_are_refused_with_little_memory") {
        return;
    }
    for (name, file) in hostile() {
        let length = file.len();
        let error = read(file).err().unwrap_or_else(|| panic!("{name} was accepted"));
        assert!(error.to_string().len() < 2 * length + 1_000, "{name}: {error}");
    }
}

#[test]
fn a_later_format_is_named() {
    let (mut manifest, tensors, data) = good();
    let named = |manifest: &Value| {
        let error = Checkpoint::from_bytes(file(manifest, &tensors, data)).unwrap_err();
        let Error::Damaged { damage, .. } = error else { panic!("{error}") };
        assert_eq!(damage, Damage::Version { found: 7, supported: 1 });
    };
    // Whether or not it looks like one of this format.
    manifest["format"] = json!(7);
    named(&manifest);
    manifest["news"] = json!("of format 7");
    named(&manifest);
}

#[test]
fn tensors_have_a_place_and_a_checksum() {
    let (manifest, tensors, data) = good();
    let problem = |manifest: &Value, tensors: &Value, data: usize| {
        let error = Checkpoint::from_bytes(file(manifest, tensors, data)).unwrap_err();
        let Error::Damaged { damage: Damage::Header { problem }, .. } = error else { panic!("{error}") };
        problem
    };
    let (mut fewer_sums, mut fewer_places) = (manifest.clone(), tensors.clone());
    fewer_sums["tensors"].as_object_mut().unwrap().remove("iterations");
    assert_eq!(problem(&fewer_sums, &tensors, data), r#"tensors without a checksum: ["iterations"]"#);
    fewer_places.as_object_mut().unwrap().remove("w");
    assert_eq!(problem(&manifest, &fewer_places, 8), r#"tensors without a place: ["w"]"#);
}

#[test]
fn other_files_are_not_taken_for_checkpoints() {
    let foreign = {
        let json = r#"{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#;
        let padded = format!("{json:<96}");
        [&96_u64.to_le_bytes()[..], padded.as_bytes(), &[0; 4]].concat()
    };
    for file in [vec![], vec![0; 7], b"PK\x03\x04".repeat(100), vec![0; 10_000], foreign] {
        let error = Checkpoint::from_bytes(file).unwrap_err();
        assert!(matches!(error, Error::Damaged { damage: Damage::NotACheckpoint, .. }), "{error}");
    }
}

#[test]
fn without_a_counter_no_variable_is_loaded() {
    let (mut manifest, mut tensors, _) = good();
    manifest["tensors"].as_object_mut().unwrap().remove("iterations");
    tensors.as_object_mut().unwrap().remove("iterations");
    tensors["w"]["data_offsets"] = json!([0, 8]);
    let checkpoint = Checkpoint::from_bytes(file(&manifest, &tensors, 8)).unwrap();
    checkpoint.verify().unwrap();
    let mut w = [1.0_f32; 2];
    let error = checkpoint.load_variables(&mut [opt_core::Variable::new("w", &mut w)]).unwrap_err();
    assert_eq!(error.to_string(), "(memory): the header is invalid: there is no step counter");
    assert_eq!(w, [1.0; 2]);
}
