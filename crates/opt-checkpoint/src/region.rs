//! Regions of arrays, and copies of numbers from one region to another.

use serde::{Deserialize, Serialize};

/// A region of an array: its start and its shape.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Region {
    pub(crate) offset: Vec<usize>,
    pub(crate) shape: Vec<usize>,
}

impl Region {
    /// All of an array.
    pub(crate) fn whole(shape: &[usize]) -> Self {
        Self { offset: vec![0; shape.len()], shape: shape.to_vec() }
    }

    /// The number of elements; `None` if it overflows.
    pub(crate) fn len(&self) -> Option<usize> {
        self.shape.iter().try_fold(1_usize, |product, &axis| product.checked_mul(axis))
    }

    /// Whether two regions of the same array share an element.
    pub(crate) fn overlaps(&self, other: &Self) -> bool {
        let axes = self.offset.iter().zip(&self.shape).zip(other.offset.iter().zip(&other.shape));
        let mut axes = axes.map(|((&a, &a_len), (&b, &b_len))| a.max(b) < (a + a_len).min(b + b_len));
        axes.all(|axis| axis)
    }

    fn is_within(&self, whole: &[usize]) -> bool {
        let ends = self.offset.iter().zip(&self.shape).map(|(&start, &len)| start.checked_add(len));
        self.offset.len() == whole.len()
            && self.shape.len() == whole.len()
            && ends.zip(whole).all(|(end, &axis)| end.is_some_and(|end| end <= axis))
    }
}

/// Checks that regions make up an array, each element once; else returns the problem.
pub(crate) fn check_partition(whole: &[usize], mut parts: Vec<&Region>) -> Result<(), String> {
    let elements = Region::whole(whole).len().ok_or("it has more elements than can be counted")?;
    if let Some(part) = parts.iter().find(|part| !part.is_within(whole)) {
        return Err(format!("a part at {:?} of shape {:?} is not within {whole:?}", part.offset, part.shape));
    }
    let first = |part: &Region| part.offset.first().copied().unwrap_or(0);
    let end = |part: &Region| first(part) + part.shape.first().copied().unwrap_or(1);
    parts.sort_by_key(|part| first(part));
    for (place, part) in parts.iter().enumerate() {
        let near = parts[place + 1..].iter().take_while(|other| first(other) < end(part));
        if let Some(other) = near.into_iter().find(|other| other.overlaps(part)) {
            return Err(format!("the parts at {:?} and {:?} overlap", part.offset, other.offset));
        }
    }
    // Each region is within the array, and none overlap, so this cannot overflow.
    let found: usize = parts.iter().filter_map(|part| part.len()).sum();
    if found == elements { Ok(()) } else { Err(format!("its parts have {found} of {elements} elements")) }
}

/// A copy from one region of an array to another one.
#[derive(Debug)]
pub(crate) struct Way {
    from: Region,
    to: Region,
}

impl Way {
    pub(crate) fn new(from: &Region, to: &Region) -> Self {
        let (mut from, mut to) = (from.clone(), to.clone());
        // Rows that both regions contain completely are contiguous in both.
        while let [.., _, last] = from.shape[..]
            && (from.offset.last(), last) == (to.offset.last(), *to.shape.last().unwrap_or(&0))
        {
            for region in [&mut from, &mut to] {
                region.offset.pop();
                region.shape.pop();
                region.offset.last_mut().into_iter().for_each(|offset| *offset *= last);
                region.shape.last_mut().into_iter().for_each(|axis| *axis *= last);
            }
        }
        if from.shape.is_empty() {
            (from, to) = (Region::whole(&[1]), Region::whole(&[1]));
        }
        Self { from, to }
    }

    /// Copies the common elements. `numbers` are those of the first region from `start` on, `to` are all of the
    /// second region.
    pub(crate) fn copy<N: Copy>(&self, mut start: usize, mut numbers: &[N], to: &mut [N]) {
        let last = self.from.shape.len() - 1;
        let (row_len, to_len) = (self.from.shape[last], self.to.shape[last]);
        while !numbers.is_empty() {
            let column = start % row_len;
            let (row, rest) = numbers.split_at(numbers.len().min(row_len - column));
            if let Some(to_row) = self.row(start / row_len) {
                let begin = self.from.offset[last] + column;
                let (to_begin, to_end) = (self.to.offset[last], self.to.offset[last] + to_len);
                let shared = begin.max(to_begin)..(begin + row.len()).min(to_end);
                if shared.start < shared.end {
                    let place = to_row * to_len + shared.start - to_begin;
                    let row = &row[shared.start - begin..shared.end - begin];
                    to[place..place + row.len()].copy_from_slice(row);
                }
            }
            start += row.len();
            numbers = rest;
        }
    }

    /// The row of the second region that corresponds to a row of the first one.
    fn row(&self, mut row: usize) -> Option<usize> {
        let (mut found, mut rows) = (0, 1);
        for axis in (0..self.from.shape.len() - 1).rev() {
            let place = self.from.offset[axis] + row % self.from.shape[axis];
            row /= self.from.shape[axis];
            let place = place.checked_sub(self.to.offset[axis]).filter(|&place| place < self.to.shape[axis])?;
            found += place * rows;
            rows *= self.to.shape[axis];
        }
        Some(found)
    }
}

#[cfg(test)]
mod tests {
    use ndarray::{ArrayD, Axis, Dimension, IxDyn, Slice};
    use proptest::prelude::*;

    use super::*;

    fn region(offset: &[usize], shape: &[usize]) -> Region {
        Region { offset: offset.to_vec(), shape: shape.to_vec() }
    }

    fn cut(array: &ArrayD<usize>, region: &Region) -> ArrayD<usize> {
        let mut view = array.view();
        for (axis, (&start, &len)) in region.offset.iter().zip(&region.shape).enumerate() {
            view.slice_axis_inplace(Axis(axis), Slice::from(start..start + len));
        }
        view.as_standard_layout().into_owned()
    }

    /// A shape, and two regions of it.
    fn parts() -> impl Strategy<Value = (Vec<usize>, Region, Region)> {
        let axis = (1_usize..6).prop_flat_map(|len| {
            let part = move || (0..=len, 0..=len).prop_map(|(a, b)| (a.min(b), a.abs_diff(b)));
            (Just(len), part(), part())
        });
        prop::collection::vec(axis, 0..4).prop_map(|axes| {
            let region = |part: &dyn Fn(usize) -> (usize, usize)| {
                let parts: Vec<_> = (0..axes.len()).map(part).collect();
                let (offset, shape) = parts.into_iter().unzip();
                Region { offset, shape }
            };
            let whole = axes.iter().map(|axis| axis.0).collect();
            (whole, region(&|i| axes[i].1), region(&|i| axes[i].2))
        })
    }

    proptest! {
        /// Copying in pieces of any length gives the elements that slices of an array have in common.
        #[test]
        fn what_both_have_is_copied((shape, from, to) in parts(), piece in 1_usize..9) {
            let whole = ArrayD::from_shape_fn(IxDyn(&shape), |index| {
                index.slice().iter().fold(1, |number, &place| number * 10 + place)
            });
            let mut found = vec![0; to.len().unwrap()];
            let way = Way::new(&from, &to);
            let numbers: Vec<usize> = cut(&whole, &from).into_iter().collect();
            for (place, numbers) in numbers.chunks(piece).enumerate() {
                way.copy(place * piece, numbers, &mut found);
            }
            let wanted = cut(&whole, &to);
            let expected: Vec<usize> =
                wanted.iter().map(|number| if numbers.contains(number) { *number } else { 0 }).collect();
            prop_assert_eq!(&found, &expected);
            prop_assert_eq!(from.overlaps(&to), expected.iter().any(|&number| number > 0));
        }
    }

    #[test]
    fn parts_make_up_an_array_or_not() {
        let check = |whole: &[usize], parts: &[Region]| check_partition(whole, parts.iter().collect());
        let [left, right] = [region(&[0, 0], &[2, 1]), region(&[0, 1], &[2, 2])];
        assert_eq!(check(&[2, 3], &[right.clone(), left.clone()]), Ok(()));
        assert_eq!(check(&[], &[region(&[], &[])]), Ok(()));
        assert_eq!(check(&[0, 3], &[]), Ok(()));
        assert_eq!(check(&[3], &[region(&[0], &[3]), region(&[1], &[0])]), Ok(()), "empty parts do not matter");
        let problem = |whole: &[usize], parts: &[Region]| check(whole, parts).unwrap_err();
        assert_eq!(problem(&[2, 3], std::slice::from_ref(&left)), "its parts have 2 of 6 elements");
        assert_eq!(problem(&[2, 2], &[right, left.clone()]), "a part at [0, 1] of shape [2, 2] is not within [2, 2]");
        assert_eq!(problem(&[2, 3], &[left.clone(), left]), "the parts at [0, 0] and [0, 0] overlap");
        assert_eq!(problem(&[], &[region(&[], &[]), region(&[], &[])]), "the parts at [] and [] overlap");
        assert_eq!(problem(&[4], &[region(&[0, 0], &[4, 1])]), "a part at [0, 0] of shape [4, 1] is not within [4]");
        let huge = region(&[usize::MAX], &[2]);
        assert!(problem(&[4], &[huge]).contains("not within"));
        assert!(problem(&[1 << 40, 1 << 40], &[]).contains("more elements than"));
    }
}
