//! Driftline: an embedded stream-processing engine that finds anomalies in cloud telemetry.

mod engine;
mod error;
mod graph;
mod metrics;
mod runtime;
mod settings;
mod sink;
mod source;
mod subscription;

pub use arrow;
pub use futures_core;
pub use driftline_operators::{detectors, evaluate};

pub use driftline_queries::{Accumulator, AggregateFunction, ArgumentTypes, BoxError, ScalarFunction, ShippedQuery, Signal, shipped};
pub use engine::{Engine, EngineBuilder};
pub use error::{Error, ErrorKind, Position, Result};
pub use metrics::{Metrics, QueryMetrics, SourceMetrics};
pub use runtime::clock::{Alarm, Clock, ManualClock, SystemClock};
pub use settings::Settings;
pub use sink::{FileSink, FileWriteOptions, WriteMode};
pub use source::{
    CsvOptions, EventTime, FileFormat, FileReadOptions, FileReader, MalformedPolicy, MalformedRow,
    Pace, PacedBatch, ReadOrder, Source, SourceDefinition, TryPush, infer_schema,
};
pub use subscription::{Callback, ResultStream, Subscription};
