//! Meshes: ranks along named dimensions.

use std::collections::HashMap;
use std::fmt::{self, Debug};
use std::sync::{Arc, Mutex, PoisonError};

use opt_core::collective::{Collective, CollectiveError};

use crate::error::MeshError;
use crate::layout::{Layout, Shard, piece};
use crate::traffic::{Counted, Counters, Traffic};

/// The connection between the ranks of a mesh: threads of one process, or MPI.
pub trait Engine: Debug + Send + Sync {
    /// All ranks.
    fn world(&self) -> Arc<dyn Collective>;

    /// The group of the ranks `members`, in this order; this rank is one of them. All ranks of the world call this at
    /// the same time, each with its own list. The lists of two ranks are either equal or have no rank in common.
    ///
    /// # Errors
    ///
    /// When a rank is lost or late.
    fn group(&self, members: &[usize]) -> Result<Arc<dyn Collective>, CollectiveError>;
}

/// Ranks in a grid of named dimensions, row-major: the rank after the first one is its neighbour along the last
/// dimension.
///
/// A mesh value is one rank's view of the mesh. Clones share everything.
///
/// # Examples
///
/// ```
/// use opt_mesh::Mesh;
///
/// let places = Mesh::threads(&[("batch", 2), ("model", 3)], |mesh| mesh.coordinates().to_vec())?;
/// assert_eq!(places[1], [0, 1]);
/// assert_eq!(places[5], [1, 2]);
/// # Ok::<(), opt_mesh::MeshError>(())
/// ```
#[derive(Clone)]
pub struct Mesh {
    inner: Arc<Inner>,
}

struct Inner {
    engine: Arc<dyn Engine>,
    world: Arc<dyn Collective>,
    dimensions: Vec<(String, usize)>,
    coordinates: Vec<usize>,
    counters: Arc<Counters>,
    groups: Mutex<HashMap<Vec<usize>, Arc<dyn Collective>>>,
}

impl Debug for Mesh {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { dimensions, coordinates, .. } = &*self.inner;
        f.debug_struct("Mesh").field("dimensions", dimensions).field("coordinates", coordinates).finish()
    }
}

impl Mesh {
    /// Makes a mesh over all ranks of an engine. All ranks call this with the same dimensions.
    ///
    /// # Errors
    ///
    /// When two dimensions have the same name, their sizes do not multiply to the number of ranks, or the ranks do
    /// not ask for the same mesh. All ranks get the error.
    pub fn new(engine: Arc<dyn Engine>, dimensions: &[(&str, usize)]) -> Result<Self, MeshError> {
        let counters = Arc::new(Counters::default());
        let world: Arc<dyn Collective> = Arc::new(Counted::new(engine.world(), Arc::clone(&counters)));
        same_everywhere(&*world, "the mesh", &format!("{dimensions:?}"))?;
        check(dimensions, world.ranks())?;
        let dimensions: Vec<_> = dimensions.iter().map(|(name, size)| ((*name).to_owned(), *size)).collect();
        let coordinates = coordinates(&dimensions, world.rank());
        let groups = Mutex::default();
        Ok(Self { inner: Arc::new(Inner { engine, world, dimensions, coordinates, counters, groups }) })
    }

    /// This rank.
    #[must_use]
    pub fn rank(&self) -> usize {
        self.inner.world.rank()
    }

    /// The number of ranks.
    #[must_use]
    pub fn ranks(&self) -> usize {
        self.inner.world.ranks()
    }

    /// Names and sizes of the dimensions.
    #[must_use]
    pub fn dimensions(&self) -> &[(String, usize)] {
        &self.inner.dimensions
    }

    /// The position of this rank along each dimension.
    #[must_use]
    pub fn coordinates(&self) -> &[usize] {
        &self.inner.coordinates
    }

    /// The size of a dimension.
    ///
    /// # Errors
    ///
    /// [`MeshError::UnknownDimension`].
    pub fn size(&self, dimension: &str) -> Result<usize, MeshError> {
        Ok(self.inner.dimensions[self.place(dimension)?].1)
    }

    /// All ranks.
    #[must_use]
    pub fn world(&self) -> &dyn Collective {
        &*self.inner.world
    }

    /// The group of ranks that differ from this rank only along some dimensions. All ranks call this at the same
    /// time, with the same dimensions.
    ///
    /// # Errors
    ///
    /// When there is no such dimension, one is named twice, or the ranks do not ask for the same. All ranks get the
    /// error.
    pub fn group(&self, dimensions: &[&str]) -> Result<Arc<dyn Collective>, MeshError> {
        let places = self.distinct(dimensions)?;
        let known = |groups: &HashMap<_, _>| groups.get(&places).cloned();
        if let Some(group) = known(&self.inner.groups.lock().unwrap_or_else(PoisonError::into_inner)) {
            return Ok(group);
        }
        same_everywhere(self.world(), "the group", &format!("{places:?}"))?;
        let same_elsewhere = |rank: &usize| {
            let other = coordinates(&self.inner.dimensions, *rank);
            let pairs = other.iter().zip(self.coordinates()).enumerate();
            pairs.filter(|(place, _)| !places.contains(place)).all(|(_, (other, own))| other == own)
        };
        let members: Vec<usize> = (0..self.ranks()).filter(same_elsewhere).collect();
        let group = self.inner.engine.group(&members)?;
        let group: Arc<dyn Collective> = Arc::new(Counted::new(group, Arc::clone(&self.inner.counters)));
        self.inner.groups.lock().unwrap_or_else(PoisonError::into_inner).insert(places, Arc::clone(&group));
        Ok(group)
    }

    /// This rank's shard of an array.
    ///
    /// # Errors
    ///
    /// When the layout names a dimension that the mesh does not have, or one twice, or has another number of axes than
    /// the array.
    pub fn shard(&self, layout: &Layout, shape: &[usize]) -> Result<Shard, MeshError> {
        self.shard_of(self.rank(), layout, shape)
    }

    /// A rank's shard of an array.
    ///
    /// # Errors
    ///
    /// As [`shard`](Self::shard).
    pub fn shard_of(&self, rank: usize, layout: &Layout, shape: &[usize]) -> Result<Shard, MeshError> {
        self.distinct(&layout.dimensions().collect::<Vec<_>>())?;
        let axes = layout.axes();
        if !axes.is_empty() && axes.len() != shape.len() {
            return Err(MeshError::Axes { layout: axes.len(), shape: shape.to_vec() });
        }
        let coordinates = coordinates(&self.inner.dimensions, rank);
        let mut shard = Shard { shape: shape.to_vec(), offset: vec![0; shape.len()] };
        for (axis, dimension) in axes.iter().enumerate() {
            let Some(dimension) = dimension else { continue };
            let place = self.place(dimension)?;
            let range = piece(shape[axis], self.inner.dimensions[place].1, coordinates[place]);
            (shard.offset[axis], shard.shape[axis]) = (range.start, range.len());
        }
        Ok(shard)
    }

    /// The traffic that this rank has sent and received so far over this mesh.
    #[must_use]
    pub fn traffic(&self) -> Traffic {
        self.inner.counters.read()
    }

    pub(crate) fn place(&self, dimension: &str) -> Result<usize, MeshError> {
        let mut names = self.inner.dimensions.iter().map(|(name, _)| name);
        names.position(|name| name == dimension).ok_or_else(|| MeshError::UnknownDimension {
            dimension: dimension.to_owned(),
            known: self.inner.dimensions.iter().map(|(name, _)| name.clone()).collect(),
        })
    }

    /// The indices of dimensions, ascending. None may be named twice.
    pub(crate) fn distinct(&self, dimensions: &[&str]) -> Result<Vec<usize>, MeshError> {
        let mut places = Vec::with_capacity(dimensions.len());
        for dimension in dimensions {
            let place = self.place(dimension)?;
            if places.contains(&place) {
                return Err(MeshError::DimensionUsedTwice { dimension: (*dimension).to_owned() });
            }
            places.push(place);
        }
        places.sort_unstable();
        Ok(places)
    }
}

fn check(dimensions: &[(&str, usize)], ranks: usize) -> Result<(), MeshError> {
    for (place, (name, _)) in dimensions.iter().enumerate() {
        if dimensions[..place].iter().any(|(other, _)| other == name) {
            return Err(MeshError::DuplicateDimension { dimension: (*name).to_owned() });
        }
    }
    let sizes: Vec<usize> = dimensions.iter().map(|(_, size)| *size).collect();
    let covered = sizes.iter().try_fold(1_usize, |product, &size| product.checked_mul(size));
    if covered == Some(ranks) { Ok(()) } else { Err(MeshError::Sizes { sizes, ranks }) }
}

/// Ranks are numbered row-major.
fn coordinates(dimensions: &[(String, usize)], rank: usize) -> Vec<usize> {
    let mut rest = rank;
    let mut coordinates: Vec<usize> = dimensions
        .iter()
        .rev()
        .map(|(_, size)| {
            let coordinate = rest % size;
            rest /= size;
            coordinate
        })
        .collect();
    coordinates.reverse();
    coordinates
}

/// Checks that every rank says the same.
pub(crate) fn same_everywhere(world: &dyn Collective, what: &'static str, text: &str) -> Result<(), CollectiveError> {
    let answers = world.gather(text.as_bytes().to_vec())?;
    match answers.iter().position(|answer| *answer != answers[0]) {
        None => Ok(()),
        Some(rank) => {
            let text = |rank: usize| String::from_utf8_lossy(&answers[rank]).into_owned();
            Err(CollectiveError::Disagreement { what, expected: text(0), rank, found: text(rank) })
        }
    }
}
