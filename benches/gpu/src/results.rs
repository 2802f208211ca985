//! Everything that was found out.

use serde::Serialize;

use crate::parity::Compared;
use crate::speed::{CopySpeed, LeftOut, Row};
use crate::torch::Answer;

/// The content of `gpu.json`.
#[derive(Debug, Serialize)]
pub(crate) struct Results {
    pub(crate) device: String,
    pub(crate) parity: Vec<Compared>,
    pub(crate) copy: CopySpeed,
    pub(crate) rows: Vec<Row>,
    pub(crate) left_out: Vec<LeftOut>,
    /// Only for CUDA.
    pub(crate) torch: Option<Answer>,
    /// How long the report took.
    pub(crate) seconds: f64,
}
