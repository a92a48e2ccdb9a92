//! Joins: conditions sorted into equal keys, a bound in time and the rest.
//!
//! # Why a bound
//!
//! A row can be forgotten when no partner can come for it any more. Event time alone says when: if a match needs
//! `left.t - right.t` to lie from `lower` to `upper`, a left row waits until the right side is complete up to
//! `left.t - lower`, and a right row until the left side is complete up to `right.t + upper`. Both numbers are needed, or
//! one side would wait for ever.
//!
//! # How far results lie back
//!
//! The result follows the lesser of both sides' watermarks, `w`. Say that rows of a side come no more than its lag below
//! its own watermark, so below `w` no more than that either. A pair leaves in the epoch of its later row:
//!
//! * If that is the left one, then `left.t >= w - left lag`, and `right.t >= left.t - upper >= w - left lag - upper`.
//! * If it is the right one, then `right.t >= w - right lag`, and `left.t >= right.t + lower >= w - right lag + lower`.
//!
//! So the left time has the lag `max(left lag, right lag - lower)`, and the right one `max(right lag, left lag + upper)`.
//! A row that is given without a partner has either just come, or has waited only while the other side was not complete
//! up to its last partner, which is the same bound. Times of the side that may be missing are no event times.
//!
//! A left row of an ASOF join waits while the right side is not complete up to `left.t - lower`, the same again. Its right
//! row lies back any length of time, unless an upper bound is given.

use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use datafusion_common::{JoinType, ScalarValue};
use datafusion_expr::logical_plan::Join;
use datafusion_expr::utils::split_conjunction;
use datafusion_expr::{BinaryExpr, Expr, LogicalPlan, Operator, binary_expr};
use driftline_operators::join::{AsOfSpec, JoinKind, JoinSpec, Side};
use driftline_operators::options::OptionValue;
use driftline_operators::time::SPAN_NS_MAX;
use driftline_operators::window::Window;
use std::sync::Arc;

use super::columns::{describe, number, numbered, numbers, renumber, substitute};
use super::state::{Base, State};
use super::traits::Traits;
use super::{internal, unalias};
use crate::error::{Result, SqlError};
use crate::functions::inside_asof;
use crate::physical;
use crate::plan::{JoinProgram, Node, Plan, TimeColumn};

const ASOF_HINT: &str = "write a ASOF [LEFT] JOIN b MATCH_CONDITION (a.ts >= b.ts) ON a.k = b.k, with event times of both sides";

/// What a join asks of a pair of rows, with columns by number.
#[derive(Debug)]
pub(super) struct Conditions {
    pub(super) kind: JoinKind,
    /// Whether it is an ASOF join, for which a lower bound in time is enough.
    is_asof: bool,
    /// Number of columns of the left input.
    pub(super) width: usize,
    /// What is known of both inputs.
    pub(super) inputs: [Traits; 2],
    /// What single rows of an input must satisfy, over its columns.
    pub(super) before: [Vec<Expr>; 2],
    /// Expressions over the columns of the left and of the right input that are equal.
    pub(super) keys: Vec<(Expr, Expr)>,
    /// Times that are close, the best pair first.
    pub(super) bounds: Vec<TimeBound>,
    /// Anything else, over the columns of both.
    pub(super) rest: Vec<Expr>,
}

/// `left - right` lies between two numbers.
#[derive(Clone, Copy, Debug)]
pub(super) struct TimeBound {
    left: TimeColumn,
    right: TimeColumn,
    lower_ns: i64,
    upper_ns: i64,
}

impl TimeBound {
    /// The lags of both columns in the result.
    fn lags_ns(&self) -> [i64; 2] {
        let (left, right) = (self.left.lag_ns, self.right.lag_ns);
        [
            left.max(right.saturating_sub(self.lower_ns)),
            right.max(left.saturating_add(self.upper_ns)),
        ]
    }

    fn is_equality(&self) -> bool {
        (self.lower_ns, self.upper_ns) == (0, 0)
    }
}

/// Joins two inputs; `above` are conditions over the join's columns by number, which may be moved into an inner join.
pub(super) fn lower(join: &Join, above: &[Expr]) -> Result<State> {
    let conditions = Conditions::of(join, above)?;
    let Some(bound) = conditions.bounds.first().copied() else {
        return Err(unbounded(join, &conditions));
    };
    let (left_keys, right_keys): (Vec<Expr>, Vec<Expr>) = conditions.keys.iter().cloned().unzip();
    let (left, left_places) =
        input(&join.left, &conditions.inputs[0], &conditions.before[0], &left_keys)?;
    let (right, right_places) =
        input(&join.right, &conditions.inputs[1], &conditions.before[1], &right_keys)?;
    let label = label(join, &conditions, Some(&bound))?;
    let kind = conditions.kind;
    let mut both = side_fields(&left, kind, Side::Left);
    both.extend(side_fields(&right, kind, Side::Right));
    let schema = Arc::new(Schema::new(both));
    let first = left.schema.fields().len();
    let place = |index: usize| place(index, conditions.width, first);
    let keys = [left_places, right_places];
    let (columns, times) = ([bound.left.index, bound.right.index], [bound.left, bound.right]);
    let spec = match conditions.is_asof {
        true => JoinProgram::AsOf(AsOfSpec {
            keeps_left: kind.keeps(Side::Left),
            keys,
            times: columns,
            lower_ns: bound.lower_ns,
            upper_ns: (bound.upper_ns < i64::MAX).then_some(bound.upper_ns),
            schema: Arc::clone(&schema),
        }),
        false => JoinProgram::Pairs(JoinSpec {
            kind,
            keys,
            times: columns,
            lower_ns: bound.lower_ns,
            upper_ns: bound.upper_ns,
            residual: residual(&conditions.rest, &schema, place)?,
            whole: whole([&left, &right], kind),
            schema: Arc::clone(&schema),
        }),
    };
    let traits = conditions.traits();
    let plan = Plan {
        time: traits.times.first().map(|time| TimeColumn { index: place(time.index), ..*time }),
        window_bounds: traits.bounds.iter().map(|index| place(*index)).collect(),
        schema,
        node: Node::Join { join: spec, times, inputs: Box::new([left, right]), label },
    };
    let exprs = (0..join.schema.fields().len()).map(|index| numbered(place(index))).collect();
    Ok(State { base: Base::Rows(plan), exprs, filters: Vec::new() })
}

/// Windows whose ends are less than this apart may be as many as the rows that they are joined with.
const BETWEEN_ENDS_NS_MIN: i64 = 1_000_000_000;

/// The side that every worker can hold: a row now and then, where the other has rows of its own.
fn whole(inputs: [&Plan; 2], kind: JoinKind) -> Option<Side> {
    let is_small = |side: Side| has_one_row_per_window(inputs[side as usize]);
    let fits = |side: Side| is_small(side) && !is_small(side.other()) && !kind.keeps(side);
    Side::BOTH.into_iter().find(|&side| fits(side))
}

fn has_one_row_per_window(plan: &Plan) -> bool {
    match &plan.node {
        Node::AggregateWindows { window: Window::Aligned(window), program, .. } => {
            program.key_fields().is_empty() && window.between_ends_ns() >= BETWEEN_ENDS_NS_MIN
        }
        Node::Transform { input, .. } => has_one_row_per_window(input),
        _ => false,
    }
}

/// The columns of one side in the result.
pub(super) fn side_fields(input: &Plan, kind: JoinKind, side: Side) -> Vec<Field> {
    let may_miss = kind.keeps(side.other());
    let fields = input.schema.fields().iter();
    fields.map(|f| f.as_ref().clone().with_nullable(may_miss || f.is_nullable())).collect()
}

/// Where a column of the join is in its result: on each side columns of the input come first, then those computed to
/// compare by. The left input has `width` columns and is built with `first`.
pub(super) fn place(index: usize, width: usize, first: usize) -> usize {
    match index.checked_sub(width) {
        None => index,
        Some(index) => first + index,
    }
}

/// What is known of the columns of a join.
pub(super) fn traits(join: &Join, above: &[Expr]) -> Traits {
    Conditions::of(join, above).map_or_else(|_| Traits::default(), |known| known.traits())
}

/// A condition over a join's columns by number, if it may become a condition of the join.
pub(super) fn above(predicate: &Expr, input: &LogicalPlan) -> Option<(Join, Vec<Expr>)> {
    let join = plain_inner(input)?;
    Some((join.clone(), vec![substitute(predicate, &join.schema, &identity(join)).ok()?]))
}

/// An inner join whose pairs do not depend on one another: a condition means the same before and after it.
pub(super) fn plain_inner(plan: &LogicalPlan) -> Option<&Join> {
    let LogicalPlan::Join(join) = plan else { return None };
    if super::lookup::reads_table(plan) {
        return None;
    }
    let filter = join.filter.as_ref();
    let is_asof = filter.is_some_and(|filter| {
        split_conjunction(filter).into_iter().any(|part| inside_asof(part).is_some())
    });
    (join.join_type == JoinType::Inner && !is_asof).then_some(join)
}

fn identity(join: &Join) -> Vec<Expr> {
    (0..join.schema.fields().len()).map(numbered).collect()
}

impl Conditions {
    pub(super) fn of(join: &Join, above: &[Expr]) -> Result<Self> {
        let kind = match join.join_type {
            JoinType::Inner => JoinKind::Inner,
            JoinType::Left => JoinKind::Left,
            JoinType::Right => JoinKind::Right,
            JoinType::Full => JoinKind::Full,
            other => return Err(internal(&format!("{other} join"))),
        };
        let width = join.left.schema().fields().len();
        let all = identity(join);
        let mut parts = Vec::new();
        for (left, right) in &join.on {
            let left = substitute(left, join.left.schema(), &all)?;
            let right = renumber(&substitute(right, join.right.schema(), &all)?, |index| {
                Some(numbered(width + index))
            })?;
            parts.push(binary_expr(left, Operator::Eq, right));
        }
        let mut matching = None;
        if let Some(filter) = &join.filter {
            for part in split_conjunction(filter) {
                let inside = inside_asof(part);
                let part = substitute(inside.unwrap_or(part), &join.schema, &all)?;
                split(
                    &part,
                    if inside.is_some() { matching.get_or_insert_default() } else { &mut parts },
                );
            }
        }
        let is_asof = matching.is_some();
        parts.extend(matching.unwrap_or_default());
        above.iter().for_each(|condition| split(condition, &mut parts));
        let mut conditions = Self {
            kind,
            is_asof,
            width,
            inputs: [Traits::default(), Traits::default()],
            before: [Vec::new(), Vec::new()],
            keys: Vec::new(),
            bounds: Vec::new(),
            rest: Vec::new(),
        };
        let mut pairs = Vec::new();
        for part in parts {
            if let Some((side, part)) = conditions.of_one_side(&part)? {
                conditions.before[side as usize].push(part);
            } else if !matches!(part, Expr::Literal(ScalarValue::Boolean(Some(true)), _)) {
                pairs.push(part);
            }
        }
        conditions.inputs = [
            input_traits(&join.left, &conditions.before[0]),
            input_traits(&join.right, &conditions.before[1]),
        ];
        conditions.sort_pairs(pairs, join)?;
        if is_asof {
            conditions.check_asof()?;
        }
        Ok(conditions)
    }

    /// Refuses what an ASOF join cannot be asked.
    fn check_asof(&self) -> Result<()> {
        if !matches!(self.kind, JoinKind::Inner | JoinKind::Left) {
            return Err(SqlError::unsupported("ASOF JOIN is INNER or LEFT").hint(ASOF_HINT));
        }
        if self.bounds.is_empty() {
            return Err(
                SqlError::query("ASOF JOIN does not look back in event time").hint(ASOF_HINT)
            );
        }
        if self.rest.is_empty() && self.before.iter().all(Vec::is_empty) {
            return Ok(());
        }
        Err(SqlError::query(
            "ASOF JOIN has a condition that is neither an equality nor on both times",
        )
        .hint("filter each side in a subquery, and the result by WHERE"))
    }

    /// A condition on the rows of one input, which they may be asked before they meet others: rows of an input that is
    /// kept without a partner must not be lost by it.
    fn of_one_side(&self, part: &Expr) -> Result<Option<(Side, Expr)>> {
        let read = numbers(part);
        let (Some(first), Some(last)) = (read.first(), read.last()) else { return Ok(None) };
        let side = match (*first < self.width, *last < self.width) {
            (true, true) => Side::Left,
            (false, false) => Side::Right,
            _ => return Ok(None),
        };
        if self.kind.keeps(side) {
            return Ok(None);
        }
        Ok(Some((side, self.on_side(part, side)?)))
    }

    /// An expression that reads one side, over its columns.
    fn on_side(&self, expr: &Expr, side: Side) -> Result<Expr> {
        match side {
            Side::Left => Ok(expr.clone()),
            Side::Right => renumber(expr, |index| index.checked_sub(self.width).map(numbered)),
        }
    }

    /// Sorts conditions on pairs into keys, bounds in time and the rest.
    fn sort_pairs(&mut self, parts: Vec<Expr>, join: &Join) -> Result<()> {
        let mut bounds: Vec<(TimeBound, Vec<usize>)> = Vec::new();
        for (at, part) in parts.iter().enumerate() {
            let Some((found, lower_ns, upper_ns)) = self.compared_times(part, join) else {
                continue;
            };
            let same = |(known, _): &(TimeBound, Vec<usize>)| {
                (known.left, known.right) == (found.left, found.right)
            };
            let place = bounds.iter().position(same).unwrap_or(bounds.len());
            if place == bounds.len() {
                bounds.push((found, Vec::new()));
            }
            if let Some((bound, said)) = bounds.get_mut(place) {
                bound.lower_ns = bound.lower_ns.max(lower_ns);
                bound.upper_ns = bound.upper_ns.min(upper_ns);
                said.push(at);
            }
        }
        bounds.retain(|(bound, _)| {
            bound.lower_ns > i64::MIN && (self.is_asof || bound.upper_ns < i64::MAX)
        });
        // The closest times hold the fewest rows; of those, the ones that are known soonest.
        bounds.sort_by_key(|(bound, _)| {
            let width = bound.upper_ns.saturating_sub(bound.lower_ns);
            (width, bound.left.lag_ns.max(bound.right.lag_ns))
        });
        let said = bounds.first().map(|(_, parts)| parts.clone()).unwrap_or_default();
        for (at, part) in parts.into_iter().enumerate() {
            if let Some(key) = self.equal_keys(&part)? {
                self.keys.push(key);
            } else if !said.contains(&at) {
                self.rest.push(part);
            }
        }
        self.bounds = bounds.into_iter().map(|(bound, _)| bound).collect();
        Ok(())
    }

    /// What a condition says about an event time of the left input and one of the right.
    fn compared_times(&self, part: &Expr, join: &Join) -> Option<(TimeBound, i64, i64)> {
        let Expr::BinaryExpr(BinaryExpr { left, op, right }) = unalias(part) else { return None };
        let (a, b) = (Moved::read(left, join)?, Moved::read(right, join)?);
        if !zones_agree(&a.kind, &b.kind) {
            return None;
        }
        // As `left op right + distance`.
        let (l, op, r) = match a.column < self.width {
            true => (&a, *op, &b),
            false => (&b, op.swap()?, &a),
        };
        let distance = r.by_ns.checked_sub(l.by_ns)?;
        if distance.abs() > SPAN_NS_MAX {
            return None;
        }
        let (lower_ns, upper_ns) = match op {
            Operator::Eq => (distance, distance),
            Operator::GtEq => (distance, i64::MAX),
            Operator::Gt => (distance + 1, i64::MAX),
            Operator::LtEq => (i64::MIN, distance),
            Operator::Lt => (i64::MIN, distance - 1),
            _ => return None,
        };
        let time = |side: Side, index: usize| {
            self.inputs[side as usize].times.iter().find(|time| time.index == index).copied()
        };
        let left = time(Side::Left, l.column)?;
        let right = time(Side::Right, r.column.checked_sub(self.width)?)?;
        let open = TimeBound { left, right, lower_ns: i64::MIN, upper_ns: i64::MAX };
        Some((open, lower_ns, upper_ns))
    }

    /// Both sides of an equality, if one reads the left input and the other the right one.
    fn equal_keys(&self, part: &Expr) -> Result<Option<(Expr, Expr)>> {
        let Expr::BinaryExpr(BinaryExpr { left, op: Operator::Eq, right }) = unalias(part) else {
            return Ok(None);
        };
        let side = |expr: &Expr| {
            let read = numbers(expr);
            let is_left = *read.first()? < self.width;
            (is_left == (*read.last()? < self.width)).then_some(is_left)
        };
        let (a, b) = match (side(left), side(right)) {
            (Some(true), Some(false)) => (left, right),
            (Some(false), Some(true)) => (right, left),
            _ => return Ok(None),
        };
        Ok(Some((self.on_side(a, Side::Left)?, self.on_side(b, Side::Right)?)))
    }

    /// What is known of the result.
    fn traits(&self) -> Traits {
        let mut traits = Traits::default();
        let Some(best) = self.bounds.first() else { return traits };
        let is_inner = self.kind == JoinKind::Inner && !self.is_asof;
        let is_there = |side: Side| !self.kind.keeps(side.other());
        // Pairs are close in all times that are compared; a row without a partner waits by the first ones.
        let bounds = if is_inner { &self.bounds[..] } else { std::slice::from_ref(best) };
        let is_near = best.upper_ns < i64::MAX;
        let is_time = |side: &Side| is_there(*side) && (is_near || *side == Side::Left);
        for side in Side::BOTH.into_iter().filter(is_time) {
            let first = if side == Side::Left { 0 } else { self.width };
            for bound in bounds {
                let column = if side == Side::Left { bound.left } else { bound.right };
                let (index, lag_ns) = (first + column.index, bound.lags_ns()[side as usize]);
                match traits.times.iter_mut().find(|time| time.index == index) {
                    Some(time) => time.lag_ns = time.lag_ns.min(lag_ns),
                    None => traits.times.push(TimeColumn { index, lag_ns }),
                }
            }
            let known = &self.inputs[side as usize].bounds;
            traits.bounds.extend(known.iter().map(|index| first + index));
        }
        // Rows of one window come in one epoch on either side, so their pairs leave in the later of both. A row without
        // a partner leaves later than those with one.
        let together = |side: Side, time: TimeColumn| {
            self.inputs[side as usize].together.contains(&time.index)
        };
        let both = together(Side::Left, best.left) && together(Side::Right, best.right);
        if is_inner && best.is_equality() && both {
            traits.together = vec![best.left.index, self.width + best.right.index];
        }
        traits
    }
}

/// Conditions that are joined by AND, with BETWEEN as two of them.
fn split(condition: &Expr, parts: &mut Vec<Expr>) {
    for part in split_conjunction(condition) {
        match unalias(part) {
            Expr::Between(between) if !between.negated => {
                let (value, low) = (between.expr.as_ref().clone(), between.low.as_ref().clone());
                parts.push(binary_expr(value.clone(), Operator::GtEq, low));
                parts.push(binary_expr(value, Operator::LtEq, between.high.as_ref().clone()));
            }
            part => parts.push(part.clone()),
        }
    }
}

fn input_traits(plan: &LogicalPlan, before: &[Expr]) -> Traits {
    match plain_inner(plan) {
        Some(join) => traits(join, before),
        None => Traits::of(plan),
    }
}

/// Builds an input with its conditions; gives it, and the places of the expressions to compare by.
pub(super) fn input(
    plan: &LogicalPlan,
    traits: &Traits,
    before: &[Expr],
    keys: &[Expr],
) -> Result<(Plan, Vec<usize>)> {
    let mut state = match plain_inner(plan) {
        Some(join) => lower(join, before)?,
        None => {
            let mut state = super::node(plan)?;
            let columns = state.exprs.clone();
            for condition in before {
                state.filters.push(renumber(condition, |index| columns.get(index).cloned())?);
            }
            state
        }
    };
    let columns = state.exprs.clone();
    let mut fields: Vec<Field> =
        plan.schema().fields().iter().map(|field| field.as_ref().clone()).collect();
    let mut places = Vec::new();
    for (key, expr) in keys.iter().enumerate() {
        if let Some(index) = number(expr) {
            places.push(index);
            continue;
        }
        places.push(state.exprs.len());
        state.exprs.push(renumber(expr, |index| columns.get(index).cloned())?);
        fields.push(Field::new(format!("key_{key}"), DataType::Null, true));
    }
    Ok((state.build(traits, &Schema::new(fields))?, places))
}

/// Compiles the conditions that are left, as [`JoinSpec::residual`] wants them.
fn residual(
    rest: &[Expr],
    schema: &Schema,
    place: impl Fn(usize) -> usize,
) -> Result<Option<Arc<dyn driftline_operators::expression::Transform>>> {
    if rest.is_empty() {
        return Ok(None);
    }
    let mut fields: Vec<_> = schema.fields().iter().map(Arc::clone).collect();
    let pair = fields.len();
    fields.push(Arc::new(Field::new("pair", DataType::UInt32, false)));
    let filters = rest.iter().map(|expr| renumber(expr, |index| Some(numbered(place(index)))));
    let filters = filters.collect::<Result<Vec<_>>>()?;
    let schema = Arc::new(Schema::new(fields));
    let program =
        physical::Program::try_new(&schema, &filters, &[numbered(pair)], &["pair".to_owned()])?;
    Ok(Some(Arc::new(program)))
}

/// A time column, moved by a constant.
struct Moved {
    column: usize,
    by_ns: i64,
    kind: DataType,
}

impl Moved {
    /// Reads `column`, `column + INTERVAL ..`, and casts that keep the moment.
    fn read(expr: &Expr, join: &Join) -> Option<Self> {
        match unalias(expr) {
            Expr::Column(_) => {
                let column = number(expr)?;
                let kind = join.schema.field(column).data_type().clone();
                unit_ns(&kind)?;
                Some(Self { column, by_ns: 0, kind })
            }
            Expr::Cast(cast) => {
                let (inner, kind) = (Self::read(&cast.expr, join)?, cast.field.data_type().clone());
                let is_exact = unit_ns(&kind)? <= unit_ns(&inner.kind)?;
                (is_exact && zones_agree(&inner.kind, &kind)).then_some(Self { kind, ..inner })
            }
            Expr::BinaryExpr(BinaryExpr { left, op: Operator::Plus, right }) => {
                match (unalias(left), unalias(right)) {
                    (Expr::Literal(by, _), time) | (time, Expr::Literal(by, _)) => {
                        Self::read(time, join)?.moved(by, 1)
                    }
                    _ => None,
                }
            }
            Expr::BinaryExpr(BinaryExpr { left, op: Operator::Minus, right }) => {
                let Expr::Literal(by, _) = unalias(right) else { return None };
                Self::read(left, join)?.moved(by, -1)
            }
            _ => None,
        }
    }

    fn moved(self, by: &ScalarValue, sign: i64) -> Option<Self> {
        const DAY_NS: i64 = 86_400 * 1_000_000_000;
        let (days, ns) = match by {
            ScalarValue::IntervalMonthDayNano(Some(by)) if by.months == 0 => {
                (i64::from(by.days), by.nanoseconds)
            }
            ScalarValue::IntervalDayTime(Some(by)) => {
                (i64::from(by.days), i64::from(by.milliseconds) * 1_000_000)
            }
            ScalarValue::DurationNanosecond(Some(ns)) => (0, *ns),
            ScalarValue::DurationMicrosecond(Some(us)) => (0, us.checked_mul(1_000)?),
            ScalarValue::DurationMillisecond(Some(ms)) => (0, ms.checked_mul(1_000_000)?),
            ScalarValue::DurationSecond(Some(s)) => (0, s.checked_mul(1_000_000_000)?),
            _ => return None,
        };
        // Days of a zone with summer time differ in length, and what is finer than the column would be rounded.
        let is_even = matches!(&self.kind, DataType::Timestamp(_, zone) if is_utc(zone.as_deref()));
        if (days != 0 && !is_even) || ns % unit_ns(&self.kind)? != 0 {
            return None;
        }
        let by_ns = days.checked_mul(DAY_NS)?.checked_add(ns)?.checked_mul(sign)?;
        Some(Self { by_ns: self.by_ns.checked_add(by_ns)?, ..self })
    }
}

fn unit_ns(kind: &DataType) -> Option<i64> {
    match kind {
        DataType::Timestamp(TimeUnit::Second, _) => Some(1_000_000_000),
        DataType::Timestamp(TimeUnit::Millisecond, _) => Some(1_000_000),
        DataType::Timestamp(TimeUnit::Microsecond, _) => Some(1_000),
        DataType::Timestamp(TimeUnit::Nanosecond, _) => Some(1),
        _ => None,
    }
}

fn is_utc(zone: Option<&str>) -> bool {
    matches!(zone, None | Some("UTC" | "+00:00"))
}

/// Whether times of both types can be compared as the moments that they are: one without a zone would be taken for local
/// time of the other's zone.
fn zones_agree(a: &DataType, b: &DataType) -> bool {
    match (a, b) {
        (DataType::Timestamp(_, a), DataType::Timestamp(_, b)) => {
            a.is_some() == b.is_some() || (is_utc(a.as_deref()) && is_utc(b.as_deref()))
        }
        _ => false,
    }
}

/// A join that would have to hold its rows for ever.
fn unbounded(join: &Join, conditions: &Conditions) -> SqlError {
    let name = join.right.schema().iter().find_map(|(qualifier, _)| qualifier.cloned());
    let what = match name {
        Some(name) => format!("join with \"{}\"", name.table()),
        None => "a join".to_owned(),
    };
    let error = SqlError::unsupported(format!("{what} is not bounded in time"));
    let [left, right] = &conditions.inputs;
    if left.times.is_empty() || right.times.is_empty() {
        return error.hint(
            "both sides need an event time: WATERMARK FOR ts in CREATE SOURCE, kept in subqueries and views without \
             computing on it",
        );
    }
    let column = |side: &LogicalPlan, traits: &Traits| {
        let (qualifier, field) = side.schema().qualified_field(traits.times[0].index);
        qualifier.map_or(field.name().clone(), |name| format!("{}.{}", name.table(), field.name()))
    };
    let (left, right) = (column(&join.left, left), column(&join.right, right));
    error.hint(format!(
        "add to ON how far event times lie apart, {left} BETWEEN {right} - INTERVAL '1 minute' AND {right}, or compare the \
         bounds of windows, a.window_end = b.window_end, or take changes of a join of the rows of the last so long, \
         EMIT ON UPDATE RETAIN INTERVAL '1 hour'"
    ))
}

/// What EXPLAIN prints. A join without a bound only compares keys: the rest is a filter above.
pub(super) fn label(
    join: &Join,
    conditions: &Conditions,
    bound: Option<&TimeBound>,
) -> Result<String> {
    let fields: Vec<Field> = join
        .schema
        .iter()
        .map(|(qualifier, field)| {
            let name = qualifier.map_or(String::new(), |name| format!("{}.", name.table()));
            field.as_ref().clone().with_name(format!("{name}{}", field.name()))
        })
        .collect();
    let schema = Arc::new(Schema::new(fields));
    let right = |expr: &Expr| renumber(expr, |index| Some(numbered(conditions.width + index)));
    let mut parts = Vec::new();
    for (left, key) in &conditions.keys {
        parts.push(format!("{} = {}", describe(left, &schema), describe(&right(key)?, &schema)));
    }
    if let Some(bound) = bound.filter(|bound| !bound.is_equality()) {
        let name = |index: usize| schema.field(index).name().clone();
        let (left, right) = (name(bound.left.index), name(conditions.width + bound.right.index));
        let moved = |ns: i64| match ns {
            0 => right.clone(),
            ns if ns < 0 => format!("{right} - {}", OptionValue::Interval(-ns)),
            ns => format!("{right} + {}", OptionValue::Interval(ns)),
        };
        parts.push(match bound.upper_ns {
            i64::MAX => format!("{left} >= {}", moved(bound.lower_ns)),
            upper => format!("{left} BETWEEN {} AND {}", moved(bound.lower_ns), moved(upper)),
        });
    }
    if bound.is_some() {
        parts.extend(conditions.rest.iter().map(|expr| describe(expr, &schema)));
    }
    let kind = match conditions.kind {
        JoinKind::Inner => "INNER",
        JoinKind::Left => "LEFT",
        JoinKind::Right => "RIGHT",
        JoinKind::Full => "FULL",
    };
    let asof = if conditions.is_asof { "ASOF " } else { "" };
    Ok(format!("{asof}{kind} ON {}", parts.join(" AND ")))
}
