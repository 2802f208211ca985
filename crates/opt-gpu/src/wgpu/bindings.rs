//! The buffers that kernels are bound to.

use opt_core::trace::{Array, Node};

use crate::device::{Elements, Program};

/// The numbers of a dispatch that kernels read. The first one is the number of elements, the second one is 0.
pub(super) type Uniform = [u32; 16];

/// The bytes of these numbers.
pub(super) const UNIFORM_BYTES: usize = size_of::<Uniform>();

/// The buffers that a kernel needs, besides the uniform; of two of them, whether it changes them.
#[derive(Debug)]
pub(super) struct Bindings {
    pub(super) parameters: bool,
    pub(super) value: Option<bool>,
    pub(super) gradient: bool,
    pub(super) state: Option<bool>,
    pub(super) rows: bool,
}

impl Bindings {
    pub(super) const UNIFORM: u32 = 0;
    pub(super) const PARAMETERS: u32 = 1;
    pub(super) const VALUE: u32 = 2;
    pub(super) const GRADIENT: u32 = 3;
    pub(super) const STATE: u32 = 4;
    pub(super) const ROWS: u32 = 5;

    pub(super) fn of(program: &Program) -> Self {
        let arrays: Vec<(Array, bool)> = program.arrays().collect();
        let of_state = || arrays.iter().filter(|(array, _)| program.place(*array).is_some());
        Self {
            parameters: program.graph.nodes.iter().any(|node| matches!(node, Node::Parameter(_))),
            value: arrays.iter().find(|(array, _)| *array == Array::Value).map(|(_, is_changed)| *is_changed),
            gradient: arrays.iter().any(|(array, _)| *array == Array::Gradient),
            state: of_state().next().map(|_| of_state().any(|(_, is_changed)| *is_changed)),
            rows: program.elements != Elements::All,
        }
    }

    /// The storage buffers: their places, and whether they are changed.
    pub(super) fn buffers(&self) -> impl Iterator<Item = (u32, bool)> {
        let buffers = [
            (Self::PARAMETERS, self.parameters.then_some(false)),
            (Self::VALUE, self.value),
            (Self::GRADIENT, self.gradient.then_some(false)),
            (Self::STATE, self.state),
            (Self::ROWS, self.rows.then_some(false)),
        ];
        buffers.into_iter().filter_map(|(place, is_changed)| Some((place, is_changed?)))
    }
}
