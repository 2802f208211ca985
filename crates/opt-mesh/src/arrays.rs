//! Scattering arrays over the ranks, and gathering them.

use std::iter::once;

use ndarray::{ArrayBase, ArrayD, ArrayViewD, Axis, IxDyn, RawData, Slice};
use opt_core::Scalar;
use opt_core::collective::CollectiveError;

use crate::error::MeshError;
use crate::layout::{Layout, Shard};
use crate::mesh::Mesh;

impl Mesh {
    /// This rank's shard of an array that every rank has as a whole. No communication.
    ///
    /// # Errors
    ///
    /// As [`shard`](Self::shard).
    pub fn scatter<T: Clone>(&self, layout: &Layout, whole: &ArrayViewD<'_, T>) -> Result<ArrayD<T>, MeshError> {
        Ok(sliced(whole.view(), &self.shard(layout, whole.shape())?).to_owned())
    }

    /// This rank's shard of an array that only the rank `root` has. All ranks call this at the same time, with the
    /// same layout and shape.
    ///
    /// # Errors
    ///
    /// As [`shard`](Self::shard); on all ranks, if `root` has no array or one of another shape.
    pub fn scatter_from<T: Scalar>(
        &self,
        root: usize,
        layout: &Layout,
        shape: &[usize],
        whole: Option<&ArrayViewD<'_, T>>,
    ) -> Result<ArrayD<T>, MeshError> {
        let own = if self.rank() == root { self.checked(whole, shape) } else { Ok(Vec::new()) };
        let answer = self.world().broadcast(root, encoded(&own))?;
        own?;
        let whole = decoded(root, shape, &answer)?;
        self.scatter(layout, &whole.view())
    }

    /// The whole array, on every rank, from the shards of all ranks. Of replicas, the lowest rank's is taken. All
    /// ranks call this at the same time, with the same layout and shape.
    ///
    /// # Errors
    ///
    /// As [`shard`](Self::shard); on all ranks, if the array of one rank is not its shard.
    pub fn gather<T: Scalar>(
        &self,
        layout: &Layout,
        shape: &[usize],
        shard: &ArrayViewD<'_, T>,
    ) -> Result<ArrayD<T>, MeshError> {
        let own = self.shard(layout, shape).and_then(|expected| self.checked(Some(shard), &expected.shape));
        let answers = self.world().gather(encoded(&own))?;
        own?;
        let mut whole = ArrayD::from_elem(IxDyn(shape), T::zero());
        let shards = (0..).zip(&answers).map(|(rank, answer)| {
            let expected = self.shard_of(rank, layout, shape)?;
            Ok((decoded(rank, &expected.shape, answer)?, expected))
        });
        let shards: Vec<(ArrayD<T>, Shard)> = shards.collect::<Result<_, MeshError>>()?;
        for (shard, place) in shards.iter().rev() {
            sliced(whole.view_mut(), place).assign(shard);
        }
        Ok(whole)
    }

    /// The elements of an array of the right shape, row by row.
    fn checked<T: Scalar>(&self, array: Option<&ArrayViewD<'_, T>>, expected: &[usize]) -> Result<Vec<f64>, MeshError> {
        match array {
            Some(array) if array.shape() == expected => Ok(array.iter().map(|&element| element.as_()).collect()),
            _ => Err(MeshError::Shape {
                rank: self.rank(),
                expected: expected.to_vec(),
                found: array.map_or_else(Vec::new, |array| array.shape().to_vec()),
            }),
        }
    }
}

fn sliced<S: RawData>(mut array: ArrayBase<S, IxDyn>, shard: &Shard) -> ArrayBase<S, IxDyn> {
    for axis in 0..shard.shape.len() {
        array.slice_axis_inplace(Axis(axis), Slice::from(shard.range(axis)));
    }
    array
}

/// Elements, or the reason why there are none.
fn encoded(own: &Result<Vec<f64>, MeshError>) -> Vec<u8> {
    match own {
        Ok(elements) => once(0).chain(elements.iter().flat_map(|element| element.to_le_bytes())).collect(),
        Err(error) => once(1).chain(error.to_string().into_bytes()).collect(),
    }
}

fn decoded<T: Scalar>(rank: usize, shape: &[usize], bytes: &[u8]) -> Result<ArrayD<T>, CollectiveError> {
    match bytes.split_first() {
        Some((0, bytes)) => {
            let elements = bytes.as_chunks().0.iter().map(|&element| T::literal(f64::from_le_bytes(element)));
            ArrayD::from_shape_vec(IxDyn(shape), elements.collect()).map_err(|_| CollectiveError::Message { rank })
        }
        Some((1, reason)) => {
            Err(CollectiveError::Refused { rank, reason: String::from_utf8_lossy(reason).into_owned() })
        }
        _ => Err(CollectiveError::Message { rank }),
    }
}
