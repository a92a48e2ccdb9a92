//! What makes an entry or a session an anomaly.

use crate::detectors::deeplog::key_model::{KeyModel, SessionJudgement};
use crate::detectors::deeplog::settings::{Settings, Verdict};

/// The surprise of one entry that is still normal.
pub(super) fn entry_bound(settings: &Settings, model: &KeyModel) -> f64 {
    match settings.verdict {
        Verdict::SurpriseMax if settings.threshold > 0.0 => settings.threshold,
        _ => model.nll_bound(),
    }
}

/// The surprise by which an entry makes itself or its session abnormal; infinite where ranks alone do.
pub(super) fn surprise_bound(settings: &Settings, model: &KeyModel) -> f64 {
    match settings.verdict {
        _ if settings.by_surprise => entry_bound(settings, model),
        Verdict::SurpriseMax => entry_bound(settings, model),
        Verdict::Any if settings.is_beyond() => model.beyond_bound(),
        _ => f64::INFINITY,
    }
}

/// Score, threshold and outcome for a session that has ended, with the reasons (DL-05, DL-24).
pub(super) fn verdict(
    settings: &Settings,
    model: &KeyModel,
    judged: &SessionJudgement,
) -> ((f64, f64, bool), Vec<&'static str>) {
    let is_beyond = settings.is_beyond();
    let by_training = match settings.verdict {
        Verdict::Any if is_beyond => model.beyond_bound(),
        Verdict::Any | Verdict::Count => 0.0,
        Verdict::SurpriseMax | Verdict::SurpriseMean => model.nll_bound(),
    };
    let threshold = if settings.threshold > 0.0 { settings.threshold } else { by_training };
    let score = match settings.verdict {
        Verdict::Any if is_beyond => judged.nll_max,
        Verdict::Any | Verdict::Count => f64::from(judged.abnormal.saturating_add(judged.values)),
        Verdict::SurpriseMax => judged.nll_max,
        Verdict::SurpriseMean => judged.nll_mean(),
    };
    let mut reasons = Vec::new();
    // Where entries are counted, those with abnormal values are among them.
    let is_counted = !is_beyond && matches!(settings.verdict, Verdict::Any | Verdict::Count);
    if score > threshold && !(is_counted && judged.abnormal == 0) {
        reasons.push("keys");
    }
    if judged.values > 0 && (!is_counted || score > threshold) {
        reasons.push("values");
    }
    if settings.combined {
        if judged.unseen > 0 {
            reasons.push("unseen key");
        }
        if judged.length_is_odd {
            reasons.push("length");
        }
        if judged.distance > model.distance_bound() {
            reasons.push("counts");
        }
    }
    ((score, threshold, !reasons.is_empty()), reasons)
}
