//! A base and what has been collected over it: filters and projections that are not built yet.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::datatypes::{Field, Fields, Schema, SchemaRef};
use datafusion_common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion_expr::utils::{conjunction, split_conjunction};
use datafusion_expr::{Expr, LogicalPlan};
use driftline_operators::window::{Window, WindowSpec};

use super::columns::{describe, number, numbered, numbers, substitute};
use super::{Traits, unalias};
use crate::catalog::TableRows;
use crate::error::{Result, SqlError};
use crate::physical;
use crate::plan::{Node, Plan, TimeColumn};
use crate::planner::window::{WINDOW_END, WINDOW_START, Windowing};

/// Most nodes of all expressions of one step, so that views that use a column twice do not double forever.
const EXPRESSION_NODES_MAX: usize = 50_000;

/// The last built node.
#[derive(Clone, Debug)]
pub(super) enum Base {
    /// Rows of a built plan.
    Rows(Plan),
    /// Rows of a built plan, assigned to windows but not yet grouped. After the columns of the plan come
    /// `window_start` and `window_end`.
    Windowed { input: Plan, by: Windowing, time: TimeColumn },
    /// The rows of a table, which only a join may read.
    Table { name: String, rows: TableRows },
}

/// A plan on its way: columns over numbered columns of the base, and filters over them.
#[derive(Clone, Debug)]
pub(super) struct State {
    pub(super) base: Base,
    /// One expression per column.
    pub(super) exprs: Vec<Expr>,
    /// Applied one after another; a later one may rely on the earlier ones.
    pub(super) filters: Vec<Expr>,
}

impl State {
    /// All columns of a base as they are.
    pub(super) fn over(base: Base) -> Self {
        let width = match &base {
            Base::Rows(plan) => plan.schema.fields().len(),
            Base::Windowed { input, .. } => input.schema.fields().len() + 2,
            Base::Table { rows, .. } => rows.schema().fields().len(),
        };
        Self { base, exprs: (0..width).map(numbered).collect(), filters: Vec::new() }
    }

    pub(super) fn filter(&mut self, predicate: &Expr, input: &LogicalPlan) -> Result<()> {
        self.check_size(std::slice::from_ref(predicate), input)?;
        self.filters.push(substitute(predicate, input.schema(), &self.exprs)?);
        Ok(())
    }

    pub(super) fn project(mut self, exprs: &[Expr], input: &LogicalPlan) -> Result<Self> {
        let exprs: Vec<Expr> = exprs.iter().map(|expr| unalias(expr).clone()).collect();
        if self.repeats_work(&exprs, input) {
            self = self.settle(input)?;
        }
        self.check_size(&exprs, input)?;
        self.exprs = exprs
            .iter()
            .map(|expr| substitute(expr, input.schema(), &self.exprs))
            .collect::<Result<_>>()?;
        Ok(self)
    }

    /// Whether `exprs` would compute a column more than once that is computed once now.
    fn repeats_work(&self, exprs: &[Expr], input: &LogicalPlan) -> bool {
        let mut uses = vec![0_usize; self.exprs.len()];
        for expr in exprs {
            each_column(expr, input, |index| {
                if let Some(count) = uses.get_mut(index) {
                    *count += 1;
                }
            });
        }
        self.exprs.iter().zip(uses).any(|(expr, uses)| uses > 1 && !is_trivial(expr))
    }

    /// Computes now what has been collected, as far as windows allow.
    fn settle(self, input: &LogicalPlan) -> Result<Self> {
        match self.base {
            Base::Rows(_) => {
                let built = self.build(&Traits::of(input), input.schema().as_arrow())?;
                Ok(Self::over(Base::Rows(built)))
            }
            Base::Windowed { .. } => self.settle_below_window(),
            // Its rows are there, and expressions over them are worked out once.
            Base::Table { .. } => Ok(self),
        }
    }

    /// Computes what does not read window bounds below the window, so that rows can still be grouped by it.
    fn settle_below_window(mut self) -> Result<Self> {
        let filters = self.take_filters_below();
        let Base::Windowed { input, by, time } = self.base else { return Ok(self) };
        let width = input.schema.fields().len();
        let mut below: Vec<Expr> = (0..width).map(numbered).collect();
        let moves = |expr: &Expr| !is_trivial(expr) && numbers(expr).into_iter().all(|n| n < width);
        let count = self.exprs.iter().filter(|expr| moves(expr)).count();
        let shift = |n: usize| Some(numbered(if n < width { n } else { n + count }));
        let mut exprs = Vec::with_capacity(self.exprs.len());
        for expr in &self.exprs {
            if moves(expr) {
                exprs.push(numbered(below.len()));
                below.push(expr.clone());
            } else {
                exprs.push(super::columns::renumber(expr, shift)?);
            }
        }
        let renumbered = self
            .filters
            .iter()
            .map(|f| super::columns::renumber(f, shift))
            .collect::<Result<_>>()?;
        let mut names: Vec<String> =
            input.schema.fields().iter().map(|field| field.name().clone()).collect();
        names.extend((width..below.len()).map(|n| format!("computed_{n}")));
        let traits = Traits::of_built(&input);
        let input = transform(input, &filters, &below, &names, &traits)?;
        Ok(Self { base: Base::Windowed { input, by, time }, exprs, filters: renumbered })
    }

    fn check_size(&self, exprs: &[Expr], input: &LogicalPlan) -> Result<()> {
        let sizes: Vec<usize> = self.exprs.iter().map(size).collect();
        let mut total = 0_usize;
        for expr in exprs {
            total = total.saturating_add(size(expr));
            each_column(expr, input, |index| {
                total = total.saturating_add(sizes.get(index).copied().unwrap_or(0));
            });
        }
        if total <= EXPRESSION_NODES_MAX {
            return Ok(());
        }
        Err(SqlError::query(format!("expressions have more than {EXPRESSION_NODES_MAX} terms"))
            .hint("use a computed column fewer times"))
    }

    /// Filters that can run below the window: those that read no bounds, and change none.
    pub(super) fn take_filters_below(&mut self) -> Vec<Expr> {
        let Base::Windowed { input, by, .. } = &self.base else { return Vec::new() };
        let width = input.schema.fields().len();
        let may_go =
            |read: &BTreeSet<usize>| read.iter().all(|n| *n < width) && by.lets_through(read);
        let (mut below, mut above) = (Vec::new(), Vec::new());
        for filter in self.filters.drain(..) {
            let (low, high): (Vec<Expr>, Vec<Expr>) = split_conjunction(&filter)
                .into_iter()
                .cloned()
                .partition(|part| may_go(&numbers(part)));
            below.extend(conjunction(low));
            above.extend(conjunction(high));
        }
        self.filters = above;
        below
    }

    /// Builds the plan, with columns named as in `schema`.
    pub(super) fn build(self, traits: &Traits, schema: &Schema) -> Result<Plan> {
        let names: Vec<String> = schema.fields().iter().map(|field| field.name().clone()).collect();
        self.build_named(traits, &names)
    }

    /// Builds the plan, with columns of these names.
    pub(super) fn build_named(mut self, traits: &Traits, names: &[String]) -> Result<Plan> {
        let below = self.take_filters_below();
        let rows = match self.base {
            Base::Rows(plan) => plan,
            Base::Windowed { input, by, time } => match by.window {
                Window::Aligned(window) => assign(filtered(input, &below)?, window, time),
                Window::Session(_) | Window::Count(_) => return Err(ungrouped(&by)),
            },
            Base::Table { name, .. } => return Err(super::lookup::alone(&name)),
        };
        transform(rows, &self.filters, &self.exprs, names, traits)
    }
}

/// Rows of a window that is only known once all of them are there.
fn ungrouped(by: &Windowing) -> SqlError {
    SqlError::unsupported(format!("rows of {} that are not grouped are not supported", by.name()))
        .hint("GROUP BY its PARTITION BY columns, window_start, window_end")
}

/// Filters a plan, keeping all columns.
pub(super) fn filtered(plan: Plan, filters: &[Expr]) -> Result<Plan> {
    let exprs: Vec<Expr> = (0..plan.schema.fields().len()).map(numbered).collect();
    let names: Vec<String> = plan.schema.fields().iter().map(|f| f.name().clone()).collect();
    let traits = Traits::of_built(&plan);
    transform(plan, filters, &exprs, &names, &traits)
}

fn assign(input: Plan, window: WindowSpec, time: TimeColumn) -> Plan {
    let width = input.schema.fields().len();
    let mut bounds = input.window_bounds.clone();
    bounds.extend([width, width + 1]);
    Plan {
        schema: windowed_schema(&input.schema, time.index),
        time: Some(time),
        window_bounds: bounds,
        node: Node::AssignWindows { input: Box::new(input), window, time: time.index },
    }
}

/// The columns of a plan, then the bounds of a window over its column `time`.
pub(super) fn windowed_schema(input: &SchemaRef, time: usize) -> SchemaRef {
    let mut fields: Vec<Arc<Field>> = input.fields().iter().map(Arc::clone).collect();
    if let Some(kind) = input.fields().get(time).map(|field| field.data_type().clone()) {
        for name in [WINDOW_START, WINDOW_END] {
            fields.push(Arc::new(Field::new(name, kind.clone(), false)));
        }
    }
    Arc::new(Schema::new(Fields::from(fields)))
}

/// Filters and computes, unless neither would change anything.
pub(super) fn transform(
    input: Plan,
    filters: &[Expr],
    exprs: &[Expr],
    names: &[String],
    traits: &Traits,
) -> Result<Plan> {
    let fields = input.schema.fields();
    let is_all = exprs.len() == fields.len()
        && exprs.iter().enumerate().all(|(i, expr)| number(expr) == Some(i))
        && fields.iter().zip(names).all(|(field, name)| field.name() == name);
    if is_all && filters.is_empty() {
        let time = traits.times.first().copied();
        return Ok(Plan { time, window_bounds: traits.bounds.clone(), ..input });
    }
    let columns = if is_all { "*".to_owned() } else { spelled(&input.schema, exprs, names) };
    computed(input, filters, exprs, names, traits, columns)
}

/// Filters, and picks columns, which are named even if they are all.
pub(super) fn picked(
    input: Plan,
    filters: &[Expr],
    exprs: &[Expr],
    names: &[String],
    traits: &Traits,
) -> Result<Plan> {
    let columns = spelled(&input.schema, exprs, names);
    computed(input, filters, exprs, names, traits, columns)
}

fn computed(
    input: Plan,
    filters: &[Expr],
    exprs: &[Expr],
    names: &[String],
    traits: &Traits,
    columns: String,
) -> Result<Plan> {
    let program = physical::Program::try_new(&input.schema, filters, exprs, names)?;
    let filters: Vec<String> = filters.iter().map(|f| describe(f, &input.schema)).collect();
    let label = match filters.as_slice() {
        [] => columns,
        filters => format!("{columns} WHERE {}", filters.join(" AND ")),
    };
    Ok(Plan {
        schema: driftline_operators::expression::Transform::schema(&program),
        time: traits.times.first().copied(),
        window_bounds: traits.bounds.clone(),
        node: Node::Transform { input: Box::new(input), program: Arc::new(program), label },
    })
}

fn spelled(schema: &SchemaRef, exprs: &[Expr], names: &[String]) -> String {
    let column = |(expr, name): (&Expr, &String)| {
        let text = describe(expr, schema);
        if text == *name { text } else { format!("{text} AS {name}") }
    };
    exprs.iter().zip(names).map(column).collect::<Vec<_>>().join(", ")
}

/// A column or a constant: nothing is lost by using it twice.
fn is_trivial(expr: &Expr) -> bool {
    matches!(unalias(expr), Expr::Column(_) | Expr::Literal(..))
}

fn size(expr: &Expr) -> usize {
    let mut nodes = 0;
    let _ = expr.apply(|_| {
        nodes += 1;
        Ok(TreeNodeRecursion::Continue)
    });
    nodes
}

/// Calls `see` for every use of a column, repeated ones too.
fn each_column(expr: &Expr, input: &LogicalPlan, mut see: impl FnMut(usize)) {
    let schema = input.schema();
    let _ = expr.apply(|expr| {
        if let Expr::Column(column) = expr
            && let Some(index) = schema.maybe_index_of_column(column)
        {
            see(index);
        }
        Ok(TreeNodeRecursion::Continue)
    });
}
