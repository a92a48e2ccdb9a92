//! The workflow as a graph: log keys, and how one leads to the next (DL-19).

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

/// A log key of a workflow.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Node {
    /// The key.
    pub key: String,
    /// How often it was seen.
    pub count: f64,
}

/// How one key leads to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum EdgeKind {
    /// Always, and to it alone.
    Sequence,
    /// To this one or to others: a choice.
    Branch,
    /// To this one and to others, which run side by side.
    Fork,
    /// From several that ran side by side, all of which have to be done.
    Join,
    /// Back to a key that has been there before in the same run.
    Loop,
}

impl EdgeKind {
    const ALL: [Self; 5] = [Self::Sequence, Self::Branch, Self::Fork, Self::Join, Self::Loop];

    /// The kind that a word of [`EdgeKind::as_str`] names.
    pub(super) fn of(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == word)
    }

    /// The kind in one word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sequence => "sequence",
            Self::Branch => "branch",
            Self::Fork => "fork",
            Self::Join => "join",
            Self::Loop => "loop",
        }
    }
}

/// A transition from one key to another.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Edge {
    /// The node before, an index into [`Workflow::nodes`]; `None` for the begin of a run.
    pub from: Option<usize>,
    /// The node after; `None` for the end of a run.
    pub to: Option<usize>,
    /// What it is.
    pub kind: EdgeKind,
    /// How often it was taken.
    pub count: f64,
    /// Share of the occurrences of `from` after which it was taken. What runs side by side adds up to more than 1.
    pub probability: f64,
    /// Mean seconds from one to the other; NaN where times are not known.
    pub seconds: f64,
    /// Standard deviation of these seconds.
    pub deviation: f64,
}

/// Log keys and how they follow each other.
///
/// # Examples
/// ```
/// use driftline_operators::logs::workflow::{Entry, EdgeKind, Workflow};
///
/// let run = |keys: [&str; 4]| keys.map(Entry::new).to_vec();
/// let both = [run(["start", "disk", "network", "run"]), run(["start", "network", "disk", "run"])];
/// let workflow = Workflow::of_runs(&both);
/// let kinds: Vec<_> = workflow.transitions().map(|(from, to, edge)| (from, to, edge.kind)).collect();
/// assert!(kinds.contains(&("start", "disk", EdgeKind::Fork)));
/// assert!(kinds.contains(&("network", "run", EdgeKind::Join)));
/// assert!(!kinds.iter().any(|(from, to, _)| (*from, *to) == ("disk", "network")), "they run side by side");
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Workflow {
    /// Keys in the order in which they usually come.
    pub nodes: Vec<Node>,
    /// Transitions, ordered by their nodes, the begin first and the end last.
    pub edges: Vec<Edge>,
    /// Pairs of nodes that run side by side.
    pub(super) side_by_side: BTreeSet<(usize, usize)>,
}

/// The place of a transition among all of a workflow.
pub(super) fn order(from: Option<usize>, to: Option<usize>) -> (Option<usize>, usize) {
    (from, to.unwrap_or(usize::MAX))
}

/// What the begin of a run is called.
pub(super) const BEGIN: &str = "(begin)";
/// What the end of a run is called.
pub(super) const END: &str = "(end)";

impl Workflow {
    /// The index of a key.
    #[must_use]
    pub fn node(&self, key: &str) -> Option<usize> {
        self.nodes.iter().position(|node| node.key == key)
    }

    /// Transitions with the keys that they connect, `(begin)` and `(end)` for the ends of runs.
    pub fn transitions(&self) -> impl Iterator<Item = (&str, &str, &Edge)> {
        self.edges.iter().map(|edge| {
            let name = |node: Option<usize>, other| {
                node.map_or(other, |node: usize| self.nodes[node].key.as_str())
            };
            (name(edge.from, BEGIN), name(edge.to, END), edge)
        })
    }

    /// The transition between two keys, `None` standing for begin and end.
    #[must_use]
    pub fn edge(&self, from: Option<usize>, to: Option<usize>) -> Option<&Edge> {
        let wanted = order(from, to);
        let place = self.edges.binary_search_by_key(&wanted, |edge| order(edge.from, edge.to));
        place.ok().map(|place| &self.edges[place])
    }

    /// Whether all transitions are between nodes that there are, in their order.
    pub(crate) fn is_sound(&self) -> bool {
        let is_node = |node: Option<usize>| node.is_none_or(|node| node < self.nodes.len());
        self.edges.iter().all(|edge| is_node(edge.from) && is_node(edge.to))
            && self.edges.is_sorted_by_key(|edge| order(edge.from, edge.to))
    }
}
