//! A window as a node of DataFusion's logical plan: one node for all kinds and spellings.

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::datatypes::{DataType, Field};
use datafusion_common::{DFSchema, DFSchemaRef, DataFusionError, Result as DfResult};
use datafusion_expr::{Expr, LogicalPlan, UserDefinedLogicalNodeCore};
use driftline_operators::window::Window;

/// Name of the column with the start of a row's window.
pub(crate) const WINDOW_START: &str = "window_start";
/// Name of the column with the end of a row's window, exclusive.
pub(crate) const WINDOW_END: &str = "window_end";

/// A window and what it keeps apart.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Windowing {
    pub(crate) window: Window,
    pub(crate) partition: Partition,
}

/// Whose rows make a session or are counted together.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Partition {
    /// Those that agree in all keys that the query groups by: the GROUP BY form, in which the query's conditions come
    /// before its windows.
    GroupKeys,
    /// Those that agree in these columns of the input. Does not matter to windows that all keys share.
    Columns(Vec<usize>),
}

impl Windowing {
    /// Whether the bounds of a row's windows depend on other rows.
    pub(crate) fn depends_on_rows(&self) -> bool {
        match self.window {
            Window::Aligned(_) => false,
            Window::Session(_) | Window::Count(_) => true,
        }
    }

    /// Whether a condition over these columns of the input may be applied before the window as well as after it.
    pub(crate) fn lets_through(&self, columns: &BTreeSet<usize>) -> bool {
        match &self.partition {
            Partition::Columns(kept) if self.depends_on_rows() => {
                columns.iter().all(|column| kept.contains(column))
            }
            _ => true,
        }
    }

    /// The window's name in SQL.
    pub(crate) fn name(&self) -> &'static str {
        match self.window {
            Window::Aligned(window) if window.is_cumulate() => "CUMULATE",
            Window::Aligned(window) if window.is_tumble() => "TUMBLE",
            Window::Aligned(_) => "HOP",
            Window::Session(_) => "SESSION",
            Window::Count(_) => "COUNT_WINDOW",
        }
    }
}

/// Appends `window_start` and `window_end`, once per window that holds the row.
///
/// Bounds of an earlier window are hidden by the ones of this window.
#[derive(Clone, Debug)]
pub(crate) struct WindowNode {
    pub(crate) input: LogicalPlan,
    /// Index of the event-time column in the input.
    pub(crate) time: usize,
    pub(crate) by: Windowing,
    /// Indexes of the input columns that are still to be seen.
    pub(crate) visible: Vec<usize>,
    schema: DFSchemaRef,
}

impl WindowNode {
    pub(crate) fn try_new(input: LogicalPlan, time: usize, by: Windowing) -> DfResult<Self> {
        let from = input.schema();
        let Some(kind) = from.fields().get(time).map(|field| field.data_type().clone()) else {
            return Err(DataFusionError::Internal("event-time column is missing".to_owned()));
        };
        if !matches!(kind, DataType::Timestamp(..)) {
            return Err(DataFusionError::Internal(format!("event-time column is a {kind}")));
        }
        let is_bound = |name: &str| name == WINDOW_START || name == WINDOW_END;
        let visible: Vec<usize> =
            (0..from.fields().len()).filter(|i| !is_bound(from.field(*i).name())).collect();
        let mut fields: Vec<_> = visible
            .iter()
            .map(|i| {
                let (qualifier, field) = from.qualified_field(*i);
                (qualifier.cloned(), Arc::clone(field))
            })
            .collect();
        for name in [WINDOW_START, WINDOW_END] {
            fields.push((None, Arc::new(Field::new(name, kind.clone(), false))));
        }
        let schema = DFSchema::new_with_metadata(fields, from.metadata().clone())?;
        Ok(Self { input, time, by, visible, schema: Arc::new(schema) })
    }

    /// Index of `window_start` in the output.
    pub(crate) fn start(&self) -> usize {
        self.visible.len()
    }

    /// Index of `window_end` in the output.
    pub(crate) fn end(&self) -> usize {
        self.visible.len() + 1
    }
}

impl PartialEq for WindowNode {
    fn eq(&self, other: &Self) -> bool {
        self.time == other.time && self.by == other.by && self.input == other.input
    }
}

impl Eq for WindowNode {}

impl PartialOrd for WindowNode {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        (self == other).then_some(Ordering::Equal)
    }
}

impl Hash for WindowNode {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.time.hash(state);
        self.by.hash(state);
        self.input.hash(state);
    }
}

impl UserDefinedLogicalNodeCore for WindowNode {
    fn name(&self) -> &'static str {
        "Window"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.input]
    }

    fn schema(&self) -> &DFSchemaRef {
        &self.schema
    }

    fn expressions(&self) -> Vec<Expr> {
        Vec::new()
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Window: {:?}", self.by)
    }

    fn with_exprs_and_inputs(
        &self,
        _exprs: Vec<Expr>,
        mut inputs: Vec<LogicalPlan>,
    ) -> DfResult<Self> {
        let input = inputs
            .pop()
            .ok_or_else(|| DataFusionError::Internal("window has no input".to_owned()))?;
        Self::try_new(input, self.time, self.by.clone())
    }
}
