//! The fleet over time: states, alarms and incidents of every component that had any, and the lead over thresholds.

use super::svg::{ALARM, Font, GRID, INK, LINE, MUTED, Scale, Svg, state_color};
use crate::clock;
use crate::record::{Component, Record};
use crate::summary::Summary;

const WIDTH: f64 = 1120.0;
const ROW: f64 = 22.0;
const ROWS_MAX: usize = 36;

/// One row for each component that had an incident, then for each that only alarmed.
pub fn draw(record: &Record, summary: &Summary, slot_ms: i64) -> String {
    let mut names: Vec<&str> = Vec::new();
    let incidents = summary.outcomes.iter().map(|outcome| outcome.known.component.as_str());
    let mut others: Vec<_> = summary.episodes.iter().filter(|e| e.incident.is_none()).collect();
    others.sort_by_key(|episode| episode.from_ms);
    for name in incidents.chain(others.iter().map(|episode| episode.component.as_str())) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    let left_out = names.len().saturating_sub(ROWS_MAX);
    names.truncate(ROWS_MAX);

    let from_ms = first_state(record);
    let x =
        Scale { values: (from_ms as f64, record.last_ms as f64), places: (120.0, WIDTH - 16.0) };
    let height = 44.0 + ROW * names.len() as f64 + if left_out > 0 { 18.0 } else { 0.0 };
    let mut svg = Svg::new(WIDTH, height);
    for ms in x.times(14) {
        let at = x.at(ms as f64);
        svg.line((at, 26.0), (at, 32.0 + ROW * names.len() as f64), GRID, 1.0);
        let is_midnight = ms % 86_400_000 == 0;
        let text = if is_midnight { clock::day(ms) } else { clock::hour(ms) };
        let font = Font { is_bold: is_midnight, ..Font::TICK };
        svg.text((at, 18.0), &text, x.anchor(ms as f64, font));
    }
    for (number, name) in names.iter().enumerate() {
        let top = 32.0 + ROW * number as f64;
        let is_incident = summary.outcomes.iter().any(|outcome| outcome.known.component == *name);
        let font = Font { is_bold: is_incident, ..Font::LABEL.anchored("end").sized(11.5) };
        let font = if is_incident { font } else { font.filled(MUTED) };
        svg.text((112.0, top + 13.0), name, font);
        if let Some(component) = record.components.get(*name) {
            draw_states(&mut svg, component, &x, (top + 8.0, 7.0), slot_ms);
        }
        for alarm in record.alarms.iter().filter(|alarm| alarm.component == *name) {
            let (left, right) =
                (x.at((alarm.time_ms - slot_ms) as f64), x.at(alarm.time_ms as f64));
            svg.rect((left, top + 1.0), ((right - left).max(1.6), 7.0), ALARM, 1.0);
        }
        for outcome in summary.outcomes.iter().filter(|o| o.known.component == *name) {
            let known = &outcome.known;
            let left = x.at((known.begins_ms - slot_ms) as f64);
            let width = x.at(known.ends_ms as f64) - left;
            svg.frame((left - 1.0, top - 0.5), (width + 2.0, 17.0), INK);
            if let Some(ms) = outcome.threshold_ms {
                let at = x.at(ms as f64);
                svg.polygon(
                    &[(at, top + 9.0), (at - 4.5, top + 17.0), (at + 4.5, top + 17.0)],
                    INK,
                    1.0,
                );
            }
        }
    }
    if left_out > 0 {
        let text = format!("and {left_out} more components with alarms");
        svg.text((120.0, height - 5.0), &text, Font::TICK.anchored("start"));
    }
    svg.finish()
}

/// When the first state was told.
pub fn first_state(record: &Record) -> i64 {
    let first = record.components.values().filter_map(|c| c.states.keys().next()).min();
    first.copied().or(record.first_ms).unwrap_or(0)
}

/// A strip of states, one rectangle for each run of the same.
pub fn draw_states(
    svg: &mut Svg,
    component: &Component,
    x: &Scale,
    (top, height): (f64, f64),
    slot_ms: i64,
) {
    let within = (x.values.0 as i64)..=(x.values.1 as i64);
    let mut run: Option<(i64, i64, i64)> = None;
    let mut paint = |run: Option<(i64, i64, i64)>| {
        let Some((from, to, state)) = run else { return };
        let left = x.at((from - slot_ms) as f64).max(x.places.0);
        let opacity = if state == 0 { 0.28 } else { 0.85 };
        svg.rect((left, top), (x.at(to as f64) - left, height), state_color(state), opacity);
    };
    for (time, state) in component.states.range(within) {
        match &mut run {
            Some((_, to, current)) if current == state && time - *to <= slot_ms => *to = *time,
            _ => {
                paint(run);
                run = Some((*time, *time, *state));
            }
        }
    }
    paint(run);
}

/// Minutes from the beginning of each incident to the first alarm and to the first broken threshold: the paper's
/// Figure 9.
pub fn draw_leads(summary: &Summary) -> String {
    let rows = summary.outcomes.len();
    let minutes = |ms: Option<i64>, from: i64| ms.map(|ms| (ms - from) as f64 / 60_000.0);
    let most = summary
        .outcomes
        .iter()
        .flat_map(|o| [o.alarm_ms, o.threshold_ms].map(|ms| minutes(ms, o.known.begins_ms)))
        .flatten()
        .fold(30.0, f64::max);
    let (width, height) = (720.0, 52.0 + 26.0 * rows as f64);
    let x = Scale { values: (0.0, most * 1.05), places: (262.0, width - 70.0) };
    let mut svg = Svg::new(width, height);
    for tick in x.ticks(7) {
        svg.line((x.at(tick), 24.0), (x.at(tick), height - 26.0), GRID, 1.0);
        svg.text((x.at(tick), height - 10.0), &format!("{tick:.0} min"), Font::TICK);
    }
    svg.circle((270.0, 11.0), 5.0, LINE, 1.0);
    svg.text((280.0, 15.0), "first alarm", Font::TICK.anchored("start"));
    svg.circle((364.0, 11.0), 5.0, INK, 1.0);
    svg.text((374.0, 15.0), "threshold broken", Font::TICK.anchored("start"));
    for (number, outcome) in summary.outcomes.iter().enumerate() {
        let y = 40.0 + 26.0 * number as f64;
        let known = &outcome.known;
        svg.text((8.0, y + 4.0), &known.component, Font { is_bold: true, ..Font::LABEL });
        svg.text((132.0, y + 4.0), &known.fault, Font::LABEL.filled(MUTED));
        let alarm = minutes(outcome.alarm_ms, known.begins_ms).map(|at| x.at(at));
        let threshold = minutes(outcome.threshold_ms, known.begins_ms).map(|at| x.at(at));
        if let (Some(alarm), Some(threshold)) = (alarm, threshold) {
            svg.line((alarm, y), (threshold, y), "#a9c4e2", 5.0);
        }
        if let Some(at) = threshold {
            svg.circle((at, y), 6.0, INK, 1.0);
        }
        match alarm {
            Some(at) => svg.circle((at, y), 6.0, LINE, 1.0),
            None => svg.text((x.at(0.0), y + 4.0), "not found", Font::LABEL.filled(ALARM)),
        }
        if let Some(lead) = outcome.lead_minutes() {
            let font = Font { is_bold: true, ..Font::LABEL };
            svg.text((width - 58.0, y + 4.0), &format!("{lead} min"), font);
        }
    }
    svg.finish()
}
