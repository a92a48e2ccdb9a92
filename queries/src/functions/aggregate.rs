//! A host's function from many rows to one value, seen as one of DataFusion's.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion_common::{DataFusionError, Result as DfResult, ScalarValue};
use datafusion_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion_expr::{Accumulator as DfAccumulator, AggregateUDF, AggregateUDFImpl, Signature};

use super::scalar::{ArgumentTypes, BoxError, check};

/// The running value of one group.
///
/// Rows come in any order and are cut into parts anyhow: the result must be the same.
pub trait Accumulator: Send + Sync {
    /// Adds rows; one array per argument.
    ///
    /// # Errors
    /// If a value is refused.
    fn update(&mut self, arguments: &[ArrayRef]) -> Result<(), BoxError>;

    /// Adds partial states made by [`Accumulator::state`]; one array per state column, one row per state.
    ///
    /// # Errors
    /// If a state is refused.
    fn merge(&mut self, states: &[ArrayRef]) -> Result<(), BoxError>;

    /// The partial state: one array of length 1 per state column.
    ///
    /// # Errors
    /// If the state cannot be expressed.
    fn state(&mut self) -> Result<Vec<ArrayRef>, BoxError>;

    /// The result: an array of length 1.
    ///
    /// # Errors
    /// If the result cannot be expressed.
    fn finish(&mut self) -> Result<ArrayRef, BoxError>;

    /// Bytes held, for limits and metrics.
    fn bytes(&self) -> usize {
        0
    }
}

type Factory = dyn Fn() -> Box<dyn Accumulator> + Send + Sync;

/// A host's function from the rows of a group to one value.
#[derive(Clone)]
pub struct AggregateFunction {
    name: String,
    arguments: ArgumentTypes,
    returns: DataType,
    state: Vec<DataType>,
    factory: Arc<Factory>,
}

impl AggregateFunction {
    /// A function of that name, with at least one argument.
    ///
    /// `factory` makes an accumulator for a group without rows; `state` are the types of its state's columns.
    pub fn new(
        name: impl Into<String>,
        arguments: ArgumentTypes,
        returns: DataType,
        state: Vec<DataType>,
        factory: impl Fn() -> Box<dyn Accumulator> + Send + Sync + 'static,
    ) -> Self {
        Self { name: name.into(), arguments, returns, state, factory: Arc::new(factory) }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn arguments(&self) -> &ArgumentTypes {
        &self.arguments
    }

    pub(super) fn adapt(self) -> AggregateUDF {
        let signature = self.arguments.signature();
        AggregateUDF::from(Adapter { function: self, signature })
    }
}

impl fmt::Debug for AggregateFunction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AggregateFunction")
            .field("name", &self.name)
            .field("arguments", &self.arguments)
            .field("returns", &self.returns)
            .field("state", &self.state)
            .finish_non_exhaustive()
    }
}

#[derive(Debug)]
struct Adapter {
    function: AggregateFunction,
    signature: Signature,
}

impl PartialEq for Adapter {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.function.factory, &other.function.factory)
            && self.function.name == other.function.name
    }
}

impl Eq for Adapter {}

impl Hash for Adapter {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.function.name.hash(state);
    }
}

impl AggregateUDFImpl for Adapter {
    fn name(&self) -> &str {
        &self.function.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arguments: &[DataType]) -> DfResult<DataType> {
        Ok(self.function.returns.clone())
    }

    fn accumulator(&self, args: AccumulatorArgs) -> DfResult<Box<dyn DfAccumulator>> {
        if args.is_distinct {
            return Err(DataFusionError::NotImplemented(format!(
                "function \"{}\" does not take DISTINCT",
                self.function.name
            )));
        }
        let inner = (self.function.factory)();
        Ok(Box::new(Running { function: self.function.clone(), inner }))
    }

    fn state_fields(&self, args: StateFieldsArgs) -> DfResult<Vec<FieldRef>> {
        Ok(self
            .function
            .state
            .iter()
            .enumerate()
            .map(|(i, kind)| {
                Arc::new(Field::new(format!("{}[{i}]", args.name), kind.clone(), true))
            })
            .collect())
    }
}

struct Running {
    function: AggregateFunction,
    inner: Box<dyn Accumulator>,
}

impl fmt::Debug for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Running").field("function", &self.function).finish_non_exhaustive()
    }
}

impl Running {
    fn value(&self, array: &ArrayRef, kind: &DataType) -> DfResult<ScalarValue> {
        check(&self.function.name, array, 1, kind)?;
        ScalarValue::try_from_array(array, 0)
    }
}

impl DfAccumulator for Running {
    fn update_batch(&mut self, values: &[ArrayRef]) -> DfResult<()> {
        self.inner.update(values).map_err(DataFusionError::External)
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> DfResult<()> {
        self.inner.merge(states).map_err(DataFusionError::External)
    }

    fn state(&mut self) -> DfResult<Vec<ScalarValue>> {
        let state = self.inner.state().map_err(DataFusionError::External)?;
        if state.len() != self.function.state.len() {
            return Err(DataFusionError::Execution(format!(
                "function \"{}\" returned {} state columns, expected {}",
                self.function.name,
                state.len(),
                self.function.state.len(),
            )));
        }
        state
            .iter()
            .zip(&self.function.state)
            .map(|(array, kind)| self.value(array, kind))
            .collect()
    }

    fn evaluate(&mut self) -> DfResult<ScalarValue> {
        let result = self.inner.finish().map_err(DataFusionError::External)?;
        self.value(&result, &self.function.returns)
    }

    fn size(&self) -> usize {
        size_of::<Self>() + self.inner.bytes()
    }
}
