//! `holt_winters`: values far from a forecast with level, trend and season.
//!
//! # Meaning
//! For series with a daily or weekly shape: what is normal at noon is an anomaly at night. Without a season it
//! follows level and trend alone, faster than `ewma` follows drift.
//!
//! # Formula
//! ```text
//!   expected = level + damping * trend + season[slot]
//!   scale    = fading mean of 1.2533 * |value - expected|
//!   score    = |value - expected| / max(scale, floor)        (floor: 0.000001, or 0.0001 of the expected value)
//!   then, with r = value - expected held within 6 scales:
//!   level        = level + damping * trend + alpha * r
//!   trend        = damping * trend + alpha * beta * r
//!   season[slot] = season[slot] + gamma * (1 - alpha) * r
//! ```
//! The first season is collected: its median is the first level, each slot's mean (held within 10 robust deviations of
//! the median) its first seasonal part. `warm_up` more rows settle the scale, a robust deviation of their residuals;
//! then scores begin.
//!
//! # Options
//! Those of all keyed kinds (threshold 6), and:
//! * `season`: 0 for none (default), a number of rows (up to 4096), or an INTERVAL of event time (up to 400 days).
//!   With rows, every row counts, also one whose values are missing; with an INTERVAL, gaps in the data do no harm.
//! * `season_slots`: parts into which an INTERVAL is cut, 48 (2 to 4096).
//! * `alpha`, `beta`, `gamma`: weight of the newest value in level 0.2, trend 0.02 and season 0.2 (0 to 1).
//! * `damping`: how much of the trend is left one row later, 0.98 (above 0, to 1).
//! * `warm_up`: see above, 32 (4 to 10000).
//!
//! # NaN and NULL
//! Missing values (NULL, NaN, infinite) are neither scored nor learned, but the season goes on; values beyond 1e150
//! count as 1e150. Rows at a slot that was never seen before are not scored.
//!
//! # Source
//! Holt 1957 and Winters 1960, in the error-correction form of Hyndman et al., "Forecasting with exponential
//! smoothing", 2008; clipping as in Gelper, Fried and Croux, "Robust forecasting with exponential and Holt-Winters
//! smoothing", 2010.

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::builder::{DetectorBuilder, DetectorSpec, detector_builder};
use super::history::location_scale;
use super::univariate::{self, CLIP_SCALES, Forecast, ScaleFloor, Univariate, warm_up_option};
use crate::detector::{DetectorKind, DetectorPlan, DetectorRequest};
use crate::error::Result;
use crate::model::KeyedPlan;
use crate::options::{OptionKind, OptionReader, OptionSpec, RowsOrInterval};
use crate::time::{EventTime, SPAN_NS_MAX};

const NAME: &str = "holt_winters";
const SLOTS_MAX: i64 = 4096;
/// How far a slot of the first season may lie from the median, in robust deviations.
const FIRST_SEASON_CLIP: f64 = 10.0;
/// Weight of the newest residual in the scale.
const SCALE_WEIGHT: f64 = 0.05;
/// Turns a mean absolute deviation of normal data into a standard deviation.
const MEAN_TO_DEVIATION: f64 = 1.2533;

/// The kind behind `USING holt_winters`.
#[derive(Clone, Copy, Debug)]
pub struct HoltWintersKind;

impl DetectorKind for HoltWintersKind {
    fn name(&self) -> &'static str {
        NAME
    }

    fn summary(&self) -> &'static str {
        "values far from a forecast with level, trend and season"
    }

    fn options(&self) -> Vec<OptionSpec> {
        let weight =
            |name, default, doc| OptionSpec::new(name, OptionKind::number(0.0..=1.0), default, doc);
        let mut options = KeyedPlan::options(6.0);
        options.extend([
            OptionSpec::new(
                "season",
                OptionKind::RowsOrInterval(SLOTS_MAX, SPAN_NS_MAX),
                0,
                "Length of the season in rows or as an INTERVAL; 0 for none.",
            ),
            OptionSpec::new(
                "season_slots",
                OptionKind::Integer(2, SLOTS_MAX),
                48,
                "Parts into which a season given as an INTERVAL is cut.",
            ),
            weight("alpha", 0.2, "Weight of the newest value in the level."),
            weight("beta", 0.02, "Weight of the newest value in the trend."),
            weight("gamma", 0.2, "Weight of the newest value in its part of the season."),
            OptionSpec::new(
                "damping",
                OptionKind::number_above(0.0, 1.0),
                0.98,
                "How much of the trend is left one row later.",
            ),
            warm_up_option(32),
        ]);
        options
    }

    fn plan(&self, request: &DetectorRequest<'_>) -> Result<Arc<dyn DetectorPlan>> {
        let owner = format!("detector kind \"{NAME}\"");
        let reader = OptionReader::new(owner, request.options, &self.options())?;
        let season = match reader.rows_or_interval("season") {
            RowsOrInterval::Rows(rows) if rows > 1 => Season::Rows(rows.unsigned_abs()),
            RowsOrInterval::Interval(length_ns) if length_ns > 0 => {
                Season::Interval { length_ns, slots: reader.count("season_slots") }
            }
            _ => Season::None,
        };
        let settings = Settings {
            season,
            alpha: reader.number("alpha"),
            beta: reader.number("beta"),
            gamma: reader.number("gamma"),
            damping: reader.number("damping"),
            warm_up: reader.count("warm_up"),
            floor: ScaleFloor::DEFAULT,
        };
        univariate::plan::<Smoothing>(request, &reader, settings)
    }
}

/// Builds a `holt_winters` detector.
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use driftline_operators::detectors::{DetectorBuilder, HoltWinters};
///
/// let day = Duration::from_secs(86_400);
/// let spec = HoltWinters::new().season(day, 24).build();
/// assert_eq!(spec.to_string(), "USING holt_winters WITH (season = INTERVAL '1 day', season_slots = 24)");
/// ```
#[derive(Clone, Debug)]
pub struct HoltWinters(DetectorSpec);

impl HoltWinters {
    /// With defaults for everything: level and trend, no season.
    #[must_use]
    pub fn new() -> Self {
        Self(DetectorSpec::new(NAME))
    }

    /// A season of so many rows.
    #[must_use]
    pub fn season_rows(self, rows: i64) -> Self {
        self.option("season", rows)
    }

    /// A season of so much event time, cut into slots.
    #[must_use]
    pub fn season(self, length: Duration, slots: i64) -> Self {
        self.option("season", length).option("season_slots", slots)
    }

    /// Weight of the newest value in the level.
    #[must_use]
    pub fn alpha(self, weight: f64) -> Self {
        self.option("alpha", weight)
    }

    /// Weight of the newest value in the trend.
    #[must_use]
    pub fn beta(self, weight: f64) -> Self {
        self.option("beta", weight)
    }

    /// Weight of the newest value in its part of the season.
    #[must_use]
    pub fn gamma(self, weight: f64) -> Self {
        self.option("gamma", weight)
    }

    /// How much of the trend is left one row later.
    #[must_use]
    pub fn damping(self, share: f64) -> Self {
        self.option("damping", share)
    }
}

detector_builder!(HoltWinters);

#[derive(Clone, Copy, Debug)]
enum Season {
    None,
    Rows(u64),
    Interval { length_ns: i64, slots: usize },
}

#[derive(Debug)]
struct Settings {
    season: Season,
    alpha: f64,
    beta: f64,
    gamma: f64,
    damping: f64,
    warm_up: usize,
    floor: ScaleFloor,
}

impl Settings {
    fn slots(&self) -> usize {
        match self.season {
            Season::None => 1,
            Season::Rows(rows) => usize::try_from(rows).expect("a season has at most 4096 rows"),
            Season::Interval { slots, .. } => slots,
        }
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Smoothing {
    /// Rows gone by since the first value, learned or not.
    rows: u64,
    stage: Stage,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
enum Stage {
    /// Collects the first season: its values, or sum and number of values per slot.
    Collecting { since: Option<EventTime>, values: u64, level: Vec<f64>, slots: Vec<(f64, u32)> },
    /// Smooths already, and collects residuals for the first scale.
    Settling { smooth: Smooth, residuals: Vec<f64> },
    /// Forecasts.
    Ready(Smooth),
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Smooth {
    level: f64,
    trend: f64,
    /// One value per slot, NaN for a slot not seen yet; empty without a season.
    season: Vec<f64>,
    scale: f64,
}

impl Univariate for Smoothing {
    type Settings = Settings;
    const KIND: &'static str = NAME;

    fn new(_settings: &Settings) -> Self {
        let (level, slots) = (Vec::new(), Vec::new());
        Self { rows: 0, stage: Stage::Collecting { since: None, values: 0, level, slots } }
    }

    fn is_ready(&self, _settings: &Settings) -> bool {
        matches!(self.stage, Stage::Ready(_))
    }

    fn forecast(&self, settings: &Settings, time: EventTime) -> Option<Forecast> {
        let Stage::Ready(smooth) = &self.stage else {
            return None;
        };
        let expected = smooth.expected(settings, self.slot(settings, time))?;
        Some(Forecast { expected, scale: settings.floor.apply(smooth.scale, expected) })
    }

    fn learn(&mut self, settings: &Settings, time: EventTime, value: f64) {
        let slot = self.slot(settings, time);
        match &mut self.stage {
            Stage::Collecting { since, values, level, slots } => {
                let since = *since.get_or_insert(time);
                *values += 1;
                if matches!(settings.season, Season::None) {
                    level.push(value);
                } else {
                    slots.resize(settings.slots(), (0.0, 0));
                    slots[slot].0 += value;
                    slots[slot].1 = slots[slot].1.saturating_add(1);
                }
                let season_over = match settings.season {
                    Season::None => true,
                    Season::Rows(rows) => self.rows + 1 >= rows,
                    Season::Interval { length_ns, .. } => {
                        time.0.saturating_sub(since.0) >= length_ns
                    }
                };
                if season_over && *values >= settings.warm_up as u64 {
                    let smooth = Smooth::begin(std::mem::take(level), slots);
                    self.stage = Stage::Settling { smooth, residuals: Vec::new() };
                }
            }
            Stage::Settling { smooth, residuals } => {
                residuals.extend(smooth.learn(settings, slot, value));
                if residuals.len() >= settings.warm_up {
                    residuals.sort_unstable_by(f64::total_cmp);
                    let (_, scale) = location_scale(residuals);
                    self.stage = Stage::Ready(Smooth { scale, ..smooth.clone() });
                }
            }
            Stage::Ready(smooth) => {
                smooth.learn(settings, slot, value);
            }
        }
        self.rows += 1;
    }

    fn pass(&mut self, settings: &Settings, _time: EventTime) {
        match &mut self.stage {
            // Slots are numbered from the first value.
            Stage::Collecting { since: None, .. } => return,
            Stage::Collecting { .. } => {}
            Stage::Settling { smooth, .. } | Stage::Ready(smooth) => smooth.go_on(settings),
        }
        self.rows += 1;
    }

    fn heap_bytes(&self) -> usize {
        const NUMBER: usize = size_of::<f64>();
        match &self.stage {
            Stage::Collecting { level, slots, .. } => {
                level.capacity() * NUMBER + slots.capacity() * size_of::<(f64, u32)>()
            }
            Stage::Settling { smooth, residuals } => {
                (smooth.season.capacity() + residuals.capacity()) * NUMBER
            }
            Stage::Ready(smooth) => smooth.season.capacity() * NUMBER,
        }
    }

    fn is_sound(&self, settings: &Settings) -> bool {
        let expected_slots = match settings.season {
            Season::None => 0,
            _ => settings.slots(),
        };
        match &self.stage {
            Stage::Collecting { slots, .. } => slots.is_empty() || slots.len() == expected_slots,
            Stage::Settling { smooth, .. } | Stage::Ready(smooth) => {
                smooth.season.len() == expected_slots
            }
        }
    }
}

impl Smoothing {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // A remainder is below the slots.
    fn slot(&self, settings: &Settings, time: EventTime) -> usize {
        match settings.season {
            Season::None => 0,
            Season::Rows(rows) => (self.rows % rows) as usize,
            Season::Interval { length_ns, slots } => {
                let within = i128::from(time.0.rem_euclid(length_ns));
                (within * slots as i128 / i128::from(length_ns)) as usize
            }
        }
    }
}

impl Smooth {
    /// Level, season and a first scale from the first season: its values, or sums by slot.
    fn begin(mut values: Vec<f64>, slots: &[(f64, u32)]) -> Self {
        let means: Vec<f64> = slots.iter().map(|(sum, count)| sum / f64::from(*count)).collect();
        values.extend(means.iter().filter(|mean| !mean.is_nan()));
        values.sort_unstable_by(f64::total_cmp);
        let (level, scale) = location_scale(&values);
        let clip = FIRST_SEASON_CLIP * scale;
        let season = means.iter().map(|mean| (mean - level).clamp(-clip, clip)).collect();
        Self { level, trend: 0.0, season, scale }
    }

    fn expected(&self, settings: &Settings, slot: usize) -> Option<f64> {
        let season = if self.season.is_empty() { 0.0 } else { self.season[slot] };
        let expected = self.level + settings.damping * self.trend + season;
        (!expected.is_nan()).then_some(expected)
    }

    /// Learns a value; returns the clipped residual, or `None` at a slot not seen before.
    fn learn(&mut self, settings: &Settings, slot: usize, value: f64) -> Option<f64> {
        let Some(expected) = self.expected(settings, slot) else {
            self.go_on(settings);
            self.season[slot] = value - self.level;
            return None;
        };
        let clip = CLIP_SCALES * settings.floor.apply(self.scale, expected);
        let residual = (value - expected).clamp(-clip, clip);
        self.go_on(settings);
        self.level += settings.alpha * residual;
        self.trend += settings.alpha * settings.beta * residual;
        if let Some(part) = self.season.get_mut(slot) {
            *part += settings.gamma * (1.0 - settings.alpha) * residual;
        }
        self.scale += SCALE_WEIGHT * (MEAN_TO_DEVIATION * residual.abs() - self.scale);
        Some(residual)
    }

    /// Moves on by a row without a value.
    fn go_on(&mut self, settings: &Settings) {
        self.trend *= settings.damping;
        self.level += self.trend;
    }
}
