//! The loss curves as SVG.

use std::io;
use std::path::Path;

use plotters::prelude::*;

use super::run::Point;

type Drawn = std::result::Result<(), DrawingAreaErrorKind<io::Error>>;

const SIZE: (u32, u32) = (900, 500);
const FONT: &str = "sans-serif";
const TRAINING: RGBColor = RGBColor(0, 119, 187);
const TEST: RGBColor = RGBColor(238, 119, 51);

/// Draws the loss of the training data and of the test data over the steps.
pub(crate) fn write(path: &Path, caption: &str, points: &[Point]) -> Drawn {
    let root = SVGBackend::new(path, SIZE).into_drawing_area();
    root.fill(&WHITE)?;
    let last = points.last().map_or(1, |point| point.step);
    let mut chart = ChartBuilder::on(&root)
        .caption(caption, (FONT, 20))
        .margin(12)
        .x_label_area_size(44)
        .y_label_area_size(60)
        .build_cartesian_2d(0..last, 0.0..highest(points))?;
    chart.configure_mesh().x_desc("step").y_desc("loss").light_line_style(WHITE).draw()?;
    for (label, color, loss) in [
        ("training", TRAINING, (|point: &Point| point.training) as fn(&Point) -> f64),
        ("test", TEST, |point: &Point| point.test),
    ] {
        let curve = points.iter().map(|point| (point.step, loss(point))).filter(|(_, loss)| loss.is_finite());
        let line = chart.draw_series(LineSeries::new(curve, color.stroke_width(2)))?;
        line.label(label).legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], color.stroke_width(2)));
    }
    chart.configure_series_labels().background_style(WHITE).draw()?;
    root.present()
}

/// A little more than the highest loss that can be drawn.
fn highest(points: &[Point]) -> f64 {
    let losses = points.iter().flat_map(|point| [point.training, point.test]);
    1.05 * losses.filter(|loss| loss.is_finite()).fold(0.1, f64::max)
}
