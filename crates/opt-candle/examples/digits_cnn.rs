//! Trains a small convolutional network on handwritten digits: candle's MNIST program, on 1,797 images of 8 by 8
//! pixels.
//!
//! ```sh
//! cargo run --release --example digits_cnn
//! ```

#[path = "shared/shared.rs"]
mod shared;

use candle_core::{DType, Device, Module, Tensor};
use candle_nn::{Conv2d, Conv2dConfig, Linear, VarBuilder, VarMap, conv2d, linear, loss};
use clap::Parser;

use shared::{Args, Choice, Random, Result, Run, Task, draw_weights, ours, plain};

const CSV: &str = include_str!("../../optimizers/examples/data/digits.csv");

/// Pixels of an image in each direction.
const SIDE: usize = 8;
const CLASSES: usize = 10;
/// The largest pixel value in the file.
const DARKEST: f32 = 16.0;
/// The last images of the file, by other writers than the first ones.
const TEST_IMAGES: usize = 360;
const BATCH: usize = 32;
const STEPS: u64 = 1000;

fn main() -> Result<()> {
    let args = Args::parse();
    let varmap = VarMap::new();
    let cnn = Cnn::new(&VarBuilder::from_varmap(&varmap, DType::F32, &Device::Cpu))?;
    draw_weights(&varmap, args.seed)?;
    let digits = Digits::load(cnn)?;
    let run = Run::new::<Digits>(&args, &varmap, STEPS)?;
    match args.optimizer {
        Choice::Adamw => {
            let optimizer = ours(&varmap, run.schedule())?;
            run.train(&digits, optimizer)?;
        }
        Choice::CandleAdamw => run.train(&digits, plain(&varmap, args.learning_rate)?)?,
    }
    println!("{:.1} % of the test images are right (without averages)", 100.0 * digits.accuracy()?);
    Ok(())
}

/// Two convolutions and two linear layers.
struct Cnn {
    conv1: Conv2d,
    conv2: Conv2d,
    hidden: Linear,
    output: Linear,
}

impl Cnn {
    fn new(vb: &VarBuilder<'_>) -> candle_core::Result<Self> {
        let same_size = Conv2dConfig { padding: 1, ..Conv2dConfig::default() };
        Ok(Self {
            conv1: conv2d(1, 16, 3, same_size, vb.pp("conv1"))?,
            conv2: conv2d(16, 32, 3, same_size, vb.pp("conv2"))?,
            hidden: linear(32 * SIDE * SIDE / 4, 64, vb.pp("hidden"))?,
            output: linear(64, CLASSES, vb.pp("output"))?,
        })
    }
}

impl Module for Cnn {
    fn forward(&self, images: &Tensor) -> candle_core::Result<Tensor> {
        let maps = self.conv1.forward(images)?.relu()?;
        let maps = self.conv2.forward(&maps)?.relu()?.max_pool2d(2)?;
        let hidden = self.hidden.forward(&maps.flatten_from(1)?)?.relu()?;
        self.output.forward(&hidden)
    }
}

/// The network and its images.
struct Digits {
    cnn: Cnn,
    images: Tensor,
    labels: Tensor,
    training: usize,
}

impl Digits {
    fn load(cnn: Cnn) -> Result<Self> {
        let (mut pixels, mut labels) = (Vec::new(), Vec::new());
        for line in CSV.lines() {
            let numbers: Vec<u8> = line.split(',').map(str::parse).collect::<std::result::Result<_, _>>()?;
            let (label, image) = numbers.split_last().ok_or("an empty line")?;
            labels.push(u32::from(*label));
            pixels.extend(image.iter().map(|&pixel| f32::from(pixel) / DARKEST));
        }
        let count = labels.len();
        let images = Tensor::from_vec(pixels, (count, 1, SIDE, SIDE), &Device::Cpu)?;
        Ok(Self { cnn, images, labels: Tensor::from_vec(labels, count, &Device::Cpu)?, training: count - TEST_IMAGES })
    }

    fn test_images(&self) -> candle_core::Result<(Tensor, Tensor)> {
        let of_test = |all: &Tensor| all.narrow(0, self.training, TEST_IMAGES);
        Ok((of_test(&self.images)?, of_test(&self.labels)?))
    }

    /// The part of the test images that are recognised, from 0 to 1.
    fn accuracy(&self) -> Result<f64> {
        let (images, labels) = self.test_images()?;
        let found = self.cnn.forward(&images)?.argmax(1)?;
        let right = found.eq(&labels)?.to_dtype(DType::F32)?.mean_all()?;
        Ok(f64::from(right.to_scalar::<f32>()?))
    }
}

impl Task for Digits {
    const NAME: &str = "digits_cnn";
    const UNIT: &str = "images";
    const UNITS_A_STEP: usize = BATCH;

    fn loss(&self, random: &mut Random) -> Result<Tensor> {
        let rows: Vec<u32> = (0..BATCH).map(|_| random.below(self.training) as u32).collect();
        let rows = Tensor::from_vec(rows, BATCH, &Device::Cpu)?;
        let found = self.cnn.forward(&self.images.index_select(&rows, 0)?)?;
        Ok(loss::cross_entropy(&found, &self.labels.index_select(&rows, 0)?)?)
    }

    fn test_loss(&self) -> Result<f64> {
        let (images, labels) = self.test_images()?;
        let loss = loss::cross_entropy(&self.cnn.forward(&images)?, &labels)?;
        Ok(f64::from(loss.to_scalar::<f32>()?))
    }
}
