//! Steps of every contestant next to their bare loops, by Criterion: for a person at work on one of them.
//!
//! `cargo bench -p benches --bench step -- ^momentum/1M` runs those whose names match. Comparisons with the bare loop are better made
//! by `cargo xtask bench`, which lets them take turns.

use std::hint::black_box;

use benches::bare::{Arrays, Bare};
use benches::contestants::{Contestant, contestants};
use benches::model::Model;
use benches::shapes::Shape;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

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

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20);
    targets = steps
}
criterion_main!(benches);
