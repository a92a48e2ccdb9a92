//! The unit that travels along the edges of a dataflow: Arrow rows with their place in the order of arrival.

use arrow::record_batch::RecordBatch;
use arrow_ipc::reader::StreamReader;
use arrow_ipc::writer::StreamWriter;
use serde::de::Error as _;
use serde::ser::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Rows of one relation.
///
/// `sequence` grows with every batch that a source takes in and survives filters, projections and splits. Together
/// with the row's position it orders rows of equal event time by arrival. It is 0 for rows that a window made.
#[derive(Clone, Debug)]
pub struct Batch {
    /// The rows; never none.
    pub rows: RecordBatch,
    /// Place in the order of arrival.
    pub sequence: u64,
    /// The worker that must see the rows next, where an exchange follows.
    pub target: u32,
    /// Whether the rows are partial states, where an operator takes these beside rows.
    pub is_partial: bool,
}

impl Batch {
    /// The same place in the order of arrival with other rows.
    #[must_use]
    pub fn with_rows(&self, rows: RecordBatch) -> Self {
        Self { sequence: self.sequence, ..Self::from(rows) }
    }

    /// Some of its rows, for the worker that must see them next.
    #[must_use]
    pub fn part(&self, target: u32, rows: RecordBatch) -> Self {
        Self { rows, target, ..*self }
    }
}

/// Rows that an operator made, which have no place in the order of arrival.
impl From<RecordBatch> for Batch {
    fn from(rows: RecordBatch) -> Self {
        Self { rows, sequence: 0, target: 0, is_partial: false }
    }
}

/// Between workers of one process batches move as they are. Between processes they would travel as Arrow IPC.
impl Serialize for Batch {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut bytes = Vec::new();
        StreamWriter::try_new(&mut bytes, &self.rows.schema())
            .and_then(|mut writer| {
                writer.write(&self.rows)?;
                writer.finish()
            })
            .map_err(S::Error::custom)?;
        (self.sequence, self.target, self.is_partial, bytes).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Batch {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (sequence, target, is_partial, bytes) =
            <(u64, u32, bool, Vec<u8>)>::deserialize(deserializer)?;
        let rows = StreamReader::try_new(bytes.as_slice(), None)
            .and_then(|mut reader| {
                reader.next().unwrap_or_else(|| {
                    Err(arrow::error::ArrowError::IpcError("stream holds no batch".into()))
                })
            })
            .map_err(D::Error::custom)?;
        Ok(Self { rows, sequence, target, is_partial })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Int64Array};

    use super::*;

    #[test]
    fn batches_travel_between_processes_unchanged() {
        let column = Arc::new(Int64Array::from(vec![Some(1), None, Some(3)])) as ArrayRef;
        let rows = RecordBatch::try_from_iter([("n", column)]).unwrap();
        let batch = Batch { rows, sequence: 7, target: 3, is_partial: true };
        let bytes = postcard::to_allocvec(&batch).unwrap();
        let back: Batch = postcard::from_bytes(&bytes).unwrap();
        assert_eq!((back.rows, back.sequence), (batch.rows, 7));
        assert_eq!((back.target, back.is_partial), (3, true));
    }
}
