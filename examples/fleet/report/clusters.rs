//! The states of single components: clusters in two of their metrics, and the moves between them. The paper's Figures
//! 3, 7 and 8.

use std::collections::BTreeMap;

use super::behaviour::Behaviour;
use super::svg::{Font, GRID, MUTED, Scale, Svg, short, state_color};
use crate::record::{Component, Record};
use crate::summary::Summary;

const WIDTH: f64 = 350.0;
const HEIGHT: f64 = 500.0;

/// Steady components of several states without an incident, one of each class where there are enough.
pub fn examples<'a>(record: &'a Record, summary: &Summary, count: usize) -> Vec<&'a str> {
    let is_calm = |name: &str| summary.episodes.iter().all(|episode| episode.component != name);
    let mut candidates: Vec<(i64, &str)> = record
        .components
        .iter()
        .filter_map(|(name, component)| {
            let found = component.discovery.as_ref()?;
            let shows = found.states > 1 && !component.states.is_empty();
            (shows && is_calm(name)).then_some((-found.states, name.as_str()))
        })
        .collect();
    candidates.sort_unstable();
    let mut chosen: Vec<&str> = Vec::new();
    for (_, name) in &candidates {
        if chosen.iter().all(|other| super::class_of(other) != super::class_of(name)) {
            chosen.push(name);
        }
    }
    let others = candidates.iter().map(|(_, name)| *name).filter(|name| !chosen.contains(name));
    let others: Vec<&str> = others.collect();
    chosen.extend(others);
    chosen.truncate(count);
    chosen
}

pub fn draw(record: &Record, name: &str) -> String {
    let mut svg = Svg::new(WIDTH, HEIGHT);
    let Some(component) = record.components.get(name) else { return svg.finish() };
    svg.text((10.0, 18.0), name, Font::TITLE);
    let states = component.discovery.as_ref().map_or(0, |found| found.states);
    let version = component.discovery.as_ref().map_or(0, |found| found.model_version);
    let text = format!("{states} states, model {version}");
    svg.text((WIDTH - 10.0, 18.0), &text, Font::TICK.anchored("end"));

    let (across, up) = telling_metrics(record, component);
    let points: Vec<(i64, f64, f64)> = component
        .series(across)
        .zip(component.series(up))
        .filter_map(|((time, x), (_, y))| Some((*component.states.get(&time)?, x, y)))
        .filter(|(_, x, y)| x.is_finite() && y.is_finite())
        .collect();
    let x = Scale { values: span(points.iter().map(|p| p.1)), places: (46.0, WIDTH - 12.0) };
    let y = Scale { values: span(points.iter().map(|p| p.2)), places: (262.0, 46.0) };
    for tick in y.ticks(4) {
        svg.line((x.places.0, y.at(tick)), (x.places.1, y.at(tick)), GRID, 1.0);
        let font = Font::TICK.anchored("end").sized(10.0);
        svg.text((x.places.0 - 5.0, y.at(tick) + 3.5), &short(tick), font);
    }
    for tick in x.ticks(5) {
        svg.line((x.at(tick), y.places.0), (x.at(tick), y.places.1), GRID, 1.0);
        svg.text((x.at(tick), 276.0), &short(tick), Font::TICK.sized(10.0));
    }
    svg.text((x.places.1, 290.0), &record.metrics[across], Font::TICK.anchored("end"));
    svg.text((x.places.0 - 36.0, 38.0), &record.metrics[up], Font::TICK.anchored("start"));
    for (state, across, up) in &points {
        let at = (x.at(*across), y.at(*up));
        svg.circle(at, 2.2, state_color(*state), 0.55);
    }
    svg.line((10.0, 300.0), (WIDTH - 10.0, 300.0), GRID, 1.0);
    let behaviour = Behaviour::of_model(component);
    if behaviour.states.is_empty() {
        svg.text((WIDTH / 2.0, 402.0), "no moves told", Font::TICK.filled(MUTED));
    } else {
        behaviour.draw(&mut svg, (WIDTH / 2.0, 410.0), 74.0);
    }
    svg.finish()
}

fn span(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
    for value in values {
        (low, high) = (low.min(value), high.max(value));
    }
    if low > high {
        return (0.0, 1.0);
    }
    let margin = ((high - low) * 0.06).max(0.5);
    (low - margin, high + margin)
}

/// The two metrics that tell the states apart best and do not say the same.
fn telling_metrics(record: &Record, component: &Component) -> (usize, usize) {
    let mut told: Vec<(f64, usize)> = (0..record.metrics.len())
        .map(|metric| (between_states(component, metric), metric))
        .collect();
    told.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    let best = told.first().map_or(0, |first| first.1);
    let second = told
        .iter()
        .skip(1)
        .filter(|(told, _)| *told > 0.25)
        .find(|(_, metric)| correlation(component, best, *metric).abs() < 0.985)
        .or(told.get(1))
        .map_or(best, |second| second.1);
    (best.min(second), best.max(second))
}

/// Share of a metric's variance that lies between states.
fn between_states(component: &Component, metric: usize) -> f64 {
    let mut states: BTreeMap<i64, (f64, f64)> = BTreeMap::new();
    let (mut count, mut sum, mut squares) = (0.0, 0.0, 0.0);
    for (time, value) in component.series(metric).filter(|(_, value)| value.is_finite()) {
        let Some(state) = component.states.get(&time).filter(|state| **state >= 0) else {
            continue;
        };
        let entry = states.entry(*state).or_default();
        (entry.0, entry.1) = (entry.0 + 1.0, entry.1 + value);
        (count, sum, squares) = (count + 1.0, sum + value, squares + value * value);
    }
    let total = squares - sum * sum / f64::max(count, 1.0);
    let between: f64 =
        states.values().map(|(n, s)| s * s / n).sum::<f64>() - sum * sum / f64::max(count, 1.0);
    if total > 1e-9 { between / total } else { 0.0 }
}

fn correlation(component: &Component, a: usize, b: usize) -> f64 {
    let pairs = || {
        component
            .series(a)
            .zip(component.series(b))
            .map(|((_, a), (_, b))| (a, b))
            .filter(|(a, b)| a.is_finite() && b.is_finite())
    };
    let count = pairs().count().max(1) as f64;
    let (mean_a, mean_b) = pairs().fold((0.0, 0.0), |sums, (a, b)| (sums.0 + a, sums.1 + b));
    let (mean_a, mean_b) = (mean_a / count, mean_b / count);
    let (mut ab, mut aa, mut bb) = (0.0, 0.0, 0.0);
    for (a, b) in pairs() {
        let (a, b) = (a - mean_a, b - mean_b);
        (ab, aa, bb) = (ab + a * b, aa + a * a, bb + b * b);
    }
    if aa * bb > 0.0 { ab / (aa * bb).sqrt() } else { 0.0 }
}
