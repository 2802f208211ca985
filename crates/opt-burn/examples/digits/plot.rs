//! The loss curves as SVG, on a logarithmic axis.

use std::io;

use plotters::prelude::*;

use crate::training::Run;

/// Colors that stay distinct with a color vision deficiency, after P. Tol, "Colour schemes", 2021.
const COLORS: [RGBColor; 5] =
    [RGBColor(0, 119, 187), RGBColor(238, 119, 51), RGBColor(0, 153, 136), RGBColor(204, 51, 17), RGBColor(70, 70, 70)];

/// Draws the curves of all runs. Losses that are not above 0 are left out.
pub(crate) fn svg(runs: &[Run]) -> Result<String, DrawingAreaErrorKind<io::Error>> {
    let mut text = String::new();
    let root = SVGBackend::with_string(&mut text, (900, 540)).into_drawing_area();
    root.fill(&WHITE)?;
    let losses = || runs.iter().flat_map(|run| run.losses.iter().copied()).filter(|&loss| loss > 0.0);
    let (low, high) = (losses().fold(1.0, f64::min), losses().fold(1.0, f64::max));
    let epochs = runs.iter().map(|run| run.losses.len()).max().unwrap_or(1).max(2);
    let mut chart = ChartBuilder::on(&root)
        .caption("Training loss on handwritten digits", ("sans-serif", 22))
        .margin(12)
        .x_label_area_size(48)
        .y_label_area_size(76)
        .build_cartesian_2d(1..epochs, (0.8 * low..1.2 * high).log_scale())?;
    chart.configure_mesh().x_desc("epoch").y_desc("loss, logarithmic").draw()?;
    for (i, run) in runs.iter().enumerate() {
        let color = COLORS[i % COLORS.len()];
        let points = (1..).zip(run.losses.iter().copied()).filter(|&(_, loss)| loss > 0.0);
        chart
            .draw_series(LineSeries::new(points, color.stroke_width(2)))?
            .label(&run.name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 24, y)], color.stroke_width(2)));
    }
    chart.configure_series_labels().background_style(WHITE.mix(0.8)).border_style(BLACK).draw()?;
    root.present()?;
    drop((chart, root));
    Ok(text)
}
