//! SQL types as Arrow types, and the settings of DataFusion's planner.

use std::sync::Arc;

use arrow::datatypes::{DataType, FieldRef};
use datafusion_common::config::ConfigOptions;
use datafusion_common::{DataFusionError, Result as DfResult, TableReference};
use datafusion_expr::{AggregateUDF, HigherOrderUDF, ScalarUDF, TableSource, WindowUDF};
use datafusion_sql::planner::{ContextProvider, SqlToRel};
use sqlparser::ast;

use crate::error::{Result, SqlError};

/// Settings of DataFusion's planner: places are kept, text is Utf8, and zones default to UTC.
pub(super) fn options() -> ConfigOptions {
    let mut options = ConfigOptions::default();
    options.sql_parser.collect_spans = true;
    options.sql_parser.map_string_types_to_utf8view = false;
    options.sql_parser.enable_subquery_sort_elimination = false;
    options.execution.time_zone = Some("UTC".to_owned());
    options.execution.target_partitions = 1;
    options
}

/// The Arrow type of a SQL type, as a nullable field without a name.
pub(crate) fn field_of_type(kind: &ast::DataType) -> Result<FieldRef> {
    let types = Types { options: options() };
    let column = ast::ColumnDef {
        name: ast::Ident::new("column"),
        data_type: kind.clone(),
        options: Vec::new(),
    };
    let schema = SqlToRel::new(&types).build_schema(vec![column]).map_err(|_| {
        SqlError::unsupported(format!("type {kind} is not supported")).hint(
            "types are TEXT, BOOLEAN, SMALLINT, INT, BIGINT, REAL, DOUBLE, DECIMAL(p, s), DATE, TIMESTAMP with 0, 3, 6 or \
             9 digits, BYTEA, and arrays and structs of these",
        )
    })?;
    schema.fields().first().map(Arc::clone).ok_or_else(|| SqlError::unsupported("type is missing"))
}

/// A context in which only types have a meaning.
struct Types {
    options: ConfigOptions,
}

impl ContextProvider for Types {
    fn get_table_source(&self, name: TableReference) -> DfResult<Arc<dyn TableSource>> {
        Err(DataFusionError::Plan(format!("relation {name} has no place in a type")))
    }

    fn get_function_meta(&self, _name: &str) -> Option<Arc<ScalarUDF>> {
        None
    }

    fn get_higher_order_meta(&self, _name: &str) -> Option<Arc<HigherOrderUDF>> {
        None
    }

    fn get_aggregate_meta(&self, _name: &str) -> Option<Arc<AggregateUDF>> {
        None
    }

    fn get_window_meta(&self, _name: &str) -> Option<Arc<WindowUDF>> {
        None
    }

    fn get_variable_type(&self, _names: &[String]) -> Option<DataType> {
        None
    }

    fn options(&self) -> &ConfigOptions {
        &self.options
    }

    fn udf_names(&self) -> Vec<String> {
        Vec::new()
    }

    fn higher_order_function_names(&self) -> Vec<String> {
        Vec::new()
    }

    fn udaf_names(&self) -> Vec<String> {
        Vec::new()
    }

    fn udwf_names(&self) -> Vec<String> {
        Vec::new()
    }
}
