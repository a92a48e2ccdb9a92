//! Rows with a message in, the same rows with their log keys out: what a dataflow runs for `LOG_KEYS`.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayBuilder, ArrayRef, AsArray, Float64Builder, Int64Builder, ListArray, StringArray,
    StringBuilder, StructArray, UInt32Array,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::compute::{cast, take};
use arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use arrow_row::{RowConverter, SortField};
use serde::{Deserialize, Serialize};

use super::line::{ChangeKind, ParsedLine};
use super::options::{LineReader, LogKeyOptions};
use super::parameter::read_parameter;
use crate::error::{OperatorError, Result};
use crate::model::snapshot;
use crate::window::TimeType;

/// Columns that `LOG_KEYS` appends to its input, in this order.
pub const LOG_KEY_COLUMNS: [&str; 4] = ["log_key", "template", "parameters", "elapsed"];

/// Columns of the changes of templates after the event time, in this order.
pub const TEMPLATE_COLUMNS: [&str; 4] = ["log_key", "change", "merged_into", "template"];

const OWNER: &str = "LOG_KEYS";

/// Most rows of a batch that goes out.
const BATCH_ROWS: usize = 8192;
/// Bytes of text after which a batch goes out, however few its rows are.
const BATCH_BYTES: usize = 256 << 20;
/// What a session that is remembered takes beside its key.
const SESSION_BYTES: usize = 64;

/// What one use of `LOG_KEYS` reads and writes; the same on every worker.
///
/// It appends to the columns of its input
///
/// * `log_key` (Int64): the stable number of the line's template;
/// * `template` (Utf8): the template at that line, with `<*>` for each variable part;
/// * `parameters` (list of structs of `text` Utf8, `number` Float64 and `unit` Utf8): the variable parts, see
///   [`read_parameter`]; and
/// * `elapsed` (Float64): seconds since the session's line before, at least 0; the first element of DeepLog's parameter
///   vector (SP-10). NULL for a session's first line.
///
/// All are NULL for a row without a message.
#[derive(Clone, Debug)]
pub struct LogKeyPlan {
    options: LogKeyOptions,
    message: usize,
    time_index: usize,
    time: TimeType,
    session: Vec<usize>,
    input: SchemaRef,
    output: SchemaRef,
    changes: SchemaRef,
}

impl LogKeyPlan {
    /// Settles columns: the message, the event time, and those that tell sessions apart (none for one session).
    ///
    /// # Errors
    /// If the message is no text, or the input has one of [`LOG_KEY_COLUMNS`] already.
    pub fn new(
        input: &SchemaRef,
        message: usize,
        time: usize,
        session: &[usize],
        options: LogKeyOptions,
    ) -> Result<Self> {
        let refuse = |problem: String, hint: String| OperatorError::Columns {
            owner: OWNER.into(),
            problem,
            hint,
        };
        let field = input.field(message);
        if !matches!(field.data_type(), DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View) {
            return Err(refuse(
                format!("reads messages from \"{}\", which is {}", field.name(), field.data_type()),
                "name a column of type TEXT".into(),
            ));
        }
        if let Some(name) = LOG_KEY_COLUMNS.iter().find(|name| input.index_of(name).is_ok()) {
            return Err(refuse(
                format!("would write column \"{name}\" twice"),
                "select it under another name".into(),
            ));
        }
        let time_field = Arc::clone(&input.fields()[time]);
        let mut fields: Vec<FieldRef> = input.fields().to_vec();
        let types = [DataType::Int64, DataType::Utf8, parameters_type(), DataType::Float64];
        let appended = LOG_KEY_COLUMNS.iter().zip(types);
        fields.extend(appended.map(|(name, kind)| Arc::new(Field::new(*name, kind, true))));
        let [key, change, into, template] = TEMPLATE_COLUMNS;
        let changes = vec![
            Arc::clone(&time_field),
            Arc::new(Field::new(key, DataType::Int64, false)),
            Arc::new(Field::new(change, DataType::Utf8, false)),
            Arc::new(Field::new(into, DataType::Int64, true)),
            Arc::new(Field::new(template, DataType::Utf8, false)),
        ];
        Ok(Self {
            options,
            message,
            time_index: time,
            time: TimeType::new(time_field.data_type())?,
            session: session.to_vec(),
            input: Arc::clone(input),
            output: Arc::new(Schema::new(fields)),
            changes: Arc::new(Schema::new(changes)),
        })
    }

    /// The input's columns and [`LOG_KEY_COLUMNS`].
    #[must_use]
    pub fn output_schema(&self) -> SchemaRef {
        Arc::clone(&self.output)
    }

    /// The event time, and [`TEMPLATE_COLUMNS`].
    #[must_use]
    pub fn changes_schema(&self) -> SchemaRef {
        Arc::clone(&self.changes)
    }

    /// Index of the event-time column in the input, and in the rows that go out.
    #[must_use]
    pub fn time_index(&self) -> usize {
        self.time_index
    }

    /// Index of the message column in the input.
    #[must_use]
    pub fn message_index(&self) -> usize {
        self.message
    }

    /// How the event time is stored.
    #[must_use]
    pub fn time_type(&self) -> TimeType {
        self.time.clone()
    }

    /// The columns of the input.
    #[must_use]
    pub fn input_schema(&self) -> &SchemaRef {
        &self.input
    }

    /// The options, for EXPLAIN.
    #[must_use]
    pub fn options(&self) -> &LogKeyOptions {
        &self.options
    }

    /// What keys and elapsed times depend on, besides the lines: names and values, for snapshots to agree in.
    fn settings(&self) -> Vec<(String, String)> {
        let bounds = ["templates_max", "sessions_max"];
        let options = self.options.settled().filter(|(name, _)| !bounds.contains(name));
        let columns: Vec<String> = self
            .session
            .iter()
            .map(|&index| {
                let field = self.input.field(index);
                format!("{} {}", field.name(), field.data_type())
            })
            .collect();
        let session = ("session".to_owned(), format!("({})", columns.join(", ")));
        let options = options.map(|(name, value)| (name.to_owned(), value.to_string()));
        options.chain([session]).collect()
    }

    /// What runs, without templates yet.
    ///
    /// # Errors
    /// If the session columns cannot be a key.
    pub fn stage(&self) -> Result<LogKeyState> {
        let field = |&index: &usize| SortField::new(self.input.field(index).data_type().clone());
        let converter = match self.session.as_slice() {
            [] => None,
            columns => Some(RowConverter::new(columns.iter().map(field).collect())?),
        };
        Ok(LogKeyState {
            plan: self.clone(),
            reader: self.options.reader()?,
            converter,
            sessions: Sessions::new(self.options.sessions_max()),
            line: ParsedLine::default(),
        })
    }
}

fn parameters_type() -> DataType {
    DataType::List(Arc::new(Field::new("item", DataType::Struct(parameter_fields()), false)))
}

fn parameter_fields() -> Fields {
    let field = |name, kind, nullable| Field::new(name, kind, nullable);
    Fields::from(vec![
        field("text", DataType::Utf8, false),
        field("number", DataType::Float64, true),
        field("unit", DataType::Utf8, true),
    ])
}

/// The relations of one use of `LOG_KEYS`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LogKeyOutput {
    /// The rows with their keys: `LOG_KEYS(...)`.
    Rows,
    /// What has become of templates: `LOG_TEMPLATES(...)`.
    Templates,
}

/// What `LOG_KEYS` has to say about rows.
#[derive(Clone, Debug, Default)]
pub struct KeyedLines {
    /// The rows, in their order, of [`LogKeyPlan::output_schema`].
    pub rows: Vec<RecordBatch>,
    /// What has become of templates, of [`LogKeyPlan::changes_schema`].
    pub changes: Vec<RecordBatch>,
}

/// One template set with the sessions that it follows: all rows of a `LOG_KEYS` go through one of these, in order of
/// event time and arrival, so that keys do not depend on workers or batches.
#[derive(Debug)]
pub struct LogKeyState {
    plan: LogKeyPlan,
    reader: LineReader,
    converter: Option<RowConverter>,
    sessions: Sessions,
    line: ParsedLine,
}

impl LogKeyState {
    /// Parses rows in the order given.
    ///
    /// # Errors
    /// If a column is not of the planned type.
    pub fn process(&mut self, rows: &RecordBatch, out: &mut KeyedLines) -> Result<()> {
        let messages = cast(rows.column(self.plan.message), &DataType::Utf8)?;
        let messages = messages.as_string::<i32>();
        let times = self.plan.time.read(rows.column(self.plan.time_index));
        let sessions = match &self.converter {
            None => None,
            Some(converter) => {
                let columns: Vec<ArrayRef> =
                    self.plan.session.iter().map(|&index| rows.column(index).clone()).collect();
                Some(converter.convert_columns(&columns)?)
            }
        };
        let mut columns = Columns::default();
        let mut changes = Changes::default();
        let mut first = 0;
        for row in 0..rows.num_rows() {
            let session = sessions.as_ref().map_or(&[][..], |keys| keys.row(row).data());
            self.read(messages, row, times[row], session, &mut columns);
            for change in self.reader.parser_mut().take_changes() {
                changes.push(row as u32, change.key, change.kind, &change.template);
            }
            let next = row + 1;
            let is_full = next - first >= BATCH_ROWS || columns.bytes >= BATCH_BYTES;
            if is_full || next == rows.num_rows() {
                let slice = rows.slice(first, next - first);
                out.rows.push(std::mem::take(&mut columns).finish(&slice, &self.plan.output)?);
                first = next;
            }
        }
        if !changes.rows.is_empty() {
            let time = rows.column(self.plan.time_index);
            out.changes.push(changes.finish(time, &self.plan.changes)?);
        }
        Ok(())
    }

    fn read(
        &mut self,
        messages: &StringArray,
        row: usize,
        time: i64,
        session: &[u8],
        columns: &mut Columns,
    ) {
        if messages.is_null(row) {
            columns.push_null();
            return;
        }
        let elapsed = self.sessions.elapsed(session, time);
        let message = self.reader.read(messages.value(row), &mut self.line);
        columns.push(&self.line, message, elapsed);
    }

    /// Templates held now.
    #[must_use]
    pub fn templates(&self) -> usize {
        self.reader.parser().templates().len()
    }

    /// Bytes held, estimated.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.reader.parser().bytes() + self.sessions.bytes
    }

    /// Everything that must survive a restart, and the settings that it depends on.
    ///
    /// # Errors
    /// If it cannot be written, which would be a bug.
    pub fn snapshot(&self) -> Result<Vec<u8>> {
        let parser = self.reader.parser().snapshot()?;
        snapshot::seal(SNAPSHOT, &(self.plan.settings(), parser, &self.sessions))
    }

    /// Takes up a snapshot of a stage with the same settings. Its bounds may be others, if what is there fits them.
    ///
    /// # Errors
    /// If the snapshot is cut short, damaged, of another version, of other settings, which are named, or beyond the
    /// bounds of this stage. The stage is then as it was before.
    pub fn restore(&mut self, bytes: &[u8]) -> Result<()> {
        let (settings, parser, mut sessions): (Vec<(String, String)>, Vec<u8>, Sessions) =
            snapshot::open(SNAPSHOT, bytes)?;
        let refuse = |problem: String| Err(snapshot::problem(SNAPSHOT, problem));
        let wanted = self.plan.settings();
        let given = |name: &str| settings.iter().find(|(other, _)| other == name);
        for (name, value) in &wanted {
            match given(name) {
                Some((_, found)) if found == value => {}
                Some((_, found)) => {
                    return refuse(format!("was taken with {name} = {found}, not {value}"));
                }
                // An option that came later than the snapshot was not given then.
                None if LogKeyOptions::is_default(name, value) => {}
                None => return refuse(format!("says nothing of {name}")),
            }
        }
        let mut reader = self.plan.options.reader()?;
        reader.parser_mut().restore(&parser)?;
        let bounds = [
            ("templates", reader.parser().templates().len(), self.plan.options.templates_max()),
            ("sessions", sessions.latest.len(), self.plan.options.sessions_max()),
        ];
        if let Some((what, held, most)) = bounds.into_iter().find(|(_, held, most)| held > most) {
            return refuse(format!("holds {held} {what}, and {what}_max is {most}"));
        }
        sessions.complete(self.plan.options.sessions_max());
        (self.reader, self.sessions) = (reader, sessions);
        Ok(())
    }
}

/// What snapshots of a stage are called in errors.
const SNAPSHOT: &str = "LOG_KEYS";

/// When each session had its latest line.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Sessions {
    #[serde(skip)]
    most: usize,
    clock: u64,
    /// By key: the time of the latest line, and the clock then.
    latest: BTreeMap<Vec<u8>, (i64, u64)>,
    #[serde(skip)]
    bytes: usize,
}

impl Sessions {
    fn new(most: usize) -> Self {
        Self { most: most.max(1), ..Self::default() }
    }

    fn complete(&mut self, most: usize) {
        self.most = most.max(1);
        self.bytes = self.latest.keys().map(|key| key.len() + SESSION_BYTES).sum();
    }

    /// Seconds since the session's line before, if there was one.
    fn elapsed(&mut self, key: &[u8], time: i64) -> Option<f64> {
        self.clock += 1;
        if let Some(latest) = self.latest.get_mut(key) {
            let before = std::mem::replace(latest, (time, self.clock)).0;
            return Some(time.saturating_sub(before).max(0) as f64 / 1e9);
        }
        if self.latest.len() >= self.most {
            self.drop_oldest();
        }
        self.bytes += key.len() + SESSION_BYTES;
        self.latest.insert(key.to_vec(), (time, self.clock));
        None
    }

    /// Forgets the eighth of sessions that have been silent for longest.
    fn drop_oldest(&mut self) {
        let mut clocks: Vec<u64> = self.latest.values().map(|(_, clock)| *clock).collect();
        let (_, &mut bound, _) = clocks.select_nth_unstable((self.latest.len() / 8).max(1) - 1);
        self.latest.retain(|_, (_, clock)| *clock > bound);
        self.complete(self.most);
    }
}

/// The appended columns, row by row.
#[derive(Default)]
struct Columns {
    keys: Int64Builder,
    templates: StringBuilder,
    ends: Vec<usize>,
    texts: StringBuilder,
    numbers: Float64Builder,
    units: StringBuilder,
    elapsed: Float64Builder,
    valid: Vec<bool>,
    bytes: usize,
}

impl Columns {
    fn push(&mut self, line: &ParsedLine, message: &str, elapsed: Option<f64>) {
        self.keys.append_value(line.key.cast_signed());
        self.templates.append_value(&line.template);
        self.bytes += line.template.len();
        let text = line.text(message);
        for &span in &line.parameters {
            let parameter = read_parameter(text, span);
            self.texts.append_value(parameter.text);
            self.numbers.append_option(parameter.number);
            self.units.append_option(parameter.unit);
            self.bytes += parameter.text.len();
        }
        self.end_row(true, elapsed);
    }

    fn push_null(&mut self) {
        self.keys.append_null();
        self.templates.append_null();
        self.end_row(false, None);
    }

    fn end_row(&mut self, valid: bool, elapsed: Option<f64>) {
        self.elapsed.append_option(elapsed);
        self.ends.push(self.texts.len());
        self.valid.push(valid);
    }

    fn finish(mut self, rows: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch> {
        let parameters: Vec<ArrayRef> = vec![
            Arc::new(self.texts.finish()),
            Arc::new(self.numbers.finish()),
            Arc::new(self.units.finish()),
        ];
        let items = StructArray::try_new(parameter_fields(), parameters, None)?;
        let mut before = 0;
        let lengths = self.ends.iter().map(|&end| end - std::mem::replace(&mut before, end));
        let lists = ListArray::try_new(
            Arc::new(Field::new("item", DataType::Struct(parameter_fields()), false)),
            OffsetBuffer::from_lengths(lengths),
            Arc::new(items),
            Some(NullBuffer::from(self.valid)),
        )?;
        let mut columns = rows.columns().to_vec();
        columns.extend([
            Arc::new(self.keys.finish()) as ArrayRef,
            Arc::new(self.templates.finish()),
            Arc::new(lists),
            Arc::new(self.elapsed.finish()),
        ]);
        Ok(RecordBatch::try_new(Arc::clone(schema), columns)?)
    }
}

/// Changes of templates with the rows that brought them.
#[derive(Default)]
struct Changes {
    rows: Vec<u32>,
    keys: Int64Builder,
    kinds: StringBuilder,
    into: Int64Builder,
    templates: StringBuilder,
}

impl Changes {
    fn push(&mut self, row: u32, key: u64, kind: ChangeKind, template: &str) {
        self.rows.push(row);
        self.keys.append_value(key.cast_signed());
        self.kinds.append_value(kind.as_str());
        self.into.append_option(match kind {
            ChangeKind::Merged { into } => Some(into.cast_signed()),
            _ => None,
        });
        self.templates.append_value(template);
    }

    fn finish(mut self, time: &ArrayRef, schema: &SchemaRef) -> Result<RecordBatch> {
        let columns = vec![
            take(time, &UInt32Array::from(self.rows), None)?,
            Arc::new(self.keys.finish()) as ArrayRef,
            Arc::new(self.kinds.finish()),
            Arc::new(self.into.finish()),
            Arc::new(self.templates.finish()),
        ];
        Ok(RecordBatch::try_new(Arc::clone(schema), columns)?)
    }
}

#[cfg(test)]
mod tests;
