//! What scores and alarms are worth, by one rule for the detector and for every baseline.

use driftline::evaluate::{
    PrecisionRecall, auc_pr, best_f1, event_wise, point_wise, segments, vus_pr,
};

/// Rows on both sides of a labelled run that count neither as anomalous nor as clean.
pub(crate) const MARGIN_ROWS: usize = 12;

/// The best threshold of events is looked for among those that raise at most this share of the rows: one alarm over
/// everything would touch every event and be right.
pub(crate) const RAISED_MAX: f64 = 0.1;

/// What one method said of one component's test part.
pub(crate) struct Said {
    pub(crate) scores: Vec<f64>,
    /// Rows above the method's own threshold, which was set before any label was seen.
    pub(crate) raised: Vec<bool>,
}

/// How good that was.
#[derive(Clone, Copy)]
pub(crate) struct Marks {
    pub(crate) auc_pr: f64,
    pub(crate) vus_pr: f64,
    /// At the threshold with the best F1, found with the labels.
    pub(crate) best_events: PrecisionRecall,
    pub(crate) best_points: PrecisionRecall,
    /// At the method's own threshold.
    pub(crate) own_events: PrecisionRecall,
    pub(crate) own_points: PrecisionRecall,
    pub(crate) clean: Clean,
}

/// Alarms where nothing is labelled.
#[derive(Clone, Copy, Default)]
pub(crate) struct Clean {
    pub(crate) rows: usize,
    pub(crate) raised: usize,
    pub(crate) alarms: usize,
}

impl Clean {
    pub(crate) fn plus(self, other: Self) -> Self {
        Self {
            rows: self.rows + other.rows,
            raised: self.raised + other.raised,
            alarms: self.alarms + other.alarms,
        }
    }

    pub(crate) fn share_raised(self) -> f64 {
        self.raised as f64 / self.rows.max(1) as f64
    }
}

pub(crate) fn judge(labels: &[bool], said: &Said, buffer: usize) -> Marks {
    let nothing = PrecisionRecall { precision: 0.0, recall: 0.0 };
    Marks {
        auc_pr: auc_pr(labels, &said.scores).unwrap_or(f64::NAN),
        vus_pr: vus_pr(labels, &said.scores, buffer).unwrap_or(f64::NAN),
        best_events: best_events(labels, &said.scores).unwrap_or(nothing),
        best_points: best_f1(labels, &said.scores).map_or(nothing, |(_, found)| found),
        own_events: event_wise(labels, &said.raised),
        own_points: point_wise(labels, &said.raised),
        clean: clean(labels, &said.raised),
    }
}

/// The best F1 of events over all thresholds that raise at most [`RAISED_MAX`] of the rows.
fn best_events(labels: &[bool], scores: &[f64]) -> Option<PrecisionRecall> {
    let mut thresholds: Vec<f64> = scores.iter().copied().filter(|s| !s.is_nan()).collect();
    thresholds.sort_by(|a, b| b.total_cmp(a));
    let most = (scores.len() as f64 * RAISED_MAX) as usize;
    // Where the last threshold is shared by rows beyond the bound, it would raise them, too.
    let beyond = thresholds.get(most).copied();
    thresholds.truncate(most);
    thresholds.dedup();
    let outcome = |threshold: &f64| {
        let alarms: Vec<bool> = scores.iter().map(|score| score >= threshold).collect();
        event_wise(labels, &alarms)
    };
    let allowed = thresholds.iter().filter(|threshold| Some(**threshold) != beyond);
    allowed.map(outcome).max_by(|a, b| a.f1().total_cmp(&b.f1()))
}

/// Rows farther than [`MARGIN_ROWS`] from every labelled row, those of them that are raised, and alarms that begin
/// there.
fn clean(labels: &[bool], raised: &[bool]) -> Clean {
    let mut is_clean = vec![true; labels.len()];
    for run in segments(labels) {
        let last = (run.last + MARGIN_ROWS).min(labels.len() - 1);
        is_clean[run.first.saturating_sub(MARGIN_ROWS)..=last].fill(false);
    }
    let both = is_clean.iter().zip(raised).filter(|(clean, raised)| **clean && **raised);
    Clean {
        rows: is_clean.iter().filter(|clean| **clean).count(),
        raised: both.count(),
        alarms: segments(raised).iter().filter(|run| is_clean[run.first]).count(),
    }
}

/// The mean over components of each mark; clean rows are summed.
pub(crate) fn mean(all: &[Marks]) -> Marks {
    let of = |mark: &dyn Fn(&Marks) -> f64| all.iter().map(mark).sum::<f64>() / all.len() as f64;
    let pair = |mark: &dyn Fn(&Marks) -> PrecisionRecall| PrecisionRecall {
        precision: of(&|marks| mark(marks).precision),
        recall: of(&|marks| mark(marks).recall),
    };
    Marks {
        auc_pr: of(&|marks| marks.auc_pr),
        vus_pr: of(&|marks| marks.vus_pr),
        best_events: pair(&|marks| marks.best_events),
        best_points: pair(&|marks| marks.best_points),
        own_events: pair(&|marks| marks.own_events),
        own_points: pair(&|marks| marks.own_points),
        clean: all.iter().fold(Clean::default(), |sum, marks| sum.plus(marks.clean)),
    }
}

/// The mean over components of an F1, which is not the F1 of means.
pub(crate) fn mean_f1(all: &[Marks], mark: impl Fn(&Marks) -> PrecisionRecall) -> f64 {
    all.iter().map(|marks| mark(marks).f1()).sum::<f64>() / all.len() as f64
}

/// Prints the table that both data sets share: one line per method.
pub(crate) fn print(lines: &[(&str, Vec<Marks>)]) {
    println!(
        "{:<22} {:>6} {:>6} | {:^20} | {:^20} | {:^20} | {:^20} | {:>8} {:>7}",
        "",
        "",
        "",
        "events, best P R F1",
        "points, best P R F1",
        "events, own P R F1",
        "points, own P R F1",
        "clean",
        "clean"
    );
    println!(
        "{:<22} {:>6} {:>6} | {:^20} | {:^20} | {:^20} | {:^20} | {:>8} {:>7}",
        "method", "AUC-PR", "VUS-PR", "", "", "", "", "raised", "alarms"
    );
    for (name, all) in lines {
        let marks = mean(all);
        let triple = |pair: PrecisionRecall, f1: f64| {
            format!("{:>6.3} {:>6.3} {f1:>6.3}", pair.precision, pair.recall)
        };
        println!(
            "{name:<22} {:>6.3} {:>6.3} | {} | {} | {} | {} | {:>7.3}% {:>7}",
            marks.auc_pr,
            marks.vus_pr,
            triple(marks.best_events, mean_f1(all, |marks| marks.best_events)),
            triple(marks.best_points, mean_f1(all, |marks| marks.best_points)),
            triple(marks.own_events, mean_f1(all, |marks| marks.own_events)),
            triple(marks.own_points, mean_f1(all, |marks| marks.own_points)),
            100.0 * marks.clean.share_raised(),
            marks.clean.alarms,
        );
    }
}
