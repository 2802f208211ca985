//! Kinds of files, told by their first bytes.

use std::fmt;
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use crate::error::{Action, Error};
use crate::format::{MANIFEST, STARTS_LIKE_OURS};

/// What a file is.
///
/// # Examples
///
/// ```
/// use opt_checkpoint::import::FileKind;
///
/// let folder = tempfile::tempdir()?;
/// let path = folder.path().join("weights.h5");
/// std::fs::write(&path, b"\x89HDF\r\n\x1a\n and so on")?;
/// let kind = FileKind::of(&path)?;
/// assert_eq!(kind, FileKind::Hdf5);
/// assert!(kind.advice().contains("interop/keras_to_npz.py"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FileKind {
    /// A checkpoint of this library, or one shard of one.
    Checkpoint,
    /// A folder with the shards of a checkpoint of this library.
    ShardedCheckpoint,
    /// NumPy's `.npz`: several arrays.
    Npz,
    /// NumPy's `.npy`: one array.
    Npy,
    /// Safetensors of another library.
    Safetensors,
    /// JSON, such as a configuration.
    Json,
    /// A `.keras` file.
    KerasArchive,
    /// HDF5, such as `.h5` of Keras.
    Hdf5,
    /// PyTorch's `.pt`: a ZIP archive around a pickle.
    TorchArchive,
    /// A pickle, such as `.pt` of PyTorch up to 1.5.
    Pickle,
    /// A checkpoint of TensorFlow: `.index` and `.data` files, or their folder.
    TensorFlowCheckpoint,
    /// A folder of TensorFlow's with a `saved_model.pb`.
    SavedModel,
    /// Anything else.
    Unknown,
}

impl FileKind {
    /// Looks at a file or folder. The prefix of a TensorFlow checkpoint, which is no file, is known, too.
    ///
    /// # Errors
    ///
    /// When it cannot be read.
    pub fn of(path: impl AsRef<Path>) -> Result<Self, Error> {
        let path = path.as_ref();
        if path.is_dir() {
            return Ok(Self::of_folder(path));
        }
        if !path.exists() && with_suffix(path, ".index").exists() {
            return Ok(Self::TensorFlowCheckpoint);
        }
        Self::of_file(path).map_err(Error::io(Action::Read, path))
    }

    fn of_folder(path: &Path) -> Self {
        if path.join(MANIFEST).exists() {
            return Self::ShardedCheckpoint;
        }
        if path.join("saved_model.pb").exists() {
            return Self::SavedModel;
        }
        let mut files = fs::read_dir(path).into_iter().flatten().flatten();
        let has_index = files.any(|file| file.path().extension().is_some_and(|extension| extension == "index"));
        if has_index { Self::TensorFlowCheckpoint } else { Self::Unknown }
    }

    fn of_file(path: &Path) -> std::io::Result<Self> {
        let mut file = File::open(path)?;
        let length = file.metadata()?.len();
        let mut start = Vec::new();
        Read::by_ref(&mut file).take(4096).read_to_end(&mut start)?;
        let kind = Self::of_start(&start, length);
        if kind == Self::Unknown && (has_table_footer(&mut file, length)? || is_data_of_tensorflow(path)) {
            return Ok(Self::TensorFlowCheckpoint);
        }
        Ok(kind)
    }

    fn of_start(start: &[u8], length: u64) -> Self {
        let is_json = || start.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'{');
        match start {
            [b'P', b'K', 3, 4, ..] => Self::of_archive(first_name(start)),
            [0x93, b'N', b'U', b'M', b'P', b'Y', ..] => Self::Npy,
            [0x89, b'H', b'D', b'F', b'\r', b'\n', 0x1a, b'\n', ..] => Self::Hdf5,
            [0x80, 2..=5, ..] => Self::Pickle,
            _ if is_safetensors(start, length) => {
                let ours = start[8..].starts_with(STARTS_LIKE_OURS.as_bytes());
                if ours { Self::Checkpoint } else { Self::Safetensors }
            }
            _ if is_json() => Self::Json,
            _ => Self::Unknown,
        }
    }

    /// The kind of a ZIP archive, by the name of its first file.
    fn of_archive(first: &[u8]) -> Self {
        match first {
            b"metadata.json" | b"config.json" | b"model.weights.h5" => Self::KerasArchive,
            name if name.ends_with(b".npy") => Self::Npz,
            name if name.ends_with(b"/data.pkl") => Self::TorchArchive,
            _ => Self::Unknown,
        }
    }

    /// How its contents come here: the call, or the script in the folder `interop` that converts it.
    #[must_use]
    pub fn advice(self) -> &'static str {
        match self {
            Self::Checkpoint | Self::ShardedCheckpoint => "load it with Checkpoint::open(path)?.load(...)",
            Self::Npz => "load it with KerasWeights::open(path)?.load(...), or load_variables",
            Self::Npy => "it has one array only: save all of them with numpy.savez",
            Self::Safetensors => "load it with TorchState::open(path)?.load(...), or load_variables",
            Self::Json => "a configuration is read with Optimizer::from_config; it has no state",
            Self::KerasArchive | Self::Hdf5 => "convert it with interop/keras_to_npz.py",
            Self::TensorFlowCheckpoint => "convert it with interop/keras_to_npz.py, by the path without .index",
            Self::TorchArchive | Self::Pickle => "convert it with interop/torch_to_safetensors.py",
            Self::SavedModel => "load it in Python, and convert the model with `convert` of interop/keras_to_npz.py",
            Self::Unknown => "it is no file that can be read here",
        }
    }
}

impl fmt::Display for FileKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Checkpoint => "a checkpoint of this library",
            Self::ShardedCheckpoint => "a sharded checkpoint of this library",
            Self::Npz => "an .npz file of NumPy",
            Self::Npy => "an .npy file of NumPy",
            Self::Safetensors => "a safetensors file",
            Self::Json => "a JSON file",
            Self::KerasArchive => "a .keras file",
            Self::Hdf5 => "an HDF5 file, such as .h5 of Keras",
            Self::TorchArchive => "a .pt file of PyTorch",
            Self::Pickle => "a pickle, such as an old .pt file of PyTorch",
            Self::TensorFlowCheckpoint => "a checkpoint of TensorFlow",
            Self::SavedModel => "a SavedModel of TensorFlow",
            Self::Unknown => "an unknown file",
        })
    }
}

/// Refuses a file that is of another kind, and says what it is.
pub(super) fn check(path: &Path, expected: FileKind) -> Result<(), Error> {
    let found = FileKind::of(path)?;
    if found == expected {
        return Ok(());
    }
    let problem = format!("this is {found}, not {expected}: {}", found.advice());
    Err(Error::Import { path: path.to_owned(), problem })
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// The name of the first file of a ZIP archive.
fn first_name(start: &[u8]) -> &[u8] {
    const NAME: usize = 30;
    let length = start.get(26..28).map_or(0, |length| usize::from(u16::from_le_bytes([length[0], length[1]])));
    start.get(NAME..NAME + length).unwrap_or_default()
}

fn is_safetensors(start: &[u8], length: u64) -> bool {
    let Some((header, rest)) = start.split_first_chunk() else { return false };
    u64::from_le_bytes(*header) <= length && rest.first() == Some(&b'{')
}

/// Whether the file ends as a table of TensorFlow's does.
fn has_table_footer(file: &mut File, length: u64) -> std::io::Result<bool> {
    const FOOTER: [u8; 8] = 0xdb47_7524_8b80_fb57_u64.to_le_bytes();
    let Some(place) = length.checked_sub(8) else { return Ok(false) };
    let mut end = [0; 8];
    file.seek(SeekFrom::Start(place))?;
    file.read_exact(&mut end)?;
    Ok(end == FOOTER)
}

/// Whether there is a table for this file beside it: `NAME.index` for `NAME.data-00000-of-00001`.
fn is_data_of_tensorflow(path: &Path) -> bool {
    let name = path.to_string_lossy();
    let prefix = name.rsplit_once(".data-").map(|(prefix, _)| prefix);
    prefix.is_some_and(|prefix| with_suffix(Path::new(prefix), ".index").exists())
}
