//! ASOF joins: for each left row the latest right row at or before it.
//!
//! A left row waits until the right side is complete up to it, and is answered then. Of the right side, what a left row
//! may still ask for is kept: for each key the rows from where the answers have come to, and the latest one before.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, RecordBatch, UInt32Array, new_null_array};
use arrow::compute::{filter, take};
use arrow::datatypes::SchemaRef;
use arrow_row::{RowConverter, SortField};
use foldhash::fast::FixedState;

use super::held::{Held, Place, Waiting};
use super::saved::{load_held, save_held};
use super::{Accept, Joining, Keys, Pending, Side, SideTime};
use crate::error::{OperatorError, Result};
use crate::key::fixed_hasher;
use crate::rows::columns_of;
use crate::state::{StateReader, StateWriter, Stateful};
use crate::time::{Epoch, EventTime};

/// Left rows that wait share chunks of this length.
const CHUNK_NS: i64 = 4_000_000_000;
/// Most rows of one batch of results.
const ROWS_MAX: usize = 8192;

/// What an ASOF join computes.
#[derive(Clone, Debug)]
pub struct AsOfSpec {
    /// Whether left rows are given without a partner, with nulls in its place.
    pub keeps_left: bool,
    /// Columns of the left and of the right input that are equal in a match; both lists are of one length, with equal
    /// types. A null equals nothing.
    pub keys: [Vec<usize>; 2],
    /// Event-time columns of both inputs.
    pub times: [usize; 2],
    /// The least that the left time is above the right one, in nanoseconds: 0 for "at or before", 1 for "before".
    pub lower_ns: i64,
    /// The most that it is above, where there is such a bound.
    pub upper_ns: Option<i64>,
    /// Columns of the left input, then of the right.
    pub schema: SchemaRef,
}

/// The right rows of one key by time, as bytes. Of rows with equal times the greatest is kept, so that neither arrival
/// nor the number of workers shows.
type History = BTreeMap<i64, Box<[u8]>>;

/// An ASOF join and the rows that it holds.
#[derive(Debug)]
pub struct AsOf {
    spec: AsOfSpec,
    times: [SideTime; 2],
    keys: Keys,
    rows: RowConverter,
    right_schema: SchemaRef,
    left: Held,
    right: HashMap<Arc<[u8]>, History, FixedState>,
    /// Times of right rows, the earliest on top: once answers have come to one, those before it can go.
    superseding: BinaryHeap<Reverse<(i64, Arc<[u8]>)>>,
    /// The same times, where a row may be too far from all that come: then it goes itself.
    leaving: BinaryHeap<Reverse<(i64, Arc<[u8]>)>>,
    right_rows: usize,
    right_bytes: usize,
    pending: Pending,
    rows_max: usize,
}

impl AsOf {
    /// Joins rows of two schemas; holds at most `rows_max` of them.
    ///
    /// # Errors
    /// If a column's type cannot be compared, the key columns' types differ, or a time column is no timestamp.
    pub fn new(spec: AsOfSpec, inputs: [&SchemaRef; 2], rows_max: usize) -> Result<Self> {
        let right = inputs[1];
        let sorts: Vec<SortField> =
            right.fields().iter().map(|f| SortField::new(f.data_type().clone())).collect();
        let is_unfit =
            |sort: &SortField| !RowConverter::supports_fields(std::slice::from_ref(sort));
        if let Some(index) = sorts.iter().position(is_unfit) {
            let field = right.field(index);
            return Err(OperatorError::Columns {
                owner: "ASOF join".into(),
                problem: format!("keeps \"{}\" of type {}", field.name(), field.data_type()),
                hint: "leave the column away in a subquery, or cast it to a simple type".into(),
            });
        }
        Ok(Self {
            times: SideTime::of_both(spec.times, inputs)?,
            keys: Keys::new(&spec.keys, inputs)?,
            rows: RowConverter::new(sorts)?,
            right_schema: right.clone(),
            left: Held::new(CHUNK_NS, true),
            right: HashMap::with_hasher(fixed_hasher()),
            superseding: BinaryHeap::new(),
            leaving: BinaryHeap::new(),
            right_rows: 0,
            right_bytes: 0,
            pending: Pending::default(),
            rows_max,
            spec,
        })
    }

    /// Left rows begin to wait; those without a key are answered at once.
    fn wait(&mut self, rows: &RecordBatch, results: &mut Vec<RecordBatch>) -> Result<()> {
        let SideTime { index, kind } = &self.times[Side::Left as usize];
        let times = kind.read(rows.column(*index));
        let present = self.keys.present(Side::Left, rows, *index);
        let (mut waiting, mut alone) = (Vec::new(), Vec::new());
        for place in 0..rows.num_rows() {
            let row = place as u32;
            match present.has(place) {
                true => waiting.push(Waiting { time: times[place], row, has_partner: false }),
                false => alone.push(row),
            }
        }
        self.left.add(rows, None, waiting)?;
        if self.spec.keeps_left && !alone.is_empty() {
            let places = UInt32Array::from(alone);
            let own = rows.columns().iter().map(|column| take(column, &places, None));
            let own = own.collect::<std::result::Result<Vec<_>, _>>()?;
            results.push(self.batch(own, &vec![None; places.len()])?);
        }
        Ok(())
    }

    /// Right rows are kept by key and time.
    fn keep(&mut self, rows: &RecordBatch) -> Result<()> {
        let SideTime { index, kind } = &self.times[Side::Right as usize];
        let times = kind.read(rows.column(*index));
        let present = self.keys.present(Side::Right, rows, *index);
        let keys = self.keys.read(Side::Right, rows.columns())?;
        let bytes = self.rows.convert_columns(rows.columns())?;
        for (place, row) in bytes.iter().enumerate() {
            let Some(key) = keys.get(place).filter(|_| present.has(place)) else { continue };
            let key: Arc<[u8]> = match self.right.get_key_value(key) {
                Some((key, _)) => Arc::clone(key),
                None => key.into(),
            };
            let history = self.right.entry(Arc::clone(&key)).or_default();
            let row = row.data();
            match history.get_mut(&times[place]) {
                Some(known) => {
                    if **known < *row {
                        self.right_bytes = self.right_bytes + row.len() - known.len();
                        *known = row.into();
                    }
                }
                None => {
                    history.insert(times[place], row.into());
                    self.right_rows += 1;
                    self.right_bytes += row.len();
                    if self.spec.upper_ns.is_some() {
                        self.leaving.push(Reverse((times[place], Arc::clone(&key))));
                    }
                    self.superseding.push(Reverse((times[place], key)));
                }
            }
        }
        Ok(())
    }

    /// The right row that answers a left one.
    fn latest(&self, key: &[u8], time: i64) -> Option<&[u8]> {
        let until = time.saturating_sub(self.spec.lower_ns);
        let (at, row) = self.right.get(key)?.range(..=until).next_back()?;
        let is_near = self.spec.upper_ns.is_none_or(|upper| time.saturating_sub(upper) <= *at);
        is_near.then_some(row)
    }

    /// Answers left rows.
    fn answer(&self, places: &[Place]) -> Result<Option<RecordBatch>> {
        let mut columns = self.left.columns(places)?;
        let keys = self.keys.read(Side::Left, &columns)?;
        let SideTime { index, kind } = &self.times[Side::Left as usize];
        let times = kind.read(&columns[*index]);
        let latest = |row: usize| keys.get(row).and_then(|key| self.latest(key, times[row]));
        let mut found: Vec<Option<&[u8]>> = (0..places.len()).map(latest).collect();
        if !self.spec.keeps_left && found.contains(&None) {
            let given: BooleanArray = found.iter().map(|row| Some(row.is_some())).collect();
            for column in &mut columns {
                *column = filter(column, &given)?;
            }
            found.retain(Option::is_some);
        }
        if found.is_empty() {
            return Ok(None);
        }
        self.batch(columns, &found).map(Some)
    }

    /// The columns of right rows.
    fn right_columns<'r>(&self, rows: impl IntoIterator<Item = &'r [u8]>) -> Result<Vec<ArrayRef>> {
        let types = self.right_schema.fields().iter().map(|field| field.data_type());
        columns_of(&self.rows, rows, types)
    }

    /// Left columns and the right rows beside them.
    fn batch(&self, mut columns: Vec<ArrayRef>, found: &[Option<&[u8]>]) -> Result<RecordBatch> {
        let fields = self.right_schema.fields();
        let rows: Vec<&[u8]> = found.iter().flatten().copied().collect();
        if rows.is_empty() {
            columns.extend(fields.iter().map(|f| new_null_array(f.data_type(), found.len())));
        } else {
            let mut next = 0..;
            let places: UInt32Array =
                found.iter().map(|row| row.and_then(|_| next.next())).collect();
            for column in self.right_columns(rows)? {
                columns.push(match places.null_count() {
                    0 => column,
                    _ => take(&column, &places, None)?,
                });
            }
        }
        Ok(RecordBatch::try_new(self.spec.schema.clone(), columns)?)
    }

    /// Forgets right rows that no left row from `time` on can be answered with; all of them, where there is no time.
    fn forget(&mut self, time: Option<i64>) {
        let Some(time) = time else {
            self.right.clear();
            self.superseding.clear();
            self.leaving.clear();
            (self.right_rows, self.right_bytes) = (0, 0);
            return;
        };
        let until = time.saturating_sub(self.spec.lower_ns);
        while let Some(Reverse((at, _))) = self.superseding.peek()
            && *at <= until
        {
            let Some(Reverse((at, key))) = self.superseding.pop() else { break };
            self.drop_before(&key, at);
        }
        let Some(upper_ns) = self.spec.upper_ns else { return };
        let from = time.saturating_sub(upper_ns);
        while let Some(Reverse((at, _))) = self.leaving.peek()
            && *at < from
        {
            let Some(Reverse((_, key))) = self.leaving.pop() else { break };
            self.drop_before(&key, from);
        }
    }

    fn drop_before(&mut self, key: &[u8], time: i64) {
        let Some(history) = self.right.get_mut(key) else { return };
        let kept = history.split_off(&time);
        let dropped = std::mem::replace(history, kept);
        self.right_rows -= dropped.len();
        self.right_bytes -= dropped.values().map(|row| row.len()).sum::<usize>();
        if history.is_empty() {
            self.right.remove(key);
        }
    }

    fn rows(&self) -> usize {
        self.pending.rows() + self.left.rows() + self.right_rows
    }
}

impl AsOf {
    /// The right rows that are kept, as they came.
    fn right_batch(&self) -> Result<Option<RecordBatch>> {
        let mut all: Vec<(&[u8], i64, &[u8])> = Vec::with_capacity(self.right_rows);
        for (key, history) in &self.right {
            all.extend(history.iter().map(|(time, row)| (&**key, *time, &**row)));
        }
        if all.is_empty() {
            return Ok(None);
        }
        // In an order that does not depend on hashes, so that equal states are equal bytes.
        all.sort_unstable();
        let columns = self.right_columns(all.iter().map(|(.., row)| *row))?;
        Ok(Some(RecordBatch::try_new(Arc::clone(&self.right_schema), columns)?))
    }
}

impl Stateful for AsOf {
    fn save(&mut self, out: &mut StateWriter) -> Result<()> {
        save_held(&self.left, Side::Left, &self.spec.keys[Side::Left as usize], out)?;
        match self.right_batch()? {
            Some(rows) => out.keyed("kept", rows, &self.spec.keys[Side::Right as usize]),
            None => Ok(()),
        }
    }

    fn load(&mut self, saved: &StateReader<'_>) -> Result<()> {
        for rows in saved.rows_as("kept", &Arc::clone(&self.right_schema))? {
            self.keep(&rows)?;
        }
        for (rows, _) in load_held(saved, Side::Left)? {
            // Rows without a key have been answered, so that there is nothing to answer.
            self.wait(&rows, &mut Vec::new())?;
        }
        Ok(())
    }
}

impl Joining for AsOf {
    fn add(&mut self, epoch: Epoch, side: Side, rows: &RecordBatch) {
        let room = self.rows_max.saturating_sub(self.rows());
        self.pending.add(epoch, side, rows, room);
    }

    fn close(
        &mut self,
        epoch: Epoch,
        complete: [EventTime; 2],
        _accept: &mut Accept<'_>,
    ) -> Result<Vec<RecordBatch>> {
        let mut results = Vec::new();
        for (side, rows) in self.pending.take(epoch) {
            match side {
                Side::Left => self.wait(&rows, &mut results)?,
                Side::Right => self.keep(&rows)?,
            }
        }
        let known = |complete: EventTime| (complete != EventTime::MAX).then_some(complete.0);
        let [left, right] = complete.map(known);
        let past = right.map(|right| right.saturating_add(self.spec.lower_ns));
        let due = self.left.take_due(past);
        for places in due.chunks(ROWS_MAX) {
            results.extend(self.answer(places)?);
        }
        self.left.forget(past);
        // Left rows still come from where the left side is complete, or wait for the right side.
        self.forget(match (left, past) {
            (Some(left), Some(past)) => Some(left.min(past)),
            (one, other) => one.or(other),
        });
        Ok(results)
    }

    fn take_refused(&mut self) -> u64 {
        self.pending.take_refused()
    }

    fn bytes(&self) -> usize {
        let keys: usize = self.right.len() * (size_of::<Arc<[u8]>>() + size_of::<History>());
        self.left.bytes() + self.right_bytes + self.right_rows * 64 + keys
    }
}
