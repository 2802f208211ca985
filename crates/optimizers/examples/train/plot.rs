//! The loss curves as SVG: training loss over epochs, on a logarithmic axis.

use std::io;
use std::ops::Range;

use plotters::coord::Shift;
use plotters::element::DashedPathElement;
use plotters::prelude::*;

use crate::training::Run;

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Drawn = Result<(), DrawingAreaErrorKind<io::Error>>;

const SIZE: (u32, u32) = (1000, 600);
/// The boundary between the chart and the legend.
const LEGEND_LEFT: i32 = 790;
const LEGEND_TOP: i32 = 62;
/// The distance between lines of the legend, unless there are too many of them.
const LEGEND_SPACING: i32 = 26;
const FONT: &str = "sans-serif";
const TEXT: RGBColor = RGBColor(60, 60, 60);

/// Losses outside are not drawn, and neither is NaN.
const VISIBLE: Range<f64> = 1e-6..1e6;

/// Colors that stay distinct with a color vision deficiency, after P. Tol, "Colour schemes", 2021.
const COLORS: [RGBColor; 8] = [
    RGBColor(0, 119, 187),
    RGBColor(238, 119, 51),
    RGBColor(0, 153, 136),
    RGBColor(204, 51, 17),
    RGBColor(170, 68, 153),
    RGBColor(70, 70, 70),
    RGBColor(170, 120, 20),
    RGBColor(51, 187, 238),
];

/// Lengths of dash and gap, used when all colors are taken; the first lines are solid.
const DASHES: [Option<(u32, u32)>; 3] = [None, Some((10, 4)), Some((3, 3))];

/// Draws the curves of all runs, and a legend in the order in which they end.
pub(crate) fn svg(runs: &[Run]) -> Result<String, DrawingAreaErrorKind<io::Error>> {
    let mut text = String::new();
    let root = SVGBackend::with_string(&mut text, SIZE).into_drawing_area();
    root.fill(&WHITE)?;
    let (chart, legend) = root.split_horizontally(LEGEND_LEFT);
    draw_chart(&chart, runs)?;
    draw_legend(&legend, runs)?;
    root.present()?;
    drop((root, chart, legend));
    Ok(text)
}

fn draw_chart(area: &Area<'_>, runs: &[Run]) -> Drawn {
    let epochs = runs.iter().map(|run| run.epochs.len() - 1).max().unwrap_or(1);
    let mut chart = ChartBuilder::on(area)
        .caption("Training loss on handwritten digits", (FONT, 22).into_font().color(&TEXT))
        .margin(12)
        .x_label_area_size(48)
        .y_label_area_size(70)
        .build_cartesian_2d(0..epochs, losses(runs).log_scale())?;
    chart
        .configure_mesh()
        .x_desc("epoch")
        .y_desc("loss, logarithmic")
        .x_labels(11)
        .y_label_formatter(&|&loss| (loss as f32).to_string())
        .label_style((FONT, 14).into_font().color(&TEXT))
        .axis_desc_style((FONT, 16).into_font().color(&TEXT))
        .bold_line_style(BLACK.mix(0.15))
        .light_line_style(BLACK.mix(0.05))
        .draw()?;
    for (i, run) in runs.iter().enumerate() {
        let curve: Vec<(usize, f64)> = visible(run).collect();
        match dash(i) {
            None => drop(chart.draw_series(LineSeries::new(curve, style(i)))?),
            Some((dash, gap)) => drop(chart.draw_series(DashedLineSeries::new(curve, dash, gap, style(i)))?),
        }
    }
    Ok(())
}

/// The order of the legend: curves that leave the plot first, then the others by their last value, from above.
fn draw_legend(area: &Area<'_>, runs: &[Run]) -> Drawn {
    let mut order: Vec<usize> = (0..runs.len()).collect();
    order.sort_by(|&a, &b| end(&runs[b]).total_cmp(&end(&runs[a])));
    let spacing = LEGEND_SPACING.min((SIZE.1 as i32 - LEGEND_TOP) / runs.len().max(1) as i32);
    for (place, i) in order.into_iter().enumerate() {
        let y = LEGEND_TOP + spacing * place as i32;
        let sample = [(4, y), (40, y)];
        match dash(i) {
            None => area.draw(&PathElement::new(sample, style(i)))?,
            Some((dash, gap)) => area.draw(&DashedPathElement::new(sample, dash, gap, style(i)))?,
        }
        area.draw(&Text::new(label(&runs[i]), (48, y - 6), (FONT, 15).into_font().color(&TEXT)))?;
    }
    Ok(())
}

/// The last value of a curve; infinity if it is not visible.
fn end(run: &Run) -> f64 {
    let loss = run.last().training_loss;
    if VISIBLE.contains(&loss) { loss } else { f64::INFINITY }
}

fn label(run: &Run) -> String {
    if end(run).is_finite() { run.name.clone() } else { format!("{} ({:.1e})", run.name, run.last().training_loss) }
}

fn style(i: usize) -> ShapeStyle {
    COLORS[i % COLORS.len()].stroke_width(2)
}

fn dash(i: usize) -> Option<(u32, u32)> {
    DASHES[i / COLORS.len() % DASHES.len()]
}

/// The points of a curve that are drawn.
fn visible(run: &Run) -> impl Iterator<Item = (usize, f64)> {
    let losses = run.epochs.iter().map(|epoch| epoch.training_loss).enumerate();
    losses.filter(|(_, loss)| VISIBLE.contains(loss))
}

/// All visible losses, down to below a power of ten, so that the axis has at least one label.
fn losses(runs: &[Run]) -> Range<f64> {
    let losses = || runs.iter().flat_map(visible).map(|(_, loss)| loss);
    let low = losses().fold(VISIBLE.end, f64::min);
    let high = losses().fold(VISIBLE.start, f64::max);
    if low <= high { 0.9 * 10_f64.powf(low.log10().floor())..high * 1.2 } else { 0.1..10.0 }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::training::Epoch;

    fn run(name: &str, losses: &[f64]) -> Run {
        let epoch = |&training_loss| Epoch { training_loss, test_accuracy: 0.5 };
        let epochs = losses.iter().map(epoch).collect();
        Run { name: name.to_owned(), settings: String::new(), epochs, step_time: Duration::ZERO }
    }

    #[test]
    fn numbers_that_have_no_place_are_left_out() {
        let bad = run("diverged", &[2.5, f64::NAN, f64::INFINITY, 0.0, 1e300]);
        assert_eq!(visible(&bad).collect::<Vec<_>>(), [(0, 2.5)]);
        let svg = svg(&[bad, run("good", &[2.5, 1.25])]).unwrap();
        assert!(svg.contains("diverged") && svg.contains("good"));
        assert!(!svg.contains("NaN"), "{svg}");
    }

    #[test]
    fn there_is_a_picture_without_any_curve() {
        assert!(svg(&[run("nothing", &[f64::NAN, f64::NAN])]).unwrap().contains("nothing (NaN)"));
        assert!(svg(&[]).unwrap().ends_with("</svg>\n"));
    }

    #[test]
    fn any_number_of_curves_has_a_style() {
        let runs: Vec<Run> = (0..40).map(|i| run(&format!("run {i}"), &[2.0, 1.0 / f64::from(i + 1)])).collect();
        assert!(svg(&runs).unwrap().contains("run 39"));
    }
}
