//! Times one step of our optimizers beside burn's own, in turns within one process.
//!
//! `cargo run --release --manifest-path crates/opt-burn/Cargo.toml --example step_time`
//!
//! The gradients are made outside of the clock, and dropped inside it, as in a training loop. The first line of each
//! table is the time of burn's traversal with gradients that are taken and dropped, which every optimizer pays.

mod contestants;

use std::time::{Duration, Instant};

use burn_core::module::Param;
use burn_core::tensor::{DType, Device, Tensor};
use burn_optim::GradientsParams;
use clap::Parser;
use indicatif::ProgressBar;

use contestants::{Contestant, contestants};

/// Times one step of optimizers.
#[derive(Debug, Parser)]
struct Args {
    /// Rounds; each lets every contestant make one step.
    #[arg(long, default_value_t = 60)]
    rounds: usize,
    /// Only shapes whose names contain this text.
    #[arg(long, default_value = "")]
    filter: String,
    /// Only optimizers whose names contain this text.
    #[arg(long, default_value = "")]
    optimizer: String,
    /// bfloat16 parameters and gradients, instead of 32 bits.
    #[arg(long)]
    bf16: bool,
}

/// Tensors of one size.
#[derive(Debug, Clone, Copy)]
struct Shape {
    name: &'static str,
    tensors: usize,
    rows: usize,
    columns: usize,
}

const SHAPES: [Shape; 3] = [
    Shape { name: "4 x 1,048,576", tensors: 4, rows: 1_024, columns: 1_024 },
    Shape { name: "200 x 1,024", tensors: 200, rows: 32, columns: 32 },
    Shape { name: "200 x 64", tensors: 200, rows: 8, columns: 8 },
];

type Model = Vec<Param<Tensor<2>>>;

impl Shape {
    fn parameters(self) -> usize {
        self.tensors * self.rows * self.columns
    }

    fn model(self, dtype: DType) -> Model {
        let device = Device::flex().autodiff();
        let tensor = |_| Param::from_tensor(Tensor::ones([self.rows, self.columns], (&device, dtype)) * 0.5);
        (0..self.tensors).map(tensor).collect()
    }
}

fn gradients(model: &Model, dtype: DType) -> GradientsParams {
    let mut gradients = GradientsParams::new();
    for (i, param) in model.iter().enumerate() {
        let gradient = Tensor::<2>::ones(param.shape(), (&Device::flex(), dtype)) * (1e-3 * (1.0 + i as f64 % 7.0));
        gradients.register(param.id, gradient);
    }
    gradients
}

/// A contestant with a model of its own, and its times.
struct Racer {
    contestant: Contestant,
    model: Option<Model>,
    times: Vec<Duration>,
}

impl Racer {
    fn step(&mut self, dtype: DType) {
        let model = self.model.take().expect("it is put back");
        let gradients = gradients(&model, dtype);
        let begun = Instant::now();
        let model = (self.contestant.step)(model, gradients);
        self.times.push(begun.elapsed());
        self.model = Some(model);
    }

    /// The shortest and the median time, in nanoseconds a parameter.
    fn times(&self, parameters: usize) -> [f64; 2] {
        let mut times = self.times.clone();
        times.sort();
        [times[0], times[times.len() / 2]].map(|time| time.as_secs_f64() * 1e9 / parameters as f64)
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let Args { rounds, filter, optimizer, bf16 } = Args::parse();
    let dtype = if bf16 { DType::BF16 } else { DType::F32 };
    let shapes: Vec<Shape> = SHAPES.into_iter().filter(|shape| shape.name.contains(&filter)).collect();
    let bar = ProgressBar::new((shapes.len() * rounds) as u64);
    for shape in shapes {
        let racer = |contestant| Racer { contestant, model: Some(shape.model(dtype)), times: Vec::new() };
        let chosen = contestants()?.into_iter().filter(|contestant| contestant.name.contains(&optimizer));
        let mut racers: Vec<Racer> = chosen.map(racer).collect();
        for _ in 0..rounds {
            racers.iter_mut().for_each(|racer| racer.step(dtype));
            bar.inc(1);
        }
        bar.suspend(|| print(shape, dtype, &racers));
    }
    bar.finish_and_clear();
    Ok(())
}

fn print(shape: Shape, dtype: DType, racers: &[Racer]) {
    println!("\n{} parameters in {dtype:?}, ns a parameter in {} rounds", shape.name, racers[0].times.len());
    for racer in racers {
        let [least, median] = racer.times(shape.parameters());
        let tensor = median * shape.parameters() as f64 / shape.tensors as f64 / 1e3;
        println!("  {:33} min {least:8.3}   median {median:8.3}   {tensor:9.2} us a tensor", racer.contestant.name);
    }
}
