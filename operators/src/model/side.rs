//! Side relations of a keyed detector: their columns, and the rows that its models report.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, UInt32Array};
use arrow::compute::take;
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;

use super::columns::Columns;
use super::extra::ExtraBuilder;
use super::{ModelRelation, Reports, Upkeep};
use crate::detector::{Answers, SideRelation};
use crate::error::{OperatorError, Result};

/// Columns of a counted relation, after the key columns and the relation's own.
const COUNTED: [&str; 4] = ["count", "share", "running", "_diff"];

/// Settles the side relations of a kind over its columns.
pub(super) fn settle(
    owner: &str,
    columns: &Columns,
    relations: &[ModelRelation],
) -> Result<Vec<SideRelation>> {
    relations.iter().map(|relation| settle_one(owner, columns, relation)).collect()
}

fn settle_one(owner: &str, columns: &Columns, relation: &ModelRelation) -> Result<SideRelation> {
    let keyed = relation.upkeep != Upkeep::Running;
    let mut fields: Vec<FieldRef> = if keyed { columns.key_fields() } else { Vec::new() };
    let keys = fields.len();
    let time_field = columns.time_field();
    let time = (relation.upkeep == Upkeep::Append).then_some(keys);
    if time.is_some() {
        fields.push(Arc::clone(&time_field));
    }
    fields.extend(relation.fields.iter().map(|(name, data_type)| {
        let data_type = match data_type {
            DataType::Timestamp(..) => time_field.data_type().clone(),
            other => other.clone(),
        };
        Arc::new(Field::new(*name, data_type, true))
    }));
    let number = |name: &str| Arc::new(Field::new(name, DataType::Float64, false));
    let integer = |name: &str| Arc::new(Field::new(name, DataType::Int64, false));
    let [count, share, running, diff] = COUNTED;
    match relation.upkeep {
        Upkeep::Append => {}
        Upkeep::Counts => fields.extend([integer(count), number(share), integer(diff)]),
        Upkeep::Running => fields.extend([integer(count), integer(running), integer(diff)]),
        Upkeep::Keys => fields.push(integer(diff)),
    }
    let mut seen = std::collections::BTreeSet::new();
    if let Some(twice) = fields.iter().find(|field| !seen.insert(field.name().clone())) {
        return Err(OperatorError::Columns {
            owner: owner.into(),
            problem: format!(
                "would write column \"{}\" of its relation \"{}\" twice",
                twice.name(),
                relation.name
            ),
            hint: "select the key or time column under another name".into(),
        });
    }
    let schema = Arc::new(Schema::new(fields));
    Ok(SideRelation { name: relation.name.to_owned(), schema, time, keys, upkeep: relation.upkeep })
}

/// Writes what models report about the rows of one batch.
pub(super) struct SideWriter {
    relations: Vec<RelationWriter>,
}

struct RelationWriter {
    rows: Vec<u32>,
    values: Vec<ExtraBuilder>,
    changes: Vec<i64>,
}

impl SideWriter {
    pub(super) fn new(columns: &Columns, relations: &[SideRelation]) -> Self {
        let writer = |relation: &SideRelation| RelationWriter {
            rows: Vec::new(),
            values: relation
                .own_fields()
                .iter()
                .map(|field| ExtraBuilder::new(field.data_type(), columns.unit))
                .collect(),
            changes: Vec::new(),
        };
        Self { relations: relations.iter().map(writer).collect() }
    }

    /// Adds what the model of row `row` reported. A report of a relation that is not there is a bug of the kind, and
    /// is left out.
    pub(super) fn push(&mut self, row: usize, reports: &mut Reports) {
        for report in reports.drain() {
            let Some(writer) = self.relations.get_mut(report.relation) else { continue };
            writer.rows.push(row as u32);
            writer.changes.push(report.change);
            let mut values = report.values.iter();
            for builder in &mut writer.values {
                builder.push(values.next().unwrap_or(&super::Extra::Null));
            }
        }
    }

    /// One batch per relation that got rows. `keys` and `time` are the columns that rows were numbered in.
    pub(super) fn finish(
        self,
        relations: &[SideRelation],
        keys: &[ArrayRef],
        time: Option<&ArrayRef>,
        out: &mut Answers,
    ) -> Result<()> {
        for (index, (mut writer, relation)) in self.relations.into_iter().zip(relations).enumerate()
        {
            // Only rows have a time; what stands in counted relations has none.
            if writer.rows.is_empty() || (relation.time.is_some() && time.is_none()) {
                continue;
            }
            let rows = UInt32Array::from(writer.rows);
            let mut arrays: Vec<ArrayRef> = Vec::new();
            let time = time.filter(|_| relation.time.is_some());
            for column in keys.iter().take(relation.keys).chain(time) {
                arrays.push(take(column, &rows, None)?);
            }
            for builder in &mut writer.values {
                arrays.push(builder.finish()?);
            }
            if relation.upkeep != Upkeep::Append {
                arrays.push(Arc::new(Int64Array::from(writer.changes)));
            }
            let schema = relation.reported_schema();
            out.side.push((index, RecordBatch::try_new(schema, arrays)?));
        }
        Ok(())
    }
}

impl SideRelation {
    /// Its own columns: neither keys, time nor counts.
    #[must_use]
    pub fn own_fields(&self) -> &[FieldRef] {
        let counted = match self.upkeep {
            Upkeep::Append => 0,
            Upkeep::Counts | Upkeep::Running => 3,
            Upkeep::Keys => 1,
        };
        let fields = self.schema.fields();
        &fields[self.keys + usize::from(self.time.is_some())..fields.len() - counted]
    }

    /// Columns as reported: those of an appended relation; keys, own columns and the change of a counted one.
    #[must_use]
    pub fn reported_schema(&self) -> SchemaRef {
        if self.upkeep == Upkeep::Append {
            return Arc::clone(&self.schema);
        }
        let mut fields: Vec<FieldRef> = self.schema.fields()[..self.keys].to_vec();
        fields.extend(self.own_fields().iter().cloned());
        fields.push(Arc::new(Field::new("_diff", DataType::Int64, false)));
        Arc::new(Schema::new(fields))
    }
}
