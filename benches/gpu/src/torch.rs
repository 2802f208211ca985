//! The times of PyTorch's optimizers, measured by a script that is part of this program.

use std::io::Write;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use benches::shapes::Shape;
use serde::{Deserialize, Serialize};
use serde_json::json;

const SCRIPT: &str = include_str!("torch.py");

/// How long the script may need to start, and to end its last measurement.
const GRACE: Duration = Duration::from_secs(60);

/// What the script says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum Answer {
    /// The times.
    Times(Times),
    /// Why there are none.
    Missing { missing: String },
}

/// The times of PyTorch's optimizers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Times {
    /// The version of PyTorch.
    pub(crate) torch: String,
    pub(crate) device: String,
    pub(crate) rows: Vec<Row>,
    pub(crate) left_out: Vec<LeftOut>,
}

/// The median of an optimizer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Row {
    /// Our contestant that does the same.
    pub(crate) rule: String,
    pub(crate) shape: String,
    pub(crate) mode: Mode,
    pub(crate) ns_per_param: f64,
}

/// An optimizer that was not timed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct LeftOut {
    pub(crate) rule: String,
    pub(crate) shape: String,
    pub(crate) mode: Mode,
    pub(crate) reason: String,
}

/// How PyTorch treats lists of tensors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Mode {
    /// One kernel for many tensors.
    Fused,
    /// One kernel for each operation.
    Foreach,
}

/// Runs the script with `python3`. Nothing fails: there may be no Python, PyTorch or CUDA.
pub(crate) fn times(shapes: &[Shape], device: &str, budget: Duration, batch: Duration) -> Answer {
    let shapes: Vec<_> =
        shapes.iter().map(|Shape { name, tensors }| json!({ "name": name, "tensors": tensors })).collect();
    let (seconds, batch) = (budget.as_secs_f64(), batch.as_secs_f64());
    let request = json!({ "device": device, "seconds": seconds, "batch": batch, "shapes": shapes });
    ask(&request.to_string(), budget + GRACE).unwrap_or_else(|error| Answer::Missing { missing: format!("{error:#}") })
}

fn ask(request: &str, most: Duration) -> anyhow::Result<Answer> {
    let mut python = Command::new("python3");
    python.args(["-", request]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = python.spawn().context("python3 does not start")?;
    child.stdin.take().context("python3 has no input")?.write_all(SCRIPT.as_bytes())?;
    if !ends(&mut child, most)? {
        child.kill()?;
        bail!("the script took more than {} s", most.as_secs());
    }
    let output = child.wait_with_output()?;
    let last = output.stdout.split(|&byte| byte == b'\n').rfind(|line| !line.is_empty());
    serde_json::from_slice(last.unwrap_or_default()).with_context(|| format!("the script failed: {}", output.status))
}

/// Waits until a process has ended, but not longer than this. Its output is one line, which a pipe holds.
fn ends(child: &mut Child, most: Duration) -> anyhow::Result<bool> {
    let until = Instant::now() + most;
    while child.try_wait()?.is_none() {
        if Instant::now() > until {
            return Ok(false);
        }
        sleep(Duration::from_millis(50));
    }
    Ok(true)
}

impl Times {
    /// The time of a contestant, if PyTorch has one.
    pub(crate) fn of(&self, rule: &str, shape: &str, mode: Mode) -> Option<f64> {
        let row = self.rows.iter().find(|row| (row.rule.as_str(), row.shape.as_str(), row.mode) == (rule, shape, mode));
        row.map(|row| row.ns_per_param)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read() {
        let text = r#"{"torch": "2.9.0", "device": "GPU", "rows": [
            {"rule": "adam", "shape": "10M", "mode": "fused", "ns_per_param": 0.5}],
            "left_out": [{"rule": "radam", "shape": "10M", "mode": "fused", "reason": "no option"}]}"#;
        let Answer::Times(times) = serde_json::from_str(text).unwrap() else { panic!("{text}") };
        assert_eq!(times.of("adam", "10M", Mode::Fused), Some(0.5));
        assert_eq!(times.of("adam", "10M", Mode::Foreach), None);
        let missing = serde_json::from_str::<Answer>(r#"{"missing": "no torch"}"#).unwrap();
        assert_eq!(missing, Answer::Missing { missing: "no torch".to_owned() });
    }

    /// Here is no CUDA, and perhaps no Python; with both, nothing is measured within no time.
    #[test]
    fn what_is_missing_is_no_failure() {
        match times(&[Shape::single(10)], "cuda", Duration::ZERO, Duration::from_millis(1)) {
            Answer::Missing { missing } => assert!(!missing.is_empty()),
            Answer::Times(times) => assert!(times.rows.is_empty()),
        }
    }
}
