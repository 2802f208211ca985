//! Steps of every contestant next to their bare loops, by Criterion: for a person at work on one of them.
//!
//! `cargo bench -p benches --bench step -- ^momentum/1M` runs those whose names match. Comparisons with the bare loop are better made
//! by `cargo xtask bench`, which lets them take turns. `^denormals/` shows what denormal numbers in the state cost, `^by-hand/` what a loop
//! takes that has Nadam's arithmetic and nothing else.

use std::hint::black_box;

use benches::bare::{Arrays, Bare};
use benches::by_hand::ByHand;
use benches::contestants::{Contestant, contestants};
use benches::model::Model;
use benches::shapes::Shape;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use optimizers::core::UpdateRule;
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
        group.bench_function(BenchmarkId::new("step", threads), |b| {
            let mut model = Model::new(shape);
            let mut optimizer = contestant.build(threads).expect("threads can be started");
            b.iter(|| black_box(optimizer.apply_gradients(model.variables()).expect("the gradients fit")));
        });
        group.bench_function(BenchmarkId::new("bare", threads), |b| {
            let mut arrays = Arrays::<f32>::new(shape);
            let mut bare = Bare::new(&mut arrays, contestant.traffic, threads).expect("threads can be started");
            b.iter(|| bare.steps(1));
        });
    }
    group.finish();
}

/// Nadam over memory: the engine, the same arithmetic without one, and the bare loop.
fn by_hand(c: &mut Criterion) {
    let shape = Shape::single(50_000_000);
    for threads in THREADS {
        let mut group = c.benchmark_group(format!("by-hand/{threads}"));
        group.throughput(Throughput::Elements(shape.params() as u64));
        let contestants = contestants::<f32>();
        let contestant = contestants.iter().find(|contestant| contestant.name == "nadam").expect("it takes part");
        group.bench_function("step", |b| {
            let mut model = Model::new(&shape);
            let mut optimizer = contestant.build(threads).expect("threads can be started");
            b.iter(|| black_box(optimizer.apply_gradients(model.variables()).expect("the gradients fit")));
        });
        group.bench_function("loop", |b| {
            let mut by_hand = ByHand::new(shape.params());
            b.iter(|| by_hand.step(threads));
        });
        group.bench_function("bare", |b| {
            let mut arrays = Arrays::<f32>::new(&shape);
            let mut bare = Bare::new(&mut arrays, contestant.traffic, threads).expect("threads can be started");
            b.iter(|| bare.steps(1));
        });
        group.finish();
    }
}

/// Elements whose state stays in the second-level cache.
const CACHED: usize = 32 * 1024;

/// After so many gradients of 0 the slowest moment has faded as far as it ever will.
const FADING: usize = 100_000;

/// What denormal numbers in the state cost, and what it costs to have none.
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
                Optimizer::new(rule).flush_denormals(flush).threads(1).build().expect("the rule is valid");
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
