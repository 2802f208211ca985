//! Ranks that save and load together: the layouts of arrays, and the agreement.

use std::ops::Range;
use std::rc::Rc;

use ndarray::{ArrayViewD, Axis, Slice};
use opt_core::Variable;
use opt_core::collective::{Collective, CollectiveError, Distribution};
use opt_core::model::{Any, AnyArray};

use crate::element::Element;
use crate::error::Error;
use crate::region::Region;

/// The layout of a variable over the ranks.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    /// The shape of the whole variable.
    pub(crate) whole: Rc<[usize]>,
    /// The region of this rank's array.
    pub(crate) local: Rc<Region>,
    /// The region for which this rank keeps slots.
    pub(crate) part: Rc<Region>,
    /// That region as a range of an axis of the array, unless it is the whole array.
    cut: Option<(usize, Range<usize>)>,
    /// Whether this rank writes the region, among all ranks that have the same.
    pub(crate) owned: bool,
    /// The layout in words.
    pub(crate) layout: String,
}

impl Place {
    /// The layout of a variable whose array on this rank has a shape; the whole variable, if there are no ranks.
    pub(crate) fn of(ranks: Option<&dyn Distribution>, variable: &str, shape: &[usize]) -> Result<Self, Error> {
        let Some(ranks) = ranks else {
            let local = Rc::new(Region::whole(shape));
            let (part, layout) = (Rc::clone(&local), String::new());
            return Ok(Self { whole: shape.into(), local, part, cut: None, owned: true, layout });
        };
        let placement = ranks.placement(variable, shape).map_err(opt_core::Error::from)?;
        let local = Region { offset: placement.offset.clone(), shape: shape.to_vec() };
        let mut part = local.clone();
        let cut = placement.part.as_ref().map(|part| (part.axis, part.range()));
        if let Some((axis, range)) = &cut {
            part.offset[*axis] += range.start;
            part.shape[*axis] = range.len();
        }
        let (whole, layout) = (placement.shape.as_slice().into(), placement.layout.clone());
        Ok(Self { whole, local: Rc::new(local), part: Rc::new(part), cut, owned: placement.counts, layout })
    }

    /// The layout of a variable.
    pub(crate) fn of_variable<T: Element>(
        ranks: Option<&dyn Distribution>,
        variable: &Variable<'_, T>,
    ) -> Result<Self, Error> {
        let shape = match variable.array()? {
            Any::Full(array) => array.shape().to_vec(),
            Any::Bf16(array) => array.shape().to_vec(),
            Any::F16(array) => array.shape().to_vec(),
        };
        Self::of(ranks, variable.name(), &shape)
    }

    /// The part of this rank's array.
    pub(crate) fn part_of<'a, T>(&self, array: AnyArray<'a, T>) -> AnyArray<'a, T> {
        match array {
            Any::Full(array) => Any::Full(self.cut(array)),
            Any::Bf16(array) => Any::Bf16(self.cut(array)),
            Any::F16(array) => Any::F16(self.cut(array)),
        }
    }

    fn cut<'a, N>(&self, mut array: ArrayViewD<'a, N>) -> ArrayViewD<'a, N> {
        if let Some((axis, range)) = &self.cut {
            array.slice_axis_inplace(Axis(*axis), Slice::from(range.clone()));
        }
        array
    }
}

/// Continues only if all ranks can, and returns the message of each rank. One gather.
pub(crate) fn all<S>(
    world: &dyn Collective,
    own: Result<S, Error>,
    say: impl Fn(&S) -> Vec<u8>,
) -> Result<(S, Vec<Vec<u8>>), Error> {
    let message = match &own {
        Ok(own) => [vec![0], say(own)].concat(),
        Err(error) => [&[1], error.to_string().as_bytes()].concat(),
    };
    let answers = world.gather(message);
    let own = own?;
    let mut said = Vec::with_capacity(world.ranks());
    for (rank, answer) in answers.map_err(opt_core::Error::from)?.into_iter().enumerate() {
        said.push(match answer.split_first() {
            Some((0, said)) => said.to_vec(),
            Some((1, reason)) => {
                let reason = String::from_utf8_lossy(reason).into_owned();
                return Err(opt_core::Error::from(CollectiveError::Refused { rank, reason }).into());
            }
            _ => return Err(unreadable(rank)),
        });
    }
    Ok((own, said))
}

/// Continues only if all ranks can, and say the same, line by line. One gather.
pub(crate) fn same<S>(
    world: &dyn Collective,
    what: &'static str,
    own: Result<S, Error>,
    say: impl Fn(&S) -> String,
) -> Result<S, Error> {
    let (own, said) = all(world, own, |own| say(own).into_bytes())?;
    let Some(rank) = said.iter().position(|text| *text != said[0]) else { return Ok(own) };
    let lines = |rank: usize| String::from_utf8_lossy(&said[rank]).lines().map(str::to_owned).collect::<Vec<_>>();
    let (expected, found) = (lines(0), lines(rank));
    let place = (0..).find(|&line| expected.get(line) != found.get(line)).unwrap_or(0);
    let line = |lines: &[String]| lines.get(place).map_or_else(|| "nothing".to_owned(), String::clone);
    let (expected, found) = (line(&expected), line(&found));
    Err(opt_core::Error::from(CollectiveError::Disagreement { what, expected, rank, found }).into())
}

/// Whether ranks refused, so that all of them know it and can continue with something else.
pub(crate) fn is_refusal(error: &Error) -> bool {
    match error {
        Error::Optimizer(opt_core::Error::Collective(error)) => matches!(error, CollectiveError::Refused { .. }),
        _ => true,
    }
}

pub(crate) fn unreadable(rank: usize) -> Error {
    opt_core::Error::from(CollectiveError::Message { rank }).into()
}
