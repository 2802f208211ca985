//! The validation losses as SVG: above the losses, below their differences from those of the first contestant.

use std::io;
use std::ops::Range;

use plotters::coord::Shift;
use plotters::prelude::*;

use crate::Outcome;
use crate::summary::Summary;

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Drawn<T = ()> = Result<T, DrawingAreaErrorKind<io::Error>>;

/// Step and loss.
type Curve = Vec<(u64, f64)>;

const SIZE: (u32, u32) = (900, 700);
const FONT: &str = "sans-serif";
const TEXT: RGBColor = RGBColor(60, 60, 60);
const SEEDS: RGBColor = RGBColor(190, 190, 190);

/// Colors that stay distinct with a color vision deficiency, after P. Tol, "Colour schemes", 2021.
const COLORS: [RGBColor; 8] = [
    RGBColor(70, 70, 70),
    RGBColor(0, 119, 187),
    RGBColor(238, 119, 51),
    RGBColor(0, 153, 136),
    RGBColor(204, 51, 17),
    RGBColor(170, 68, 153),
    RGBColor(170, 120, 20),
    RGBColor(51, 187, 238),
];

/// A part of the picture.
struct Panel {
    title: String,
    /// Thin and grey, without a name.
    seeds: Vec<Curve>,
    /// One for each contestant.
    curves: Vec<Curve>,
}

/// Draws the means over seeds. Grey lines show how far the seeds of the first contestant lie from their mean.
pub(crate) fn svg(outcomes: &[Outcome]) -> Drawn<String> {
    let mut text = String::new();
    let root = SVGBackend::with_string(&mut text, SIZE).into_drawing_area();
    root.fill(&WHITE)?;
    let (above, below) = root.split_vertically(SIZE.1 / 2);
    let names: Vec<&str> = outcomes.iter().map(|outcome| outcome.name).collect();
    draw(&above, &losses(outcomes), &names)?;
    draw(&below, &differences(outcomes), &[])?;
    root.present()?;
    drop((root, above, below));
    Ok(text)
}

fn losses(outcomes: &[Outcome]) -> Panel {
    let title = "Loss over the held-out text".to_owned();
    Panel { title, seeds: Vec::new(), curves: outcomes.iter().map(mean).collect() }
}

fn differences(outcomes: &[Outcome]) -> Panel {
    let Some(first) = outcomes.first() else { return losses(outcomes) };
    let reference = mean(first);
    let seeds = first.runs.iter().map(|run| minus(&run.validation, &reference)).collect();
    let curves = outcomes.iter().map(|outcome| minus(&mean(outcome), &reference)).collect();
    let title = format!("The same minus {}; grey: the seeds of {} minus their mean", first.name, first.name);
    Panel { title, seeds, curves }
}

/// The mean over seeds.
fn mean(outcome: &Outcome) -> Curve {
    let point = |(i, &(step, _)): (usize, &(u64, f64))| {
        (step, Summary::of(outcome.runs.iter().map(|run| run.validation[i].1)).mean)
    };
    outcome.runs[0].validation.iter().enumerate().map(point).collect()
}

fn minus(curve: &Curve, other: &Curve) -> Curve {
    curve.iter().zip(other).map(|(&(step, a), &(_, b))| (step, a - b)).collect()
}

/// Draws a panel, with a legend if there are names.
fn draw(area: &Area<'_>, panel: &Panel, names: &[&str]) -> Drawn {
    let all = || panel.seeds.iter().chain(&panel.curves).flatten();
    let last = all().map(|point| point.0).max().unwrap_or(1);
    let mut chart = ChartBuilder::on(area)
        .caption(&panel.title, (FONT, 18).into_font().color(&TEXT))
        .margin(10)
        .margin_right(30)
        .x_label_area_size(40)
        .y_label_area_size(70)
        .build_cartesian_2d(0..last, range(all().map(|point| point.1)))?;
    chart
        .configure_mesh()
        .x_desc("step")
        .label_style((FONT, 14).into_font().color(&TEXT))
        .axis_desc_style((FONT, 15).into_font().color(&TEXT))
        .bold_line_style(BLACK.mix(0.15))
        .light_line_style(TRANSPARENT)
        .draw()?;
    for seed in &panel.seeds {
        chart.draw_series(LineSeries::new(visible(seed), SEEDS.stroke_width(1)))?;
    }
    for (i, curve) in panel.curves.iter().enumerate() {
        let style = COLORS[i % COLORS.len()].stroke_width(2);
        let series = chart.draw_series(LineSeries::new(visible(curve), style))?;
        if let Some(&name) = names.get(i) {
            series.label(name).legend(move |(x, y)| PathElement::new([(x, y), (x + 20, y)], style));
        }
    }
    if !names.is_empty() {
        let font = (FONT, 14).into_font().color(&TEXT);
        chart.configure_series_labels().background_style(WHITE).label_font(font).draw()?;
    }
    Ok(())
}

/// The points that have a place in a picture.
fn visible(curve: &Curve) -> impl Iterator<Item = (u64, f64)> {
    curve.iter().copied().filter(|point| point.1.is_finite())
}

/// From the smallest to the largest number, with a margin.
fn range(numbers: impl Iterator<Item = f64>) -> Range<f64> {
    let finite = numbers.filter(|number| number.is_finite());
    let (low, high) = finite.fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), x| (a.min(x), b.max(x)));
    let margin = 0.05 * (high - low);
    if margin > 0.0 { low - margin..high + margin } else { -1.0..1.0 }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::training::Run;

    fn outcome(name: &'static str, losses: &[f64]) -> Outcome {
        let validation = (1..).zip(losses.iter().copied()).collect();
        let (time, sample) = (Duration::ZERO, String::new());
        Outcome { name, runs: vec![Run { validation, training_loss: 1.0, state_bytes: 0, time, sample }] }
    }

    #[test]
    fn differences_are_those_from_the_first_contestant() {
        let outcomes = [outcome("a", &[2.0, 1.0]), outcome("b", &[2.5, 1.25])];
        let Panel { seeds, curves, .. } = differences(&outcomes);
        assert_eq!(seeds, [[(1, 0.0), (2, 0.0)]]);
        assert_eq!(curves, [[(1, 0.0), (2, 0.0)], [(1, 0.5), (2, 0.25)]]);
        let svg = svg(&outcomes).unwrap();
        assert!(svg.contains("The same minus a"), "{svg}");
    }

    #[test]
    fn there_is_a_picture_without_any_curve() {
        let svg = svg(&[outcome("nothing", &[f64::NAN, f64::INFINITY])]).unwrap();
        assert!(svg.contains("nothing") && !svg.contains("NaN"), "{svg}");
    }
}
