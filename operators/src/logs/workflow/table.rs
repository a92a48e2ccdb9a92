//! Workflows as rows, one for each transition, and back from such rows.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Float64Builder, Int64Builder, StringBuilder};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Float64Type, Int64Type};
use arrow::record_batch::RecordBatch;

use super::graph::{BEGIN, END, Edge, EdgeKind, Node, Workflow, order};
use crate::error::{OperatorError, Result};

/// The kind of a row that is no transition: its keys run side by side.
const BESIDE: &str = "parallel";

/// Columns of workflows as rows.
pub(crate) fn workflow_fields() -> Vec<Field> {
    let number = |name| Field::new(name, DataType::Float64, true);
    let text = |name| Field::new(name, DataType::Utf8, false);
    vec![
        Field::new("task", DataType::Int64, false),
        text("from_key"),
        text("to_key"),
        text("kind"),
        number("count"),
        number("probability"),
        number("seconds"),
        number("deviation"),
    ]
}

/// One row for each transition of workflows, one for each task, in their order; then pairs of keys that run side by side.
pub(crate) fn workflow_columns(workflows: &[Workflow]) -> Vec<ArrayRef> {
    let mut task = Int64Builder::new();
    let mut texts: [StringBuilder; 3] = std::array::from_fn(|_| StringBuilder::new());
    let mut numbers: [Float64Builder; 4] = std::array::from_fn(|_| Float64Builder::new());
    for (index, workflow) in workflows.iter().enumerate() {
        let transitions = workflow.transitions().map(|(from, to, edge)| {
            let Edge { kind, count, probability, seconds, deviation, .. } = edge;
            ([from, to, kind.as_str()], [*count, *probability, *seconds, *deviation])
        });
        let key = |node: usize| workflow.nodes.get(node).map_or("", |node| node.key.as_str());
        let pairs = workflow.side_by_side.iter().filter(|(a, b)| a < b);
        let pairs = pairs.map(|(a, b)| ([key(*a), key(*b), BESIDE], [f64::NAN; 4]));
        for (words, values) in transitions.chain(pairs) {
            task.append_value(index as i64);
            texts.iter_mut().zip(words).for_each(|(text, word)| text.append_value(word));
            for (builder, value) in numbers.iter_mut().zip(values) {
                builder.append_option(Some(value).filter(|value| !value.is_nan()));
            }
        }
    }
    let task: ArrayRef = Arc::new(task.finish());
    let texts = texts.iter_mut().map(|text| Arc::new(text.finish()) as ArrayRef);
    let numbers = numbers.iter_mut().map(|number| Arc::new(number.finish()) as ArrayRef);
    std::iter::once(task).chain(texts).chain(numbers).collect()
}

fn refuse(problem: String) -> OperatorError {
    OperatorError::Columns {
        owner: "a workflow".into(),
        problem,
        hint: "give rows of SELECT * FROM detector.workflow".into(),
    }
}

/// Rows of one task.
#[derive(Default)]
struct Task {
    nodes: Vec<Node>,
    index: BTreeMap<String, usize>,
    edges: Vec<Edge>,
    beside: Vec<(String, String)>,
}

impl Task {
    fn node(&mut self, key: &str) -> usize {
        if let Some(node) = self.index.get(key) {
            return *node;
        }
        self.index.insert(key.to_owned(), self.nodes.len());
        self.nodes.push(Node { key: key.to_owned(), count: 0.0 });
        self.nodes.len() - 1
    }

    fn workflow(mut self) -> Workflow {
        self.edges.sort_by_key(|edge| order(edge.from, edge.to));
        let index = &self.index;
        let pair = |(a, b): &(String, String)| Some((*index.get(a)?, *index.get(b)?));
        let beside = self.beside.iter().filter_map(pair).flat_map(|(a, b)| [(a, b), (b, a)]);
        let side_by_side = beside.collect();
        Workflow { nodes: self.nodes, edges: self.edges, side_by_side }
    }
}

impl Workflow {
    /// Workflows from rows of a detector's relation `workflow`: those drawn last, one for each task.
    ///
    /// # Examples
    /// ```
    /// use std::sync::Arc;
    /// use arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray};
    /// use driftline_operators::logs::workflow::Workflow;
    ///
    /// let text = |of: [&str; 3]| Arc::new(StringArray::from(of.to_vec())) as ArrayRef;
    /// let number = |of: [f64; 3]| Arc::new(Float64Array::from(of.to_vec())) as ArrayRef;
    /// let rows = RecordBatch::try_from_iter([
    ///     ("task", Arc::new(Int64Array::from(vec![0; 3])) as ArrayRef),
    ///     ("from_key", text(["(begin)", "boot", "ready"])),
    ///     ("to_key", text(["boot", "ready", "(end)"])),
    ///     ("kind", text(["sequence"; 3])),
    ///     ("count", number([8.0; 3])),
    ///     ("probability", number([1.0; 3])),
    ///     ("seconds", number([f64::NAN, 43.0, f64::NAN])),
    ///     ("deviation", number([f64::NAN, 4.0, f64::NAN])),
    /// ])?;
    /// let workflow = &Workflow::from_batch(&rows).unwrap()[0];
    /// assert!(workflow.to_mermaid(str::to_owned).contains(r#"n0 -->|"100 %, 43.00 s"| n1"#));
    /// # Ok::<(), arrow::error::ArrowError>(())
    /// ```
    ///
    /// # Errors
    /// If a column is absent or of another type, or a row names no kind of transition.
    pub fn from_batch(batch: &RecordBatch) -> Result<Vec<Self>> {
        let column = |name: &str, wanted: &DataType| -> Result<ArrayRef> {
            let found = batch.column_by_name(name);
            let found = found.ok_or_else(|| refuse(format!("has no column \"{name}\"")))?;
            let fits =
                found.data_type() == wanted && (wanted.is_floating() || !found.is_nullable());
            match fits {
                true => Ok(Arc::clone(found)),
                false => Err(refuse(format!("cannot read \"{name}\" as {wanted} without NULL"))),
            }
        };
        let latest = match batch.column_by_name("drawn_at") {
            None => vec![true; batch.num_rows()],
            Some(times) => {
                let times = cast(times, &DataType::Int64)?;
                let times = times.as_primitive::<Int64Type>();
                let last = arrow::compute::max(times);
                times.iter().map(|time| time == last).collect()
            }
        };
        let tasks = column("task", &DataType::Int64)?;
        let tasks = tasks.as_primitive::<Int64Type>();
        let texts = ["from_key", "to_key", "kind"].map(|name| column(name, &DataType::Utf8));
        let numbers = ["count", "probability", "seconds", "deviation"]
            .map(|name| column(name, &DataType::Float64));
        let texts = texts.into_iter().collect::<Result<Vec<_>>>()?;
        let numbers = numbers.into_iter().collect::<Result<Vec<_>>>()?;
        let rows: Vec<usize> = (0..batch.num_rows()).filter(|row| latest[*row]).collect();
        let text = |of: usize, row: usize| texts[of].as_string::<i32>().value(row);
        let number = |of: usize, row: usize| {
            let column = numbers[of].as_primitive::<Float64Type>();
            if column.is_null(row) { f64::NAN } else { column.value(row) }
        };
        let mut found: BTreeMap<i64, Task> = BTreeMap::new();
        // Every key leads on, to the end at least: in the order in which they do, they usually come.
        for row in rows.iter().copied().filter(|row| text(2, *row) != BESIDE) {
            let task = found.entry(tasks.value(row)).or_default();
            if text(0, row) != BEGIN {
                let node = task.node(text(0, row));
                let occurrences = number(0, row) / number(1, row);
                if occurrences.is_finite() {
                    task.nodes[node].count = occurrences;
                }
            }
        }
        for row in rows {
            let task = found.entry(tasks.value(row)).or_default();
            let (from, to, word) = (text(0, row), text(1, row), text(2, row));
            if word == BESIDE {
                task.beside.push((from.to_owned(), to.to_owned()));
                continue;
            }
            let kind = EdgeKind::of(word)
                .ok_or_else(|| refuse(format!("has a transition of kind \"{word}\"")))?;
            let (from, to) =
                ((from != BEGIN).then(|| task.node(from)), (to != END).then(|| task.node(to)));
            let [count, probability, seconds, deviation] = [0, 1, 2, 3].map(|of| number(of, row));
            task.edges.push(Edge { from, to, kind, count, probability, seconds, deviation });
        }
        Ok(found.into_values().map(Task::workflow).collect())
    }
}
