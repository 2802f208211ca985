//! The fraction of the bare loop that each contestant reaches: a line for each contestant, a dot for each shape.

use benches::record::Record;
use plotters::prelude::*;

use super::distinct;
use super::style::{Area, Drawn, TEXT, color, font, legend, picture};

const LINE_HEIGHT: usize = 26;
const LEGEND_LEFT: i32 = 860;

pub(super) fn svg(records: &[&Record], title: &str) -> Drawn<String> {
    let ours: Vec<&Record> = records.iter().copied().filter(|record| record.peer.is_none()).collect();
    let rules = distinct(ours.iter().map(|record| record.rule.as_str()));
    let shapes = distinct(ours.iter().map(|record| record.shape.as_str()));
    picture((1000, (120 + LINE_HEIGHT * rules.len()) as u32), |root| {
        let (area, side) = root.split_horizontally(LEGEND_LEFT);
        chart(&area, &ours, &rules, &shapes, title)?;
        legend(&side, &shapes)
    })
}

fn chart(area: &Area<'_>, records: &[&Record], rules: &[&str], shapes: &[&str], title: &str) -> Drawn {
    let highest = records.iter().map(|record| record.fraction_of_bare_loop).fold(1.1, f64::max) * 1.03;
    let mut chart = ChartBuilder::on(area)
        .caption(format!("Bandwidth over that of a bare loop: {title}"), font(20))
        .margin(12)
        .x_label_area_size(44)
        .y_label_area_size(190)
        .build_cartesian_2d(0.0..highest, (rules.len() as f64 - 0.5)..-0.5)?;
    chart
        .configure_mesh()
        .disable_y_axis()
        .disable_y_mesh()
        .x_desc("1 is what memory allows")
        .x_labels(12)
        .label_style(font(14))
        .axis_desc_style(font(15))
        .bold_line_style(BLACK.mix(0.15))
        .light_line_style(BLACK.mix(0.04))
        .draw()?;
    let edges = [(1.0, rules.len() as f64 - 0.5), (1.0, -0.5)];
    chart.draw_series(LineSeries::new(edges, TEXT.stroke_width(1)))?;
    for record in records {
        let (Some(line), Some(place)) = (place(rules, &record.rule), place(shapes, &record.shape)) else { continue };
        // Dots of equal value stay visible one below the other.
        let spread = 0.6 * (place as f64 / shapes.len() as f64 - 0.5);
        let dot = Circle::new((record.fraction_of_bare_loop, line as f64 + spread), 4, color(place).filled());
        chart.draw_series([dot])?;
    }
    let height = chart.plotting_area().get_pixel_range().1;
    for (line, rule) in rules.iter().enumerate() {
        let share = (line as f64 + 0.5) / rules.len() as f64;
        let y = height.start + ((height.end - height.start) as f64 * share) as i32;
        area.draw(&Text::new((*rule).to_owned(), (16, y - 7), font(14)))?;
    }
    Ok(())
}

fn place(names: &[&str], name: &str) -> Option<usize> {
    names.iter().position(|other| *other == name)
}
