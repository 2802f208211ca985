//! Sharded variables and optimizer state over a device mesh, as in DTensor.
//!
//! * A [`Mesh`] arranges ranks along named dimensions. Ranks are threads of one process ([`Mesh::threads`]) or
//!   processes (MPI: the crate `opt-mesh-mpi`).
//! * A [`Layout`] says for each axis of a variable which mesh dimension cuts it, or none. Each rank holds its
//!   [`Shard`]; slots have the layout of their variable.
//! * [`Distributed`] tells an optimizer these layouts, whether gradients of replicas are summed or averaged, and
//!   whether the state is sharded over replicas.
//!
//! Results equal those of one process: bit for bit where nothing is summed over ranks, else up to the rounding of
//! sums in another order. Before a step changes anything, all ranks agree on it. An error of one rank is an error on
//! all ranks, within a time limit.
//!
//! # Examples
//!
//! ```
//! use ndarray::{Array2, s};
//! use opt_core::{Optimizer, Variable};
//! use opt_mesh::{Distributed, Layout, Mesh};
//! use opt_sgd::Sgd;
//!
//! let whole = Array2::from_shape_fn((4, 6), |(i, j)| (i * 6 + j) as f64);
//! let gradient = Array2::ones((4, 6));
//! let shards = Mesh::threads(&[("batch", 2), ("model", 2)], |mesh| {
//!     let layout = Layout::new([None, Some("model")]);
//!     // This rank's half of the columns.
//!     let mut w = mesh.scatter(&layout, &whole.view().into_dyn())?;
//!     let g = mesh.scatter(&layout, &gradient.view().into_dyn())?;
//!     // Both replicas have computed the same gradient.
//!     let distributed = Distributed::new(mesh).layout("w", &[4, 6], layout).same_gradients_over(["batch"]).build()?;
//!     let rule = Sgd::new(0.5).momentum(0.9);
//!     let mut opt = Optimizer::builder(rule).global_clipnorm(1.0).distributed(distributed).build()?;
//!     opt.apply_gradients([Variable::new("w", &mut w).gradient(&g)])?;
//!     Ok::<_, Box<dyn std::error::Error + Send + Sync>>(w)
//! })?;
//! let last = shards.into_iter().last().unwrap().unwrap();
//! assert_eq!(last.shape(), [4, 3]);
//! // The norm is that of all 24 ones, however they lie.
//! assert_eq!(last[[0, 0]], 3.0 - 0.5 / 24_f64.sqrt());
//! # Ok::<(), opt_mesh::MeshError>(())
//! ```

#![forbid(unsafe_code)]

mod arrays;
mod distribution;
mod error;
mod layout;
mod mesh;
mod threads;
mod traffic;

pub use distribution::{Distributed, DistributedBuilder};
pub use error::MeshError;
pub use layout::{Layout, Shard};
pub use mesh::{Engine, Mesh};
pub use threads::DEFAULT_LIMIT;
pub use traffic::Traffic;
