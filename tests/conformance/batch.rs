//! The other side: the same SQL run once, in one batch, by DataFusion.

use std::sync::Arc;

use datafusion::catalog::MemTable;
use datafusion::error::DataFusionError;
use datafusion::prelude::{SessionConfig, SessionContext};
use driftline::arrow::array::RecordBatch;
use driftline::arrow::compute::{cast, concat_batches};
use driftline::arrow::datatypes::SchemaRef;
use tokio::runtime::Runtime;

use super::{asof, windows::last_call};

/// Tables, and what is asked of them.
pub(crate) struct Batch {
    context: SessionContext,
    runtime: Runtime,
    /// Relations made by reference implementations.
    made: std::cell::Cell<usize>,
}

impl Batch {
    pub(crate) fn new() -> Self {
        let mut config = SessionConfig::new().with_target_partitions(1);
        config.options_mut().sql_parser.map_string_types_to_utf8view = false;
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        Self {
            context: SessionContext::new_with_config(config),
            runtime: runtime.expect("a runtime without threads starts"),
            made: std::cell::Cell::new(0),
        }
    }

    pub(crate) fn table(&self, name: &str, rows: RecordBatch) -> Result<(), String> {
        let table = MemTable::try_new(rows.schema(), vec![vec![rows]]);
        let table = table.map_err(|error| error.to_string())?;
        let registered = self.context.register_table(name, Arc::new(table));
        registered.map(|_| ()).map_err(|error| error.to_string())
    }

    /// Runs SQL in which windows are calls.
    pub(crate) fn query(&self, sql: &str) -> Result<Vec<RecordBatch>, String> {
        let sql = self.spelled_out(sql)?;
        self.plain(&sql).map_err(|error| format!("in a batch: {error}\n{sql}"))
    }

    fn plain(&self, sql: &str) -> Result<Vec<RecordBatch>, String> {
        self.runtime
            .block_on(async { self.context.sql(sql).await?.collect().await })
            .map_err(|error| error.to_string())
    }

    /// Rows from `VALUES ..`, as the schema has them.
    pub(crate) fn values(&self, values: &str, schema: &SchemaRef) -> Result<RecordBatch, String> {
        let batches = self.plain(values)?;
        let first = batches.first().ok_or("VALUES without rows")?;
        let rows = concat_batches(&first.schema(), &batches).map_err(|error| error.to_string())?;
        let columns = rows.columns().iter().zip(schema.fields());
        let columns: Result<Vec<_>, _> =
            columns.map(|(column, field)| cast(column, field.data_type())).collect();
        let columns = columns.map_err(|error| error.to_string())?;
        RecordBatch::try_new(schema.clone(), columns).map_err(|error| error.to_string())
    }

    /// Replaces window calls, the innermost first, by subqueries or by relations whose rows have been assigned.
    fn spelled_out(&self, sql: &str) -> Result<String, String> {
        let mut sql = sql.to_owned();
        while let Some(call) = last_call(&sql) {
            let replacement = match call.as_subquery() {
                Some(subquery) => subquery,
                None => {
                    let rows = self.rows_of(call.relation)?;
                    let made = match (call.name, call.numbers.as_slice()) {
                        ("ASOF_JOIN", [key, left_time, right_time]) => {
                            let right = self.rows_of(call.time)?;
                            asof::joined(&rows, &right, [key, left_time, right_time])?
                        }
                        _ => call.assign(&rows)?,
                    };
                    let name = format!("made_{}", self.made.get());
                    self.made.set(self.made.get() + 1);
                    self.table(&name, made)?;
                    name
                }
            };
            let range = call.range;
            sql.replace_range(range, &replacement);
        }
        Ok(sql)
    }

    fn rows_of(&self, relation: &str) -> Result<RecordBatch, String> {
        let made = self.runtime.block_on(async {
            let frame = self.context.sql(&format!("SELECT * FROM {relation}")).await?;
            let schema = Arc::new(frame.schema().as_arrow().clone());
            Ok::<_, DataFusionError>(concat_batches(&schema, &frame.collect().await?)?)
        });
        made.map_err(|error| format!("in a batch: {error}"))
    }
}
