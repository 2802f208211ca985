//! The cost of a step before it moves any memory: forks and joins, and the engine's bookkeeping.

use std::hint::black_box;
use std::thread;
use std::time::{Duration, Instant};

use benches::contestants::contestants;
use benches::model::Model;
use benches::sampling::{Local, Subject, interleave, quantile};
use benches::shapes::Shape;
use rayon::{ThreadPool, ThreadPoolBuilder};

use crate::plan::Plan;

/// Microseconds.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Overheads {
    pub(crate) threads: usize,
    /// A fork and join by a thread of the pool.
    pub(crate) fork_inside: f64,
    /// By another thread, repeatedly.
    pub(crate) fork_outside: f64,
    /// By another thread, after a pause in which the pool has gone to sleep.
    pub(crate) fork_asleep: f64,
    /// A step of momentum over one number.
    pub(crate) step: f64,
    /// For each further variable of one number.
    pub(crate) step_by_variable: f64,
}

/// Times all of it.
pub(crate) fn measure(plan: &Plan) -> anyhow::Result<Overheads> {
    let pool = ThreadPoolBuilder::new().num_threads(plan.most_threads).build()?;
    let fork_inside = pool.install(|| median_of(plan, fork))?;
    let fork_outside = median_of(plan, || pool.install(fork))?;
    let (one, many) = (step(plan, 1)?, step(plan, VARIABLES)?);
    Ok(Overheads {
        threads: plan.most_threads,
        fork_inside,
        fork_outside,
        fork_asleep: asleep(&pool),
        step: one,
        step_by_variable: (many - one) / (VARIABLES - 1) as f64,
    })
}

/// A number of variables that is large enough for the cost of one.
const VARIABLES: usize = 1_001;

/// The length of the pause.
const PAUSE: Duration = Duration::from_millis(3);

fn fork() {
    rayon::join(|| black_box(1), || black_box(2));
}

fn median_of(plan: &Plan, mut work: impl FnMut()) -> anyhow::Result<f64> {
    let mut subject = Local(|| {
        work();
        Ok(())
    });
    let mut subjects: [&mut dyn Subject; 1] = [&mut subject];
    Ok(interleave(&mut subjects, 1, &plan.effort)?[0].median() / 1e3)
}

fn asleep(pool: &ThreadPool) -> f64 {
    let time = |_| {
        thread::sleep(PAUSE);
        let start = Instant::now();
        pool.install(fork);
        start.elapsed().as_secs_f64() * 1e6
    };
    quantile((0..101).map(time).collect(), 0.5)
}

/// A step over this many variables of one number each.
fn step(plan: &Plan, variables: usize) -> anyhow::Result<f64> {
    let contestants = contestants::<f32>();
    let momentum = contestants.iter().find(|contestant| contestant.name == "momentum");
    let mut optimizer = momentum.ok_or_else(|| anyhow::anyhow!("no contestant `momentum`"))?.build(1)?;
    let mut model = Model::new(&Shape::many(variables, 1));
    let mut subject = Local(|| {
        optimizer.apply_gradients(model.variables())?;
        Ok(())
    });
    let mut subjects: [&mut dyn Subject; 1] = [&mut subject];
    Ok(interleave(&mut subjects, 1, &plan.effort)?[0].median() / 1e3)
}
