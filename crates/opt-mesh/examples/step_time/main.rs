//! Measures a step on 1, 2 and 4 ranks, and the share of communication in it. Here ranks are threads.
//!
//! ```text
//! cargo run --release --package opt-mesh --example step_time
//! ```
//!
//! The package `opt-mesh-mpi` has the same example for processes.

mod measure;

use opt_mesh::{Mesh, MeshError};

fn main() -> Result<(), MeshError> {
    println!("{}", measure::TITLES);
    for ranks in [1, 2, 4] {
        for way in measure::WAYS {
            let rows = Mesh::threads(&[("x", ranks)], |mesh| measure::row(mesh, way))?;
            println!("{}", rows.into_iter().collect::<Result<Vec<_>, _>>()?[0]);
        }
    }
    Ok(())
}
