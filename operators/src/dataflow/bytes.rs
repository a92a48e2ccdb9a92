//! Rows as bytes in arrow's row format, as differential-dataflow holds them: one type for all columns, and bytes compare
//! as the values do.

use arrow::array::{ArrayRef, RecordBatch};
use arrow::compute::SortOptions;
use arrow::datatypes::{DataType, SchemaRef};
use arrow_row::{RowConverter, SortField};
use differential_dataflow::VecCollection;
use differential_dataflow::consolidation;
use timely::container::CapacityContainerBuilder;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::generic::Operator;

use super::closing::Closing;
use super::context::Gauge;
use super::egress::RESTORED;
use super::retain::Held;
use super::{BatchStream, QueryContext};
use crate::batch::Batch;
use crate::error::Result;
use crate::rows::columns_of;
use crate::time::{Epoch, Watermarks};

/// Between some columns and bytes.
pub(super) struct Codec {
    /// `None` where there is no column.
    converter: Option<RowConverter>,
    types: Vec<DataType>,
}

impl Codec {
    /// # Errors
    /// If a type cannot be compared.
    pub(super) fn new<'a>(types: impl IntoIterator<Item = &'a DataType>) -> Result<Self> {
        Self::ordered(types.into_iter().map(|kind| (kind, SortOptions::default())))
    }

    /// One whose bytes compare as the columns do in these orders, the first column before the second.
    ///
    /// # Errors
    /// If a type cannot be compared.
    pub(super) fn ordered<'a>(
        columns: impl IntoIterator<Item = (&'a DataType, SortOptions)>,
    ) -> Result<Self> {
        let (types, fields): (Vec<DataType>, Vec<SortField>) = columns
            .into_iter()
            .map(|(kind, order)| (kind.clone(), SortField::new_with_options(kind.clone(), order)))
            .unzip();
        let converter = (!fields.is_empty()).then(|| RowConverter::new(fields)).transpose()?;
        Ok(Self { converter, types })
    }

    /// The bytes of each row.
    pub(super) fn encode(&self, columns: &[ArrayRef], rows: usize) -> Result<Vec<Vec<u8>>> {
        Ok(match &self.converter {
            None => vec![Vec::new(); rows],
            Some(converter) => {
                let encoded = converter.convert_columns(columns)?;
                encoded.iter().map(|row| row.data().to_vec()).collect()
            }
        })
    }

    /// The columns of rows.
    pub(super) fn decode<'a>(
        &self,
        rows: impl IntoIterator<Item = &'a [u8]>,
    ) -> Result<Vec<ArrayRef>> {
        let Some(converter) = &self.converter else { return Ok(Vec::new()) };
        columns_of(converter, rows, &self.types)
    }
}

/// The end of a collection: its changes as batches, one for each epoch. What no longer holds comes before what takes its
/// place, and a row that is in several times is there as often. `decode` makes columns of rows, those of `schema` but
/// for the last. What the rows of a checkpoint come to was given before and is not given again.
pub(super) fn give_changes<'scope, D: Held + Ord>(
    collection: VecCollection<'scope, Epoch, D, isize>,
    schema: SchemaRef,
    watermarks: Watermarks,
    context: QueryContext,
    mut decode: impl FnMut(&[&D]) -> Result<Vec<ArrayRef>> + 'static,
) -> BatchStream<'scope> {
    collection.inner.unary_frontier::<CapacityContainerBuilder<Vec<_>>, _, _, _>(
        Pipeline,
        "GiveChanges",
        |capability, _| {
            let mut closing = Closing::new(capability, watermarks, 0);
            let mut bytes = Gauge::new(&context, |c| &c.state_bytes);
            let mut held = 0_i64;
            let mut waiting: Vec<(D, Epoch, isize)> = Vec::new();
            let mut is_entering = context.is_restored();
            // The arrangement keeps a row and what it was made of.
            let size =
                |row: &D, change: isize| 2 * (row.bytes() + size_of::<D>()) as i64 * change as i64;
            move |(input, frontier), output| {
                input.for_each(|_, updates| waiting.append(updates));
                if is_entering {
                    let standing = waiting.extract_if(.., |update| update.1 == RESTORED);
                    held += standing.map(|(row, _, change)| size(&row, change)).sum::<i64>();
                    is_entering = frontier.less_equal(&RESTORED);
                }
                while let Some((_, capability)) = closing.next_closed(frontier) {
                    let closed = *capability.time();
                    let is_over = |update: &mut (D, Epoch, isize)| update.1 <= closed;
                    let over = waiting.extract_if(.., is_over);
                    let mut changes: Vec<(D, isize)> =
                        over.map(|(row, _, change)| (row, change)).collect();
                    consolidation::consolidate(&mut changes);
                    if changes.is_empty() {
                        continue;
                    }
                    held += changes.iter().map(|(row, change)| size(row, *change)).sum::<i64>();
                    bytes.set(held.max(0) as u64);
                    let of = |sign: isize| {
                        changes.iter().filter(move |(_, change)| change.signum() == sign).flat_map(
                            |(row, change)| std::iter::repeat_n(row, change.unsigned_abs()),
                        )
                    };
                    let rows: Vec<&D> = of(-1).chain(of(1)).collect();
                    let gone = of(-1).count();
                    let batch = context.attempt(|| {
                        let columns = decode(&rows)?;
                        changes_of(&schema, columns, rows.len(), gone)
                    });
                    if let Some(rows) = batch {
                        output.session(&capability).give(Batch::from(rows));
                    }
                }
            }
        },
    )
}

/// A batch of which the first `gone` rows no longer hold and the others now do.
fn changes_of(
    schema: &SchemaRef,
    mut columns: Vec<ArrayRef>,
    rows: usize,
    gone: usize,
) -> Result<RecordBatch> {
    let diffs = std::iter::repeat_n(-1, gone).chain(std::iter::repeat_n(1, rows - gone));
    columns.push(std::sync::Arc::new(arrow::array::Int64Array::from_iter_values(diffs)));
    Ok(RecordBatch::try_new(schema.clone(), columns)?)
}
