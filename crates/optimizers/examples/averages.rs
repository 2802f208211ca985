//! Averages of the weights: kept while training, swapped in to evaluate, and swapped back when the guard is dropped.
//!
//! ```text
//! cargo run --example averages
//! ```

use optimizers::{Ema, Error, Optimizer, Sgd};

/// Points `(x, y)`, each 0.5 above or below the best line, y = 2 x + 1: its mean squared error is 0.25.
const POINTS: [(f64, f64); 4] = [(-1.0, -0.5), (0.5, 1.5), (-0.5, -0.5), (1.0, 3.5)];

/// A line: slope and offset.
type Line = [f64; 2];

fn main() -> Result<(), Error> {
    let mut line: Line = [0.0, 0.0];
    let mut opt = Optimizer::builder(Sgd::new(0.5)).ema(Ema::new(0.98)).build()?;
    for _ in 0..100 {
        for (x, y) in POINTS {
            // One point at a time: each step pulls the line to that point, and away from the others.
            opt.minimize(&mut line, |[slope, offset]| {
                let error = slope * x + offset - y;
                (error * error / 2.0, [error * x, error])
            })?;
        }
    }
    show("values", &line);
    {
        let averages = opt.swap_in_averages(&mut line)?;
        show("averages", &averages);
    }
    show("values again", &line);
    Ok(())
}

fn show(what: &str, [slope, offset]: &Line) {
    let squares = POINTS.map(|(x, y)| (slope * x + offset - y).powi(2));
    let error = squares.iter().sum::<f64>() / POINTS.len() as f64;
    println!("{what:12}  y = {slope:.3} x + {offset:.3}  mean squared error {error:.4}");
}
