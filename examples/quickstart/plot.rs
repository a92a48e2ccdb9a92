//! Draws a series, the bounds that its detector expected, and the anomalies, as an SVG.

use std::path::Path;

use driftline::arrow::array::TimestampMillisecondArray;
use driftline::arrow::util::display::array_value_to_string;
use plotters::prelude::*;

use crate::BoxResult;

/// One row of the series.
pub struct Point {
    pub time_ms: i64,
    pub value: f64,
    pub bounds: Option<(f64, f64)>,
    pub is_anomaly: bool,
}

pub fn draw(path: &Path, title: &str, points: &[Point]) -> BoxResult<()> {
    let (Some(first), Some(last)) = (points.first(), points.last()) else {
        return Err("there is nothing to draw: no row was judged".into());
    };
    let least = points.iter().map(|p| p.value).fold(f64::INFINITY, f64::min);
    let most = points.iter().map(|p| p.value).fold(f64::NEG_INFINITY, f64::max);
    // Bounds may lie far outside the series; half its height on each side is enough of them.
    let margin = ((most - least) * 0.5).max(1e-9);
    let (bottom, top) = (least - margin, most + margin);

    let area = SVGBackend::new(path, (1200, 420)).into_drawing_area();
    area.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&area)
        .caption(title, ("sans-serif", 20))
        .margin(12)
        .x_label_area_size(36)
        .y_label_area_size(64)
        .build_cartesian_2d(first.time_ms..last.time_ms.max(first.time_ms + 1), bottom..top)?;
    chart
        .configure_mesh()
        .light_line_style(WHITE)
        .x_labels(8)
        .x_label_formatter(&|ms| label(*ms))
        .draw()?;

    let bounded: Vec<(i64, f64, f64)> = points
        .iter()
        .filter_map(|p| {
            p.bounds.map(|(l, u)| (p.time_ms, l.clamp(bottom, top), u.clamp(bottom, top)))
        })
        .collect();
    let outline =
        bounded.iter().map(|p| (p.0, p.2)).chain(bounded.iter().rev().map(|p| (p.0, p.1)));
    let band = RGBColor(158, 202, 225);
    chart
        .draw_series(std::iter::once(Polygon::new(outline.collect::<Vec<_>>(), band.mix(0.5))))?
        .label("expected")
        .legend(move |(x, y)| {
            Rectangle::new([(x, y - 5), (x + 14, y + 5)], band.mix(0.5).filled())
        });
    let line = RGBColor(49, 91, 125);
    chart
        .draw_series(LineSeries::new(points.iter().map(|p| (p.time_ms, p.value)), &line))?
        .label("measured")
        .legend(move |(x, y)| PathElement::new([(x, y), (x + 14, y)], line));
    let marked = points.iter().filter(|p| p.is_anomaly);
    chart
        .draw_series(marked.map(|p| Circle::new((p.time_ms, p.value), 4, RED.filled())))?
        .label("anomaly")
        .legend(|(x, y)| Circle::new((x + 7, y), 4, RED.filled()));
    chart
        .configure_series_labels()
        .border_style(BLACK.mix(0.3))
        .background_style(WHITE.mix(0.8))
        .position(SeriesLabelPosition::UpperLeft)
        .draw()?;
    area.present()?;
    Ok(())
}

fn label(ms: i64) -> String {
    let text =
        array_value_to_string(&TimestampMillisecondArray::from(vec![ms]), 0).unwrap_or_default();
    text.get(5..16).unwrap_or(&text).replace('T', " ")
}
