//! Files that cannot be written: a clear error, nothing is lost, and nothing is left behind.

use std::fs;
use std::io::{self, Cursor, ErrorKind, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use opt_checkpoint::{Action, Checkpoint, Error, SaveOptions, save};
use opt_core::{Optimizer, Variable};
use opt_sgd::Sgd;

use crate::run::{builder, bytes, problem, trained};

/// The file to write, in a process with fewer permissions or less space.
pub(crate) const CHILD: &str = "OPT_CHECKPOINT_CHILD";

fn files(folder: &Path) -> Vec<PathBuf> {
    fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()).collect()
}

/// Saving over a file fails; the training continues unaffected, and the file is unchanged.
fn fails_to_save(path: &Path) -> Error {
    let (problem, mut optimizer) = (problem(), builder::<f32>().build().unwrap());
    let mut variables = problem.start();
    problem.step(0, &mut optimizer, &mut variables).unwrap();
    let before = (fs::read(path).unwrap(), files(path.parent().unwrap()));
    let error = save(path, &optimizer, &variables).unwrap_err();
    assert_eq!((fs::read(path).unwrap(), files(path.parent().unwrap())), before);
    problem.step(1, &mut optimizer, &mut variables).unwrap();
    let (want, want_variables) = trained(builder::<f32>(), 2);
    assert_eq!((optimizer.weights(), variables), (want.weights(), want_variables));
    error
}

/// A folder that others may read, with a checkpoint.
fn folder() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run.safetensors");
    let (optimizer, variables) = trained(builder::<f32>(), 3);
    save(&path, &optimizer, &variables).unwrap();
    (folder, path)
}

fn passed(output: &Output) {
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{text}{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn folders_that_are_not_there_are_named() {
    let (mut w, opt) = ([1.0], Optimizer::new(Sgd::new(0.1)).unwrap());
    let error = save("no/such/folder/a.safetensors", &opt, &[Variable::new("w", &mut w)]).unwrap_err();
    assert!(error.to_string().starts_with("cannot create no/such/folder/a.safetensors: "), "{error}");
}

#[test]
fn a_file_in_the_current_folder_needs_no_path() {
    let test = std::env::current_exe().unwrap();
    let (folder, _) = folder();
    if let Some(child) = std::env::var_os(CHILD) {
        std::env::set_current_dir(child).unwrap();
        let (mut w, opt) = ([1.0], Optimizer::new(Sgd::new(0.1)).unwrap());
        save("a.safetensors", &opt, &[Variable::new("w", &mut w)]).unwrap();
        assert!(Path::new("a.safetensors").exists());
        return;
    }
    let name = "writing::a_file_in_the_current_folder_needs_no_path";
    passed(&Command::new(test).args(["--exact", name]).env(CHILD, folder.path()).output().unwrap());
    Checkpoint::open(folder.path().join("a.safetensors")).unwrap().verify().unwrap();
}

/// Runs a test once more, in a process that cannot write files of more blocks of 512 bytes.
#[cfg(unix)]
pub(crate) fn limited(blocks: usize, test: &str, path: &Path) {
    let line = format!("trap '' XFSZ; ulimit -f {blocks} && exec \"$0\" --exact {test} | cat");
    let program = std::env::current_exe().unwrap();
    passed(&Command::new("sh").arg("-c").arg(line).arg(program).env(CHILD, path).output().unwrap());
}

/// A disk with room for a part of the file, as the limit of the file size makes it.
#[cfg(unix)]
#[test]
fn a_full_disk_is_an_error_and_loses_nothing() {
    if let Some(path) = std::env::var_os(CHILD) {
        let error = fails_to_save(Path::new(&path));
        assert!(
            matches!(&error, Error::Io { action: Action::Write, source, .. }
            if source.kind() == ErrorKind::FileTooLarge),
            "{error}"
        );
        return;
    }
    let (_folder, path) = folder();
    // Blocks of 512 bytes, of which the file needs about 20.
    for blocks in [0, 1, 8] {
        limited(blocks, "writing::a_full_disk_is_an_error_and_loses_nothing", &path);
    }
    Checkpoint::open(&path).unwrap().verify().unwrap();
}

#[cfg(unix)]
#[test]
fn a_read_only_folder_is_an_error_and_loses_nothing() {
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::process::CommandExt;

    if let Some(path) = std::env::var_os(CHILD) {
        let error = fails_to_save(Path::new(&path));
        assert!(
            matches!(&error, Error::Io { action: Action::Create, source, .. }
            if source.kind() == ErrorKind::PermissionDenied),
            "{error}"
        );
        return;
    }
    let (folder, path) = folder();
    let mode = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    let test = folder.path().join("test");
    fs::copy(std::env::current_exe().unwrap(), &test).unwrap();
    mode(folder.path(), 0o555);
    let mut command = Command::new(&test);
    // Permissions do not bind the superuser: another user tries then.
    if fs::File::create(folder.path().join("probe")).is_ok() {
        fs::remove_file(folder.path().join("probe")).unwrap();
        command.uid(65_534).gid(65_534);
    }
    let name = "writing::a_read_only_folder_is_an_error_and_loses_nothing";
    let output = command.args(["--exact", name]).env(CHILD, &path).output();
    mode(folder.path(), 0o755);
    passed(&output.unwrap());
    Checkpoint::open(&path).unwrap().verify().unwrap();
}

#[cfg(unix)]
#[test]
fn a_new_file_has_the_rights_of_any_new_file() {
    use std::os::unix::fs::PermissionsExt;

    let (folder, path) = folder();
    let other = folder.path().join("other");
    fs::write(&other, "").unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode();
    assert_eq!(mode(&path), mode(&other));
}

#[test]
fn saving_replaces_the_file() {
    let (folder, path) = folder();
    let (optimizer, variables) = trained(builder::<f32>(), 4);
    let saved = save(&path, &optimizer, &variables).unwrap();
    assert_eq!((saved.bytes, saved.path.clone()), (fs::metadata(&path).unwrap().len(), path.clone()));
    assert_eq!(fs::read(&path).unwrap(), bytes(SaveOptions::new(), &optimizer, &variables));
    assert_eq!(files(folder.path()), [path], "nothing else is left");
}

/// Fails after some bytes, like a pipe or a network.
struct Limited {
    file: Cursor<Vec<u8>>,
    left: usize,
}

impl Write for Limited {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.left.min(bytes.len()) {
            0 => Err(ErrorKind::BrokenPipe.into()),
            count => {
                self.left -= count;
                self.file.write(&bytes[..count])
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for Limited {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.file.seek(to)
    }
}

#[test]
fn a_writer_that_fails_at_any_byte_is_an_error() {
    let (optimizer, variables) = trained(builder::<f32>(), 2);
    let all = bytes(SaveOptions::new(), &optimizer, &variables);
    let header = 8 + u64::from_le_bytes(all[..8].try_into().unwrap()) as usize;
    // The header is written twice.
    for left in (0..all.len() + header).step_by(7) {
        let mut writer = Limited { file: Cursor::new(Vec::new()), left };
        let error = SaveOptions::new().write(&mut writer, &optimizer, &variables).unwrap_err();
        assert!(matches!(error, Error::Io { action: Action::Write, .. }), "{left}: {error}");
        let half = writer.file.into_inner();
        // Blanks at the end of the header are the same both times.
        if half != all {
            let read = Checkpoint::from_bytes(half).and_then(|half| half.verify());
            assert!(read.is_err(), "{left}: half a file passes for a whole one");
        }
    }
    let mut writer = Limited { file: Cursor::new(Vec::new()), left: all.len() + header };
    SaveOptions::new().write(&mut writer, &optimizer, &variables).unwrap();
    assert_eq!(writer.file.into_inner(), all);
}

#[test]
fn a_file_can_begin_anywhere() {
    let (optimizer, variables) = trained(builder::<f32>(), 2);
    let mut writer = Cursor::new(vec![7; 5]);
    writer.set_position(5);
    SaveOptions::new().write(&mut writer, &optimizer, &variables).unwrap();
    assert_eq!(writer.position(), writer.get_ref().len() as u64);
    let all = bytes(SaveOptions::new(), &optimizer, &variables);
    assert_eq!(&writer.into_inner()[5..], all);
}
