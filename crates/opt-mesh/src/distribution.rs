//! The distribution of an optimizer's variables over a mesh.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use opt_core::collective::{Collective, CollectiveError, Distribution, Part, Placement, Reduction, Replicas};

use crate::error::MeshError;
use crate::layout::{Layout, piece};
use crate::mesh::{Mesh, same_everywhere};

/// Distributes variables, their gradients and their slots over a mesh: [`OptimizerBuilder::distributed`] takes it.
///
/// Slots have the layout of their variable. Variables without a layout are replicated.
///
/// | option | default |
/// |---|---|
/// | [`layout`](DistributedBuilder::layout) of each variable | replicated |
/// | [`sum_gradients_over`](DistributedBuilder::sum_gradients_over), [`mean_gradients_over`](DistributedBuilder::mean_gradients_over), [`same_gradients_over`](DistributedBuilder::same_gradients_over) | none: each mesh dimension that replicates a variable must be in one of them |
/// | [`shard_state_over`](DistributedBuilder::shard_state_over) | every replica keeps all slots |
/// | [`bucket_bytes`](DistributedBuilder::bucket_bytes) | 25 MiB |
/// | [`overlap`](DistributedBuilder::overlap) | off |
///
/// [`OptimizerBuilder::distributed`]: opt_core::OptimizerBuilder::distributed
#[derive(Debug)]
pub struct Distributed {
    mesh: Mesh,
    layouts: HashMap<String, (Vec<usize>, Layout)>,
    reduction: Option<(Vec<usize>, Reduction)>,
    /// Along these dimensions gradients are the same already.
    same: Vec<usize>,
    /// The dimension over which state is sharded, and the ranks along it.
    state: Option<(usize, Arc<dyn Collective>)>,
    /// Groups of ranks that reduce together, by the indices of their mesh dimensions.
    groups: HashMap<Vec<usize>, Arc<dyn Collective>>,
    bucket_bytes: usize,
    overlap: bool,
    placements: RwLock<HashMap<String, Known>>,
}

/// The computed distribution of a variable, and the shape that it is for.
type Known = (Vec<usize>, Arc<Placement>);

/// Options of [`Distributed`] before they are checked.
#[derive(Debug, Clone)]
pub struct DistributedBuilder {
    mesh: Mesh,
    layouts: Vec<(String, Vec<usize>, Layout)>,
    reduction: Option<(Vec<String>, Reduction)>,
    same: Vec<String>,
    state: Option<String>,
    bucket_bytes: usize,
    overlap: bool,
}

impl Distributed {
    /// Starts with replicated variables. Say what to do with their gradients: see the table above.
    #[expect(clippy::new_ret_no_self, reason = "the builder is how a distribution is made")]
    #[must_use]
    pub fn new(mesh: &Mesh) -> DistributedBuilder {
        DistributedBuilder {
            mesh: mesh.clone(),
            layouts: Vec::new(),
            reduction: None,
            same: Vec::new(),
            state: None,
            bucket_bytes: 25 << 20,
            overlap: false,
        }
    }

    /// The mesh.
    #[must_use]
    pub fn mesh(&self) -> &Mesh {
        &self.mesh
    }

    fn placed(&self, variable: &str, found: &[usize]) -> Result<Placement, MeshError> {
        let (shape, layout) = match self.layouts.get(variable) {
            Some((shape, layout)) => (shape.clone(), layout.clone()),
            None => (found.to_vec(), Layout::replicated()),
        };
        let shard = self.mesh.shard(&layout, &shape)?;
        if shard.shape != found {
            return Err(MeshError::Collective(CollectiveError::Shard {
                variable: variable.to_owned(),
                rank: self.mesh.rank(),
                expected: shard.shape,
                found: found.to_vec(),
            }));
        }
        let sharded = self.mesh.distinct(&layout.dimensions().collect::<Vec<_>>())?;
        self.check_replicas(variable, &sharded)?;
        let part = self.part(&shape, found, &layout, &sharded);
        let state = self.state.as_ref().filter(|_| part.is_some()).map(|(place, _)| *place);
        let once =
            |(place, coordinate): (usize, &usize)| *coordinate == 0 || sharded.contains(&place) || state == Some(place);
        let replicas = self.reduction.as_ref().and_then(|(places, reduction)| {
            let places: Vec<usize> = places.iter().copied().filter(|place| !sharded.contains(place)).collect();
            Some(Replicas { group: Arc::clone(self.groups.get(&places)?), reduction: *reduction })
        });
        Ok(Placement {
            layout: self.described(&layout, part.as_ref()),
            shape,
            offset: shard.offset,
            counts: self.mesh.coordinates().iter().enumerate().all(once),
            replicas,
            part,
        })
    }

    /// Checks that each dimension along which a variable is replicated has a reduction, or needs none.
    fn check_replicas(&self, variable: &str, sharded: &[usize]) -> Result<(), MeshError> {
        let reduced = self.reduction.as_ref().map_or(&[][..], |(places, _)| places);
        for (place, (dimension, ranks)) in self.mesh.dimensions().iter().enumerate() {
            let is_said = [sharded, reduced, &self.same].iter().any(|places| places.contains(&place));
            if *ranks > 1 && !is_said {
                let (variable, dimension) = (variable.to_owned(), dimension.clone());
                return Err(MeshError::UnsaidReduction { variable, dimension });
            }
        }
        Ok(())
    }

    /// The parts of a variable that the ranks along the dimension of sharded state update.
    fn part(&self, shape: &[usize], found: &[usize], layout: &Layout, sharded: &[usize]) -> Option<Part> {
        let (place, group) = self.state.as_ref().filter(|(place, _)| !sharded.contains(place))?;
        let pieces = self.mesh.dimensions()[*place].1;
        // The axis is chosen by the whole shape, so that all ranks cut the same one; the pieces are those of the
        // local shape.
        let axis = cut_axis(shape, layout, pieces)?;
        let ranges = (0..pieces).map(|index| piece(found[axis], pieces, index)).collect();
        Some(Part { group: Arc::clone(group), axis, ranges })
    }

    fn described(&self, layout: &Layout, part: Option<&Part>) -> String {
        let axes: Vec<&str> = layout.axes().iter().map(|axis| axis.as_deref().unwrap_or("-")).collect();
        let names = |places: &[usize]| {
            places.iter().map(|&place| self.mesh.dimensions()[place].0.as_str()).collect::<Vec<_>>().join(", ")
        };
        let mut text = if axes.is_empty() { "replicated".to_owned() } else { format!("axes {}", axes.join(", ")) };
        if let Some((places, reduction)) = &self.reduction {
            let what = match reduction {
                Reduction::Sum => "sum",
                Reduction::Mean => "mean",
            };
            text += &format!("; {what} over {}", names(places));
        }
        if let (Some((place, _)), Some(part)) = (&self.state, part) {
            text += &format!("; state in parts over {} along axis {}", names(&[*place]), part.axis);
        }
        text
    }
}

/// The axis along which an array is cut into `pieces`: the first axis that gives nearly equal pieces, else the
/// longest axis. The first axis is best, because its pieces are contiguous in memory and update faster.
fn cut_axis(shape: &[usize], layout: &Layout, pieces: usize) -> Option<usize> {
    let is_cut = |axis: usize| layout.axes().get(axis).is_some_and(Option::is_some);
    let nearly_equal = |&axis: &usize| {
        let even = shape[axis] > 0 && shape[axis].is_multiple_of(pieces) && !is_cut(axis);
        even || shape[axis] >= 16 * pieces
    };
    let longest = || (0..shape.len()).rev().max_by_key(|&axis| shape[axis]);
    (0..shape.len()).find(nearly_equal).or_else(longest)
}

impl Distribution for Distributed {
    fn world(&self) -> &dyn Collective {
        self.mesh.world()
    }

    fn placement(&self, variable: &str, shape: &[usize]) -> Result<Arc<Placement>, CollectiveError> {
        let placements = self.placements.read().unwrap_or_else(PoisonError::into_inner);
        match placements.get(variable) {
            Some((known, placement)) if known == shape => return Ok(Arc::clone(placement)),
            _ => drop(placements),
        }
        let placement = self.placed(variable, shape).map(Arc::new).map_err(|error| match error {
            MeshError::Collective(error) => error,
            error => CollectiveError::Refused { rank: self.mesh.rank(), reason: error.to_string() },
        })?;
        let mut placements = self.placements.write().unwrap_or_else(PoisonError::into_inner);
        placements.insert(variable.to_owned(), (shape.to_vec(), Arc::clone(&placement)));
        Ok(placement)
    }

    fn shards_state(&self) -> bool {
        self.state.is_some()
    }

    fn bucket_bytes(&self) -> usize {
        self.bucket_bytes
    }

    fn overlaps(&self) -> bool {
        self.overlap
    }
}

impl DistributedBuilder {
    /// Sets the layout of a variable. `shape` is that of the whole variable.
    #[must_use]
    pub fn layout(mut self, variable: impl Into<String>, shape: &[usize], layout: Layout) -> Self {
        self.layouts.push((variable.into(), shape.to_vec(), layout));
        self
    }

    /// Replaces gradients by their sums over these mesh dimensions, before they are clipped. (Dimensions that shard
    /// the variable itself are left out.) The last call of this method or
    /// [`mean_gradients_over`](Self::mean_gradients_over) counts.
    #[must_use]
    pub fn sum_gradients_over<S: Into<String>>(mut self, dimensions: impl IntoIterator<Item = S>) -> Self {
        self.reduction = Some((dimensions.into_iter().map(Into::into).collect(), Reduction::Sum));
        self
    }

    /// Replaces gradients by their means over these mesh dimensions, before they are clipped. (Dimensions that shard
    /// the variable itself are left out.)
    #[must_use]
    pub fn mean_gradients_over<S: Into<String>>(mut self, dimensions: impl IntoIterator<Item = S>) -> Self {
        self.reduction = Some((dimensions.into_iter().map(Into::into).collect(), Reduction::Mean));
        self
    }

    /// Says that ranks along these mesh dimensions give the same gradients of variables that the dimensions replicate:
    /// the caller has reduced them, or each rank computes them from the same data. Nothing is then reduced over these
    /// dimensions. If the gradients differ all the same, so will the replicas, from the first step on.
    ///
    /// A step refuses a variable that some dimension of at least two ranks replicates, unless this method,
    /// [`sum_gradients_over`](Self::sum_gradients_over) or [`mean_gradients_over`](Self::mean_gradients_over) names the
    /// dimension.
    #[must_use]
    pub fn same_gradients_over<S: Into<String>>(mut self, dimensions: impl IntoIterator<Item = S>) -> Self {
        self.same = dimensions.into_iter().map(Into::into).collect();
        self
    }

    /// Shards the state along a mesh dimension (ZeRO, stage 1): each rank keeps only its part of each slot, updates
    /// its part of a variable, and then the ranks exchange the parts. Results do not change. Variables without axes,
    /// and variables that the dimension already shards, are not cut.
    ///
    /// S. Rajbhandari, J. Rasley, O. Ruwase, Y. He, "ZeRO: Memory optimizations toward training trillion parameter
    /// models", 2020, arXiv:1910.02054.
    #[must_use]
    pub fn shard_state_over(mut self, dimension: impl Into<String>) -> Self {
        self.state = Some(dimension.into());
        self
    }

    /// Reduces dense gradients in buckets of about this many bytes.
    #[must_use]
    pub fn bucket_bytes(mut self, bytes: usize) -> Self {
        self.bucket_bytes = bytes;
        self
    }

    /// Reduces a bucket of gradients while the previous bucket is applied. This has no effect on steps that look at
    /// all gradients first (clips by norm, NovoGrad, checks for non-finite numbers), on sparse gradients, and with
    /// sharded state. If a rank is lost in the middle, the step is half applied: later steps are refused until a
    /// checkpoint is restored.
    #[must_use]
    pub fn overlap(mut self, overlap: bool) -> Self {
        self.overlap = overlap;
        self
    }

    /// Checks everything. All ranks call this at the same time, with the same options.
    ///
    /// # Errors
    ///
    /// When a layout or an option names a dimension that the mesh does not have, or one twice; when gradients are both
    /// reduced over a dimension and said to be the same along it; when a layout does not fit its shape, or a variable
    /// has two layouts. All ranks get the error, even if only one of them is wrong.
    pub fn build(self) -> Result<Distributed, MeshError> {
        let checked = self.check();
        let text = match &checked {
            Ok(_) => format!(
                "{:?}",
                (&self.layouts, &self.reduction, &self.same, &self.state, self.bucket_bytes, self.overlap)
            ),
            Err(error) => error.to_string(),
        };
        let agreed = same_everywhere(self.mesh.world(), "the distribution", &text);
        let subsets = checked?;
        agreed?;
        let reduction = match &self.reduction {
            Some((dimensions, reduction)) => Some((self.places(dimensions)?, *reduction)),
            None => None,
        };
        let same = self.places(&self.same)?;
        let mut groups = HashMap::new();
        for places in subsets {
            let group = self.mesh.group(&self.names(&places))?;
            groups.insert(places, group);
        }
        let state = match &self.state {
            Some(dimension) => Some((self.mesh.place(dimension)?, self.mesh.group(&[dimension.as_str()])?)),
            None => None,
        };
        let Self { mesh, layouts, bucket_bytes, overlap, .. } = self;
        let layouts = layouts.into_iter().map(|(variable, shape, layout)| (variable, (shape, layout))).collect();
        let placements = RwLock::default();
        Ok(Distributed { mesh, layouts, reduction, same, state, groups, bucket_bytes, overlap, placements })
    }

    /// The sets of dimensions over which some variable is reduced; the same on all ranks.
    fn check(&self) -> Result<Vec<Vec<usize>>, MeshError> {
        let mesh = &self.mesh;
        for (place, (variable, shape, layout)) in self.layouts.iter().enumerate() {
            if self.layouts[..place].iter().any(|(other, ..)| other == variable) {
                return Err(MeshError::DuplicateLayout { variable: variable.clone() });
            }
            mesh.shard(layout, shape)?;
        }
        if let Some(dimension) = &self.state {
            mesh.place(dimension)?;
        }
        let same = self.places(&self.same)?;
        let Some((dimensions, _)) = &self.reduction else { return Ok(Vec::new()) };
        let all = self.places(dimensions)?;
        if let Some(&place) = all.iter().find(|place| same.contains(place)) {
            return Err(MeshError::DimensionUsedTwice { dimension: mesh.dimensions()[place].0.clone() });
        }
        let mut subsets = vec![all.clone()];
        for (.., layout) in &self.layouts {
            let sharded = mesh.distinct(&layout.dimensions().collect::<Vec<_>>())?;
            subsets.push(all.iter().copied().filter(|place| !sharded.contains(place)).collect());
        }
        subsets.retain(|places| !places.is_empty());
        subsets.sort();
        subsets.dedup();
        Ok(subsets)
    }

    fn places(&self, dimensions: &[String]) -> Result<Vec<usize>, MeshError> {
        self.mesh.distinct(&dimensions.iter().map(String::as_str).collect::<Vec<_>>())
    }

    fn names(&self, places: &[usize]) -> Vec<&str> {
        places.iter().map(|&place| self.mesh.dimensions()[place].0.as_str()).collect()
    }
}
