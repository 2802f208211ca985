//! `#[derive(Parameters)]` and `#[derive(Gradients)]`: they make a struct a source of named arrays.
//!
//! Each field is a part, named after the field (in a tuple struct, after its position). Parts of parts have paths:
//! `layers.0.kernel`. On a field, `#[parameters(skip)]` skips it, and `#[parameters(rename = "name")]` renames it.
//!
//! ```
//! use ndarray::{Array1, Array2, array};
//! use opt_core::Optimizer;
//! use opt_derive::Parameters;
//! use opt_sgd::Sgd;
//!
//! #[derive(Clone, Parameters)]
//! struct Dense {
//!     kernel: Array2<f64>,
//!     bias: Array1<f64>,
//!     #[parameters(skip)]
//!     activation: fn(f64) -> f64,
//! }
//!
//! #[derive(Clone, Parameters)]
//! struct Model {
//!     layers: Vec<Dense>,
//!     #[parameters(rename = "temperature")]
//!     t: f64,
//! }
//!
//! let layer = Dense { kernel: array![[1.0, 2.0]], bias: array![3.0], activation: f64::tanh };
//! let mut model = Model { layers: vec![layer], t: 1.0 };
//! let grads = model.clone();
//!
//! let mut opt = Optimizer::new(Sgd::new(0.5))?;
//! opt.step(&mut model, &grads)?;
//! assert_eq!((&model.layers[0].kernel, model.t), (&array![[0.5, 1.0]], 0.5));
//!
//! let names: Vec<&str> = opt.variables().map(|(name, _)| name).collect();
//! assert_eq!(names, ["layers.0.kernel", "layers.0.bias", "temperature"]);
//! # Ok::<(), opt_core::Error>(())
//! ```
//!
//! A field without variables that is not skipped is a compile error: "field `activation` of `Dense` has no variables:
//! leave it out by `#[parameters(skip)]`". (In a generic structure, a field whose type is generic is checked where the
//! model is used.)
//!
//! ```compile_fail,E0080
//! #[derive(opt_derive::Parameters)]
//! struct Dense {
//!     kernel: Vec<f64>,
//!     activation: fn(f64) -> f64,
//! }
//! ```

#![forbid(unsafe_code)]

mod expand;

use proc_macro::TokenStream;
use syn::{DeriveInput, parse_macro_input};

/// Derives `Parameters` and `Gradients` of `opt-core`, for a model.
///
/// Each field is a part of the model, named after the field; names of nested parts have dots: `hidden.bias`. On a
/// field:
///
/// | attribute | meaning |
/// |---|---|
/// | `#[parameters(skip)]` | the field has no variables |
/// | `#[parameters(rename = "name")]` | another name in place of the field's |
///
/// [The documentation of the crate](crate) has an example.
#[proc_macro_derive(Parameters, attributes(parameters))]
pub fn derive_parameters(input: TokenStream) -> TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    expand::parameters(&input).unwrap_or_else(|error| error.to_compile_error()).into()
}

/// Derives only `Gradients` of `opt-core`, for a struct of gradients that are not variables, such as sparse
/// gradients.
#[proc_macro_derive(Gradients, attributes(parameters))]
pub fn derive_gradients(input: TokenStream) -> TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    expand::gradients(&input).unwrap_or_else(|error| error.to_compile_error()).into()
}
