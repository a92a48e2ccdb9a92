//! A source without SQL text: what `CREATE SOURCE` says, from a typed builder.

use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::SchemaRef;
use driftline_operators::time::SPAN_NS_MAX;
use driftline_operators::window::TimeType;

use crate::error::{Error, ErrorKind, Result};
use crate::runtime::source_state::{SourceSpec, SourceTime};

/// What a source is made of, for [`Engine::create_source`](crate::Engine::create_source).
///
/// ```
/// use std::sync::Arc;
/// use std::time::Duration;
/// use driftline::arrow::datatypes::{DataType, Field, Schema, TimeUnit};
/// use driftline::{Engine, SourceDefinition};
///
/// let schema = Arc::new(Schema::new(vec![
///     Field::new("ts", DataType::Timestamp(TimeUnit::Millisecond, None), false),
///     Field::new("cpu", DataType::Float64, true),
/// ]));
/// let definition = SourceDefinition::new("load", schema)
///     .event_time("ts")
///     .disorder(Duration::from_secs(10))
///     .allowed_lateness(Duration::from_secs(5))
///     .idle_timeout(Duration::from_secs(30));
/// let engine = Engine::builder().build()?;
/// let source = engine.create_source(definition)?;
/// assert_eq!(source.name(), "load");
/// # Ok::<(), driftline::Error>(())
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct SourceDefinition {
    name: String,
    schema: SchemaRef,
    event_time: Option<String>,
    disorder: Option<Duration>,
    allowed_lateness: Duration,
    idle_timeout: Option<Duration>,
}

impl SourceDefinition {
    /// A source without event time: its rows can be filtered and projected, not windowed.
    pub fn new(name: impl Into<String>, schema: SchemaRef) -> Self {
        Self {
            name: name.into(),
            schema,
            event_time: None,
            disorder: None,
            allowed_lateness: Duration::ZERO,
            idle_timeout: None,
        }
    }

    /// Names the column of event time. Unless a disorder is given, only the host moves the watermark, by
    /// [`Source::watermark`](crate::Source::watermark).
    pub fn event_time(mut self, column: impl Into<String>) -> Self {
        self.event_time = Some(column.into());
        self
    }

    /// The watermark follows the latest event time seen at this distance; zero where rows come in order.
    pub fn disorder(mut self, disorder: Duration) -> Self {
        self.disorder = Some(disorder);
        self
    }

    /// Windows stay open for this much longer, and rows are not late until then.
    pub fn allowed_lateness(mut self, lateness: Duration) -> Self {
        self.allowed_lateness = lateness;
        self
    }

    /// After this long without a push the watermark goes on with the clock.
    pub fn idle_timeout(mut self, timeout: Duration) -> Self {
        self.idle_timeout = Some(timeout);
        self
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn into_spec(self) -> Result<SourceSpec> {
        let settings = |message: String, hint: &str| {
            Err(Error::new(ErrorKind::Settings, format!("source \"{}\" {message}", self.name))
                .with_hint(hint))
        };
        let mut names: Vec<&String> = self.schema.fields().iter().map(|f| f.name()).collect();
        names.sort_unstable();
        if let Some([name, _]) = names.array_windows().find(|[a, b]| a == b) {
            return settings(format!("has two columns \"{name}\""), "name each column once");
        }
        if names.is_empty() {
            return settings("has no columns".into(), "declare at least one column");
        }
        let time = match &self.event_time {
            None if self.disorder.is_some() || self.idle_timeout.is_some() => {
                return settings(
                    "has a disorder or idle timeout but no event time".into(),
                    "name its column",
                );
            }
            None => None,
            Some(column) => {
                let Some((index, field)) = self.schema.column_with_name(column) else {
                    return settings(
                        format!("has no column \"{column}\" to take event time from"),
                        "name one of its columns",
                    );
                };
                Some(SourceTime {
                    index,
                    time: TimeType::new(field.data_type())?,
                    delay_ns: self.disorder.map(|d| span("disorder", d)).transpose()?,
                    lateness_ns: span("allowed_lateness", self.allowed_lateness)?,
                    idle_timeout: self
                        .idle_timeout
                        .map(|timeout| span("idle_timeout", timeout).map(|_| timeout))
                        .transpose()?,
                })
            }
        };
        if self.idle_timeout.is_some() && self.disorder.is_none() {
            return settings(
                "has an idle timeout, and a watermark that only the host moves".into(),
                "give a disorder, or move the watermark when the source is quiet",
            );
        }
        Ok(SourceSpec { name: self.name, schema: Arc::clone(&self.schema), time })
    }
}

fn span(what: &str, duration: Duration) -> Result<i64> {
    i64::try_from(duration.as_nanos()).ok().filter(|ns| *ns <= SPAN_NS_MAX).ok_or_else(|| {
        Error::new(ErrorKind::Settings, format!("{what} of {duration:?} is too long"))
            .with_hint("at most 400 days")
    })
}
