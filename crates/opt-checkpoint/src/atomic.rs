//! Files that appear whole or not at all.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use crate::error::{Action, Error};

/// The end of the names of files that are being written; they begin with a dot.
pub(crate) const TEMPORARY: &str = ".tmp";

/// A file under another name in the same folder, until it is complete. Dropped before, it is removed.
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
            // What any new file has: the process's mask is taken off.
            builder.permissions(std::fs::Permissions::from_mode(0o666));
        }
        let temporary = builder.tempfile_in(folder(path)).map_err(Error::io(Action::Create, path))?;
        Ok(Self { temporary, path: path.to_owned() })
    }

    /// Chooses another name for the file once it is complete, in the same folder.
    pub(crate) fn rename(&mut self, path: PathBuf) {
        self.path = path;
    }

    pub(crate) fn file(&mut self) -> &mut File {
        self.temporary.as_file_mut()
    }

    /// Waits until the bytes are on the disk, gives the file its name, and waits for the folder.
    ///
    /// If only the last wait fails, the file is there and whole, but its name may not survive a loss of power.
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

/// Makes new names in a folder durable. Windows does this by itself, and cannot open folders as files.
pub(crate) fn sync_folder(folder: &Path) -> io::Result<()> {
    if cfg!(unix) { File::open(folder)?.sync_all() } else { Ok(()) }
}
