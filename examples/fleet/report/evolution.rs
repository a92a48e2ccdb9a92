//! A model that follows its component: the metric whose usual level moved most, and what the models held for usual.

use std::collections::BTreeMap;

use super::svg::{ALARM, Font, GRID, INK, LINE, MUTED, Point, Scale, Svg, short, state_color};
use crate::clock;
use crate::record::Record;

const WIDTH: f64 = 1120.0;
const HEIGHT: f64 = 300.0;

/// Component and metric whose first state moved most between its first model and its last, in deviations.
pub fn choose(record: &Record) -> Option<(&str, usize)> {
    let mut best: Option<(f64, &str, usize)> = None;
    for (name, component) in &record.components {
        // A component that incidents or wandering moved is no example.
        let is_calm = record.alarms.iter().all(|alarm| alarm.component != *name);
        let mut first: BTreeMap<&str, (f64, f64)> = BTreeMap::new();
        let mut last: BTreeMap<&str, f64> = BTreeMap::new();
        for model in component.models.iter().filter(|model| model.state == 0 && is_calm) {
            first.entry(&model.metric).or_insert((model.mean, model.sd));
            last.insert(&model.metric, model.mean);
        }
        for (metric, (mean, sd)) in first {
            let moved = (last[metric] - mean).abs() / (sd.max(mean.abs() * 0.01) + 1e-6);
            let Some(metric) = record.metric(metric) else { continue };
            if best.is_none_or(|(most, ..)| moved > most) {
                best = Some((moved, name, metric));
            }
        }
    }
    best.map(|(_, name, metric)| (name, metric))
}

pub fn draw(record: &Record, name: &str, metric: usize) -> String {
    let mut svg = Svg::new(WIDTH, HEIGHT);
    let Some(component) = record.components.get(name) else { return svg.finish() };
    let points: Vec<(i64, f64)> =
        component.series(metric).filter(|(_, value)| value.is_finite()).collect();
    let (Some(first), Some(last)) = (points.first(), points.last()) else { return svg.finish() };
    let low = points.iter().map(|point| point.1).fold(f64::INFINITY, f64::min);
    let high = points.iter().map(|point| point.1).fold(f64::NEG_INFINITY, f64::max);
    let margin = ((high - low) * 0.08).max(0.5);
    let x = Scale { values: (first.0 as f64, last.0 as f64), places: (60.0, WIDTH - 16.0) };
    let y = Scale { values: (low - margin, high + margin), places: (HEIGHT - 40.0, 34.0) };
    svg.text((10.0, 18.0), &format!("{name}: {}", record.metrics[metric]), Font::TITLE);
    for tick in y.ticks(5) {
        svg.line((x.places.0, y.at(tick)), (x.places.1, y.at(tick)), GRID, 1.0);
        svg.text((54.0, y.at(tick) + 4.0), &short(tick), Font::TICK.anchored("end"));
    }
    for ms in x.times(12) {
        let text = if ms % 86_400_000 == 0 { clock::day(ms) } else { clock::hour(ms) };
        svg.text((x.at(ms as f64), HEIGHT - 20.0), &text, x.anchor(ms as f64, Font::TICK));
    }
    for (ms, value) in &points {
        let color = component.states.get(ms).map_or("#c3ccd5", |state| state_color(*state));
        svg.circle((x.at(*ms as f64), y.at(*value)), 1.6, color, 0.55);
    }
    // Each model holds from its own time to that of the next.
    let models: Vec<_> = component
        .models
        .iter()
        .filter(|model| model.state == 0 && model.metric == record.metrics[metric])
        .collect();
    let mut middle: Vec<Point> = Vec::new();
    for (number, model) in models.iter().enumerate() {
        let from = x.at(model.time_ms as f64);
        let to = models.get(number + 1).map_or(x.places.1, |next| x.at(next.time_ms as f64));
        let (top, bottom) = (y.at(model.mean + 2.0 * model.sd), y.at(model.mean - 2.0 * model.sd));
        svg.rect((from, top), (to - from, bottom - top), LINE, 0.16);
        svg.line((from, y.places.0), (from, y.places.0 + 5.0), MUTED, 1.0);
        middle.extend([(from, y.at(model.mean)), (to, y.at(model.mean))]);
    }
    svg.polyline(&middle, INK, 1.6);
    for alarm in record.alarms.iter().filter(|alarm| alarm.component == name) {
        svg.rect((x.at(alarm.time_ms as f64) - 1.0, 26.0), (2.0, 7.0), ALARM, 1.0);
    }
    let text = format!("{} models; band: mean and two deviations of state #0", models.len());
    svg.text((WIDTH - 16.0, 18.0), &text, Font::TICK.anchored("end"));
    svg.finish()
}
