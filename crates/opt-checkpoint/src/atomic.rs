//! Atomic writes: files that appear as a whole or not at all.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use crate::error::{Action, Error};

/// The end of the names of temporary files; they begin with a dot.
pub(crate) const TEMPORARY: &str = ".tmp";

/// A temporary file in the folder of its final name. It is removed if it is dropped before it is complete.
#[derive(Debug)]
pub(crate) struct AtomicFile {
    temporary: NamedTempFile,
    path: PathBuf,
}

impl AtomicFile {
    pub(crate) fn create(path: &Path) -> Result<Self, Error> {
        let mut prefix = OsString::from(".");
        prefix.push(path.file_name().unwrap_or_default());
        prefix.push(".");
        let mut builder = tempfile::Builder::new();
        builder.prefix(&prefix).suffix(TEMPORARY);
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            // The permissions of any new file: the process's umask applies.
            builder.permissions(std::fs::Permissions::from_mode(0o666));
        }
        let temporary = builder.tempfile_in(folder(path)).map_err(Error::io(Action::Create, path))?;
        Ok(Self { temporary, path: path.to_owned() })
    }

    /// Chooses another final name in the same folder, once the file is complete.
    pub(crate) fn rename(&mut self, path: PathBuf) {
        self.path = path;
    }

    pub(crate) fn file(&mut self) -> &mut File {
        self.temporary.as_file_mut()
    }

    /// Flushes the bytes to the disk, gives the file its name, and flushes the folder.
    ///
    /// If only the last flush fails, the file is complete, but its name may not survive a loss of power.
    pub(crate) fn commit(mut self) -> Result<(), Error> {
        self.file().flush().map_err(Error::io(Action::Write, &self.path))?;
        self.file().sync_all().map_err(Error::io(Action::Write, &self.path))?;
        let renamed = self.temporary.persist(&self.path);
        renamed.map_err(|failed| failed.error).map_err(Error::io(Action::Rename, &self.path))?;
        sync_folder(folder(&self.path)).map_err(Error::io(Action::Sync, &self.path))
    }
}

/// The folder that a file is in.
pub(crate) fn folder(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// Makes new names in a folder durable. Windows does so by itself, and cannot open folders as files.
pub(crate) fn sync_folder(folder: &Path) -> io::Result<()> {
    if cfg!(unix) { File::open(folder)?.sync_all() } else { Ok(()) }
}
