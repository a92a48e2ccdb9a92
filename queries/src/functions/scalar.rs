//! A host's function from rows to rows, seen as one of DataFusion's.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef};
use arrow::datatypes::DataType;
use datafusion_common::{DataFusionError, Result as DfResult};
use datafusion_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

/// An error of the host's own.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

type Body = dyn Fn(&[ArrayRef]) -> Result<ArrayRef, BoxError> + Send + Sync;

/// What a host's function takes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ArgumentTypes {
    /// These types in this order; arguments of other types are cast where SQL would.
    Exact(Vec<DataType>),
    /// One argument or more of any type.
    Any,
}

impl ArgumentTypes {
    pub(super) fn signature(&self) -> Signature {
        match self {
            Self::Exact(types) if types.is_empty() => Signature::nullary(Volatility::Immutable),
            Self::Exact(types) => Signature::exact(types.clone(), Volatility::Immutable),
            Self::Any => Signature::variadic_any(Volatility::Immutable),
        }
    }
}

/// A host's function: one value per row, from the arguments of that row alone.
///
/// It must be a function of its arguments: the same arguments give the same value, on every worker and on replay.
#[derive(Clone)]
pub struct ScalarFunction {
    name: String,
    arguments: ArgumentTypes,
    returns: DataType,
    body: Arc<Body>,
}

impl ScalarFunction {
    /// A function of that name.
    ///
    /// `body` gets one array per argument, all of one length, and returns an array of that length and of the type
    /// `returns`; an array of another length or type is an error of the row's batch.
    pub fn new(
        name: impl Into<String>,
        arguments: ArgumentTypes,
        returns: DataType,
        body: impl Fn(&[ArrayRef]) -> Result<ArrayRef, BoxError> + Send + Sync + 'static,
    ) -> Self {
        Self { name: name.into(), arguments, returns, body: Arc::new(body) }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn adapt(self) -> ScalarUDF {
        let signature = self.arguments.signature();
        ScalarUDF::from(Adapter { function: self, signature })
    }
}

impl fmt::Debug for ScalarFunction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScalarFunction")
            .field("name", &self.name)
            .field("arguments", &self.arguments)
            .field("returns", &self.returns)
            .finish_non_exhaustive()
    }
}

#[derive(Debug)]
struct Adapter {
    function: ScalarFunction,
    signature: Signature,
}

impl PartialEq for Adapter {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.function.body, &other.function.body)
            && self.function.name == other.function.name
    }
}

impl Eq for Adapter {}

impl Hash for Adapter {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.function.name.hash(state);
    }
}

impl ScalarUDFImpl for Adapter {
    fn name(&self) -> &str {
        &self.function.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arguments: &[DataType]) -> DfResult<DataType> {
        Ok(self.function.returns.clone())
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        let rows = args.number_rows;
        let arrays = args
            .args
            .into_iter()
            .map(|value| value.into_array(rows))
            .collect::<DfResult<Vec<_>>>()?;
        let result = (self.function.body)(&arrays).map_err(DataFusionError::External)?;
        check(&self.function.name, &result, rows, &self.function.returns)?;
        Ok(ColumnarValue::Array(result))
    }
}

/// Refuses an array that a host's function should not have returned.
pub(super) fn check(name: &str, array: &ArrayRef, rows: usize, kind: &DataType) -> DfResult<()> {
    if array.len() != rows || array.data_type() != kind {
        return Err(DataFusionError::Execution(format!(
            "function \"{name}\" returned {} rows of {}, expected {rows} of {kind}",
            array.len(),
            array.data_type(),
        )));
    }
    Ok(())
}
