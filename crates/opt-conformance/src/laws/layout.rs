//! The laws of memory order and threads, which do not matter.

use ndarray::{ArrayD, ArrayViewD, ArrayViewMutD, Axis, ShapeBuilder, Slice};
use opt_core::{Scalar, Variable};

use opt_core::DynOptimizer;

use super::{Broken, Setting, Stage, Subject, for_all};
use crate::problem::{Gradient, Problem, Variables};

/// Column-major variables and gradients give the same bits as row-major ones. Not for rules that need a variable as a
/// whole: they sum in memory order.
///
/// # Errors
///
/// When the law does not hold.
pub fn transposed_memory_does_not_matter(rule: &Subject) -> Result<(), Broken> {
    fn check<T: Scalar>(setting: &Setting<'_, T>) -> Result<(), Broken> {
        memory::<T, Transposed>(setting)
    }
    for_all!(rule, Stage::ELEMENTWISE, transposed_memory_does_not_matter => check);
    Ok(())
}

/// Views with gaps and backward strides give the same bits as arrays without.
///
/// # Errors
///
/// When the law does not hold.
pub fn scattered_memory_does_not_matter(rule: &Subject) -> Result<(), Broken> {
    fn check<T: Scalar>(setting: &Setting<'_, T>) -> Result<(), Broken> {
        memory::<T, Scattered>(setting)
    }
    for_all!(rule, Stage::ALL, scattered_memory_does_not_matter => check);
    Ok(())
}

/// A memory layout of an array.
trait Memory {
    /// An array with room for `values` in this layout.
    fn room<T: Scalar>(values: &ArrayD<T>) -> ArrayD<T>;

    /// The part of the room that holds the values, to read.
    fn view<T>(room: &ArrayD<T>) -> ArrayViewD<'_, T>;

    /// The part of the room that holds the values, to change.
    fn view_mut<T>(room: &mut ArrayD<T>) -> ArrayViewMutD<'_, T>;
}

struct Transposed;

impl Memory for Transposed {
    fn room<T: Scalar>(values: &ArrayD<T>) -> ArrayD<T> {
        ArrayD::from_elem(values.raw_dim().f(), T::zero())
    }

    fn view<T>(room: &ArrayD<T>) -> ArrayViewD<'_, T> {
        room.view()
    }

    fn view_mut<T>(room: &mut ArrayD<T>) -> ArrayViewMutD<'_, T> {
        room.view_mut()
    }
}

struct Scattered;

impl Memory for Scattered {
    fn room<T: Scalar>(values: &ArrayD<T>) -> ArrayD<T> {
        let shape: Vec<usize> = values.shape().iter().map(|length| length * 2).collect();
        ArrayD::from_elem(shape, T::literal(f64::NAN))
    }

    fn view<T>(room: &ArrayD<T>) -> ArrayViewD<'_, T> {
        room.slice_each_axis(|axis| every_second(axis.axis))
    }

    fn view_mut<T>(room: &mut ArrayD<T>) -> ArrayViewMutD<'_, T> {
        room.slice_each_axis_mut(|axis| every_second(axis.axis))
    }
}

/// Every second entry of each axis, the first axis backwards.
fn every_second(axis: Axis) -> Slice {
    Slice::new(0, None, if axis.index() == 0 { -2 } else { 2 })
}

fn memory<T: Scalar, M: Memory>(setting: &Setting<'_, T>) -> Result<(), Broken> {
    let problem = Problem::varied(10, 5);
    let (control, want) = setting.trained(&problem)?;
    let mut optimizer = setting.optimizer()?;
    let mut rooms: Vec<ArrayD<T>> = problem.start().0.iter().map(|(_, value)| placed::<T, M>(value)).collect();
    for (number, step) in problem.steps.iter().enumerate() {
        lay_out_step::<T, M>(&problem, step, &mut optimizer, &mut rooms)
            .map_err(|error| setting.broken(format!("step {number}: {error}")))?;
    }
    let names = problem.variables.iter().map(|(name, _)| name.clone());
    let got = names.zip(&rooms).map(|(name, room)| (name, M::view(room).to_owned())).collect();
    setting.same("variables", &Variables(got), &want)?;
    setting.same_state("state", &optimizer, &control)
}

/// An array of the same values with this layout.
fn placed<T: Scalar, M: Memory>(values: &ArrayD<T>) -> ArrayD<T> {
    let mut room = M::room(values);
    M::view_mut(&mut room).assign(values);
    room
}

/// The rows of a sparse gradient, if it is one, and the values.
type Laid<'a, T> = (Option<&'a [usize]>, ArrayD<T>);

fn lay_out_step<T: Scalar, M: Memory>(
    problem: &Problem,
    step: &[Gradient],
    optimizer: &mut DynOptimizer<T>,
    rooms: &mut [ArrayD<T>],
) -> Result<(), opt_core::Error> {
    let gradients: Vec<Option<Laid<'_, T>>> = step
        .iter()
        .map(|gradient| match gradient {
            Gradient::Absent => None,
            Gradient::Dense(values) => Some((None, placed::<T, M>(&values.mapv(T::literal)))),
            Gradient::Sparse(rows, values) => Some((Some(rows.as_slice()), placed::<T, M>(&values.mapv(T::literal)))),
        })
        .collect();
    let variables = problem.variables.iter().zip(rooms).zip(&gradients).map(|(((name, _), room), gradient)| {
        let variable = Variable::new(name.as_str(), M::view_mut(room));
        match gradient {
            None => variable,
            Some((None, room)) => variable.gradient(M::view(room)),
            Some((Some(rows), room)) => variable.sparse_gradient(*rows, M::view(room)),
        }
    });
    optimizer.apply_gradients(variables).map(drop)
}

/// One, two and seven threads give the same bits, on variables that are large enough to be divided between threads.
///
/// # Errors
///
/// When the law does not hold.
pub fn threads_do_not_matter(rule: &Subject) -> Result<(), Broken> {
    fn check<T: Scalar>(setting: &Setting<'_, T>) -> Result<(), Broken> {
        let mut problem = Problem::dense(11, &[&[3], &[300_001], &[70, 1_000], &[5, 7]], 3);
        let rows: Vec<usize> = (0..40).map(|row| row * 3 % 70).collect();
        let last = problem.steps.len() - 1;
        if let Gradient::Dense(gradient) = &problem.steps[last][2] {
            problem.steps[last][2] = Gradient::Sparse(rows.clone(), gradient.select(Axis(0), &rows));
        }
        let run = |threads| -> Result<_, Broken> {
            let builder = setting.builder().threads(threads);
            let (mut optimizer, mut variables) = (setting.build(builder)?, problem.start::<T>());
            setting.train(&problem, 0, &mut optimizer, &mut variables)?;
            Ok((optimizer, variables))
        };
        let (serial, want) = run(1)?;
        for threads in [2, 7] {
            let (optimizer, got) = run(threads)?;
            let what = format!("{threads} threads");
            setting.same(&what, &got, &want)?;
            setting.same_state(&what, &optimizer, &serial)?;
        }
        Ok(())
    }
    let stages = [Stage::Alone, Stage::ClipNorm, Stage::Everything, Stage::Groups, Stage::GroupsOfRules];
    for_all!(rule, stages, threads_do_not_matter => check);
    Ok(())
}
