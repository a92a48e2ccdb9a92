//! The mark of an ASOF join: a function around the comparison of its times that is planned, and never called.

use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion_common::{DataFusionError, Result as DfResult};
use datafusion_expr::{
    ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

/// Its name, which nobody would write by chance. `ASOF JOIN b MATCH_CONDITION (c) ON d` is read as
/// `JOIN b ON "asof match"(c) AND d`.
pub(crate) const ASOF: &str = "asof match";

/// The function.
pub(crate) fn asof() -> Arc<ScalarUDF> {
    // Were it not volatile, a constant argument would have it called while planning.
    Arc::new(ScalarUDF::from(Mark { signature: Signature::any(1, Volatility::Volatile) }))
}

/// What is inside the mark.
pub(crate) fn inside_asof(expr: &Expr) -> Option<&Expr> {
    match expr {
        Expr::ScalarFunction(call) if call.func.name() == ASOF => call.args.first(),
        _ => None,
    }
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Mark {
    signature: Signature,
}

impl ScalarUDFImpl for Mark {
    fn name(&self) -> &str {
        ASOF
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arguments: &[DataType]) -> DfResult<DataType> {
        Ok(DataType::Boolean)
    }

    fn invoke_with_args(&self, _args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        Err(DataFusionError::Internal("the mark of an ASOF join is not a function".to_owned()))
    }
}
