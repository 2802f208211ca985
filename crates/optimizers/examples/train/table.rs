//! The results as a table.

use std::io::{self, Write};

use crate::training::Run;

const TITLES: [&str; 5] = ["optimizer", "settings", "training loss", "test accuracy %", "µs/step"];

/// The first two columns are text, the others numbers.
const TEXT_COLUMNS: usize = 2;

type Row = [String; TITLES.len()];

/// Writes one line per run, below a line of titles.
pub(crate) fn write(out: &mut impl Write, runs: &[Run]) -> io::Result<()> {
    let rows: Vec<Row> = [TITLES.map(str::to_owned)].into_iter().chain(runs.iter().map(row)).collect();
    let widths: [usize; TITLES.len()] =
        std::array::from_fn(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0));
    for row in &rows {
        writeln!(out, "{}", line(row, widths).trim_end())?;
    }
    Ok(())
}

fn row(run: &Run) -> Row {
    let last = run.last();
    [
        run.name.clone(),
        run.settings.clone(),
        loss(last.training_loss),
        format!("{:.2}", 100.0 * last.test_accuracy),
        format!("{:.1}", run.step_time.as_secs_f64() * 1e6),
    ]
}

/// A loss with five digits after the point, or in powers of ten if that would be long.
pub(crate) fn loss(loss: f64) -> String {
    if loss < 1e6 { format!("{loss:.5}") } else { format!("{loss:.1e}") }
}

fn line(row: &Row, widths: [usize; TITLES.len()]) -> String {
    let cells = row.iter().zip(widths).enumerate().map(|(column, (cell, width))| match column {
        0..TEXT_COLUMNS => format!("{cell:width$}"),
        _ => format!("{cell:>width$}"),
    });
    cells.collect::<Vec<_>>().join("  ")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::training::Epoch;

    #[test]
    fn losses_are_short() {
        let losses = [0.012_345_678, 123.0, 1.25e30, f64::INFINITY, f64::NAN, -f64::NAN];
        assert_eq!(losses.map(loss), ["0.01235", "123.00000", "1.2e30", "inf", "NaN", "NaN"]);
    }

    #[test]
    fn columns_are_aligned_and_nan_is_shown() {
        let run = Run {
            name: "sgd".to_owned(),
            settings: "learning_rate 0.5".to_owned(),
            epochs: vec![Epoch { training_loss: f64::NAN, test_accuracy: 0.125 }],
            step_time: Duration::from_nanos(1_550),
        };
        let mut out = Vec::new();
        write(&mut out, &[run]).unwrap();
        let expected = "\
optimizer  settings           training loss  test accuracy %  µs/step
sgd        learning_rate 0.5            NaN            12.50      1.6
";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
}
