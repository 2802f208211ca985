//! Our contestants beside peers: time per parameter, one line each.

use benches::record::Record;
use plotters::prelude::*;

use super::distinct;
use super::style::{Area, Drawn, color, font, picture};

const LINE_HEIGHT: usize = 22;

/// A plot for each shape on which peers were timed.
pub(super) fn by_shape<'a>(records: &[&'a Record], title: &str) -> Drawn<Vec<(&'a str, String)>> {
    let with_peers = records.iter().filter(|record| record.peer.is_some());
    let shapes = distinct(with_peers.map(|record| record.shape.as_str()));
    shapes.into_iter().map(|shape| Ok((shape, svg(records, shape, title)?))).collect()
}

fn svg(records: &[&Record], shape: &str, title: &str) -> Drawn<String> {
    let here: Vec<&Record> = records.iter().copied().filter(|record| record.shape == shape).collect();
    let has_peer = |rule: &str| here.iter().any(|record| record.rule == rule && record.peer.is_some());
    let shown: Vec<&Record> = here.iter().copied().filter(|record| has_peer(&record.rule)).collect();
    picture((1000, (100 + LINE_HEIGHT * shown.len()) as u32), |root| chart(root, &shown, &format!("{shape}, {title}")))
}

fn chart(area: &Area<'_>, records: &[&Record], title: &str) -> Drawn {
    let lines = records.len() as f64;
    let highest = records.iter().map(|record| record.ns_per_param).fold(0.0, f64::max) * 1.5;
    let lowest = records.iter().map(|record| record.ns_per_param).fold(f64::INFINITY, f64::min) * 0.5;
    let mut chart = ChartBuilder::on(area)
        .caption(format!("Ours and peers: {title}"), font(20))
        .margin(12)
        .x_label_area_size(44)
        .y_label_area_size(430)
        .build_cartesian_2d((lowest..highest).log_scale(), (lines - 0.5)..-0.5)?;
    chart
        .configure_mesh()
        .disable_y_axis()
        .disable_y_mesh()
        .x_desc("ns per parameter")
        .x_label_formatter(&|time| (*time as f32).to_string())
        .label_style(font(14))
        .axis_desc_style(font(15))
        .bold_line_style(BLACK.mix(0.15))
        .light_line_style(BLACK.mix(0.05))
        .draw()?;
    let (left, height) = {
        let (x, y) = chart.plotting_area().get_pixel_range();
        (x.start, y)
    };
    for (line, record) in records.iter().enumerate() {
        let is_ours = record.peer.is_none();
        let color = color(usize::from(!is_ours));
        let dot = (record.ns_per_param, line as f64);
        chart.draw_series(LineSeries::new([(lowest, line as f64), dot], color.mix(0.4).stroke_width(1)))?;
        chart.draw_series([Circle::new(dot, 5, color.filled())])?;
        let share = (line as f64 + 0.5) / lines;
        let y = height.start + ((height.end - height.start) as f64 * share) as i32 - 7;
        let name = record.peer.clone().unwrap_or_else(|| record.rule.clone());
        let indent = if is_ours { 0 } else { 14 };
        area.draw(&Text::new(name, (16 + indent, y), font(13)))?;
        let time = format!("{:.3}", record.ns_per_param);
        area.draw(&Text::new(time, (left - 52, y), font(13)))?;
    }
    Ok(())
}
