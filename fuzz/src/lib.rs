//! The common code of the fuzz targets.

#![forbid(unsafe_code)]

pub mod forge;
pub mod json;
pub mod plan;
pub mod run;
pub mod trained;
pub mod value;

use std::sync::LazyLock;

use opt_conformance::replay::Registries;

/// Every class that a configuration may name.
pub static REGISTRIES: LazyLock<Registries> =
    LazyLock::new(|| Registries { float32: optimizers::registry(), float64: optimizers::registry() });
