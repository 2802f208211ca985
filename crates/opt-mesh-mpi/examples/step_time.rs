//! The example `step_time` of the crate `opt-mesh`, with processes of MPI for ranks.
//!
//! ```text
//! cargo build --release --example step_time
//! mpirun -n 4 target/release/examples/step_time
//! ```

#[path = "../../opt-mesh/examples/step_time/measure.rs"]
mod measure;

use std::error::Error;

use opt_mesh::{Engine, Mesh};
use opt_mesh_mpi::Mpi;

fn main() -> Result<(), Box<dyn Error>> {
    let mpi = Mpi::start()?;
    let mesh = Mesh::new(mpi.clone(), &[("x", mpi.world().ranks())])?;
    drop(mpi);
    let rows = measure::WAYS.into_iter().map(|way| measure::row(&mesh, way)).collect::<Result<Vec<_>, _>>()?;
    if mesh.rank() == 0 {
        println!("{}\n{}", measure::TITLES, rows.join("\n"));
    }
    Ok(())
}
