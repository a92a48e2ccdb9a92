//! One row and the model of its key: gaps before it, score, decision, learning.

use super::super::output::Judged;
use super::super::{Judgement, Reports, Row};
use super::{Counted, Keyed, Plan};
use crate::detector::DetectorStatistics;
use crate::time::EventTime;

/// What judging needs beside a model, and what comes of it.
#[derive(Debug)]
pub(super) struct Judge {
    /// What the model said about the latest row.
    pub(super) judgement: Judgement,
    /// What models have reported since it was last written.
    pub(super) reports: Reports,
    pub(super) statistics: DetectorStatistics,
    /// Bytes of all models, and how many of them score.
    pub(super) models: (usize, u64),
    filled: Vec<f64>,
}

impl Judge {
    pub(super) fn new(features: usize, extras: usize) -> Self {
        Self {
            judgement: Judgement::new(features, extras),
            reports: Reports::default(),
            statistics: DetectorStatistics::default(),
            models: (0, 0),
            filled: Vec::new(),
        }
    }

    /// Takes a model out of the totals.
    pub(super) fn discount(&mut self, counted: &Counted) {
        self.models.0 -= counted.bytes;
        self.models.1 -= u64::from(counted.is_ready);
    }

    /// Counts a row for which there is no room.
    pub(super) fn refuse(&mut self) -> Judged {
        self.statistics.rows += 1;
        self.statistics.refused += 1;
        self.judgement.reset(f64::NAN);
        let mut judged = Judged::none();
        judged.verdict.suppressed_by = Some(super::Rule::ModelsMax);
        judged
    }

    /// Scores and learns one row of a key whose latest one was at `last_time`.
    pub(super) fn judge(
        &mut self,
        plan: &Plan,
        keyed: &mut Keyed,
        last_time: EventTime,
        row: Row<'_>,
    ) -> Judged {
        self.statistics.rows += 1;
        self.fill(plan, keyed, last_time, row);
        let Self { judgement, reports, statistics, models, .. } = self;
        let Keyed { model, decider, last, counted } = keyed;
        if plan.slots.keep_last() {
            last.clear();
            last.extend_from_slice(row.features);
        }
        let is_missing = row.present().next().is_none();
        decider.observe(&row);
        judgement.reset(decider.threshold(&plan.decision));
        if is_missing {
            statistics.missing += 1;
        } else {
            model.score(&row, judgement);
        }
        let verdict = decider.decide(&plan.decision, &row, judgement);
        statistics.anomalies += u64::from(verdict.is_anomaly == Some(true));
        let samples = model.samples();
        let judged = Judged {
            score: judgement.score,
            threshold: judgement.threshold,
            verdict,
            phase: model.phase(),
            version: model.version(),
            samples,
            confidence: decider.confidence(samples),
        };
        if verdict.learn && !is_missing {
            model.learn(&row);
        } else {
            model.pass(&row);
        }
        model.report(reports);
        let now = Counted {
            bytes: model.bytes() + decider.bytes() + last.capacity() * size_of::<f64>(),
            is_ready: model.phase().scores(),
            rebuilds: model.rebuilds(),
        };
        let before = std::mem::replace(counted, now);
        models.0 = models.0 + now.bytes - before.bytes;
        models.1 = models.1 + u64::from(now.is_ready) - u64::from(before.is_ready);
        statistics.rebuilds += now.rebuilds.count - before.rebuilds.count;
        statistics.rebuild_ns += now.rebuilds.ns - before.rebuilds.ns;
        judged
    }

    /// Lets the model see what is missing between the latest row and this one. A key without rows yet has no gap: its entry
    /// was made for this row.
    fn fill(&mut self, plan: &Plan, keyed: &mut Keyed, last_time: EventTime, row: Row<'_>) {
        let Keyed { model, decider, last, .. } = keyed;
        let slots = &plan.slots;
        for slot in slots.between(last_time, row.time) {
            let (last, next) = ((last_time, last.as_slice()), (row.time, row.features));
            slots.fill(slot, last, next, &mut self.filled);
            let filled = Row { time: slots.start(slot), features: &self.filled };
            decider.observe(&Row { features: &[f64::NAN], ..filled });
            self.statistics.filled += 1;
            if filled.present().next().is_none() {
                model.pass(&filled);
                continue;
            }
            self.judgement.reset(decider.threshold(&plan.decision));
            model.score(&filled, &mut self.judgement);
            model.learn(&filled);
        }
    }
}
