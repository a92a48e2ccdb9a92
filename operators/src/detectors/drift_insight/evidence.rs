//! Why a slot is odd: by which metrics (DI-18), in which window, and what happened since the alert began (DI-19).

use std::collections::BTreeMap;
use std::fmt::Write;

use serde::{Deserialize, Serialize};

use super::scale::Scale;
use super::state_model::StateModel;
use super::transitions::{Excess, Pair};
use crate::model::{FeatureJudgement, Row};

/// Entries of a cumulative view, and how many of them its text shows.
const ENTRIES_MAX: usize = 1_000;
const SHOWN_MAX: usize = 9;

/// Judges the features of a row by the state that they should be in.
///
/// The unit of a metric is its deviation within the state, and not less than its part of eps: what a neighbourhood
/// allows is no evidence.
pub(super) fn judge_features(
    model: &StateModel,
    state: Option<i32>,
    row: &Row<'_>,
    threshold: f64,
    features: &mut [FeatureJudgement],
) {
    let scales = &model.core.scales;
    let allowed = (f64::from(model.core.squared_radius) / scales.len() as f64).sqrt();
    let profile = state.and_then(|state| model.profile(state));
    for (i, value) in row.present() {
        let whole = scales[i];
        let Scale { mean, sd } = profile.map_or(whole, |profile| profile.metrics[i]);
        let unit = if whole.axis().is_flat() { 0.0 } else { sd.max(allowed * whole.sd) };
        let z = if unit > 0.0 { ((value - mean) / unit).abs() } else { 0.0 };
        features[i] = FeatureJudgement {
            expected: mean,
            lower: mean - threshold * unit,
            upper: mean + threshold * unit,
            contribution: z.min(1e9).powi(2),
        };
    }
}

/// The states of a window, oldest first, as in `0 0 -1 1`.
pub(super) fn window_text(states: &[i32]) -> String {
    let mut text = String::with_capacity(3 * states.len());
    for state in states {
        let space = if text.is_empty() { "" } else { " " };
        write!(text, "{space}{state}").expect("text in memory always has room");
    }
    text
}

/// The oddest transitions of a window, as in `0 to -1: 2 for 0.12 (5.6 sd)`.
pub(super) fn transitions_text(top: &[Option<Excess>]) -> Option<String> {
    let mut text = String::new();
    for Excess { pair: (from, to), count, mean, z } in top.iter().flatten() {
        let comma = if text.is_empty() { "" } else { ", " };
        write!(text, "{comma}{from} to {to}: {count} for {mean:.2} ({z:.1} sd)")
            .expect("text in memory always has room");
    }
    (!text.is_empty()).then_some(text)
}

/// What a component has done since its alert began.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Alert {
    /// Slots since the last anomalous one.
    quiet: u64,
    states: BTreeMap<i32, u64>,
    transitions: BTreeMap<Pair, u64>,
}

impl Alert {
    /// The alert after a slot in `state` that followed one in `before`: an anomalous slot begins or continues it, and it
    /// ends with a whole window of others.
    pub(super) fn follow(
        alert: &mut Option<Self>,
        before: Option<i32>,
        state: i32,
        is_anomalous: bool,
        window: usize,
    ) {
        let begins = is_anomalous && alert.is_none();
        if begins {
            *alert = Some(Self::default());
        }
        let Some(open) = alert else { return };
        open.quiet = if is_anomalous { 0 } else { open.quiet + 1 };
        if open.quiet >= window as u64 {
            *alert = None;
            return;
        }
        add(&mut open.states, state);
        if let Some(before) = before {
            add(&mut open.transitions, (before, state));
        }
    }

    /// Shares of states, the largest first, as in `-1 75.00 %, 0 25.00 %`.
    pub(super) fn states_text(&self) -> String {
        shares_text(&self.states, |state| state.to_string())
    }

    /// Shares of transitions, the largest first, as in `0 to -1 50.00 %, -1 to 0 50.00 %`.
    pub(super) fn transitions_text(&self) -> String {
        shares_text(&self.transitions, |(from, to)| format!("{from} to {to}"))
    }

    pub(super) fn is_sound(&self) -> bool {
        self.states.len() <= ENTRIES_MAX && self.transitions.len() <= ENTRIES_MAX
    }

    pub(super) fn heap_bytes(&self) -> usize {
        self.states.len() * size_of::<(i32, u64)>()
            + self.transitions.len() * size_of::<(Pair, u64)>()
    }
}

/// Counts a thing; new ones are left out once there are too many.
fn add<T: Ord>(counts: &mut BTreeMap<T, u64>, thing: T) {
    if counts.len() < ENTRIES_MAX || counts.contains_key(&thing) {
        *counts.entry(thing).or_default() += 1;
    }
}

fn shares_text<T: Ord + Copy>(counts: &BTreeMap<T, u64>, name: impl Fn(T) -> String) -> String {
    let all: u64 = counts.values().sum();
    let mut sorted: Vec<(T, u64)> = counts.iter().map(|(thing, count)| (*thing, *count)).collect();
    sorted.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let shown = sorted.into_iter().take(SHOWN_MAX).map(|(thing, count)| {
        format!("{} {:.2} %", name(thing), 100.0 * count as f64 / all as f64)
    });
    shown.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn di_18_texts_are_readable() {
        assert_eq!(window_text(&[0, 0, -1, 12]), "0 0 -1 12");
        let excess = Excess { pair: (0, -1), count: 2, mean: 0.124, z: 5.64 };
        let text = transitions_text(&[Some(excess), Some(Excess { z: -3.0, ..excess }), None]);
        let expected = "0 to -1: 2 for 0.12 (5.6 sd), 0 to -1: 2 for 0.12 (-3.0 sd)";
        assert_eq!(text.as_deref(), Some(expected));
        assert_eq!(transitions_text(&[None]), None);
    }

    #[test]
    fn di_19_shares_accumulate_from_the_alerts_begin_to_a_quiet_window() {
        let mut alert = None;
        let mut before = None;
        let mut follow = |alert: &mut Option<Alert>, state, anomalous| {
            Alert::follow(alert, before, state, anomalous, 3);
            before = Some(state);
        };
        follow(&mut alert, 0, false);
        assert_eq!(alert, None);
        for (state, anomalous) in [(-1, true), (-1, true), (0, false), (-1, true)] {
            follow(&mut alert, state, anomalous);
        }
        let open = alert.clone().unwrap();
        assert_eq!(open.states_text(), "-1 75.00 %, 0 25.00 %");
        let transitions = "-1 to -1 25.00 %, -1 to 0 25.00 %, 0 to -1 50.00 %";
        assert_eq!(open.transitions_text().len(), transitions.len());
        assert!(open.transitions_text().starts_with("0 to -1 50.00 %"));
        for _ in 0..2 {
            follow(&mut alert, 0, false);
            assert!(alert.is_some());
        }
        follow(&mut alert, 0, false);
        assert_eq!(alert, None);
    }

    #[test]
    fn a_long_alert_stays_bounded() {
        let mut alert = None;
        for state in 0..5_000 {
            Alert::follow(&mut alert, Some(state - 1), state, true, 10);
        }
        assert!(alert.unwrap().is_sound());
    }
}
