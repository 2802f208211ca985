//! Wrong checkpoints with valid checksums, so that more code than the checksums is tested.

use libfuzzer_sys::fuzzer_mutate;
use opt_conformance::problem::Rng;
use serde_json::{Map, Value};
use xxhash_rust::xxh3::xxh3_64;

use crate::json;

/// The beginning of every header, up to the digits of its checksum.
const START: &str = r#"{"__metadata__":{"opt-checkpoint":"{\"checksum\":\""#;

/// The bytes of the length before the header.
const LENGTH: usize = 8;

/// The digits of a checksum.
const DIGITS: usize = 16;

/// The parts of a file, besides checksums.
struct Parts {
    manifest: Value,
    tensors: Map<String, Value>,
    numbers: Vec<u8>,
}

/// Mutates a checkpoint by its structure: manifest, list of tensors, numbers. Sometimes, and if it is not a
/// checkpoint, it mutates single bytes. Returns the new length.
pub fn mutate(data: &mut [u8], size: usize, max_size: usize, seed: u32) -> usize {
    let mut rng = Rng(seed.into());
    let parts = Parts::read(&data[..size]).filter(|_| rng.below(12) > 0);
    let forged = parts.map(|mut parts| {
        (0..=rng.below(3)).for_each(|_| parts.change(&mut rng));
        if rng.below(8) > 0 {
            parts.sum();
        }
        parts.write()
    });
    match forged.filter(|file| file.len() <= max_size.min(data.len())) {
        Some(file) => {
            data[..file.len()].copy_from_slice(&file);
            file.len()
        }
        None => {
            let size = fuzzer_mutate(data, size, max_size);
            if rng.below(2) == 0 {
                seal(&mut data[..size]);
            }
            size
        }
    }
}

impl Parts {
    fn read(file: &[u8]) -> Option<Self> {
        let header = usize::try_from(u64::from_le_bytes(file.get(..LENGTH)?.try_into().ok()?)).ok()?;
        let end = header.checked_add(LENGTH)?;
        let mut header: Map<String, Value> = serde_json::from_slice(file.get(LENGTH..end)?).ok()?;
        let metadata = header.remove("__metadata__")?;
        let manifest = serde_json::from_str(metadata.get("opt-checkpoint")?.as_str()?).ok()?;
        Some(Self { manifest, tensors: header, numbers: file[end..].to_vec() })
    }

    fn change(&mut self, rng: &mut Rng) {
        match rng.below(4) {
            0 => json::change(&mut self.manifest, rng),
            1 => {
                let mut tensors = Value::Object(std::mem::take(&mut self.tensors));
                json::change(&mut tensors, rng);
                if let Value::Object(tensors) = tensors {
                    self.tensors = tensors;
                }
            }
            2 => self.rename(rng),
            _ if self.numbers.is_empty() || rng.below(4) == 0 => {
                let length = self.numbers.len() + 8;
                self.numbers.resize(length.saturating_sub(4 * rng.below(5)), 0);
            }
            _ => {
                let place = rng.below(self.numbers.len());
                self.numbers[place] = rng.bits() as u8;
            }
        }
    }

    /// Gives a tensor the name or the position of another one, everywhere.
    fn rename(&mut self, rng: &mut Rng) {
        let names: Vec<String> = self.tensors.keys().cloned().collect();
        let Some(old) = names.get(rng.below(names.len().max(1))) else { return };
        let other = &names[rng.below(names.len())];
        if rng.below(2) == 0 {
            let [old, new] =
                [old.clone(), other.clone()].map(|name| self.tensors.get(&name).cloned().map(|t| (name, t)));
            if let (Some((old, a)), Some((new, b))) = (old, new) {
                self.tensors.insert(old, b);
                self.tensors.insert(new, a);
            }
            return;
        }
        let new = format!("{other}{}", rng.below(2));
        if let Some(tensor) = self.tensors.remove(old) {
            self.tensors.insert(new.clone(), tensor);
        }
        for list in ["variables", "tracked"] {
            let names = self.manifest.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten();
            names.filter(|name| *name == old).for_each(|name| *name = new.clone().into());
        }
    }

    /// Gives every tensor its valid checksum, and removes all other checksums.
    fn sum(&mut self) {
        let sum = |tensor: &Value| {
            let [start, end] =
                [0, 1].map(|i| tensor["data_offsets"][i].as_u64().and_then(|at| usize::try_from(at).ok()));
            let bytes = start.zip(end).and_then(|(start, end)| self.numbers.get(start..end)).unwrap_or_default();
            Value::from(format!("{:016x}", xxh3_64(bytes)))
        };
        let sums: Map<String, Value> = self.tensors.iter().map(|(name, tensor)| (name.clone(), sum(tensor))).collect();
        if let Some(tensors) = self.manifest.get_mut("tensors") {
            *tensors = Value::Object(sums);
        }
    }

    fn write(&self) -> Vec<u8> {
        let mut manifest = self.manifest.clone();
        if let Value::Object(manifest) = &mut manifest {
            manifest.insert("checksum".to_owned(), "0".repeat(DIGITS).into());
        }
        let metadata = serde_json::json!({"__metadata__": {"opt-checkpoint": manifest.to_string()}}).to_string();
        let tensors = Value::Object(self.tensors.clone()).to_string();
        let inner = tensors.trim_start_matches('{');
        let comma = if self.tensors.is_empty() { "" } else { "," };
        let header = format!("{}{comma}{inner}", metadata.strip_suffix('}').unwrap_or(&metadata));
        let mut file = (header.len() as u64).to_le_bytes().to_vec();
        file.extend(header.as_bytes());
        file.extend(&self.numbers);
        seal(&mut file);
        file
    }
}

/// Writes the checksum of the header to its position, if there is a header.
fn seal(file: &mut [u8]) {
    let digits = LENGTH + START.len()..LENGTH + START.len() + DIGITS;
    let Some(length) = file.first_chunk::<LENGTH>().map(|length| u64::from_le_bytes(*length)) else { return };
    let Some(end) = usize::try_from(length).ok().and_then(|header| header.checked_add(LENGTH)) else { return };
    if end > file.len() || end < digits.end {
        return;
    }
    file[digits.clone()].fill(b'0');
    let sum = format!("{:016x}", xxh3_64(&file[..end]));
    file[digits].copy_from_slice(sum.as_bytes());
}
