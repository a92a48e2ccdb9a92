//! How many components had shown all their states by which slot: the paper's Figure 6.

use std::collections::BTreeSet;

use super::svg::{Font, GRID, INK, LINE, MUTED, Point, Scale, Svg};
use crate::record::Record;

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 380.0;
/// Classes beyond these are not drawn one by one.
const CLASSES_MAX: usize = 8;

pub fn draw(record: &Record, threshold: i64) -> String {
    let (total, classes) = (curve(converged(record, |_| true)), classes(record));
    // The relation is read as changes; what is left of it is how it stands.
    let present = record.convergence.iter().filter(|(_, times)| **times > 0);
    let now: Vec<(i64, i64)> = present.map(|((slot, _, running), _)| (*slot, *running)).collect();
    let (judged, _) = record.judged_and_steady();
    let last = total.last().map_or(threshold, |(slot, _)| *slot).max(threshold) as f64 * 1.03;
    let x = Scale { values: (0.0, last), places: (58.0, WIDTH - 120.0) };
    let y = Scale { values: (0.0, judged.max(1) as f64), places: (HEIGHT - 44.0, 20.0) };

    let mut svg = Svg::new(WIDTH, HEIGHT);
    for tick in y.ticks(6) {
        svg.line((x.places.0, y.at(tick)), (x.places.1, y.at(tick)), GRID, 1.0);
        let font = Font::TICK.anchored("end");
        svg.text((x.places.0 - 8.0, y.at(tick) + 4.0), &format!("{tick:.0}"), font);
    }
    for tick in x.ticks(8) {
        svg.text((x.at(tick), y.places.0 + 18.0), &format!("{tick:.0}"), Font::TICK);
    }
    let middle = f64::midpoint(x.places.0, x.places.1);
    svg.text((middle, HEIGHT - 8.0), "slot in which the last state appeared", Font::TICK);
    svg.text((x.places.0, 13.0), "components converged", Font::TICK.anchored("start"));

    let steps = |curve: &[(i64, i64)], to: f64| -> Vec<Point> {
        let mut points = vec![(x.at(0.0), y.at(0.0))];
        let mut height = 0;
        for (slot, running) in curve.iter().filter(|(slot, _)| *slot as f64 <= to) {
            points.push((x.at(*slot as f64), y.at(height as f64)));
            points.push((x.at(*slot as f64), y.at(*running as f64)));
            height = *running;
        }
        points.push((x.at(to), y.at(height as f64)));
        points
    };
    let mut below = steps(&total, threshold as f64);
    let by_threshold = total.iter().rev().find(|(slot, _)| *slot < threshold).map_or(0, |t| t.1);
    below.push((x.at(threshold as f64), y.at(0.0)));
    svg.polygon(&below, LINE, 0.12);
    let mut labels: Vec<(f64, String, &'static str)> = Vec::new();
    if classes.len() <= CLASSES_MAX {
        for (name, curve) in &classes {
            svg.polyline(&steps(curve, last), "#9fb3c8", 1.3);
            let end = curve.last().map_or(0, |last| last.1);
            labels.push((y.at(end as f64), format!("{name} {end}"), MUTED));
        }
    }
    svg.polyline(&steps(&now, last), "#e39a3b", 1.6);
    svg.polyline(&steps(&total, last), LINE, 2.4);
    svg.line((x.places.0 + 12.0, 34.0), (x.places.0 + 34.0, 34.0), LINE, 2.4);
    svg.text((x.places.0 + 40.0, 38.0), "after training", Font::LABEL.sized(11.0));
    svg.line((x.places.0 + 12.0, 51.0), (x.places.0 + 34.0, 51.0), "#e39a3b", 1.6);
    svg.text((x.places.0 + 40.0, 55.0), "at the end", Font::LABEL.sized(11.0));
    let end = total.last().map_or(0, |last| last.1);
    labels.push((y.at(end as f64), format!("all {end}"), INK));
    // Labels that would lie on each other move up.
    labels.sort_by(|a, b| b.0.total_cmp(&a.0));
    let mut free = f64::INFINITY;
    for (place, text, color) in labels {
        let place = place.min(free);
        free = place - 13.0;
        svg.text((x.places.1 + 6.0, place + 4.0), &text, Font::LABEL.filled(color).sized(11.0));
    }

    let at = x.at(threshold as f64);
    svg.dashes((at, y.places.0), (at, y.places.1), INK);
    let text = format!("{by_threshold} of {judged} by slot {threshold}");
    let place = (at - 8.0, y.at(by_threshold as f64) - 12.0);
    svg.text(place, &text, Font { is_bold: true, ..Font::LABEL.anchored("end") });
    svg.circle((at, y.at(by_threshold as f64)), 4.0, LINE, 1.0);
    svg.finish()
}

/// Slots in which components converged, as discovery said after training.
fn converged<'a>(record: &'a Record, which: impl Fn(&str) -> bool + 'a) -> Vec<i64> {
    let of = record.components.iter().filter(|(name, _)| which(name));
    of.filter_map(|(_, component)| component.discovered.as_ref()?.converged_slot).collect()
}

/// How many there were by each slot.
fn curve(mut slots: Vec<i64>) -> Vec<(i64, i64)> {
    slots.sort_unstable();
    slots.into_iter().enumerate().map(|(before, slot)| (slot, before as i64 + 1)).collect()
}

/// The same curve for components whose names begin alike.
fn classes(record: &Record) -> Vec<(&str, Vec<(i64, i64)>)> {
    let names: BTreeSet<&str> =
        record.components.keys().map(|name| super::class_of(name)).collect();
    let of = |class| curve(converged(record, move |name| super::class_of(name) == class));
    names.into_iter().map(|class| (class, of(class))).collect()
}
