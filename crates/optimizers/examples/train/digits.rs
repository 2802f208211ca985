//! 1,797 images of handwritten digits, 8 by 8 pixels each.

use ndarray::{Array2, Axis};

use crate::random::Random;

const CSV: &str = include_str!("../data/digits.csv");

/// Pixels of an image.
pub(crate) const PIXELS: usize = 64;

/// The number of digits.
pub(crate) const CLASSES: usize = 10;

/// The largest pixel value in the file.
const DARKEST: f32 = 16.0;

/// The number of test images: about a fifth of all.
const TEST_IMAGES: usize = 360;

/// This is not the seed of the command line: runs with different seeds use the same test images.
const SPLIT_SEED: u64 = 2026;

/// Images, one a row, and their labels.
#[derive(Debug)]
pub(crate) struct Images {
    /// From 0 to 1.
    pub(crate) pixels: Array2<f32>,
    pub(crate) labels: Vec<usize>,
}

/// The training images and the test images.
#[derive(Debug)]
pub(crate) struct Digits {
    pub(crate) training: Images,
    pub(crate) test: Images,
}

impl Images {
    pub(crate) fn len(&self) -> usize {
        self.labels.len()
    }

    /// Some of the images, in the order of `rows`.
    pub(crate) fn pick(&self, rows: &[usize]) -> Self {
        let labels = rows.iter().map(|&row| self.labels[row]).collect();
        Self { pixels: self.pixels.select(Axis(0), rows), labels }
    }

    fn parse(csv: &str) -> Self {
        let number = |text: &str| text.parse::<u8>().expect("the data is whole numbers");
        let rows: Vec<Vec<u8>> = csv.lines().map(|line| line.split(',').map(number).collect()).collect();
        let labels = rows.iter().map(|row| usize::from(row[PIXELS])).collect();
        let pixels = Array2::from_shape_fn((rows.len(), PIXELS), |(row, x)| f32::from(rows[row][x]) / DARKEST);
        Self { pixels, labels }
    }
}

impl Digits {
    /// Reads the images, which are compiled into this program, and splits them.
    pub(crate) fn load() -> Self {
        let images = Images::parse(CSV);
        let mut order: Vec<usize> = (0..images.len()).collect();
        Random::new(SPLIT_SEED).shuffle(&mut order);
        let (test, training) = order.split_at(TEST_IMAGES);
        Self { training: images.pick(training), test: images.pick(test) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_image_is_read_once() {
        let Digits { training, test } = Digits::load();
        assert_eq!((training.len(), test.len()), (1437, 360));
        let darkness = training.pixels.sum() + test.pixels.sum();
        assert_eq!(darkness * DARKEST, 561_718.0);
        assert!(training.labels.iter().chain(&test.labels).all(|&label| label < CLASSES));
    }
}
