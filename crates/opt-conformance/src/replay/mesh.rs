//! The place of a replay: one process, or one rank of a device mesh.

use ndarray::{ArrayD, ArrayViewD, Axis, Slice};
use opt_core::Scalar;
use opt_mesh::{Distributed, Layout, Mesh};

use super::Given;
use crate::golden::RecordedVariable;

/// The limit on the number of ranks: more than any recorded run has, and few enough to be threads.
const MOST_RANKS: usize = 64;

/// The place where a replay runs.
#[derive(Debug, Clone, Copy)]
pub(super) enum Place<'m> {
    /// In one process, with whole arrays.
    Here,
    /// On one rank of several.
    On(&'m Mesh),
}

#[expect(clippy::needless_pass_by_value, reason = "it maps errors, which come by value")]
fn text<E: ToString>(error: E) -> String {
    error.to_string()
}

fn layout(variable: &RecordedVariable) -> Layout {
    variable.layout.clone().map_or_else(Layout::replicated, Layout::new)
}

impl Place<'_> {
    /// The number of this rank, if there are several ranks.
    pub(super) fn rank(self) -> Option<usize> {
        match self {
            Self::Here => None,
            Self::On(mesh) => Some(mesh.rank()),
        }
    }

    /// The distribution of the variables over the ranks. Recorded gradients are already reduced.
    pub(super) fn distributed(self, variables: &[RecordedVariable]) -> Result<Option<Distributed>, String> {
        let Self::On(mesh) = self else { return Ok(None) };
        let with_layout = |builder: opt_mesh::DistributedBuilder, variable: &RecordedVariable| {
            builder.layout(&variable.name, &variable.shape, layout(variable))
        };
        let all = mesh.dimensions().iter().map(|(name, _)| name);
        let builder = Distributed::new(mesh).same_gradients_over(all);
        variables.iter().fold(builder, with_layout).build().map(Some).map_err(text)
    }

    /// This rank's shard of an array of the variable's shape.
    pub(super) fn shard<T: Scalar>(self, variable: &RecordedVariable, whole: ArrayD<T>) -> Result<ArrayD<T>, String> {
        match self {
            Self::Here => Ok(whole),
            Self::On(mesh) => mesh.scatter(&layout(variable), &whole.view()).map_err(text),
        }
    }

    /// The whole array, gathered from the shards.
    pub(super) fn whole<T: Scalar>(
        self,
        variable: &RecordedVariable,
        shard: &ArrayViewD<'_, T>,
    ) -> Result<ArrayD<T>, String> {
        match self {
            Self::Here => Ok(shard.to_owned()),
            Self::On(mesh) => mesh.gather(&layout(variable), &variable.shape, shard).map_err(text),
        }
    }

    /// This rank's rows of a sparse gradient, counted from the first row of its shard.
    pub(super) fn rows<T: Scalar>(
        self,
        variable: &RecordedVariable,
        indices: Vec<i64>,
        mut values: ArrayD<T>,
    ) -> Result<Given<T>, String> {
        let Self::On(mesh) = self else { return Ok(Given { indices: Some(indices), values }) };
        let shard = mesh.shard(&layout(variable), &variable.shape).map_err(text)?;
        for axis in 1..values.ndim() {
            values.slice_axis_inplace(Axis(axis), Slice::from(shard.range(axis)));
        }
        let first = i64::try_from(shard.offset[0]).map_err(text)?;
        let own = |index: i64| usize::try_from(index).is_ok_and(|row| shard.range(0).contains(&row));
        let kept: Vec<usize> = (0..indices.len()).filter(|&position| own(indices[position])).collect();
        let values = values.select(Axis(0), &kept);
        Ok(Given { indices: Some(kept.into_iter().map(|position| indices[position] - first).collect()), values })
    }
}

/// Runs every rank of a mesh on a thread. Returns the error of the first rank that has one.
pub(super) fn on_threads(
    dimensions: &[(String, usize)],
    rank: impl Fn(&Mesh) -> Result<(), String> + Sync,
) -> Result<(), String> {
    let ranks = dimensions.iter().fold(1, |ranks: usize, (_, size)| ranks.saturating_mul(*size));
    if ranks > MOST_RANKS {
        return Err(format!("a mesh of {ranks} ranks; at most {MOST_RANKS} are replayed on threads"));
    }
    let dimensions: Vec<(&str, usize)> = dimensions.iter().map(|(name, size)| (name.as_str(), *size)).collect();
    let ends = Mesh::threads(&dimensions, rank).map_err(text)?;
    (0..).zip(ends).try_for_each(|(rank, end)| end.map_err(|reason| format!("rank {rank}: {reason}")))
}

/// The recorded elements of a rank.
pub(super) fn of_rank(shards: &[Vec<f64>], rank: usize) -> Result<&[f64], String> {
    shards
        .get(rank)
        .map(Vec::as_slice)
        .ok_or_else(|| format!("{} shards were recorded, none for rank {rank}", shards.len()))
}
