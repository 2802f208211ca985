//! Replays recorded runs of a device mesh, one process a rank. `cargo xtask parity --mpi` starts it.
//!
//! Prints a line of JSON for each case that was recorded on as many ranks as there are here.

use std::env;
use std::error::Error;
use std::path::Path;
use std::process::ExitCode;

use opt_conformance::golden::{Case, File};
use opt_conformance::replay::Registries;
use opt_conformance::{Verdict, replay_on};
use opt_mesh::{Engine, Mesh};
use opt_mesh_mpi::Mpi;

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let mpi = Mpi::start()?;
    let ranks = mpi.world().ranks();
    let registries = Registries { float32: optimizers::registry(), float64: optimizers::registry() };
    let mut all_passed = true;
    for path in env::args().skip(1) {
        for case in File::read(Path::new(&path))?.cases {
            let Some(dimensions) =
                case.mesh().filter(|mesh| mesh.iter().map(|(_, size)| size).product::<usize>() == ranks)
            else {
                continue;
            };
            let dimensions: Vec<(&str, usize)> = dimensions.iter().map(|(name, size)| (name.as_str(), *size)).collect();
            let mesh = Mesh::new(mpi.clone(), &dimensions)?;
            all_passed &= replay(&mesh, &path, &case, &registries)?;
        }
    }
    Ok(if all_passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Replays a case on this rank. Rank 0 reports the outcome on all ranks.
fn replay(mesh: &Mesh, path: &str, case: &Case, registries: &Registries) -> Result<bool, Box<dyn Error>> {
    let reason = match replay_on(mesh, case, registries) {
        Verdict::Passed => String::new(),
        Verdict::Failed(reason) | Verdict::Skipped(reason) => reason,
    };
    let reasons = mesh.world().gather(reason.into_bytes())?;
    let failed = reasons.iter().enumerate().find(|(_, reason)| !reason.is_empty());
    let failed = failed.map(|(rank, reason)| format!("rank {rank}: {}", String::from_utf8_lossy(reason)));
    if mesh.rank() == 0 {
        println!("{}", serde_json::json!({"file": path, "case": case.name(), "failed": failed}));
    }
    Ok(failed.is_none())
}
