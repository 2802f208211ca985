//! `cargo xtask parity --mpi`: recorded runs of a device mesh, one process a rank.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, bail};
use opt_conformance::Verdict;
use opt_conformance::golden::File;
use serde_json::Value;

use crate::cargo::Call;

const MANIFEST: &str = "crates/opt-mesh-mpi/Cargo.toml";
const PROGRAM: &str = "parity";

/// Every case of a file, and its outcome.
pub(super) fn replay_file(program: &Path, path: &Path) -> anyhow::Result<Vec<(String, Verdict)>> {
    let cases = File::read(path)?.cases;
    let mut verdicts: Vec<(String, Verdict)> = cases
        .iter()
        .filter(|case| case.mesh().is_none())
        .map(|case| (case.name().to_owned(), Verdict::Skipped("it needs no mesh".to_owned())))
        .collect();
    let meshes = cases.iter().filter_map(|case| case.mesh());
    let mut sizes: Vec<usize> = meshes.map(|mesh| mesh.iter().map(|(_, size)| size).product()).collect();
    sizes.sort_unstable();
    let expected = sizes.len() + verdicts.len();
    sizes.dedup();
    for ranks in sizes {
        verdicts.extend(run(program, path, ranks)?);
    }
    if verdicts.len() != expected {
        bail!("{}: {} of {expected} cases came back", path.display(), verdicts.len());
    }
    Ok(verdicts)
}

/// Builds the program that each rank runs.
pub(super) fn build(root: &Path) -> anyhow::Result<PathBuf> {
    let manifest = root.join(MANIFEST);
    let call = Call::new("build --quiet --message-format json --example").arg(PROGRAM);
    let call = call.arg("--manifest-path").arg(manifest.to_string_lossy());
    let output = call.output().context("an installed MPI is needed: see docs/distributed.md")?;
    executable(&String::from_utf8_lossy(&output)).context("cargo has built no program")
}

/// The path of the program, in cargo's messages.
fn executable(messages: &str) -> Option<PathBuf> {
    let messages = messages.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let mut programs = messages.filter(|message| message["target"]["name"] == PROGRAM);
    programs.find_map(|message| message["executable"].as_str().map(PathBuf::from))
}

fn run(program: &Path, path: &Path, ranks: usize) -> anyhow::Result<Vec<(String, Verdict)>> {
    let mut command = Command::new("mpirun");
    command.args(["-n", &ranks.to_string()]).arg(program).arg(path);
    // Containers run as root, and have fewer cores than we have ranks. (Other MPI libraries ignore these variables.)
    command.env("OMPI_ALLOW_RUN_AS_ROOT", "1").env("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1");
    command.env("OMPI_MCA_rmaps_base_oversubscribe", "1").stderr(Stdio::inherit());
    let output = command.output().context("cannot start mpirun")?;
    Ok(verdicts(&String::from_utf8_lossy(&output.stdout)))
}

/// The report of rank 0.
fn verdicts(lines: &str) -> Vec<(String, Verdict)> {
    let verdict = |line: &str| {
        let line: Value = serde_json::from_str(line).ok()?;
        let name = line["case"].as_str()?.to_owned();
        Some((name, line["failed"].as_str().map_or(Verdict::Passed, |reason| Verdict::Failed(reason.to_owned()))))
    };
    lines.lines().filter_map(verdict).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_is_found_among_messages() {
        let messages = "{\"target\":{\"name\":\"parity\"},\"executable\":null}\nnoise\n\
                        {\"target\":{\"name\":\"opt-core\"},\"executable\":\"/wrong\"}\n\
                        {\"target\":{\"name\":\"parity\"},\"executable\":\"/right\"}\n";
        assert_eq!(executable(messages), Some(PathBuf::from("/right")));
        assert_eq!(executable("{}"), None);
    }

    #[test]
    fn what_rank_0_tells_is_understood() {
        let lines =
            "{\"file\":\"f\",\"case\":\"a\",\"failed\":null}\nnoise\n{\"case\":\"b\",\"failed\":\"rank 2: no\"}\n";
        let want = [("a".to_owned(), Verdict::Passed), ("b".to_owned(), Verdict::Failed("rank 2: no".to_owned()))];
        assert_eq!(verdicts(lines), want);
    }
}
