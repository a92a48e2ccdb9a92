//! The functions that a planner knows, by name.

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion_expr::{AggregateUDF, ScalarUDF, WindowUDF};

use super::{AggregateFunction, ArgumentTypes, ScalarFunction};
use crate::error::{Result, SqlError};

/// The functions that SQL may call.
#[derive(Clone, Debug)]
pub struct Functions {
    pub(crate) scalar: BTreeMap<String, Arc<ScalarUDF>>,
    pub(crate) aggregate: BTreeMap<String, Arc<AggregateUDF>>,
    pub(crate) window: BTreeMap<String, Arc<WindowUDF>>,
}

impl Default for Functions {
    fn default() -> Self {
        Self::new()
    }
}

/// Names that mean a window or a stream in FROM or GROUP BY.
const RESERVED: [&str; 10] = [
    "tumble",
    "hop",
    "session",
    "cumulate",
    "count_window",
    "late",
    "descriptor",
    "log_keys",
    "log_templates",
    "grouping",
];

impl Functions {
    /// The built-in functions.
    #[must_use]
    pub fn new() -> Self {
        let mut functions =
            Self { scalar: BTreeMap::new(), aggregate: BTreeMap::new(), window: BTreeMap::new() };
        let nested = datafusion_functions_nested::all_default_nested_functions();
        for udf in datafusion_functions::all_default_functions().into_iter().chain(nested) {
            for name in names(udf.name(), udf.aliases()) {
                functions.scalar.insert(name, Arc::clone(&udf));
            }
        }
        for udf in datafusion_functions_aggregate::all_default_aggregate_functions() {
            for name in names(udf.name(), udf.aliases()) {
                functions.aggregate.insert(name, Arc::clone(&udf));
            }
        }
        for udf in datafusion_functions_window::all_default_window_functions() {
            for name in names(udf.name(), udf.aliases()) {
                functions.window.insert(name, Arc::clone(&udf));
            }
        }
        functions
    }

    /// Adds a function from rows to rows.
    ///
    /// # Errors
    /// If the name is not one that SQL can call unquoted, or is taken.
    pub fn register_scalar(&mut self, function: ScalarFunction) -> Result<()> {
        self.check_name(function.name())?;
        let udf = Arc::new(function.adapt());
        self.scalar.insert(udf.name().to_owned(), udf);
        Ok(())
    }

    /// Adds a function from the rows of a group to one value.
    ///
    /// # Errors
    /// If the name is not one that SQL can call unquoted, or is taken, or the function takes no argument.
    pub fn register_aggregate(&mut self, function: AggregateFunction) -> Result<()> {
        self.check_name(function.name())?;
        if matches!(function.arguments(), ArgumentTypes::Exact(types) if types.is_empty()) {
            return Err(SqlError::settings(format!(
                "aggregate function \"{}\" takes no argument",
                function.name()
            ))
            .hint("give it at least one argument"));
        }
        let udf = Arc::new(function.adapt());
        self.aggregate.insert(udf.name().to_owned(), udf);
        Ok(())
    }

    /// Names of all functions, sorted.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        let mut names: Vec<String> =
            self.scalar.keys().chain(self.aggregate.keys()).cloned().collect();
        names.sort();
        names.dedup();
        names
    }

    fn check_name(&self, name: &str) -> Result<()> {
        let mut letters = name.chars();
        let starts_well = letters.next().is_some_and(|c| c.is_ascii_lowercase() || c == '_');
        if !starts_well
            || !letters.all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
        {
            return Err(SqlError::settings(format!("function name \"{name}\" cannot be called"))
                .hint("use lower-case letters, digits and underscores, and start with a letter"));
        }
        let taken = self.scalar.contains_key(name)
            || self.aggregate.contains_key(name)
            || self.window.contains_key(name)
            || RESERVED.contains(&name);
        if taken {
            return Err(SqlError::settings(format!("function \"{name}\" exists already"))
                .hint("choose another name"));
        }
        Ok(())
    }
}

fn names<'a>(name: &'a str, aliases: &'a [String]) -> impl Iterator<Item = String> + 'a {
    std::iter::once(name).chain(aliases.iter().map(String::as_str)).map(str::to_owned)
}
