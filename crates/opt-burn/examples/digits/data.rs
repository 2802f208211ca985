//! 1,797 images of handwritten digits, 8 by 8 pixels each.

use burn_core::tensor::{Device, Int, Tensor, TensorData};

const CSV: &str = include_str!("../../../optimizers/examples/data/digits.csv");

const PIXELS: usize = 64;

/// The largest pixel value in the file.
const DARKEST: f32 = 16.0;

/// The number of test images: about a fifth of all.
const TEST_IMAGES: usize = 360;

/// Runs with different seeds use the same test images.
const SPLIT_SEED: u64 = 2026;

/// An image and its digit.
#[derive(Debug, Clone)]
pub(crate) struct Image {
    pixels: Vec<f32>,
    digit: i32,
}

/// Images as the network gets them.
#[derive(Debug, Clone)]
pub(crate) struct Batch {
    pub(crate) images: Tensor<4>,
    pub(crate) digits: Tensor<1, Int>,
}

/// The training images and the test images.
#[derive(Debug)]
pub(crate) struct Digits {
    pub(crate) training: Vec<Image>,
    pub(crate) test: Vec<Image>,
}

impl Digits {
    /// Reads the images, which are compiled into this program.
    pub(crate) fn load() -> Self {
        let mut images: Vec<Image> = CSV.lines().map(image).collect();
        shuffle(&mut images, SPLIT_SEED);
        let test = images.split_off(images.len() - TEST_IMAGES);
        Self { training: images, test }
    }

    /// The training images in the order of an epoch, in batches of the same size. The last few are left out.
    pub(crate) fn batches(&self, size: usize, seed: u64, epoch: u64, device: &Device) -> Vec<Batch> {
        let mut order: Vec<&Image> = self.training.iter().collect();
        shuffle(&mut order, seed.wrapping_mul(1_000_003).wrapping_add(epoch));
        order.chunks_exact(size).map(|images| batch(images.iter().copied(), device)).collect()
    }
}

/// Images as the network gets them.
pub(crate) fn batch<'i>(images: impl Iterator<Item = &'i Image> + Clone, device: &Device) -> Batch {
    let count = images.clone().count();
    let pixels: Vec<f32> = images.clone().flat_map(|image| image.pixels.iter().copied()).collect();
    let digits: Vec<i32> = images.map(|image| image.digit).collect();
    Batch {
        images: Tensor::from_data(TensorData::new(pixels, [count, 1, 8, 8]), device),
        digits: Tensor::from_data(TensorData::new(digits, [count]), device),
    }
}

fn image(line: &str) -> Image {
    let mut numbers = line.split(',').map(|text| text.parse::<u8>().expect("the data is whole numbers"));
    let pixels = numbers.by_ref().take(PIXELS).map(|pixel| f32::from(pixel) / DARKEST).collect();
    Image { pixels, digit: numbers.next().expect("the digit is the last number").into() }
}

/// Fisher and Yates, with the random numbers of S. Vigna's splitmix64.
fn shuffle<T>(list: &mut [T], seed: u64) {
    let mut state = seed;
    for last in (1..list.len()).rev() {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        list.swap(last, ((z ^ (z >> 31)) % (last as u64 + 1)) as usize);
    }
}
