//! What is known of the columns of a plan: event time, its lag, and window bounds.

use datafusion_expr::{Distinct, Expr, LogicalPlan};
use driftline_operators::logs::LogKeyOutput;
use driftline_operators::window::{TimeType, Window};

use super::{join, number, over, unalias};
use crate::plan::{Plan, TimeColumn};
use crate::planner::RelationSource;
use crate::planner::log_keys::LogKeyNode;
use crate::planner::window::WindowNode;

/// Knowledge of the columns of one plan, by their indexes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Traits {
    /// Columns that may serve as event time, the preferred one first.
    pub(crate) times: Vec<TimeColumn>,
    /// Columns that carry window bounds.
    pub(crate) bounds: Vec<usize>,
    /// Columns in which rows agree only if they come in the same epoch: the ends of windows, when these are given.
    pub(crate) together: Vec<usize>,
    /// The window that rows have been assigned to but not yet grouped by.
    open: Option<OpenWindow>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct OpenWindow {
    window: Window,
    starts: Vec<usize>,
    ends: Vec<usize>,
    lag_ns: i64,
}

impl Traits {
    /// Traits of a plan.
    pub(crate) fn of(plan: &LogicalPlan) -> Self {
        match plan {
            LogicalPlan::TableScan(scan) => scan
                .source
                .downcast_ref::<RelationSource>()
                .map_or_else(Self::default, |source| Self {
                    times: source.time.into_iter().collect(),
                    bounds: source.window_bounds.clone(),
                    ..Self::default()
                }),
            LogicalPlan::SubqueryAlias(alias) => Self::of(&alias.input),
            LogicalPlan::Filter(filter) => match join::above(&filter.predicate, &filter.input) {
                Some((join, above)) => join::traits(&join, &above),
                None => Self::of(&filter.input),
            },
            LogicalPlan::Join(join) if super::lookup::reads_table(plan) => {
                super::lookup::traits(join)
            }
            LogicalPlan::Join(join) => join::traits(join, &[]),
            // It appends columns.
            LogicalPlan::Window(window) => {
                let input = Self { open: None, ..Self::of(&window.input) };
                match number::is_numbering(window, &input) {
                    true => input,
                    false => over::traits(window, input),
                }
            }
            LogicalPlan::Projection(projection) => {
                let input = Self::of(&projection.input);
                input.pick(&origins(&projection.expr, &projection.input))
            }
            LogicalPlan::Aggregate(aggregate) => {
                let input = Self::of(&aggregate.input);
                let origins = origins(&aggregate.group_expr, &aggregate.input);
                match input.open {
                    Some(_) => input.group(&origins),
                    None => input.group_by_time(&origins, &aggregate.input),
                }
            }
            LogicalPlan::Distinct(Distinct::All(input)) => Self { open: None, ..Self::of(input) },
            LogicalPlan::Union(union) => {
                let mut inputs = union.inputs.iter().map(|input| Self::of(input));
                let first = inputs.next().unwrap_or_default();
                inputs.fold(Self { together: Vec::new(), open: None, ..first }, |a, b| a.and(&b))
            }
            LogicalPlan::Extension(extension) => {
                let node = extension.node.as_any();
                if let Some(node) = node.downcast_ref::<LogKeyNode>() {
                    return Self::of(&node.input).key_lines(node);
                }
                match node.downcast_ref::<WindowNode>() {
                    Some(node) => Self::of(&node.input).assign(node),
                    None => Self::default(),
                }
            }
            _ => Self::default(),
        }
    }

    /// Whether rows have been assigned to windows and not been grouped by them yet.
    pub(crate) fn is_windowed(&self) -> bool {
        self.open.is_some()
    }

    /// Traits of a plan that has been built.
    pub(super) fn of_built(plan: &Plan) -> Self {
        Self {
            times: plan.time.into_iter().collect(),
            bounds: plan.window_bounds.clone(),
            ..Self::default()
        }
    }

    /// What holds for the rows of both of two relations with the same columns.
    fn and(mut self, other: &Self) -> Self {
        let both = |time: TimeColumn| {
            let same = other.times.iter().find(|other| other.index == time.index)?;
            Some(TimeColumn { lag_ns: time.lag_ns.max(same.lag_ns), ..time })
        };
        self.times = self.times.into_iter().filter_map(both).collect();
        self.bounds.retain(|index| other.bounds.contains(index));
        self
    }

    /// Columns of a projection: `origins[i]` is the input column that column `i` copies, if it copies one.
    pub(super) fn pick(&self, origins: &[Option<usize>]) -> Self {
        let copies = |index: usize| {
            origins.iter().enumerate().filter(move |(_, o)| **o == Some(index)).map(|(i, _)| i)
        };
        let all = |indexes: &[usize]| -> Vec<usize> {
            let mut picked: Vec<usize> = indexes.iter().flat_map(|i| copies(*i)).collect();
            picked.sort_unstable();
            picked
        };
        Self {
            times: self
                .times
                .iter()
                .flat_map(|time| copies(time.index).map(|index| TimeColumn { index, ..*time }))
                .collect(),
            bounds: all(&self.bounds),
            together: all(&self.together),
            open: self.open.as_ref().map(|open| OpenWindow {
                starts: all(&open.starts),
                ends: all(&open.ends),
                ..*open
            }),
        }
    }

    /// Columns that stand `by` places further to the right.
    pub(super) fn shifted(self, by: usize) -> Self {
        let all = |indexes: Vec<usize>| indexes.into_iter().map(|index| index + by).collect();
        let times = self.times.into_iter();
        Self {
            times: times.map(|time| TimeColumn { index: time.index + by, ..time }).collect(),
            bounds: all(self.bounds),
            together: all(self.together),
            open: self.open.map(|open| OpenWindow {
                starts: all(open.starts),
                ends: all(open.ends),
                ..open
            }),
        }
    }

    /// Rows leave a group when its window closes: the end of the window is then the newest time of all. That holds for
    /// windows of so many rows as well, whose end is the time of their last row.
    fn group(&self, origins: &[Option<usize>]) -> Self {
        let Some(open) = &self.open else { return Self::default() };
        let among = |known: &[usize]| -> Vec<usize> {
            (0..origins.len())
                .filter(|i| origins.get(*i).copied().flatten().is_some_and(|o| known.contains(&o)))
                .collect()
        };
        let (starts, ends) = (among(&open.starts), among(&open.ends));
        let together = ends.clone();
        let mut times: Vec<TimeColumn> =
            ends.into_iter().map(|index| TimeColumn { index, lag_ns: open.lag_ns }).collect();
        if let Some(lag_ns) = start_lag_ns(open.window, open.lag_ns) {
            times.extend(starts.into_iter().map(|index| TimeColumn { index, lag_ns }));
        }
        Self { times, bounds: among(&self.bounds), together, open: None }
    }

    /// The event time among group keys: which key it is, and the column of the input. Of several, the one that is known
    /// to be complete first.
    pub(super) fn time_among(&self, origins: &[Option<usize>]) -> Option<(usize, TimeColumn)> {
        let time = |index: usize| self.times.iter().find(|time| time.index == index).copied();
        let keys = origins.iter().enumerate();
        let times = keys.filter_map(|(key, origin)| Some((key, time((*origin)?)?)));
        times.min_by_key(|(_, time)| time.lag_ns)
    }

    /// Rows that are grouped by an event time are in windows of one unit of it.
    fn group_by_time(&self, origins: &[Option<usize>], input: &LogicalPlan) -> Self {
        let Some((key, time)) = self.time_among(origins) else { return Self::default() };
        let unit_ns = TimeType::new(input.schema().field(time.index).data_type())
            .map_or(0, |time| time.unit_ns());
        let is_bound = |key: &usize| {
            origins.get(*key).copied().flatten().is_some_and(|index| self.bounds.contains(&index))
        };
        Self {
            times: vec![TimeColumn { index: key, lag_ns: time.lag_ns.saturating_add(unit_ns) }],
            bounds: (0..origins.len()).filter(is_bound).collect(),
            together: vec![key],
            open: None,
        }
    }

    /// Rows wait for the watermark by one time column, and leave with all of their columns; changes of templates with
    /// that one alone.
    fn key_lines(&self, node: &LogKeyNode) -> Self {
        let time = self.times.iter().copied().find(|time| time.index == node.columns.time);
        match node.output {
            LogKeyOutput::Rows => Self {
                times: time.into_iter().collect(),
                bounds: self.bounds.clone(),
                ..Self::default()
            },
            LogKeyOutput::Templates => Self {
                times: time.into_iter().map(|time| TimeColumn { index: 0, ..time }).collect(),
                ..Self::default()
            },
        }
    }

    fn assign(&self, node: &WindowNode) -> Self {
        let origins: Vec<Option<usize>> = node.visible.iter().copied().map(Some).collect();
        let mut traits = Self { together: Vec::new(), ..self.pick(&origins) };
        let lag_ns =
            self.times.iter().find(|time| time.index == node.time).map_or(0, |time| time.lag_ns);
        let (start, end) = (node.start(), node.end());
        let window = node.by.window;
        if let Some(start_lag_ns) = start_lag_ns(window, lag_ns) {
            traits.times.push(TimeColumn { index: end, lag_ns });
            traits.times.push(TimeColumn { index: start, lag_ns: start_lag_ns });
        }
        traits.bounds.extend([start, end]);
        traits.open = Some(OpenWindow { window, starts: vec![start], ends: vec![end], lag_ns });
        traits
    }
}

/// How far the start of a window may lie below the watermark when the window closes; `None` where there is no telling.
fn start_lag_ns(window: Window, lag_ns: i64) -> Option<i64> {
    match window {
        Window::Aligned(window) => Some(lag_ns.saturating_add(window.size_ns())),
        Window::Session(_) | Window::Count(_) => None,
    }
}

/// For each expression, the input column that it copies.
pub(super) fn origins(exprs: &[Expr], input: &LogicalPlan) -> Vec<Option<usize>> {
    exprs
        .iter()
        .map(|expr| match unalias(expr) {
            Expr::Column(column) => input.schema().maybe_index_of_column(column),
            _ => None,
        })
        .collect()
}
