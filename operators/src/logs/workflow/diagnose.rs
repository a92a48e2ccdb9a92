//! Where a session left the usual way: the transition that is slow, or that should not be (DL-20).

use std::fmt;

use super::build::{Step, steps};
use super::graph::{BEGIN, END, EdgeKind, Workflow};
use super::{Entry, RUN_ENTRIES_MAX};
use crate::time::EventTime;

/// What is odd about a transition.
#[derive(Clone, Debug, PartialEq)]
pub enum Oddity {
    /// It took longer than it does.
    Slow {
        /// Seconds that it took.
        seconds: f64,
        /// Mean seconds of the workflow.
        usual: f64,
        /// Their standard deviation.
        deviation: f64,
    },
    /// The workflow has no such transition.
    Unusual {
        /// Where it leads instead, with the probability of each.
        expected: Vec<(String, f64)>,
    },
    /// The key is not in the workflow.
    Unknown,
}

impl Oddity {
    /// What is odd, in one word.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Slow { .. } => "slow",
            Self::Unusual { .. } => "unusual",
            Self::Unknown => "unknown",
        }
    }

    /// Seconds that a slow transition took, their mean and standard deviation.
    pub(crate) fn slow(&self) -> Option<(f64, f64, f64)> {
        match self {
            Self::Slow { seconds, usual, deviation } => Some((*seconds, *usual, *deviation)),
            Self::Unusual { .. } | Self::Unknown => None,
        }
    }
}

/// One odd transition of a session.
#[derive(Clone, Debug, PartialEq)]
pub struct Diagnosis {
    /// The key before, `(begin)` for none.
    pub from: String,
    /// The key after, `(end)` for none.
    pub to: String,
    /// Place of the key after in the session, from 0; its length for the end.
    pub place: usize,
    /// How odd it is: deviations beyond the mean of a slow transition, infinite for one that is not in the workflow.
    pub severity: f64,
    /// What is odd.
    pub oddity: Oddity,
}

impl fmt::Display for Diagnosis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "because of {} -> {}", self.from, self.to)?;
        match &self.oddity {
            Oddity::Slow { seconds, usual, deviation } => {
                write!(
                    f,
                    ": took {seconds:.2} s, usually {usual:.2} s, give or take {deviation:.2} s"
                )
            }
            Oddity::Unusual { expected } if expected.is_empty() => {
                write!(f, ": nothing follows there")
            }
            Oddity::Unusual { expected } => {
                f.write_str(": expected ")?;
                for (place, (key, p)) in expected.iter().enumerate() {
                    write!(f, "{}{key} ({:.0} %)", if place == 0 { "" } else { ", " }, 100.0 * p)?;
                }
                Ok(())
            }
            Oddity::Unknown => write!(f, ": {} is not part of the workflow", self.to),
        }
    }
}

/// Times vary at least by this share of their mean; a workflow of few runs knows too little of how they vary.
const DEVIATION_SHARE_MIN: f64 = 0.05;
/// And at least by this, as clocks of logs do.
const DEVIATION_SECONDS_MIN: f64 = 0.001;

/// Stands for a key that a workflow does not have.
pub(crate) const NO_NODE: usize = usize::MAX;

/// A session as it went through the nodes of a workflow.
pub(crate) struct Visit<'a> {
    /// The node of each entry, [`NO_NODE`] for none.
    pub(crate) nodes: &'a [usize],
    /// The time of each entry.
    pub(crate) times: &'a [Option<EventTime>],
    /// The key of an entry, by its place.
    pub(crate) name: &'a dyn Fn(usize) -> String,
}

impl Workflow {
    /// All transitions of a session that are not in the workflow, or took more than `deviations` standard deviations
    /// beyond the mean; the oddest first, and of equally odd ones the earliest. With `is_whole` the session has ended,
    /// and where it ended counts as well.
    #[must_use]
    pub fn diagnose(&self, session: &[Entry], deviations: f64, is_whole: bool) -> Vec<Diagnosis> {
        let session = &session[..session.len().min(RUN_ENTRIES_MAX)];
        let nodes: Vec<usize> =
            session.iter().map(|entry| self.node(&entry.key).unwrap_or(NO_NODE)).collect();
        let times: Vec<Option<EventTime>> = session.iter().map(|entry| entry.time).collect();
        let name = |place: usize| session[place].key.clone();
        self.diagnose_nodes(
            &Visit { nodes: &nodes, times: &times, name: &name },
            deviations,
            is_whole,
        )
    }

    /// The same for a session that is known by its nodes already.
    pub(crate) fn diagnose_nodes(
        &self,
        visit: &Visit<'_>,
        deviations: f64,
        is_whole: bool,
    ) -> Vec<Diagnosis> {
        let mut found: Vec<Diagnosis> = steps(visit.nodes, &self.side_by_side)
            .into_iter()
            .filter(|step| is_whole || step.to.is_some())
            .filter_map(|step| self.judge(visit, step, deviations))
            .collect();
        found.sort_by(|a, b| b.severity.total_cmp(&a.severity).then(a.place.cmp(&b.place)));
        found
    }

    fn judge(&self, visit: &Visit<'_>, step: Step, deviations: f64) -> Option<Diagnosis> {
        let [from, to] = [step.from, step.to].map(|place| place.map(|place| visit.nodes[place]));
        let name = |place: Option<usize>, other: &str| place.map_or(other.to_owned(), visit.name);
        let diagnosis = |severity, oddity| {
            Some(Diagnosis {
                from: name(step.from, BEGIN),
                to: name(step.to, END),
                place: step.to.unwrap_or(visit.nodes.len()),
                severity,
                oddity,
            })
        };
        if to == Some(NO_NODE) {
            return diagnosis(f64::INFINITY, Oddity::Unknown);
        }
        if from == Some(NO_NODE) {
            // What comes after an unknown key was said of that key.
            return None;
        }
        let Some(edge) = self.edge(from, to) else {
            let mut expected: Vec<(String, f64)> = self
                .transitions()
                .filter(|(_, _, edge)| edge.from == from && edge.kind != EdgeKind::Loop)
                .map(|(_, to, edge)| (to.to_owned(), edge.probability))
                .collect();
            expected.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
            return diagnosis(f64::INFINITY, Oddity::Unusual { expected });
        };
        let time = |place: Option<usize>| visit.times[place?];
        let seconds = time(step.to)?.0.saturating_sub(time(step.from)?.0) as f64 / 1e9;
        let least = (DEVIATION_SHARE_MIN * edge.seconds.abs()).max(DEVIATION_SECONDS_MIN);
        let deviation = edge.deviation.max(least);
        let severity = (seconds - edge.seconds) / deviation;
        let slow = Oddity::Slow { seconds, usual: edge.seconds, deviation };
        if severity > deviations { diagnosis(severity, slow) } else { None }
    }
}
