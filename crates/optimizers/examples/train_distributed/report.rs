//! The table, and the result of one rank on the same batches.

use std::io::{self, Write};

use optimizers::Gradient;
use optimizers::Gradients;

use crate::args::Args;
use crate::digits::Digits;
use crate::model::Mlp;
use crate::training::{Failure, Run, contestants, train};

const TITLES: [&str; 8] = [
    "optimizer",
    "ranks",
    "training loss",
    "test accuracy %",
    "µs/step",
    "communication %",
    "state bytes",
    "largest difference",
];

/// How far the weights may be from those of one rank. Both add the same images in another order, in 32 bits, at every
/// step: differences of about 1e-7 become about 1e-6 after hundreds of steps.
const TOLERANCE: f64 = 1e-5;

/// Prints a line for the ranks and one for a single rank, for each optimizer. Returns whether all weights agree.
pub(crate) fn print(ranks: usize, runs: &[Run], args: &Args, digits: &Digits) -> Result<bool, Failure> {
    let mut rows = vec![TITLES.map(str::to_owned)];
    let mut worst = 0.0_f64;
    for (run, (name, builder)) in runs.iter().zip(contestants()) {
        let alone = train(name, builder.build()?, (0, 1), args, digits, None, |_| ())?;
        let difference = largest_difference(&run.model, &alone.model);
        worst = if difference > worst || difference.is_nan() { difference } else { worst };
        rows.push(row(run, ranks, digits, format!("{difference:.1e}")));
        rows.push(row(&alone, 1, digits, String::new()));
    }
    write(&mut io::stdout().lock(), &rows)?;
    let agree = worst <= TOLERANCE;
    let verdict = if agree { "the same weights as one rank" } else { "OTHER WEIGHTS THAN ONE RANK" };
    writeln!(io::stdout(), "\n{verdict}: the largest difference is {worst:.1e}, {TOLERANCE:.0e} are allowed")?;
    Ok(agree)
}

fn row(run: &Run, ranks: usize, digits: &Digits, difference: String) -> [String; TITLES.len()] {
    [
        run.name.to_owned(),
        ranks.to_string(),
        format!("{:.5}", run.model.evaluate(&digits.training).loss),
        format!("{:.2}", 100.0 * run.model.evaluate(&digits.test).accuracy),
        format!("{:.1}", run.step_time.as_secs_f64() * 1e6),
        format!("{:.0}", 100.0 * run.communication),
        run.state_bytes.to_string(),
        difference,
    ]
}

fn write(out: &mut impl Write, rows: &[[String; TITLES.len()]]) -> io::Result<()> {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    for row in rows {
        let cells = row.iter().enumerate().map(|(column, cell)| match column {
            0 => format!("{cell:width$}", width = width(0)),
            _ => format!("{cell:>width$}", width = width(column)),
        });
        writeln!(out, "{}", cells.collect::<Vec<_>>().join("  ").trim_end())?;
    }
    Ok(())
}

/// The largest difference between two corresponding weights.
fn largest_difference(a: &Mlp, b: &Mlp) -> f64 {
    let pairs = weights(a).into_iter().zip(weights(b));
    pairs.map(|(a, b)| f64::from((a - b).abs())).fold(0.0, |most, next| if next <= most { most } else { next })
}

/// All weights of a model.
fn weights(model: &Mlp) -> Vec<f32> {
    let arrays = Gradients::<f32>::gradients(model).into_iter();
    let weights = arrays.flat_map(|(_, array)| match array {
        Gradient::Dense(view) => view.array().map_or_else(Vec::new, |array| array.iter().copied().collect()),
        Gradient::Sparse { .. } => Vec::new(),
    });
    weights.collect()
}
