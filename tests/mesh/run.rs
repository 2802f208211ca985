//! The same run on one process and on a mesh, and the differences that are allowed.

use ndarray::{ArrayBase, ArrayD, Data, IxDyn};
use optimizers::Scalar;
use optimizers::mesh::{Distributed, Mesh};
use optimizers::state::StateValue;
use optimizers::{DynOptimizer, Error, Variable};

use super::problem::{Given, Problem, optimizer, whole};

/// The results of a run, as whole arrays.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Outcome<T> {
    pub(crate) variables: Vec<ArrayD<T>>,
    /// Names, and array slots; left out where slots are sharded.
    pub(crate) slots: Vec<(String, ArrayD<T>)>,
    pub(crate) scalars: Vec<(String, f64)>,
    /// The averages swapped into the variables, if there are any.
    pub(crate) averages: Vec<ArrayD<T>>,
    pub(crate) global_norms: Vec<f64>,
    pub(crate) iterations: u64,
}

/// The number of replicas of a variable that reduce their gradients.
fn replicas(problem: &Problem, variable: usize) -> usize {
    let Some((over, _)) = &problem.reduction else { return 1 };
    let layout = &problem.variables[variable].layout;
    let reduces = |name: &&str| over.contains(name) && !layout.dimensions().any(|dimension| dimension == *name);
    problem.mesh.iter().filter(|(name, _)| reduces(name)).map(|(_, size)| size).product()
}

/// The number of a rank among these replicas.
fn replica(problem: &Problem, variable: usize, mesh: &Mesh) -> usize {
    let Some((over, _)) = &problem.reduction else { return 0 };
    let layout = &problem.variables[variable].layout;
    let places = problem.mesh.iter().zip(mesh.coordinates());
    places.fold(0, |replica, ((name, size), coordinate)| {
        let reduces = over.contains(name) && !layout.dimensions().any(|dimension| dimension == *name);
        if reduces { replica * size + coordinate } else { replica }
    })
}

/// A run, on one process or on a rank of a mesh, and its progress.
pub(crate) struct Run<'r, T> {
    problem: &'r Problem,
    mesh: Option<&'r Mesh>,
    pub(crate) opt: DynOptimizer<T>,
    pub(crate) values: Vec<ArrayD<T>>,
    global_norms: Vec<f64>,
}

impl<'r, T: Scalar> Run<'r, T> {
    pub(crate) fn new(problem: &'r Problem, mesh: Option<&'r Mesh>) -> Self {
        let builder = optimizer::<T>(problem);
        let opt = match mesh {
            None => builder,
            Some(mesh) => builder.distributed(distributed(mesh, problem)),
        };
        let values = (0..).zip(&problem.variables).map(|(i, spec)| {
            let whole = whole(&spec.shape, &[i]);
            mesh.map_or_else(|| whole.clone(), |mesh| mesh.scatter(&spec.layout, &whole.view()).unwrap())
        });
        Self { problem, mesh, opt: opt.build().unwrap(), values: values.collect(), global_norms: Vec::new() }
    }

    /// The optimizer and its variables.
    pub(crate) fn parts(&mut self) -> (&mut DynOptimizer<T>, Vec<Variable<'_, T>>) {
        let specs = self.problem.variables.iter().zip(&mut self.values);
        (&mut self.opt, specs.map(|(spec, value)| Variable::new(spec.name.as_str(), value)).collect())
    }

    pub(crate) fn run_to(&mut self, end: u64) {
        for number in self.opt.iterations()..end {
            let gradients: Vec<Given<T>> = (0..self.values.len()).map(|i| self.gradient(i, number)).collect();
            let variables = self.problem.variables.iter().zip(&mut self.values).zip(&gradients);
            let variables = variables.map(|((spec, value), gradient)| {
                let variable = Variable::new(spec.name.as_str(), value);
                match gradient {
                    Given::Dense(gradient) => variable.gradient(gradient),
                    Given::Sparse(rows, values) => variable.sparse_gradient(rows, values),
                }
            });
            let report = self.opt.apply_gradients(variables).unwrap();
            assert_eq!((report.is_applied(), report.iterations), (true, self.opt.iterations()));
            self.global_norms.extend(report.global_norm);
        }
    }

    /// The gradient of a variable; on one process, the gradient is reduced by hand.
    fn gradient(&self, i: usize, number: u64) -> Given<T> {
        let spec = &self.problem.variables[i];
        match (self.mesh, &self.problem.reduction) {
            (Some(mesh), _) => {
                let shard = mesh.shard(&spec.layout, &spec.shape).unwrap();
                spec.gradient(i, number, replica(self.problem, i, mesh)).of_shard(&shard)
            }
            (None, None) => spec.gradient(i, number, 0),
            (None, Some((_, reduction))) => {
                let all = (0..replicas(self.problem, i)).map(|replica| spec.gradient(i, number, replica)).collect();
                Given::reduced(all, *reduction)
            }
        }
    }

    fn outcome(mut self) -> Outcome<T> {
        let gather = |variable: usize, array: ArrayD<T>| {
            let spec = &self.problem.variables[variable];
            match self.mesh {
                None => array,
                Some(mesh) => mesh.gather(&spec.layout, &spec.shape, &array.view()).unwrap(),
            }
        };
        outcome(&mut self.opt, self.problem, self.values, self.global_norms, gather)
    }
}

/// The run on one process.
pub(crate) fn alone<T: Scalar>(problem: &Problem) -> Outcome<T> {
    let mut run = Run::new(problem, None);
    run.run_to(problem.steps);
    run.outcome()
}

/// The run of one rank.
pub(crate) fn on<T: Scalar>(mesh: &Mesh, problem: &Problem) -> Outcome<T> {
    let mut run = Run::new(problem, Some(mesh));
    run.run_to(problem.steps);
    run.outcome()
}

pub(crate) fn distributed(mesh: &Mesh, problem: &Problem) -> Distributed {
    let mut builder = Distributed::new(mesh).bucket_bytes(problem.bucket_bytes).overlap(problem.overlap);
    for spec in &problem.variables {
        builder = builder.layout(&spec.name, &spec.shape, spec.layout.clone());
    }
    let reduced = problem.reduction.as_ref().map_or(&[][..], |(over, _)| over);
    let others = problem.mesh.iter().map(|(name, _)| *name).filter(|name| !reduced.contains(name));
    builder = builder.same_gradients_over(others);
    match &problem.reduction {
        None => {}
        Some((over, optimizers::collective::Reduction::Sum)) => {
            builder = builder.sum_gradients_over(over.iter().copied());
        }
        Some((over, _)) => builder = builder.mean_gradients_over(over.iter().copied()),
    }
    if let Some(dimension) = problem.state_over {
        builder = builder.shard_state_over(dimension);
    }
    builder.build().unwrap()
}

fn outcome<T: Scalar>(
    opt: &mut DynOptimizer<T>,
    problem: &Problem,
    values: Vec<ArrayD<T>>,
    global_norms: Vec<f64>,
    gather: impl Fn(usize, ArrayD<T>) -> ArrayD<T>,
) -> Outcome<T> {
    let (mut slots, mut scalars) = (Vec::new(), Vec::new());
    for (i, spec) in problem.variables.iter().enumerate() {
        for slot in opt.slot_names() {
            let name = format!("{}/{slot}", spec.name);
            match opt.slot(&spec.name, slot).unwrap() {
                StateValue::Scalar(number) => scalars.push((name, number)),
                StateValue::Iterations(_) | StateValue::Bf16(_) => panic!("{name} is stored in full"),
                StateValue::Array(_) if problem.state_over.is_some() => {}
                StateValue::Array(array) => slots.push((name, gather(i, array.into_owned()))),
            }
        }
    }
    let mut averages = values.clone();
    let variables = problem.variables.iter().zip(&mut averages);
    let mut variables: Vec<_> = variables.map(|(spec, value)| Variable::new(spec.name.as_str(), value)).collect();
    match opt.finalize_variable_values(&mut variables) {
        Ok(()) => {}
        Err(Error::NoAverages) => averages.clear(),
        Err(error) => panic!("{error}"),
    }
    let gathered = |arrays: Vec<ArrayD<T>>| arrays.into_iter().enumerate().map(|(i, array)| gather(i, array)).collect();
    Outcome {
        variables: gathered(values),
        slots,
        scalars,
        averages: gathered(averages),
        global_norms,
        iterations: opt.iterations(),
    }
}

/// Every rank has the numbers of one process: bit for bit if no sum over ranks is involved, else up to the rounding of
/// sums in another order.
pub(crate) fn same<T: Scalar>(problem: &Problem) {
    let want = alone::<T>(problem);
    let outcomes = Mesh::threads(&problem.mesh, |mesh| on::<T>(mesh, problem)).unwrap();
    for (rank, got) in outcomes.iter().enumerate() {
        let context = format!("rank {rank} of {problem:?}");
        assert_eq!(got, &outcomes[0], "{context}");
        assert_eq!(got.iterations, want.iterations, "{context}");
        assert_eq!(got.scalars.len(), want.scalars.len(), "{context}");
        assert_eq!(got.averages.len(), want.averages.len(), "{context}");
        let arrays = |outcome: &Outcome<T>| [outcome.variables.clone(), outcome.averages.clone()].concat();
        let (mut got_arrays, mut want_arrays) = (arrays(got), arrays(&want));
        if problem.state_over.is_none() {
            assert_eq!(got.slots.len(), want.slots.len(), "{context}");
            got_arrays.extend(got.slots.iter().map(|(_, slot)| slot.clone()));
            want_arrays.extend(want.slots.iter().map(|(_, slot)| slot.clone()));
        }
        for (got, want) in got_arrays.iter().zip(&want_arrays) {
            close(got, want, problem.has_norms(), &context);
        }
        for ((name, got), (_, want)) in got.scalars.iter().zip(&want.scalars) {
            assert!(within_ulps(*got, *want, 8 * problem.steps), "{name}: {got:?}, {want:?}: {context}");
        }
        for (got, want) in got.global_norms.iter().zip(&want.global_norms) {
            assert!(within_ulps(*got, *want, 4), "{got:?}, {want:?}: {context}");
        }
    }
}

pub(crate) fn within_ulps(a: f64, b: f64, ulps: u64) -> bool {
    a == b || a.to_bits().abs_diff(b.to_bits()) <= ulps
}

/// A norm with an error of 4 ulp changes a step by the same relative error, and some of it returns in each of the few
/// steps.
pub(crate) fn close<T: Scalar, S: Data<Elem = T>>(
    got: &ArrayBase<S, IxDyn>,
    want: &ArrayBase<S, IxDyn>,
    norms: bool,
    context: &str,
) {
    assert_eq!(got.shape(), want.shape(), "{context}");
    for (got, want) in got.iter().zip(want) {
        let (got, want): (f64, f64) = (got.as_(), want.as_());
        let tolerance = if norms { 64.0 * f64::EPSILON * want.abs().max(1.0) } else { 0.0 };
        let close = (got - want).abs() <= tolerance;
        assert!(close, "{got:?} instead of {want:?}: {context}");
    }
}
