//! One incident as an engineer reads it: what moved, in which states the component was, how it behaved before and
//! since. The paper's Figures 10 and 11.

use std::collections::BTreeMap;

use super::behaviour::Behaviour;
use super::svg::{ALARM, Font, GRID, INK, LINE, MUTED, Point, Scale, Svg, short, state_color};
use super::timeline::draw_states;
use crate::clock;
use crate::record::{Component, Record};
use crate::summary::{Outcome, Summary};

const WIDTH: f64 = 1120.0;
/// Slots of which a detection window consists.
const WINDOW_SLOTS: i64 = 10;
const HOUR_MS: i64 = 3_600_000;

/// The incident that tells most: the longest lead, of a component of several states where there is one.
pub fn choose<'a>(record: &Record, summary: &'a Summary) -> Option<&'a Outcome> {
    let states = |outcome: &Outcome| {
        let component = record.components.get(&outcome.known.component)?;
        component.discovery.as_ref().map(|found| found.states.min(2))
    };
    summary
        .outcomes
        .iter()
        .filter(|outcome| outcome.lead_minutes().is_some_and(|minutes| minutes > 0))
        .max_by_key(|outcome| (states(outcome), outcome.lead_minutes()))
}

pub struct Case<'a> {
    record: &'a Record,
    component: &'a Component,
    outcome: &'a Outcome,
    alarm_ms: i64,
    threshold_ms: i64,
    slot_ms: i64,
}

impl<'a> Case<'a> {
    pub fn new(record: &'a Record, outcome: &'a Outcome, slot_ms: i64) -> Option<Self> {
        Some(Self {
            record,
            component: record.components.get(&outcome.known.component)?,
            outcome,
            alarm_ms: outcome.alarm_ms?,
            threshold_ms: outcome.threshold_ms?,
            slot_ms,
        })
    }

    /// Metrics that explain the first alarms, the most first.
    fn metrics(&self, count: usize) -> Vec<usize> {
        let mut shares: BTreeMap<&str, f64> = BTreeMap::new();
        let known = &self.outcome.known;
        let alarms = self.record.alarms.iter().filter(|alarm| {
            alarm.component == known.component
                && (self.alarm_ms..self.alarm_ms + WINDOW_SLOTS * self.slot_ms)
                    .contains(&alarm.time_ms)
        });
        for (metric, share) in alarms.flat_map(|alarm| &alarm.attribution) {
            *shares.entry(metric).or_default() += share;
        }
        let mut shares: Vec<_> = shares.into_iter().collect();
        shares.sort_by(|a, b| b.1.total_cmp(&a.1));
        let mut metrics: Vec<usize> =
            shares.iter().filter_map(|(metric, _)| self.record.metric(metric)).collect();
        metrics.extend(
            (0..self.record.metrics.len()).filter(|m| !metrics.contains(m)).collect::<Vec<_>>(),
        );
        metrics.truncate(count);
        metrics
    }

    /// Metrics, states and alarms around the incident.
    pub fn draw_series(&self) -> String {
        let metrics = self.metrics(3);
        let known = &self.outcome.known;
        let (from, to) = (known.begins_ms - 5 * HOUR_MS, known.ends_ms + 3 * HOUR_MS);
        let x = Scale { values: (from as f64, to as f64), places: (110.0, WIDTH - 16.0) };
        let height = 90.0 + 96.0 * metrics.len() as f64;
        let mut svg = Svg::new(WIDTH, height);
        let bottom = height - 30.0;
        let left = x.at((known.begins_ms - self.slot_ms) as f64);
        svg.rect((left, 24.0), (x.at(known.ends_ms as f64) - left, bottom - 24.0), "#fbe9e7", 0.8);
        for ms in x.times(14) {
            svg.line((x.at(ms as f64), 24.0), (x.at(ms as f64), bottom), GRID, 1.0);
            svg.text((x.at(ms as f64), height - 12.0), &clock::hour(ms), Font::TICK);
        }
        for (number, metric) in metrics.iter().enumerate() {
            let top = 34.0 + 96.0 * number as f64;
            self.draw_metric(&mut svg, *metric, &x, (top, top + 78.0));
        }
        let top = bottom - 24.0;
        svg.text((102.0, top + 12.0), "state", Font::LABEL.anchored("end"));
        draw_states(&mut svg, self.component, &x, (top, 14.0), self.slot_ms);
        for (ms, text, color, anchor) in [
            (self.alarm_ms, "first alarm", ALARM, "end"),
            (self.threshold_ms, "threshold broken", INK, "start"),
        ] {
            let at = x.at(ms as f64);
            svg.line((at, 20.0), (at, bottom), color, 1.6);
            let place = (at + if anchor == "end" { -4.0 } else { 4.0 }, 16.0);
            let text = format!("{text} {}", clock::hour(ms));
            svg.text(
                place,
                &text,
                Font { is_bold: true, ..Font::LABEL.anchored(anchor).filled(color) },
            );
        }
        svg.finish()
    }

    fn draw_metric(&self, svg: &mut Svg, metric: usize, x: &Scale, (top, bottom): Point) {
        let within = x.values.0..=x.values.1;
        let points: Vec<(f64, f64)> = self
            .component
            .series(metric)
            .map(|(ms, value)| (ms as f64, value))
            .filter(|(ms, value)| within.contains(ms) && value.is_finite())
            .collect();
        let high = points.iter().map(|point| point.1).fold(1.0, f64::max);
        let low = points.iter().map(|point| point.1).fold(high, f64::min);
        let low = if low > high * 0.6 { low * 0.95 } else { 0.0 };
        let y = Scale { values: (low, high * 1.05), places: (bottom, top) };
        for tick in y.ticks(3) {
            svg.line((x.places.0, y.at(tick)), (x.places.1, y.at(tick)), GRID, 1.0);
            let font = Font::TICK.anchored("end").sized(10.0);
            svg.text((x.places.0 - 6.0, y.at(tick) + 3.5), &short(tick), font);
        }
        svg.text((4.0, top + 8.0), &self.record.metrics[metric], Font::LABEL);
        let line: Vec<Point> = points.iter().map(|(ms, value)| (x.at(*ms), y.at(*value))).collect();
        svg.polyline(&line, LINE, 1.6);
    }

    /// The behaviour before the incident, when it was first reported, and when the threshold was broken.
    pub fn draw_behaviour(&self) -> String {
        let (third, height) = (WIDTH / 3.0, 330.0);
        let mut svg = Svg::new(WIDTH, height);
        let first = self.alarm_ms - WINDOW_SLOTS * self.slot_ms;
        let before = self.component.states_within(i64::MIN, self.outcome.known.begins_ms);
        let panels = [
            ("Before the incident", before),
            (
                "When the alarm was raised",
                self.component.states_within(first + 1, self.alarm_ms + 1),
            ),
            (
                "When the threshold was broken",
                self.component.states_within(first + 1, self.threshold_ms + 1),
            ),
        ];
        for (number, (title, states)) in panels.iter().enumerate() {
            let left = third * number as f64;
            svg.text((left + 16.0, 20.0), title, Font::TITLE);
            let text = format!("{} slots", states.len());
            svg.text((left + third - 20.0, 20.0), &text, Font::TICK.anchored("end"));
            let behaviour = Behaviour::of(states);
            behaviour.draw_bar(&mut svg, (left + 16.0, 34.0), (third - 36.0, 20.0));
            behaviour.draw(&mut svg, (left + third / 2.0, 195.0), 84.0);
        }
        svg.finish()
    }

    /// Shares of states since the first alarm, slot by slot.
    pub fn draw_cumulative(&self) -> String {
        let (width, height) = (WIDTH, 220.0);
        let mut svg = Svg::new(width, height);
        let from = self.alarm_ms - (WINDOW_SLOTS - 1) * self.slot_ms;
        let to = self.outcome.known.ends_ms.max(self.threshold_ms);
        let series: Vec<(i64, i64)> =
            self.component.states.range(from..=to).map(|(ms, state)| (*ms, *state)).collect();
        let mut states: Vec<i64> = series.iter().map(|(_, state)| *state).collect();
        states.sort_unstable();
        states.dedup();
        let x = Scale { values: (from as f64, to as f64), places: (56.0, width - 60.0) };
        let y = Scale { values: (0.0, 1.0), places: (height - 32.0, 26.0) };
        let mut counts: BTreeMap<i64, usize> = BTreeMap::new();
        // For each state the lower and upper edge of its band.
        let mut bands: BTreeMap<i64, (Vec<Point>, Vec<Point>)> = BTreeMap::new();
        for (number, (ms, state)) in series.iter().enumerate() {
            *counts.entry(*state).or_default() += 1;
            let mut below = 0.0;
            for state in &states {
                let share = counts.get(state).copied().unwrap_or(0) as f64 / (number + 1) as f64;
                let band = bands.entry(*state).or_default();
                band.0.push((x.at(*ms as f64), y.at(below)));
                below += share;
                band.1.push((x.at(*ms as f64), y.at(below)));
            }
        }
        for (state, (lower, upper)) in &bands {
            let outline: Vec<Point> = lower.iter().chain(upper.iter().rev()).copied().collect();
            svg.polygon(&outline, state_color(*state), 0.75);
            if let (Some(low), Some(high)) = (lower.last(), upper.last())
                && low.1 - high.1 > 10.0
            {
                let place = (low.0 + 6.0, f64::midpoint(low.1, high.1) + 4.0);
                svg.text(place, &format!("#{state}"), Font { is_bold: true, ..Font::LABEL });
            }
        }
        for tick in [0.0, 0.25, 0.5, 0.75, 1.0] {
            let font = Font::TICK.anchored("end");
            svg.text((50.0, y.at(tick) + 4.0), &format!("{:.0} %", tick * 100.0), font);
        }
        for ms in x.times(12) {
            svg.text((x.at(ms as f64), height - 14.0), &clock::hour(ms), Font::TICK);
        }
        for (ms, text, color) in
            [(self.alarm_ms, "first alarm", ALARM), (self.threshold_ms, "threshold broken", INK)]
        {
            svg.line((x.at(ms as f64), 20.0), (x.at(ms as f64), y.places.0), color, 1.6);
            svg.text(
                (x.at(ms as f64), 14.0),
                text,
                Font { is_bold: true, ..Font::TICK.filled(color) },
            );
        }
        svg.line((56.0, y.places.0), (width - 60.0, y.places.0), MUTED, 1.0);
        svg.finish()
    }
}
