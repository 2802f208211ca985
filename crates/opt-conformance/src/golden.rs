//! The format of recorded runs: see `tests/golden/README.md`.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Deserializer};
use serde_json::Value;

/// A file of recorded runs.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct File {
    /// The version of the format; 1.
    pub format: u64,
    /// The system that was recorded.
    #[serde(default)]
    pub oracle: Value,
    /// The runs.
    pub cases: Vec<Case>,
}

/// A recorded run.
#[derive(Debug, Clone, Deserialize)]
#[serde(try_from = "Value")]
pub enum Case {
    /// Values of a schedule.
    Schedule(ScheduleCase),
    /// Steps of an optimizer.
    Optimizer(Box<OptimizerCase>),
}

impl Case {
    /// The name of the run.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Schedule(case) => &case.name,
            Self::Optimizer(case) => &case.name,
        }
    }

    /// The dimensions of the device mesh that the run was recorded on, if there was one.
    #[must_use]
    pub fn mesh(&self) -> Option<&[(String, usize)]> {
        match self {
            Self::Schedule(_) => None,
            Self::Optimizer(case) => case.mesh.as_deref(),
        }
    }
}

impl TryFrom<Value> for Case {
    type Error = serde_json::Error;

    fn try_from(value: Value) -> Result<Self, Self::Error> {
        if value.get("schedule").is_some() {
            serde_json::from_value(value).map(Self::Schedule)
        } else {
            serde_json::from_value(value).map(|case| Self::Optimizer(Box::new(case)))
        }
    }
}

/// Values of a schedule.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScheduleCase {
    /// The name of the run.
    pub name: String,
    /// The serialised schedule.
    pub schedule: Value,
    /// Steps and values.
    pub points: Vec<(u64, f64)>,
    /// The relative tolerance.
    pub rtol: f64,
    /// The absolute tolerance.
    pub atol: f64,
}

/// Steps of an optimizer.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OptimizerCase {
    /// The name of the run.
    pub name: String,
    /// A note on the run.
    pub note: Option<String>,
    /// The library whose arithmetic was recorded, where libraries disagree on the name of a rule.
    pub dialect: Option<String>,
    /// `float64` or `float32`.
    pub dtype: String,
    /// The serialised optimizer.
    pub optimizer: Value,
    /// The exclusions from weight decay, set before the first step.
    pub exclude_from_weight_decay: Option<Excluded>,
    /// The state before the first step, if the run does not start from nothing.
    pub restore: Option<Restore>,
    /// The variables before the first step.
    pub variables: Vec<RecordedVariable>,
    /// The steps.
    pub steps: Vec<RecordedStep>,
    /// The variables after `finalize_variable_values`.
    pub finalized: Option<Vec<Vec<f64>>>,
    /// The state after the last step.
    pub weights: Option<Vec<RecordedArray>>,
    /// The relative tolerance.
    pub rtol: f64,
    /// The absolute tolerance.
    pub atol: f64,
    /// Dimensions of a device mesh.
    pub mesh: Option<Vec<(String, usize)>>,
    /// The variables after the last step, rank by rank.
    pub shards: Option<BTreeMap<String, Shards>>,
    /// The slots after the last step, rank by rank.
    pub slot_shards: Option<BTreeMap<String, BTreeMap<String, Shards>>>,
}

/// The state that another system had when the run starts.
#[derive(Debug, Clone, Deserialize)]
#[serde(tag = "from", rename_all = "lowercase", deny_unknown_fields)]
pub enum Restore {
    /// The variables of an optimizer of Keras or TensorFlow Addons, in its own order.
    Keras {
        /// The arrays.
        list: Vec<RecordedArray>,
    },
    /// A `state_dict` of PyTorch.
    Pytorch {
        /// The number of steps that had been taken.
        iterations: u64,
        /// The tensors, called `state.INDEX.KEY`, with the indices of `variables`.
        tensors: BTreeMap<String, RecordedArray>,
    },
}

/// The elements of each rank, in the order of the ranks.
pub type Shards = Vec<Vec<f64>>;

/// Variables without weight decay.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Excluded {
    /// Regular expressions.
    pub var_names: Vec<String>,
}

/// A variable before the first step.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecordedVariable {
    /// Its name.
    pub name: String,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Its elements, in row-major order.
    pub value: Vec<f64>,
    /// For each axis, the mesh dimension that shards it.
    pub layout: Option<Vec<Option<String>>>,
}

/// One step.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecordedStep {
    /// A learning rate assigned before the step.
    pub set_learning_rate: Option<f64>,
    /// Learning rates of groups assigned before the step.
    #[serde(default)]
    pub set_group_learning_rate: BTreeMap<String, f64>,
    /// Groups that are frozen before the step.
    #[serde(default)]
    pub freeze: Vec<String>,
    /// Groups that are trained again from this step on.
    #[serde(default)]
    pub unfreeze: Vec<String>,
    /// A gradient for each variable.
    pub gradients: Vec<Option<RecordedGradient>>,
    /// The recorded results.
    pub expect: Expect,
}

/// A gradient.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub enum RecordedGradient {
    /// One number for each element.
    Dense {
        /// The elements, in row-major order.
        #[serde(deserialize_with = "numbers")]
        dense: Vec<f64>,
    },
    /// Some rows.
    Sparse {
        /// The row indices.
        indices: Vec<i64>,
        /// Their elements.
        #[serde(deserialize_with = "numbers")]
        values: Vec<f64>,
    },
}

/// Numbers, among which `"inf"`, `"-inf"` and `"nan"` may be.
fn numbers<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<f64>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Number {
        Finite(f64),
        Other(Other),
    }
    #[derive(Deserialize)]
    enum Other {
        #[serde(rename = "inf")]
        Infinite,
        #[serde(rename = "-inf")]
        Negative,
        #[serde(rename = "nan")]
        Nan,
    }
    let number = |number| match number {
        Number::Finite(number) => number,
        Number::Other(Other::Infinite) => f64::INFINITY,
        Number::Other(Other::Negative) => f64::NEG_INFINITY,
        Number::Other(Other::Nan) => f64::NAN,
    };
    Ok(Vec::<Number>::deserialize(deserializer)?.into_iter().map(number).collect())
}

/// The state after a step.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expect {
    /// The variables.
    pub variables: Vec<Vec<f64>>,
    /// Slots by variable and name.
    #[serde(default)]
    pub slots: BTreeMap<String, BTreeMap<String, Recorded>>,
    /// The step counter, if it was recorded.
    pub iterations: Option<u64>,
    /// The loss scale of the next step, if it was recorded.
    pub loss_scale: Option<f64>,
}

/// Elements of a slot.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(untagged)]
pub enum Recorded {
    /// A single number.
    Number(f64),
    /// Elements, in row-major order.
    Array(Vec<f64>),
}

impl Recorded {
    /// The elements.
    #[must_use]
    pub fn elements(&self) -> &[f64] {
        match self {
            Self::Number(number) => std::slice::from_ref(number),
            Self::Array(elements) => elements,
        }
    }
}

/// One entry of the state.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecordedArray {
    /// Its shape.
    pub shape: Vec<usize>,
    /// Its elements.
    pub value: Recorded,
}

/// The reason why a file could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The file system returned an error.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The error.
        source: io::Error,
    },
    /// The file does not have the format.
    #[error("{}: {source}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// The error.
        source: serde_json::Error,
    },
    /// The file has a later version of the format.
    #[error("{}: format {found}, only 1 is known", path.display())]
    Version {
        /// The file.
        path: PathBuf,
        /// The version of the format in the file.
        found: u64,
    },
}

impl File {
    /// Reads a file.
    ///
    /// # Errors
    ///
    /// When the file cannot be read, or does not have the format.
    pub fn read(path: &Path) -> Result<Self, ReadError> {
        let text = fs::read_to_string(path).map_err(|source| ReadError::Io { path: path.to_owned(), source })?;
        let file: Self =
            serde_json::from_str(&text).map_err(|source| ReadError::Format { path: path.to_owned(), source })?;
        match file.format {
            1 => Ok(file),
            found => Err(ReadError::Version { path: path.to_owned(), found }),
        }
    }
}
