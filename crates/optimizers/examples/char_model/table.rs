//! The results as a table.

use std::f64::consts::LN_2;
use std::io::{self, Write};

use crate::Outcome;
use crate::summary::Summary;

/// Writes one line per contestant, below a line of titles. A spread is the standard deviation over seeds.
pub(crate) fn write(out: &mut impl Write, outcomes: &[Outcome]) -> io::Result<()> {
    let Some(first) = outcomes.first() else { return Ok(()) };
    let points = points(first);
    let rows: Vec<Vec<String>> =
        [titles(first, &points)].into_iter().chain(outcomes.iter().map(|o| row(o, first, &points))).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..rows[0].len()).map(width).collect();
    for row in &rows {
        let cells = row.iter().zip(&widths).enumerate().map(|(column, (cell, &width))| match column {
            0 => format!("{cell:width$}"),
            _ => format!("{cell:>width$}"),
        });
        writeln!(out, "{}", cells.collect::<Vec<_>>().join("  "))?;
    }
    Ok(())
}

/// The evaluations to show: after a quarter, a half and all of the steps.
fn points(outcome: &Outcome) -> Vec<usize> {
    let len = outcome.runs[0].validation.len();
    let mut points: Vec<usize> = [len / 4, len / 2, len].into_iter().filter_map(|point| point.checked_sub(1)).collect();
    points.dedup();
    points
}

fn titles(first: &Outcome, points: &[usize]) -> Vec<String> {
    let steps = points.iter().map(|&point| format!("loss at step {}", first.runs[0].validation[point].0));
    let start = ["contestant", "state bytes", "training loss"].map(str::to_owned);
    let end = [format!("minus {}", first.name), "bits a character".to_owned(), "seconds".to_owned()];
    start.into_iter().chain(steps).chain(end).collect()
}

fn row(outcome: &Outcome, first: &Outcome, points: &[usize]) -> Vec<String> {
    let runs = &outcome.runs;
    let over_runs = |number: &dyn Fn(usize) -> f64| Summary::of((0..runs.len()).map(number));
    let last = |outcome: &Outcome, run: usize| outcome.runs[run].validation.last().map_or(f64::NAN, |point| point.1);
    let losses = points.iter().map(|&point| over_runs(&|run| runs[run].validation[point].1).to_string());
    let start = [
        outcome.name.to_owned(),
        runs[0].state_bytes.to_string(),
        over_runs(&|run| runs[run].training_loss).to_string(),
    ];
    let end = [
        format!("{:+}", over_runs(&|run| last(outcome, run) - last(first, run))),
        format!("{:.3}", over_runs(&|run| last(outcome, run)).mean / LN_2),
        format!("{:.1}", over_runs(&|run| runs[run].time.as_secs_f64()).mean),
    ];
    start.into_iter().chain(losses).chain(end).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::training::Run;

    fn outcome(name: &'static str, losses: [f64; 2]) -> Outcome {
        let run = |loss| Run {
            validation: vec![(10, 4.0), (20, loss)],
            training_loss: 1.5,
            state_bytes: 1_000,
            time: Duration::from_millis(1_250),
            sample: String::new(),
        };
        Outcome { name, runs: losses.map(run).into() }
    }

    #[test]
    fn differences_are_between_runs_of_the_same_seed() {
        let mut out = Vec::new();
        write(&mut out, &[outcome("f32", [2.0, 3.0]), outcome("narrow", [2.5, 3.5])]).unwrap();
        let expected = "\
contestant  state bytes    training loss  loss at step 10  loss at step 20         minus f32  bits a character  seconds
f32                1000  1.5000 ± 0.0000  4.0000 ± 0.0000  2.5000 ± 0.7071  +0.0000 ± 0.0000             3.607      1.2
narrow             1000  1.5000 ± 0.0000  4.0000 ± 0.0000  3.0000 ± 0.7071  +0.5000 ± 0.0000             4.328      1.2
";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
}
