//! A step of SGD next to a bare loop over the same arrays, on one thread.

use benches::{Model, Streams};
use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use optimizers::core::UpdateRule;
use optimizers::{Ema, Optimizer, OptimizerBuilder, Sgd};

/// Tensors, and elements in each.
const MODELS: [(usize, usize); 4] = [(1, 4_096), (1, 1_000_000), (1, 10_000_000), (1_000, 1_000)];

fn momentum() -> OptimizerBuilder<Sgd, f32> {
    Optimizer::new(Sgd::new(1e-3).momentum(0.9))
}

fn step(c: &mut Criterion) {
    for (tensors, size) in MODELS {
        let mut group = c.benchmark_group(format!("step/{tensors}x{size}"));
        group.throughput(Throughput::Elements((tensors * size) as u64));
        bare(&mut group, "bare loop of 12 bytes", tensors * size, false);
        bare(&mut group, "bare loop of 20 bytes", tensors * size, true);
        let model = Model::new(tensors, size);
        optimizer(&mut group, "sgd", &model, Optimizer::new(Sgd::new(1e-3)));
        optimizer(&mut group, "momentum", &model, momentum());
        optimizer(&mut group, "nesterov", &model, Optimizer::new(Sgd::new(1e-3).momentum(0.9).nesterov(true)));
        optimizer(&mut group, "global clip + momentum", &model, momentum().global_clipnorm(1.0));
        optimizer(&mut group, "momentum + average", &model, momentum().ema(Ema::new(0.99)));
        group.finish();
    }
}

fn bare(group: &mut BenchmarkGroup<'_, WallTime>, name: &str, size: usize, slot: bool) {
    let mut streams = Streams::new(size, slot);
    group.bench_function(BenchmarkId::from_parameter(name), |b| b.iter(|| streams.pass()));
}

fn optimizer<R: UpdateRule<f32>>(
    group: &mut BenchmarkGroup<'_, WallTime>,
    name: &str,
    model: &Model,
    builder: OptimizerBuilder<R, f32>,
) {
    let mut model = model.clone();
    let mut optimizer = builder.threads(1).build().expect("the options are in range");
    group.bench_function(BenchmarkId::from_parameter(name), |b| {
        b.iter(|| optimizer.apply_gradients(model.variables()).expect("the gradients fit"));
    });
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20);
    targets = step
}
criterion_main!(benches);
