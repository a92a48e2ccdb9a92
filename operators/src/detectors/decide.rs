//! From a score to a verdict: threshold, suppression, hold-off, episodes, and whether to learn.
//!
//! All keyed detectors share these stages, so that an option means the same after every USING:
//!
//! ```text
//!   score > threshold ?  -> a feature that passes min_deviation and direction ?  -> episode
//!                                                                                -> hold_off over ?  -> anomaly
//! ```
//!
//! A row that passes the rules is significant; a run of significant rows is an episode. `hold_off` thins out what is
//! raised within and between episodes, it does not end them. Rows without a score change nothing here.

#[cfg(test)]
mod tests;

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::calibrate::{Calibrator, SCORE_LEAST};
use crate::model::{Judgement, Row};
use crate::options::{OptionKind, OptionReader, OptionSpec};
use crate::time::{EventTime, SPAN_NS_MAX};

/// Which deviations matter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Direction {
    /// Values above and below what is expected.
    #[default]
    Both,
    /// Only values above.
    Up,
    /// Only values below.
    Down,
}

impl Direction {
    /// The word in options and in `detail.direction`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Both => "both",
            Self::Up => "up",
            Self::Down => "down",
        }
    }
}

/// What kept a row from being raised, as `detail.suppressed_by` names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rule {
    MinDeviation,
    MinDeviationRelative,
    Direction,
    HoldOff,
    ModelsMax,
}

impl Rule {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::MinDeviation => "min_deviation",
            Self::MinDeviationRelative => "min_deviation_relative",
            Self::Direction => "direction",
            Self::HoldOff => "hold_off",
            Self::ModelsMax => "models_max",
        }
    }
}

/// Settings of the decision, the same for all keys.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DecisionSettings {
    threshold: f64,
    rate: f64,
    min_deviation: f64,
    min_deviation_relative: f64,
    direction: Direction,
    hold_off_ns: i64,
    /// Anomalous rows in a row that are kept from the model; 0 to learn from all.
    protect_rows_max: u64,
}

impl DecisionSettings {
    /// The options of the decision, with the kind's own default for the threshold.
    pub(crate) fn options(threshold: f64) -> Vec<OptionSpec> {
        let number = || OptionKind::number(0.0..=f64::MAX);
        vec![
            OptionSpec::new(
                "threshold",
                OptionKind::number_above(0.0, 1e12),
                threshold,
                "Rows with a higher score are anomalous.",
            ),
            OptionSpec::new(
                "rate",
                OptionKind::number(0.0..=0.5),
                0.0,
                "Share of rows to find anomalous. Above 0, the threshold follows the key's scores so that about this \
                 share is above it; `threshold` is used until there are scores enough.",
            ),
            OptionSpec::new(
                "min_deviation",
                number(),
                0.0,
                "Rows that deviate less than this from the expected value are not raised.",
            ),
            OptionSpec::new(
                "min_deviation_relative",
                number(),
                0.0,
                "Rows that deviate less than this share of the expected value are not raised.",
            ),
            OptionSpec::new(
                "direction",
                OptionKind::Choice(&["both", "up", "down"]),
                "both",
                "Deviations that are raised: above the expected value, below it, or both.",
            ),
            OptionSpec::new(
                "hold_off",
                OptionKind::Interval(0, SPAN_NS_MAX),
                Duration::ZERO,
                "For this long after a raised row no further one is raised.",
            ),
            OptionSpec::new(
                "learn_anomalies",
                OptionKind::Boolean,
                false,
                "Whether models learn from anomalous rows as from any other.",
            ),
            OptionSpec::new(
                "protect_rows_max",
                OptionKind::Integer(1, 1_000_000),
                16,
                "Without learn_anomalies, after this many anomalous rows on end models learn from them after all, so \
                 that drift is always learned.",
            ),
        ]
    }

    pub(crate) fn read(reader: &OptionReader) -> Self {
        Self {
            threshold: reader.number("threshold"),
            rate: reader.number("rate"),
            min_deviation: reader.number("min_deviation"),
            min_deviation_relative: reader.number("min_deviation_relative"),
            direction: match reader.text("direction") {
                "up" => Direction::Up,
                "down" => Direction::Down,
                _ => Direction::Both,
            },
            hold_off_ns: reader.interval_ns("hold_off"),
            protect_rows_max: if reader.boolean("learn_anomalies") {
                0
            } else {
                reader.count("protect_rows_max") as u64
            },
        }
    }

    /// The rule that keeps this deviation from being raised. An unknown deviation passes all rules.
    fn suppresses(&self, actual: f64, expected: f64) -> Option<Rule> {
        let deviation = actual - expected;
        if deviation.abs() < self.min_deviation {
            return Some(Rule::MinDeviation);
        }
        if (deviation / expected).abs() < self.min_deviation_relative {
            return Some(Rule::MinDeviationRelative);
        }
        match self.direction {
            Direction::Up if deviation < 0.0 => Some(Rule::Direction),
            Direction::Down if deviation > 0.0 => Some(Rule::Direction),
            _ => None,
        }
    }
}

/// What is decided about one row.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Verdict {
    /// Whether the row is raised; `None` without a score.
    pub(crate) is_anomaly: Option<bool>,
    pub(crate) probability: f64,
    /// The feature that explains the row best.
    pub(crate) feature: Option<usize>,
    pub(crate) suppressed_by: Option<Rule>,
    pub(crate) episode: Option<Episode>,
    /// Whether this row is the first normal one after the episode.
    pub(crate) episode_is_over: bool,
    /// Whether the model is to learn from the row.
    pub(crate) learn: bool,
}

impl Verdict {
    /// For a row about which nothing can be said.
    pub(crate) fn none() -> Self {
        Self {
            is_anomaly: None,
            probability: f64::NAN,
            feature: None,
            suppressed_by: None,
            episode: None,
            episode_is_over: false,
            learn: true,
        }
    }
}

/// A run of significant rows.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Episode {
    /// Time of its first row.
    pub(crate) start: EventTime,
    /// Time of its latest row.
    pub(crate) end: EventTime,
    /// Time of the row with the highest score.
    pub(crate) peak: EventTime,
    pub(crate) peak_score: f64,
}

/// What the decision remembers of one key.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Decider {
    calibrator: Calibrator,
    episode: Option<Episode>,
    raised: Option<EventTime>,
    protected_rows: u64,
    /// Share of feature values that were present, fading.
    present: f64,
    /// The threshold that follows the scores, once there are enough of them.
    following: Option<f64>,
}

impl Decider {
    pub(crate) fn new() -> Self {
        Self {
            calibrator: Calibrator::new(),
            episode: None,
            raised: None,
            protected_rows: 0,
            present: 1.0,
            following: None,
        }
    }

    /// Whether a state that was read back has the shape that the code relies on.
    pub(crate) fn is_sound(&self) -> bool {
        self.calibrator.is_sound()
            && self.present.is_finite()
            && self.following.is_none_or(|following| following >= SCORE_LEAST)
    }

    pub(crate) fn bytes(&self) -> usize {
        size_of::<Self>() + self.calibrator.bytes()
    }

    /// The score above which the next row is anomalous.
    pub(crate) fn threshold(&self, settings: &DecisionSettings) -> f64 {
        match self.following {
            Some(following) if settings.rate > 0.0 => following,
            _ => settings.threshold,
        }
    }

    /// Moves the following threshold: a good step up after each score above it, a small one down after each below.
    /// In the long run the share above is `rate`, whatever the scores' distribution; this is adaptive conformal
    /// inference (Gibbs and Candes, 2021). Scores next to zero move nothing: a silent series must not pull the
    /// threshold down to where its first breath exceeds it.
    fn follow_rate(&mut self, settings: &DecisionSettings, score: f64) {
        const STEP: f64 = 0.05;
        if !(settings.rate > 0.0 && score >= SCORE_LEAST) {
            return;
        }
        self.following = match self.following {
            None => self.calibrator.upper_quantile(settings.rate),
            Some(following) => {
                let exceeds = if score > following { 1.0 } else { 0.0 };
                Some((following * (STEP * (exceeds - settings.rate)).exp()).max(SCORE_LEAST))
            }
        };
    }

    /// Notes how much of a row was there, scored or not.
    pub(crate) fn observe(&mut self, row: &Row<'_>) {
        const FADING: f64 = 0.05;
        let share = row.present().count() as f64 / row.features.len().max(1) as f64;
        self.present += FADING * (share - self.present);
    }

    /// How far the score can be trusted, in [0, 1]: rises with rows learned, falls with values missing.
    pub(crate) fn confidence(&self, samples: u64) -> f64 {
        const HALF_ROWS: f64 = 32.0;
        let samples = samples as f64;
        self.present * samples / (samples + HALF_ROWS)
    }

    /// Decides about a row that has been judged under [`Decider::threshold`].
    pub(crate) fn decide(
        &mut self,
        settings: &DecisionSettings,
        row: &Row<'_>,
        judgement: &Judgement,
    ) -> Verdict {
        let mut verdict = Verdict { episode: self.episode, ..Verdict::none() };
        if judgement.score.is_nan() {
            return verdict;
        }
        verdict.probability = self.calibrator.probability(judgement.score);
        self.calibrator.learn(judgement.score);
        self.follow_rate(settings, judgement.score);

        let exceeds = judgement.score > judgement.threshold;
        (verdict.feature, verdict.suppressed_by) = choose(settings, row, judgement, exceeds);
        let significant = exceeds && verdict.suppressed_by.is_none();
        self.follow(&mut verdict, row.time, significant.then_some(judgement.score));
        if significant && self.holds_off(row.time, settings.hold_off_ns) {
            verdict.suppressed_by = Some(Rule::HoldOff);
        }
        let raised = significant && verdict.suppressed_by.is_none();
        if raised {
            self.raised = Some(row.time);
        }
        verdict.is_anomaly = Some(raised);

        let small = [Some(Rule::MinDeviation), Some(Rule::MinDeviationRelative)];
        let odd = exceeds && !small.contains(&verdict.suppressed_by);
        self.protected_rows = if odd { self.protected_rows.saturating_add(1) } else { 0 };
        verdict.learn = !odd || self.protected_rows > settings.protect_rows_max;
        verdict
    }

    fn holds_off(&self, time: EventTime, hold_off_ns: i64) -> bool {
        self.raised.is_some_and(|raised| time.0.saturating_sub(raised.0) < hold_off_ns)
    }

    /// Begins, continues or ends the episode.
    fn follow(&mut self, verdict: &mut Verdict, time: EventTime, score: Option<f64>) {
        let Some(score) = score else {
            verdict.episode_is_over = self.episode.is_some();
            self.episode = None;
            return;
        };
        let begun = Episode { start: time, end: time, peak: time, peak_score: score };
        let episode = self.episode.get_or_insert(begun);
        episode.end = time;
        if score > episode.peak_score {
            (episode.peak, episode.peak_score) = (time, score);
        }
        verdict.episode = self.episode;
    }
}

/// The feature that explains the row, and the rule that keeps the row from being raised.
///
/// Where each feature has a score of its own, one that passes the rules is enough; otherwise the one that contributes
/// most speaks for the row.
fn choose(
    settings: &DecisionSettings,
    row: &Row<'_>,
    judgement: &Judgement,
    exceeds: bool,
) -> (Option<usize>, Option<Rule>) {
    let mut top: Option<(usize, f64)> = None;
    let mut passing: Option<(usize, f64)> = None;
    for (i, feature) in judgement.features.iter().enumerate() {
        let contribution = feature.contribution;
        let exceeds_best =
            |best: Option<(usize, f64)>| best.is_none_or(|(_, most)| contribution > most);
        if contribution.is_nan() {
            continue;
        }
        if exceeds_best(top) {
            top = Some((i, contribution));
        }
        if judgement.separable
            && contribution > judgement.threshold
            && exceeds_best(passing)
            && settings.suppresses(row.features[i], feature.expected).is_none()
        {
            passing = Some((i, contribution));
        }
    }
    match (top, passing) {
        (_, Some((feature, _))) => (Some(feature), None),
        (Some((feature, _)), None) if exceeds => {
            let rule =
                settings.suppresses(row.features[feature], judgement.features[feature].expected);
            (Some(feature), rule)
        }
        (top, None) => (top.map(|(feature, _)| feature), None),
    }
}
