//! Errors of meshes and layouts.

use opt_core::collective::CollectiveError;

/// The reason why a mesh, a layout or a shard was refused.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum MeshError {
    /// The sizes of a mesh do not multiply to the number of ranks, or one of them is 0.
    #[error("a mesh of {sizes:?} does not cover {ranks} ranks")]
    Sizes {
        /// The sizes of the dimensions.
        sizes: Vec<usize>,
        /// The number of ranks.
        ranks: usize,
    },

    /// Two dimensions of a mesh have the same name.
    #[error("mesh dimension {dimension:?} is given twice")]
    DuplicateDimension {
        /// The name.
        dimension: String,
    },

    /// The mesh has no dimension of that name.
    #[error("the mesh has no dimension {dimension:?}, there are {known:?}")]
    UnknownDimension {
        /// The requested name.
        dimension: String,
        /// The dimensions that exist.
        known: Vec<String>,
    },

    /// A layout, or a list of dimensions, uses a mesh dimension for two things.
    #[error("mesh dimension {dimension:?} is used twice")]
    DimensionUsedTwice {
        /// The name.
        dimension: String,
    },

    /// A layout has another number of axes than its array.
    #[error("a layout of {layout} axes for an array of shape {shape:?}")]
    Axes {
        /// The number of axes of the layout.
        layout: usize,
        /// The shape of the whole array.
        shape: Vec<usize>,
    },

    /// An array is not the shard, or not the whole array, that it should be.
    #[error("rank {rank}: expected an array of shape {expected:?}, got {found:?}")]
    Shape {
        /// The rank.
        rank: usize,
        /// The expected shape.
        expected: Vec<usize>,
        /// The shape that it has.
        found: Vec<usize>,
    },

    /// A variable was given two layouts.
    #[error("variable {variable:?} has two layouts")]
    DuplicateLayout {
        /// The variable.
        variable: String,
    },

    /// A mesh dimension replicates a variable, and nothing is said about the gradients of the replicas.
    #[error(
        "variable {variable:?} is replicated along mesh dimension {dimension:?}: say sum_gradients_over, \
         mean_gradients_over or, if the gradients are reduced already, same_gradients_over"
    )]
    UnsaidReduction {
        /// The variable.
        variable: String,
        /// The dimension.
        dimension: String,
    },

    /// A rank panicked.
    #[error("rank {rank} panicked: {message}")]
    RankPanicked {
        /// The first rank that panicked.
        rank: usize,
        /// The message of the panic.
        message: String,
    },

    /// The ranks could not work together.
    #[error(transparent)]
    Collective(#[from] CollectiveError),
}
