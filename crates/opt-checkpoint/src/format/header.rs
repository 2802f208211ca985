//! The part of a file before the data: composed with space for checksums, and read without trust.

use std::collections::{BTreeSet, HashMap};
use std::io::{self, Read};

use safetensors::tensor::{Metadata, TensorInfo};

use super::{Manifest, Tensor};
use crate::checksum::Checksum;
use crate::error::Damage;

/// The only key of the metadata.
const KEY: &str = "opt-checkpoint";

/// The bytes of the length before the header.
const LENGTH: usize = 8;

/// The beginning of every header, which no other library writes.
pub(crate) const STARTS_LIKE_OURS: &str = r#"{"__metadata__":{"opt-checkpoint":"#;

/// The beginning of every header, up to the digits of its checksum.
const START: &str = r#"{"__metadata__":{"opt-checkpoint":"{\"checksum\":\""#;

/// The bytes before the manifest.
const VALUE: usize = r#"{"__metadata__":{"opt-checkpoint":""#.len();

/// The beginning of the list of checksums in the manifest.
const TENSORS: &str = r#","tensors":{"#;

/// The longest header that the library of safetensors reads.
const LONGEST: u64 = 100_000_000;

/// The position of the digits of the header's checksum.
const DIGITS: std::ops::Range<usize> = LENGTH + START.len()..LENGTH + START.len() + Checksum::DIGITS;

/// A tensor that will be written, without its numbers.
#[derive(Debug, Clone)]
pub(crate) struct Layout {
    pub(crate) name: String,
    pub(crate) dtype: safetensors::Dtype,
    pub(crate) shape: Vec<usize>,
}

/// A composed header, with the final length.
#[derive(Debug)]
pub(crate) struct Draft {
    pub(crate) bytes: Vec<u8>,
    /// The positions of the digits of the tensors' checksums, in the order of the file.
    places: Vec<usize>,
}

impl Draft {
    /// Fills in all checksums: those of the tensors, in the order of the file, and that of the rest.
    pub(crate) fn seal(self, checksums: &[Checksum]) -> Sealed {
        let Self { mut bytes, places } = self;
        for (place, checksum) in places.into_iter().zip(checksums) {
            bytes[place..place + Checksum::DIGITS].copy_from_slice(&checksum.digits());
        }
        let checksum = seal(&mut bytes);
        Sealed { bytes, checksum }
    }
}

/// A header as it is written.
#[derive(Debug)]
pub(crate) struct Sealed {
    pub(crate) bytes: Vec<u8>,
    pub(crate) checksum: Checksum,
}

/// A header as it was read.
#[derive(Debug, Clone)]
pub(crate) struct Header {
    pub(crate) manifest: Manifest,
    /// In the order of the file.
    pub(crate) tensors: Vec<Tensor>,
    /// The length of the whole file.
    pub(crate) file: u64,
}

impl Header {
    /// The bytes before the data, with zeros for checksums. The manifest has all tensors, and no checksum yet.
    pub(crate) fn compose(manifest: &Manifest, layouts: &[Layout]) -> Result<Draft, Damage> {
        let invalid = |error: &dyn std::fmt::Display| Damage::Header { problem: error.to_string() };
        let text = serde_json::to_string(manifest).map_err(|error| invalid(&error))?;
        let places = places(manifest, &text).map_err(|error| invalid(&error))?;
        let places = layouts.iter().map(|layout| places.get(layout.name.as_str()).copied()).collect::<Option<_>>();
        let places = places.ok_or_else(|| invalid(&"a tensor is not in the manifest"))?;
        let metadata = HashMap::from([(KEY.to_owned(), text)]);
        let metadata = Metadata::new(Some(metadata), infos(layouts)).map_err(|error| invalid(&error))?;
        let mut bytes = vec![0; LENGTH];
        serde_json::to_writer(&mut bytes, &metadata).map_err(|error| invalid(&error))?;
        bytes.resize(bytes.len().next_multiple_of(LENGTH), b' ');
        let length = (bytes.len() - LENGTH) as u64;
        if length > LONGEST {
            return Err(Damage::Header { problem: format!("it has {length} bytes, more than {LONGEST}") });
        }
        bytes[..LENGTH].copy_from_slice(&length.to_le_bytes());
        Ok(Draft { bytes, places })
    }

    /// Reads and checks everything before the data of a file of `file` bytes.
    ///
    /// Never allocates more than `file` bytes, and parses nothing before its checksum is verified.
    pub(crate) fn read(reader: &mut impl Read, file: u64) -> io::Result<Result<Self, Damage>> {
        let mut length = [0; LENGTH];
        if file < DIGITS.end as u64 {
            return Ok(Err(Damage::NotACheckpoint));
        }
        reader.read_exact(&mut length)?;
        let header = u64::from_le_bytes(length);
        let mut start = [0; DIGITS.end - LENGTH];
        reader.read_exact(&mut start)?;
        if !start.starts_with(START.as_bytes()) {
            return Ok(Err(Damage::NotACheckpoint));
        }
        if header > LONGEST || header > file - LENGTH as u64 || header < start.len() as u64 {
            return Ok(Err(Damage::HeaderLength { header, file }));
        }
        let mut bytes = [&length[..], &start].concat();
        reader.take(header - start.len() as u64).read_to_end(&mut bytes)?;
        Ok(Self::parse(bytes, file))
    }

    fn parse(mut bytes: Vec<u8>, file: u64) -> Result<Self, Damage> {
        let checksum = check_seal(&mut bytes)?;
        let invalid = |error: &dyn std::fmt::Display| Damage::Header { problem: error.to_string() };
        let json = &bytes[LENGTH..];
        let metadata: Metadata = serde_json::from_slice(json).map_err(|error| invalid(&error))?;
        let text = metadata.metadata().as_ref().and_then(|metadata| metadata.get(KEY)).ok_or(Damage::NotACheckpoint)?;
        let manifest = Manifest { checksum, ..Manifest::parse(text)? };
        let found = file - bytes.len() as u64;
        if metadata.data_len() as u64 != found {
            let expected = (bytes.len() as u64).saturating_add(metadata.data_len() as u64);
            return Err(Damage::Length { expected, found: file });
        }
        let tensors = tensors(&metadata, &manifest, bytes.len() as u64)?;
        Ok(Self { manifest, tensors, file })
    }
}

/// The positions of the digits of each tensor's checksum. The manifest's text becomes a string in the header's JSON.
fn places<'m>(manifest: &'m Manifest, text: &str) -> serde_json::Result<HashMap<&'m str, usize>> {
    let escaped = |text: &str| serde_json::to_string(text).map(|text| text.len() - 2);
    // Nothing after it can match: only names follow, in which quotes are escaped.
    let list = text.rfind(TENSORS).map_or(text.len(), |start| start + TENSORS.len());
    let mut place = LENGTH + VALUE + escaped(&text[..list])?;
    let mut places = HashMap::with_capacity(manifest.tensors.len());
    for name in manifest.tensors.keys() {
        // Before the digits `\"name\":\"`, after them `\",`.
        place += escaped(&serde_json::to_string(name)?)? + 3;
        places.insert(name.as_str(), place);
        place += Checksum::DIGITS + 3;
    }
    Ok(places)
}

fn infos(layouts: &[Layout]) -> Vec<(String, TensorInfo)> {
    let mut start = 0;
    let info = |Layout { name, dtype, shape }: &Layout| {
        let end = start + shape.iter().product::<usize>() * dtype.bitsize() / 8;
        let info = TensorInfo { dtype: *dtype, shape: shape.clone(), data_offsets: (start, end) };
        start = end;
        (name.clone(), info)
    };
    layouts.iter().map(info).collect()
}

/// Writes the checksum to its position.
fn seal(bytes: &mut [u8]) -> Checksum {
    bytes[DIGITS].fill(b'0');
    let checksum = Checksum::of(bytes);
    bytes[DIGITS].copy_from_slice(&checksum.digits());
    checksum
}

/// The checksum, if it is right.
fn check_seal(bytes: &mut [u8]) -> Result<Checksum, Damage> {
    let written = std::str::from_utf8(&bytes[DIGITS]).ok().and_then(|digits| digits.parse().ok());
    let expected: Checksum = written.ok_or(Damage::NotACheckpoint)?;
    bytes[DIGITS].fill(b'0');
    let found = Checksum::of(bytes);
    if found == expected { Ok(found) } else { Err(Damage::HeaderChecksum { expected, found }) }
}

/// The tensors in the order of the file. Manifest and header must name the same ones.
fn tensors(metadata: &Metadata, manifest: &Manifest, data: u64) -> Result<Vec<Tensor>, Damage> {
    let invalid = |problem: String| Damage::Header { problem };
    let mut infos: Vec<(String, &TensorInfo)> = metadata.tensors().into_iter().collect();
    infos.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
    if !infos.iter().map(|(name, _)| name).eq(manifest.tensors.keys()) {
        let placed: BTreeSet<&String> = infos.iter().map(|(name, _)| name).collect();
        let summed: BTreeSet<&String> = manifest.tensors.keys().collect();
        let without = |what: &str, names: Vec<&&String>| invalid(format!("tensors without a {what}: {names:?}"));
        let (no_sum, no_place) = (placed.difference(&summed).collect::<Vec<_>>(), summed.difference(&placed).collect());
        return Err(if no_sum.is_empty() { without("place", no_place) } else { without("checksum", no_sum) });
    }
    let sharded = manifest.sharded.as_ref().map(|sharded| &sharded.tensors);
    let is_there = |name: &String| {
        manifest.tensors.contains_key(name) || sharded.is_some_and(|tensors| tensors.contains_key(name))
    };
    let listed: BTreeSet<&String> = manifest.variables.iter().collect();
    if listed.len() < manifest.variables.len() || manifest.variables.iter().any(|name| !is_there(name)) {
        return Err(invalid("the list of variables does not fit the tensors".to_owned()));
    }
    let tracked: BTreeSet<&String> = manifest.tracked.iter().collect();
    if tracked.len() < manifest.tracked.len() || !tracked.is_subset(&listed) {
        return Err(invalid("the list of tracked variables does not fit the variables".to_owned()));
    }
    let tensor = |((name, info), checksum): ((String, &TensorInfo), &Checksum)| {
        let bytes = data + info.data_offsets.0 as u64..data + info.data_offsets.1 as u64;
        Tensor { name, dtype: info.dtype, shape: info.shape.clone(), bytes, checksum: *checksum }
    };
    let mut tensors: Vec<Tensor> = infos.into_iter().zip(manifest.tensors.values()).map(tensor).collect();
    // Tensors without elements begin at the same position as another tensor.
    tensors.sort_by(|a, b| (a.bytes.start, a.bytes.end, &a.name).cmp(&(b.bytes.start, b.bytes.end, &b.name)));
    Ok(tensors)
}
