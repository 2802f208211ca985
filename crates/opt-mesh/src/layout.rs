//! Layouts: which axis of an array is cut along which dimension of a mesh.

use std::ops::Range;

/// For each axis of an array, the mesh dimension along which it is cut, if any.
///
/// Along dimensions that no axis names, the array is replicated. An axis of `n` entries is cut into consecutive
/// pieces that are as equal as possible: the first `n % size` ranks get one entry more, and a piece may be empty.
/// (DTensor refuses uneven cuts.)
///
/// # Examples
///
/// ```
/// use opt_mesh::Layout;
///
/// let columns = Layout::new([None, Some("model")]);
/// assert_eq!(columns.axes(), [None, Some("model".to_owned())]);
/// assert!(Layout::replicated().axes().is_empty());
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Layout {
    axes: Vec<Option<String>>,
}

impl Layout {
    /// A layout with one entry for each axis.
    pub fn new<S: Into<String>>(axes: impl IntoIterator<Item = Option<S>>) -> Self {
        Self { axes: axes.into_iter().map(|axis| axis.map(Into::into)).collect() }
    }

    /// Every rank has the whole array, whatever its number of axes.
    #[must_use]
    pub fn replicated() -> Self {
        Self::default()
    }

    /// The entries; empty for [`replicated`](Self::replicated).
    #[must_use]
    pub fn axes(&self) -> &[Option<String>] {
        &self.axes
    }

    /// The mesh dimensions that cut the array.
    pub fn dimensions(&self) -> impl Iterator<Item = &str> {
        self.axes.iter().flatten().map(String::as_str)
    }
}

/// The part of an array that one rank holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shard {
    /// Its shape.
    pub shape: Vec<usize>,
    /// Its position in the whole array.
    pub offset: Vec<usize>,
}

impl Shard {
    /// The length of an axis.
    #[must_use]
    pub fn range(&self, axis: usize) -> Range<usize> {
        self.offset[axis]..self.offset[axis] + self.shape[axis]
    }
}

/// Piece number `index` of `len` entries that are cut into `pieces`.
pub(crate) fn piece(len: usize, pieces: usize, index: usize) -> Range<usize> {
    let (each, more) = (len / pieces, len % pieces);
    let start = index * each + index.min(more);
    start..start + each + usize::from(index < more)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_as_equal_as_possible_and_cover_everything() {
        for len in 0..20 {
            for pieces in 1..7 {
                let cut: Vec<_> = (0..pieces).map(|index| piece(len, pieces, index)).collect();
                assert_eq!((cut[0].start, cut[pieces - 1].end), (0, len));
                assert!(cut.windows(2).all(|pair| pair[0].end == pair[1].start));
                let (most, least) = (cut[0].len(), cut[pieces - 1].len());
                assert!(most - least <= 1 && cut.iter().all(|piece| (least..=most).contains(&piece.len())));
            }
        }
    }
}
