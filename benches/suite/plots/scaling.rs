//! Time per parameter over the size of one tensor, with the bare loops.

use benches::record::Record;
use plotters::prelude::*;

use super::distinct;
use super::style::{Area, Drawn, color, font, legend, picture};

/// The smallest number of sizes for a curve.
const SIZES: usize = 5;

/// A contestant with its sizes, ascending.
type Curve<'a> = (&'a str, Vec<&'a Record>);

/// None if no contestant was timed at enough sizes.
pub(super) fn svg(records: &[&Record], title: &str) -> Drawn<Option<String>> {
    let curves = curves(records);
    if curves.is_empty() {
        return Ok(None);
    }
    let names: Vec<&str> = curves.iter().map(|(name, _)| *name).collect();
    let svg = picture((1000, 600), |root| {
        let (area, side) = root.split_horizontally(780);
        chart(&area, &curves, title)?;
        legend(&side, &names)
    })?;
    Ok(Some(svg))
}

fn curves<'a>(records: &[&'a Record]) -> Vec<Curve<'a>> {
    let single: Vec<&Record> =
        records.iter().copied().filter(|record| record.tensors == 1 && record.peer.is_none()).collect();
    let rules = distinct(single.iter().map(|record| record.rule.as_str()));
    let curves = rules.into_iter().map(|rule| {
        let mut sizes: Vec<&Record> = single.iter().copied().filter(|record| record.rule == rule).collect();
        sizes.sort_by_key(|record| record.params);
        (rule, sizes)
    });
    let most = curves.clone().map(|(_, sizes)| sizes.len()).max().unwrap_or(0).max(SIZES);
    curves.filter(|(_, sizes)| sizes.len() == most).collect()
}

fn chart(area: &Area<'_>, curves: &[Curve<'_>], title: &str) -> Drawn {
    let all = || curves.iter().flat_map(|(_, records)| records.iter());
    let sizes = || all().map(|record| record.params as f64);
    let times = || all().flat_map(|record| [record.ns_per_param, record.bare_ns_per_param]);
    let low = |values: &mut dyn Iterator<Item = f64>| values.fold(f64::INFINITY, f64::min);
    let high = |values: &mut dyn Iterator<Item = f64>| values.fold(0.0, f64::max);
    let x = (low(&mut sizes()) * 0.8..high(&mut sizes()) * 1.2).log_scale();
    let y = (low(&mut times()) * 0.7..high(&mut times()) * 1.3).log_scale();
    let mut chart = ChartBuilder::on(area)
        .caption(format!("A step over one tensor: {title}"), font(20))
        .margin(12)
        .x_label_area_size(44)
        .y_label_area_size(64)
        .build_cartesian_2d(x, y)?;
    chart
        .configure_mesh()
        .x_desc("parameters")
        .y_desc("ns per parameter; dashed: bare loop")
        .x_label_formatter(&|size| format!("{size:e}"))
        .y_label_formatter(&|time| (*time as f32).to_string())
        .label_style(font(14))
        .axis_desc_style(font(15))
        .bold_line_style(BLACK.mix(0.15))
        .light_line_style(BLACK.mix(0.05))
        .draw()?;
    for (place, (_, records)) in curves.iter().enumerate() {
        let points = |time: fn(&Record) -> f64| records.iter().map(move |record| (record.params as f64, time(record)));
        let style = color(place).stroke_width(2);
        chart.draw_series(LineSeries::new(points(|record| record.ns_per_param), style).point_size(3))?;
        let bare: Vec<_> = points(|record| record.bare_ns_per_param).collect();
        chart.draw_series(DashedLineSeries::new(bare, 5, 4, color(place).stroke_width(1)))?;
    }
    Ok(())
}
