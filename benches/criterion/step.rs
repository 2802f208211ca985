//! Criterion benchmarks of the steps of every contestant and their bare loops, for work on one of them.
//!
//! `cargo bench -p criterion-benches -- ^momentum/1M` runs the benchmarks whose names match. To compare with the
//! bare loop, prefer `cargo xtask bench`, which lets the two take turns. `^denormals/` shows the cost of denormal
//! numbers in the state, `^by-hand/` that of a loop with Nadam's arithmetic and nothing else.

use std::hint::black_box;

use benches::bare::{Arrays, Bare};
use benches::by_hand::ByHand;
use benches::contestants::{Contestant, contestants};
use benches::model::Model;
use benches::shapes::Shape;
use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use optimizers::UpdateRule;
use optimizers::{Nadam, Optimizer, RectifiedAdam, Sgd, Variable};

const THREADS: [usize; 2] = [1, 2];

fn steps(c: &mut Criterion) {
    let shapes = [Shape::single(4_000), Shape::single(1_000_000), Shape::single(10_000_000), Shape::many(1_000, 1_000)];
    for shape in shapes {
        for contestant in contestants() {
            steps_of(c, &contestant, &shape);
        }
    }
}

fn steps_of(c: &mut Criterion, contestant: &Contestant<f32>, shape: &Shape) {
    let mut group = c.benchmark_group(format!("{}/{}", contestant.name, shape.name));
    group.throughput(Throughput::Elements(shape.params() as u64));
    for threads in THREADS {
        step_and_bare(&mut group, contestant, shape, threads);
    }
    group.finish();
}

/// The subject is made once: its first step makes slots.
fn step_and_bare(
    group: &mut BenchmarkGroup<'_, WallTime>,
    contestant: &Contestant<f32>,
    shape: &Shape,
    threads: usize,
) {
    let mut model = Model::new(shape);
    let mut optimizer = contestant.build(threads).expect("threads can be started");
    let mut step = || black_box(model.step(&mut optimizer, contestant.traffic.halves).expect("the gradients fit"));
    step();
    group.bench_function(BenchmarkId::new("step", threads), |b| b.iter(&mut step));
    let mut arrays = Arrays::<f32>::new(shape);
    let mut bare = Bare::new(&mut arrays, contestant.traffic, threads).expect("threads can be started");
    group.bench_function(BenchmarkId::new("bare", threads), |b| b.iter(|| bare.steps(1, false)));
}

/// Nadam over memory: the engine, the bare loop, and the same arithmetic without an engine.
fn by_hand(c: &mut Criterion) {
    let shape = Shape::single(50_000_000);
    let contestants = contestants::<f32>();
    let nadam = contestants.iter().find(|contestant| contestant.name == "nadam").expect("it takes part");
    let mut group = c.benchmark_group("by-hand");
    group.throughput(Throughput::Elements(shape.params() as u64));
    for threads in THREADS {
        step_and_bare(&mut group, nadam, &shape, threads);
        let mut by_hand = ByHand::new(shape.params());
        group.bench_function(BenchmarkId::new("loop", threads), |b| b.iter(|| by_hand.step(threads)));
    }
    group.finish();
}

/// A number of elements whose state stays in the second-level cache.
const CACHED: usize = 32 * 1024;

/// After this many gradients of 0 the slowest moment has faded completely.
const FADING: usize = 100_000;

/// The cost of denormal numbers in the state, and the cost of avoiding them.
fn denormals(c: &mut Criterion) {
    let rules = || -> [(&str, Box<dyn UpdateRule<f32>>); 3] {
        let momentum = Sgd::new(0.01).momentum(0.9);
        [
            ("momentum", Box::new(momentum)),
            ("nadam", Box::new(Nadam::new(0.001))),
            ("radam", Box::new(RectifiedAdam::new(0.001))),
        ]
    };
    for (faded, flush) in [(false, false), (false, true), (true, false), (true, true)] {
        for (name, rule) in rules() {
            let state = if faded { "faded" } else { "ordinary" };
            let mut group = c.benchmark_group(format!("denormals/{name}/{state}"));
            group.throughput(Throughput::Elements(CACHED as u64));
            let mut optimizer =
                Optimizer::builder(rule).flush_denormals(flush).threads(1).build().expect("the rule is valid");
            let (mut w, mut gradient) = (vec![0.0_f32; CACHED], vec![1.0; CACHED]);
            let mut step = |gradient: &[f32]| {
                let variable = Variable::new("w", &mut w).gradient(gradient);
                black_box(optimizer.apply_gradients([variable]).expect("the gradient fits"));
            };
            step(&gradient);
            if faded {
                gradient.fill(0.0);
                (0..FADING).for_each(|_| step(&gradient));
            }
            group.bench_function(if flush { "flushed" } else { "kept" }, |b| b.iter(|| step(&gradient)));
            group.finish();
        }
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20);
    targets = steps, by_hand, denormals
}
criterion_main!(benches);
