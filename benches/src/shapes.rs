//! Lists of tensors: one of a given size, a thousand small ones, and the tensors of a ResNet-50.

/// A list of tensors, by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shape {
    /// The name in results: `10M`, `resnet50`, `1000x1000`.
    pub name: String,
    /// The shape of each tensor.
    pub tensors: Vec<Vec<usize>>,
}

impl Shape {
    /// One tensor with this many elements. Its name is short if the number is round: `4096`, `1M`.
    #[must_use]
    pub fn single(elements: usize) -> Self {
        let name = match elements {
            _ if elements.is_multiple_of(1_000_000) => format!("{}M", elements / 1_000_000),
            _ if elements.is_multiple_of(1_000) => format!("{}k", elements / 1_000),
            _ => elements.to_string(),
        };
        Self { name, tensors: vec![vec![elements]] }
    }

    /// Many tensors of the same size.
    #[must_use]
    pub fn many(tensors: usize, elements: usize) -> Self {
        Self { name: format!("{tensors}x{elements}"), tensors: vec![vec![elements]; tensors] }
    }

    /// The 161 trainable tensors of a ResNet-50 with 1,000 classes, 25.6 M elements: weights of the convolutions as
    /// (out, in, height, width), scale and shift of the normalisations, and the classifier.
    ///
    /// K. He, X. Zhang, S. Ren, J. Sun, "Deep residual learning for image recognition", arXiv:1512.03385.
    #[must_use]
    pub fn resnet50() -> Self {
        let mut tensors = Vec::new();
        let mut convolution = |from: usize, to: usize, window: usize| {
            tensors.extend([vec![to, from, window, window], vec![to], vec![to]]);
        };
        convolution(3, 64, 7);
        let mut from = 64;
        for (blocks, width) in [(3, 64), (4, 128), (6, 256), (3, 512)] {
            for block in 0..blocks {
                convolution(from, width, 1);
                convolution(width, width, 3);
                convolution(width, 4 * width, 1);
                if block == 0 {
                    convolution(from, 4 * width, 1);
                }
                from = 4 * width;
            }
        }
        tensors.extend([vec![1000, from], vec![1000]]);
        Self { name: "resnet50".to_owned(), tensors }
    }

    /// The number of elements of each tensor.
    pub fn sizes(&self) -> impl Iterator<Item = usize> {
        self.tensors.iter().map(|shape| shape.iter().product())
    }

    /// The number of elements in all.
    #[must_use]
    pub fn params(&self) -> usize {
        self.sizes().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resnet50_has_the_published_size() {
        let shape = Shape::resnet50();
        assert_eq!((shape.tensors.len(), shape.params()), (161, 25_557_032));
    }

    #[test]
    fn round_numbers_have_short_names() {
        let names = [4_096, 4_000, 1_000_000, 50_000_000].map(|elements| Shape::single(elements).name);
        assert_eq!(names, ["4096", "4k", "1M", "50M"]);
        let many = Shape::many(1_000, 1_000);
        assert_eq!((many.name.as_str(), many.params(), many.tensors.len()), ("1000x1000", 1_000_000, 1_000));
    }
}
