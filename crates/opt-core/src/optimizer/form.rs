//! The shape of a variable, and the order of axes in which the engine walks and stores it.

use std::cmp::Reverse;

use ndarray::{ArrayViewD, ArrayViewMutD, Axis, IxDyn};

use crate::precision::Any;
use crate::view::{Memory, Shape, ViewMut};

/// The shape of a variable, and the order in which its slots are stored.
#[derive(Debug, Clone)]
pub(crate) struct Form {
    pub(crate) shape: Shape,
    /// The order of axes, slowest first; `None` is row-major.
    pub(crate) axes: Option<Vec<usize>>,
    /// The shape in which the variable is given, if this rank keeps only a part of it.
    pub(crate) whole: Option<Shape>,
}

impl Form {
    /// The shape in which the variable is given.
    pub(crate) fn given(&self) -> &[usize] {
        self.whole.as_ref().unwrap_or(&self.shape)
    }

    /// The form of the whole variable as this rank gives it.
    pub(crate) fn whole(&self) -> Self {
        Self { shape: self.given().into(), axes: self.axes.clone(), whole: None }
    }

    /// The shape with its axes in stored order.
    pub(crate) fn stored_shape(&self) -> Shape {
        match &self.axes {
            None => self.shape.clone(),
            Some(axes) => axes.iter().map(|&axis| self.shape[axis]).collect(),
        }
    }

    /// Numbers in stored order, viewed with the axes in the variable's order.
    pub(crate) fn view<'a, E>(&self, stored: &'a [E]) -> ArrayViewD<'a, E> {
        let view = ArrayViewD::from_shape(IxDyn(&self.stored_shape()), stored).expect("slots have the variable's size");
        match &self.axes {
            None => view,
            Some(axes) => view.permuted_axes(IxDyn(&inverse(axes))),
        }
    }

    /// The place of one of the variable's axes among the axes in stored order.
    pub(crate) fn stored_axis(&self, axis: usize) -> Axis {
        let stored = self.axes.as_deref().and_then(|axes| axes.iter().position(|&stored| stored == axis));
        Axis(stored.unwrap_or(axis))
    }
}

/// The inverse of an order of axes.
pub(crate) fn inverse(axes: &[usize]) -> Vec<usize> {
    let mut order = vec![0; axes.len()];
    for (stored, &axis) in axes.iter().enumerate() {
        order[axis] = stored;
    }
    order
}

/// A view with its axes in the stored order.
pub(crate) fn in_order<'a, T>(view: ArrayViewD<'a, T>, axes: Option<&[usize]>) -> ArrayViewD<'a, T> {
    match axes {
        None => view,
        Some(axes) => view.permuted_axes(IxDyn(axes)),
    }
}

/// A view with its axes in the stored order.
pub(crate) fn in_order_mut<'a, T>(view: ArrayViewMutD<'a, T>, axes: Option<&[usize]>) -> ArrayViewMutD<'a, T> {
    match axes {
        None => view,
        Some(axes) => view.permuted_axes(IxDyn(axes)),
    }
}

/// The axes in memory order, slowest first. `None` if the memory is row-major, and for variables in 16 bits, whose
/// slots are stored row by row.
pub(crate) fn memory_order<T>(value: &ViewMut<'_, T>) -> Option<Vec<usize>> {
    let view = match &value.0 {
        Any::Full(Memory::Strided(view)) => view,
        Any::Full(Memory::Described(described)) => return described.axes.clone(),
        _ => return None,
    };
    let mut axes: Vec<usize> = (0..view.ndim()).collect();
    axes.sort_by_key(|&axis| Reverse(view.stride_of(Axis(axis)).unsigned_abs()));
    if axes.is_sorted() { None } else { Some(axes) }
}
