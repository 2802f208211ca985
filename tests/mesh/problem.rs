//! A training run that is possible on one process and on any mesh.

use ndarray::{ArrayD, Axis, IxDyn, Slice};
use optimizers::Scalar;
use optimizers::collective::Reduction;
use optimizers::mesh::Layout;
use optimizers::schedules::CosineDecay;
use optimizers::{
    Ema, Exclude, Lookahead, Nadam, NonFinite, NovoGrad, Optimizer, OptimizerBuilder, RectifiedAdam, Sgd, UpdateRule,
};

/// A variable of a run.
#[derive(Debug, Clone)]
pub(crate) struct Spec {
    pub(crate) name: String,
    pub(crate) shape: Vec<usize>,
    pub(crate) layout: Layout,
    pub(crate) sparse: bool,
}

/// Everything that a run depends on.
#[derive(Debug, Clone)]
pub(crate) struct Problem {
    pub(crate) mesh: Vec<(&'static str, usize)>,
    pub(crate) variables: Vec<Spec>,
    pub(crate) rule: usize,
    pub(crate) option: usize,
    pub(crate) reduction: Option<(Vec<&'static str>, Reduction)>,
    pub(crate) state_over: Option<&'static str>,
    pub(crate) bucket_bytes: usize,
    pub(crate) overlap: bool,
    pub(crate) steps: u64,
}

/// A rule by its number, with the rules that it wraps, and every other option set.
pub(crate) const RULES: usize = 9;

pub(crate) fn rule<T: Scalar>(number: usize) -> Box<dyn UpdateRule<T>> {
    match number {
        0 => Box::new(Sgd::new(CosineDecay::new(0.1, 20))),
        1 => Box::new(Sgd::new(0.1).momentum(0.875).nesterov(true)),
        2 => Box::new(Nadam::new(0.01)),
        3 => Box::new(RectifiedAdam::new(0.01).amsgrad(true).beta_2(0.75).weight_decay(0.01)),
        4 => Box::new(NovoGrad::new(0.05).weight_decay(0.01).grad_averaging(true)),
        5 => Box::new(NovoGrad::new(0.05).amsgrad(true)),
        6 => Box::new(Lookahead::new(RectifiedAdam::new(0.01).beta_2(0.75)).sync_period(2)),
        7 => Box::new(Lookahead::new(NovoGrad::new(0.05)).sync_period(2).slow_step_size(0.75)),
        _ => Box::new(Sgd::new(0.1).momentum(0.875).decay(0.01).legacy()),
    }
}

/// Options of the engine by their number.
pub(crate) const OPTIONS: usize = 7;

pub(crate) fn optimizer<T: Scalar>(problem: &Problem) -> OptimizerBuilder<Box<dyn UpdateRule<T>>, T> {
    let builder = Optimizer::builder(rule(problem.rule));
    match problem.option {
        0 => builder,
        1 => builder.clipvalue(0.25),
        2 => builder.clipnorm(0.5),
        3 => builder.global_clipnorm(0.75),
        4 => builder.ema(Ema::new(0.75).overwrite_every(2)),
        5 => {
            let exclude = Exclude::patterns(["1$"]);
            builder.weight_decay(0.05).exclude_from_weight_decay(exclude).ema(Ema::new(0.5))
        }
        _ => builder.non_finite(NonFinite::Error).global_clipnorm(2.0),
    }
}

impl Problem {
    /// Whether sums over elements enter the results, so that their order matters.
    pub(crate) fn has_norms(&self) -> bool {
        [2, 3, 6].contains(&self.option) || [4, 5, 7].contains(&self.rule)
    }
}

/// A number in -1..1 that depends on all of `key`.
fn number(key: &[u64]) -> f64 {
    let mix = |state: u64, part: &u64| {
        let state = (state ^ part).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (state ^ (state >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9)
    };
    let mixed = key.iter().fold(0x1234_5678, mix);
    ((mixed ^ (mixed >> 32)) >> 11) as f64 / (1_u64 << 52) as f64 - 1.0
}

/// A whole array of such numbers.
pub(crate) fn whole<T: Scalar>(shape: &[usize], key: &[u64]) -> ArrayD<T> {
    let mut at = 0;
    let mut next = || {
        at += 1;
        T::literal(number(&[key, &[at]].concat()))
    };
    let len = shape.iter().product();
    ArrayD::from_shape_vec(IxDyn(shape), (0..len).map(|_| next()).collect()).unwrap()
}

/// The gradient of one variable, on one replica, at one step: dense, or rows with repetitions.
#[derive(Debug, Clone)]
pub(crate) enum Given<T> {
    Dense(ArrayD<T>),
    Sparse(Vec<usize>, ArrayD<T>),
}

impl Spec {
    pub(crate) fn gradient<T: Scalar>(&self, variable: usize, step: u64, replica: usize) -> Given<T> {
        let key = [variable as u64, 77 + step, replica as u64];
        if !self.sparse {
            return Given::Dense(whole(&self.shape, &key));
        }
        let rows = (0..3 + replica as u64).map(|i| (number(&[&key[..], &[i, 5]].concat()).abs() * 1e6) as usize);
        let rows: Vec<usize> = rows.map(|row| row % self.shape[0]).collect();
        let mut shape = self.shape.clone();
        shape[0] = rows.len();
        Given::Sparse(rows, whole(&shape, &key))
    }
}

impl<T: Scalar> Given<T> {
    /// The reduced gradient of all replicas, in the order of the replicas.
    pub(crate) fn reduced(all: Vec<Self>, reduction: Reduction) -> Self {
        let count = T::literal(all.len() as f64);
        let scale = |mut values: ArrayD<T>| {
            if reduction == Reduction::Mean {
                values.mapv_inplace(|g| g / count);
            }
            values
        };
        let mut all = all.into_iter();
        match all.next() {
            Some(Self::Dense(mut sum)) => {
                for other in all {
                    let Self::Dense(other) = other else { panic!("dense and sparse") };
                    sum.zip_mut_with(&other, |sum, &g| *sum = *sum + g);
                }
                Self::Dense(scale(sum))
            }
            Some(Self::Sparse(mut rows, values)) => {
                let mut values = scale(values);
                for other in all {
                    let Self::Sparse(more, other) = other else { panic!("dense and sparse") };
                    rows.extend(more);
                    values.append(Axis(0), scale(other).view()).unwrap();
                }
                Self::Sparse(rows, values)
            }
            None => panic!("no replicas"),
        }
    }

    /// The part of the gradient that belongs to a shard.
    pub(crate) fn of_shard(self, shard: &optimizers::mesh::Shard) -> Self {
        let cut = |mut values: ArrayD<T>, first: usize| {
            for axis in first..shard.shape.len() {
                values.slice_axis_inplace(Axis(axis), Slice::from(shard.range(axis)));
            }
            values
        };
        match self {
            Self::Dense(values) => Self::Dense(cut(values, 0)),
            Self::Sparse(rows, values) => {
                let kept: Vec<usize> = (0..rows.len()).filter(|&i| shard.range(0).contains(&rows[i])).collect();
                let values = cut(values.select(Axis(0), &kept), 1);
                Self::Sparse(kept.into_iter().map(|i| rows[i] - shard.offset[0]).collect(), values)
            }
        }
    }
}
