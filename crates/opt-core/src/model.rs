//! The building blocks of models: for implementations of [`Parameters`](crate::Parameters), and for adapters to other
//! frameworks.

pub use crate::dtype::{AnySlice, AnySliceMut};
pub use crate::parameters::Path;
pub use crate::precision::{Any, AnyArray, AnyArrayMut};
pub use crate::view::{Half, Stored};

/// Whether a type has variables: for the messages of `opt-derive`.
#[doc(hidden)]
pub mod field;
