//! Progress on standard error.

use indicatif::{ProgressBar, ProgressStyle};

/// A progress bar over this many measurements.
pub(crate) fn bar(measurements: usize) -> anyhow::Result<ProgressBar> {
    let style = ProgressStyle::with_template("{bar:30} {pos}/{len} {msg} [{elapsed} of about {duration}]")?;
    Ok(ProgressBar::new(measurements as u64).with_style(style))
}
