//! Detectors without SQL text: what `USING kind PARTITION BY keys WITH (options)` says, from typed builders.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Direction, MissingSlots};
use crate::background::Lazy;
use crate::detector::DetectorRequest;
use crate::error::{OperatorError, Result};
use crate::inference::OnWorkers;
use crate::options::{OptionValue, Options};

/// A detector as asked for, before it meets columns: the same from SQL and from builders.
///
/// # Examples
/// For a kind that has no builder, such as one of the host's own:
/// ```
/// use driftline_operators::detectors::DetectorSpec;
/// use driftline_operators::options::Options;
///
/// let spec = DetectorSpec {
///     options: Options::new().with("threshold", 5.0),
///     partition_by: vec!["host".into()],
///     ..DetectorSpec::new("jump")
/// };
/// assert_eq!(spec.to_string(), "USING jump PARTITION BY host WITH (threshold = 5.0)");
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct DetectorSpec {
    /// The kind, as named after USING.
    pub kind: String,
    /// The WITH clause.
    pub options: Options,
    /// The PARTITION BY columns; empty for one model over all rows.
    pub partition_by: Vec<String>,
}

impl DetectorSpec {
    /// A detector of a kind, with its defaults.
    #[must_use]
    pub fn new(kind: impl Into<String>) -> Self {
        Self { kind: kind.into(), ..Self::default() }
    }

    /// Indexes of the PARTITION BY columns in a schema.
    ///
    /// # Errors
    /// If a column is not there.
    pub fn partition_columns(&self, schema: &arrow::datatypes::Schema) -> Result<Vec<usize>> {
        let names = || schema.fields().iter().map(|field| field.name().as_str());
        let find = |name: &String| {
            names().position(|known| known == name).ok_or_else(|| OperatorError::Columns {
                owner: format!("detector kind \"{}\"", self.kind),
                problem: format!("is partitioned by \"{name}\", which its input does not have"),
                hint: format!("columns: {}", names().collect::<Vec<_>>().join(", ")),
            })
        };
        self.partition_by.iter().map(find).collect()
    }
}

impl fmt::Display for DetectorSpec {
    /// The clauses as SQL spells them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "USING {}", self.kind)?;
        if !self.partition_by.is_empty() {
            write!(f, " PARTITION BY {}", self.partition_by.join(", "))?;
        }
        if !self.options.is_empty() {
            write!(f, " WITH ({})", self.options)?;
        }
        Ok(())
    }
}

/// What the builders of all keyed kinds have in common.
///
/// # Examples
/// ```
/// use driftline_operators::detectors::{DetectorBuilder, Direction, RobustZScore};
///
/// let spec = RobustZScore::new()
///     .threshold(5.0)
///     .history(288)
///     .partition_by(["component"])
///     .direction(Direction::Up)
///     .build();
/// assert_eq!(
///     spec.to_string(),
///     "USING robust_zscore PARTITION BY component \
///      WITH (direction = 'up', history = 288, threshold = 5.0)",
/// );
/// ```
pub trait DetectorBuilder: Sized + Into<DetectorSpec> {
    /// Sets an option by name, as the WITH clause does.
    #[must_use]
    fn option(self, name: &str, value: impl Into<OptionValue>) -> Self;

    /// Keeps one model per value of these columns.
    #[must_use]
    fn partition_by(self, columns: impl IntoIterator<Item = impl Into<String>>) -> Self;

    /// The finished detector.
    fn build(self) -> DetectorSpec {
        self.into()
    }

    /// Rows with a score above this are anomalous.
    #[must_use]
    fn threshold(self, threshold: f64) -> Self {
        self.option("threshold", threshold)
    }

    /// Lets the threshold follow the past scores so that about this share of rows is anomalous.
    #[must_use]
    fn rate(self, rate: f64) -> Self {
        self.option("rate", rate)
    }

    /// Reads only these columns.
    #[must_use]
    fn features(self, columns: impl IntoIterator<Item = impl Into<String>>) -> Self {
        let columns: Vec<String> = columns.into_iter().map(Into::into).collect();
        self.option("features", columns.join(", "))
    }

    /// Raises nothing that deviates less than this from the expected value.
    #[must_use]
    fn min_deviation(self, deviation: f64) -> Self {
        self.option("min_deviation", deviation)
    }

    /// Raises nothing that deviates less than this share of the expected value.
    #[must_use]
    fn min_deviation_relative(self, share: f64) -> Self {
        self.option("min_deviation_relative", share)
    }

    /// Raises deviations of one direction only.
    #[must_use]
    fn direction(self, direction: Direction) -> Self {
        self.option("direction", direction.as_str())
    }

    /// Raises nothing for this long after a raised row.
    #[must_use]
    fn hold_off(self, length: Duration) -> Self {
        self.option("hold_off", length)
    }

    /// Says that rows of a key come this far apart, and what a model is told of a slot without one: at most `gap_max`
    /// (1000) of them in a row, when the next row comes.
    ///
    /// ```
    /// use std::time::Duration;
    /// use driftline_operators::detectors::{DetectorBuilder, HoltWinters, MissingSlots};
    ///
    /// let spec = HoltWinters::new().slots(Duration::from_secs(300), MissingSlots::Hold).build();
    /// assert_eq!(
    ///     spec.to_string(),
    ///     "USING holt_winters WITH (missing = 'hold', slot = INTERVAL '5 minutes')",
    /// );
    /// ```
    #[must_use]
    fn slots(self, length: Duration, missing: MissingSlots) -> Self {
        self.option("slot", length).option("missing", missing.as_str())
    }

    /// Lets models learn from anomalous rows as from any other.
    #[must_use]
    fn learn_anomalies(self) -> Self {
        self.option("learn_anomalies", true)
    }

    /// Keeps at most this many anomalous rows on end from the models.
    #[must_use]
    fn protect_rows_max(self, rows: i64) -> Self {
        self.option("protect_rows_max", rows)
    }

    /// Forgets keys that show no row for longer than this.
    #[must_use]
    fn expire_after(self, length: Duration) -> Self {
        self.option("expire_after", length)
    }
}

/// What all builders are made of: a newtype over a spec, which `new` fills with a kind's name.
macro_rules! detector_builder {
    ($builder:ident) => {
        impl Default for $builder {
            fn default() -> Self {
                Self::new()
            }
        }

        impl From<$builder> for DetectorSpec {
            fn from(builder: $builder) -> Self {
                builder.0
            }
        }

        impl DetectorBuilder for $builder {
            fn option(
                mut self,
                name: &str,
                value: impl Into<$crate::options::OptionValue>,
            ) -> Self {
                self.0.options.set(name, value);
                self
            }

            fn partition_by(
                mut self,
                columns: impl IntoIterator<Item = impl Into<String>>,
            ) -> Self {
                self.0.partition_by = columns.into_iter().map(Into::into).collect();
                self
            }
        }
    };
}
pub(super) use detector_builder;

impl<'a> DetectorRequest<'a> {
    /// What a spec asks of its kind over a relation with the given time column and no window bounds.
    ///
    /// # Errors
    /// If a PARTITION BY column is not there.
    pub fn from_spec(
        name: &'a str,
        spec: &'a DetectorSpec,
        schema: arrow::datatypes::SchemaRef,
        time: usize,
        models_max: usize,
    ) -> Result<Self> {
        let partition_by = spec.partition_columns(&schema)?;
        Ok(Self {
            name,
            schema,
            time,
            partition_by,
            window_bounds: Vec::new(),
            options: &spec.options,
            models_max,
            executor: Arc::new(Lazy),
            inference: Arc::new(OnWorkers),
        })
    }
}
