//! Draws memory and queues of a run over time, as an SVG.

use std::error::Error;
use std::path::Path;

use plotters::prelude::*;

use crate::soak::{Outcome, Sample};

const MIB: f64 = (1 << 20) as f64;
const KIB: f64 = (1 << 10) as f64;

/// One line of a chart.
type Line = (&'static str, RGBColor, fn(&Sample) -> f64);

/// Memory above, queues below; a dashed line for each restart.
pub(crate) fn draw(path: &Path, outcome: &Outcome) -> Result<(), Box<dyn Error>> {
    let area = SVGBackend::new(path, (1200, 800)).into_drawing_area();
    area.fill(&WHITE)?;
    let (memory, queues) = area.split_vertically(430);
    chart(
        &memory,
        "memory of a soak, in MiB",
        outcome,
        &[
            ("resident, without the program file", RGBColor(49, 91, 125), |sample| {
                sample.resident as f64 / MIB
            }),
            ("charged by the engine", RGBColor(200, 110, 40), |sample| sample.charged as f64 / MIB),
        ],
    )?;
    chart(
        &queues,
        "queues, in KiB, over seconds",
        outcome,
        &[
            ("waiting for readers", RGBColor(79, 163, 115), |sample| sample.waiting as f64 / KIB),
            ("on their way in", RGBColor(148, 103, 189), |sample| sample.ingress as f64 / KIB),
        ],
    )?;
    area.present()?;
    Ok(())
}

fn chart(
    area: &DrawingArea<SVGBackend<'_>, plotters::coord::Shift>,
    title: &str,
    outcome: &Outcome,
    lines: &[Line],
) -> Result<(), Box<dyn Error>> {
    let last = outcome.samples.last().map_or(1.0, |sample| sample.seconds);
    let values = outcome.samples.iter().flat_map(|sample| lines.iter().map(|line| line.2(sample)));
    let most = values.fold(1.0, f64::max) * 1.15;
    let mut chart = ChartBuilder::on(area)
        .caption(title, ("sans-serif", 18))
        .margin(12)
        .x_label_area_size(30)
        .y_label_area_size(64)
        .build_cartesian_2d(0.0..last, 0.0..most)?;
    let number = |value: &f64| format!("{value:.0}");
    chart
        .configure_mesh()
        .light_line_style(WHITE)
        .x_labels(12)
        .x_label_formatter(&number)
        .y_label_formatter(&number)
        .draw()?;
    let grey = RGBColor(170, 170, 170);
    for &second in &outcome.restarts {
        chart.draw_series(std::iter::once(PathElement::new(
            vec![(second, 0.0), (second, most)],
            grey.mix(0.5),
        )))?;
    }
    for &(name, color, of) in lines {
        let points = outcome.samples.iter().map(|sample| (sample.seconds, of(sample)));
        chart
            .draw_series(LineSeries::new(points, color.stroke_width(2)))?
            .label(name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 14, y)], color));
    }
    let restart = PathElement::new(vec![(0.0, 0.0), (0.0, 0.0)], grey);
    chart
        .draw_series(std::iter::once(restart))?
        .label("restart from a checkpoint")
        .legend(move |(x, y)| PathElement::new([(x, y), (x + 14, y)], grey));
    chart
        .configure_series_labels()
        .border_style(BLACK.mix(0.3))
        .background_style(WHITE.mix(0.8))
        .position(SeriesLabelPosition::UpperRight)
        .draw()?;
    Ok(())
}
