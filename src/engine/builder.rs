//! Describes an engine before it starts: numbers in settings, components by `with`.

use std::collections::BTreeMap;
use std::sync::Arc;

use driftline_operators::detector::DetectorKind;
use driftline_operators::detectors::builtin_kinds;
use driftline_operators::inference::Device;
use driftline_queries::{AggregateFunction, Functions, ScalarFunction};

use super::{Core, Engine};
use crate::checkpoint::Checkpoints;
use crate::error::{Error, ErrorKind, Result};
use crate::runtime::clock::{Clock, SystemClock};
use crate::settings::Settings;
use crate::simulation;

/// Describes an engine: [`EngineBuilder::build`] starts it.
///
/// ```
/// use driftline::{Engine, EngineBuilder};
///
/// let builder: EngineBuilder = Engine::builder().workers(2).ingress_bytes_max(8 << 20).epoch_millis(5);
/// let engine = builder.build()?;
/// assert_eq!(engine.settings().workers, 2);
/// assert!(Engine::builder().workers(0).build().is_err());
/// # Ok::<(), driftline::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct EngineBuilder {
    settings: Settings,
    clock: Option<Arc<dyn Clock>>,
    kinds: Vec<Arc<dyn DetectorKind>>,
    scalars: Vec<ScalarFunction>,
    aggregates: Vec<AggregateFunction>,
    checkpoints: Option<Checkpoints>,
    device: Option<Arc<dyn Device>>,
}

impl EngineBuilder {
    /// Replaces all numbers.
    pub fn settings(mut self, settings: Settings) -> Self {
        self.settings = settings;
        self
    }

    /// Worker threads; see [`Settings::workers`].
    pub fn workers(mut self, workers: usize) -> Self {
        self.settings.workers = workers;
        self
    }

    /// Bytes that may be pushed ahead; see [`Settings::ingress_bytes_max`].
    pub fn ingress_bytes_max(mut self, bytes: usize) -> Self {
        self.settings.ingress_bytes_max = bytes;
        self
    }

    /// Epochs that may be worked on at once; see [`Settings::epochs_in_flight_max`].
    pub fn epochs_in_flight_max(mut self, epochs: usize) -> Self {
        self.settings.epochs_in_flight_max = epochs;
        self
    }

    /// How long an epoch lasts while earlier ones are worked on; see [`Settings::epoch_millis`].
    pub fn epoch_millis(mut self, millis: u64) -> Self {
        self.settings.epoch_millis = millis;
        self
    }

    /// Takes time from another clock than the system's, such as a [`ManualClock`](crate::ManualClock). In a
    /// [`Simulation`](crate::Simulation) an engine goes by that one's unless it is given another.
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = Some(clock);
        self
    }

    /// Adds a kind of detector of the host's own.
    ///
    /// A kind with one small model for each key says how its models score and learn; columns, keys, thresholds,
    /// bounds and output are taken care of:
    ///
    /// ```
    /// use std::sync::Arc;
    /// use driftline::arrow::datatypes::DataType;
    /// use driftline::detector::{
    ///     DetectorKind, DetectorPlan, DetectorRequest, Extra, FeatureJudgement, Judgement, KeyedPlan, Model,
    ///     ModelFactory, OperatorError, OptionReader, OptionSpec, Phase, Row,
    /// };
    /// use driftline::detectors::Anomaly;
    /// use driftline::Engine;
    ///
    /// /// `USING jump`: values far from the one before.
    /// #[derive(Debug)]
    /// struct Jump;
    ///
    /// impl DetectorKind for Jump {
    ///     fn name(&self) -> &str {
    ///         "jump"
    ///     }
    ///     fn summary(&self) -> &str {
    ///         "values far from the one before"
    ///     }
    ///     fn options(&self) -> Vec<OptionSpec> {
    ///         // Those that all kinds share, with a threshold of 10.
    ///         KeyedPlan::options(10.0)
    ///     }
    ///     fn plan(&self, request: &DetectorRequest<'_>) -> Result<Arc<dyn DetectorPlan>, OperatorError> {
    ///         let options = OptionReader::new("detector kind \"jump\"", request.options, &self.options())?;
    ///         let plan = KeyedPlan::new("jump", request, &options, |_features| Arc::new(Jump))?;
    ///         Ok(Arc::new(plan))
    ///     }
    /// }
    ///
    /// impl ModelFactory for Jump {
    ///     fn model(&self) -> Box<dyn Model> {
    ///         Box::new(Last { value: f64::NAN, rows: 0 })
    ///     }
    ///     fn restore(&self, bytes: &[u8]) -> Result<Box<dyn Model>, OperatorError> {
    ///         let halves = bytes.split_first_chunk().zip(bytes.last_chunk());
    ///         let Some(((value, _), rows)) = halves.filter(|_| bytes.len() == 16) else {
    ///             let (owner, problem) = ("jump".into(), "is cut short".into());
    ///             return Err(OperatorError::Snapshot { owner, problem });
    ///         };
    ///         let (value, rows) = (f64::from_le_bytes(*value), u64::from_le_bytes(*rows));
    ///         Ok(Box::new(Last { value, rows }))
    ///     }
    ///     fn extra_fields(&self) -> Vec<(&'static str, DataType)> {
    ///         vec![("before", DataType::Float64)]
    ///     }
    /// }
    ///
    /// #[derive(Debug)]
    /// struct Last {
    ///     value: f64,
    ///     rows: u64,
    /// }
    ///
    /// impl Model for Last {
    ///     fn score(&self, row: &Row<'_>, judgement: &mut Judgement) {
    ///         if self.rows == 0 {
    ///             return;
    ///         }
    ///         let (before, margin) = (self.value, judgement.threshold);
    ///         judgement.score = (row.features[0] - before).abs();
    ///         judgement.features[0] = FeatureJudgement {
    ///             expected: before,
    ///             lower: before - margin,
    ///             upper: before + margin,
    ///             contribution: judgement.score,
    ///         };
    ///         judgement.extras[0] = Extra::Number(before);
    ///     }
    ///     fn learn(&mut self, row: &Row<'_>) {
    ///         (self.value, self.rows) = (row.features[0], self.rows + 1);
    ///     }
    ///     fn phase(&self) -> Phase {
    ///         if self.rows == 0 { Phase::WarmingUp } else { Phase::Detecting }
    ///     }
    ///     fn samples(&self) -> u64 {
    ///         self.rows
    ///     }
    ///     fn bytes(&self) -> usize {
    ///         size_of::<Self>()
    ///     }
    ///     fn snapshot(&self, out: &mut Vec<u8>) -> Result<(), OperatorError> {
    ///         out.extend(self.value.to_le_bytes());
    ///         out.extend(self.rows.to_le_bytes());
    ///         Ok(())
    ///     }
    /// }
    ///
    /// let engine = Engine::builder().with_detector_kind(Arc::new(Jump)).build()?;
    /// engine.execute(
    ///     "CREATE SOURCE load (ts TIMESTAMP, cpu DOUBLE, WATERMARK FOR ts AS ts);
    ///      CREATE DETECTOR jumps USING jump WITH (threshold = 5) AS SELECT ts, cpu FROM load",
    /// )?;
    /// let jumps = engine.subscribe("SELECT * FROM jumps WHERE is_anomaly")?;
    /// engine.execute(
    ///     "INSERT INTO load VALUES ('2024-01-01 00:00:00', 1), ('2024-01-01 00:00:01', 2),
    ///        ('2024-01-01 00:00:02', 9), ('2024-01-01 00:00:03', 3)",
    /// )?;
    /// engine.shutdown()?;
    /// let mut found = Vec::new();
    /// for rows in jumps {
    ///     found.extend(Anomaly::from_batch(&rows?)?);
    /// }
    /// assert_eq!(found.len(), 1);
    /// assert_eq!((found[0].actual, found[0].expected, found[0].score), (Some(9.0), Some(2.0), 7.0));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// Others implement [`DetectorPlan`](crate::detector::DetectorPlan) and
    /// [`Detector`](crate::detector::Detector) themselves.
    pub fn with_detector_kind(mut self, kind: Arc<dyn DetectorKind>) -> Self {
        self.kinds.push(kind);
        self
    }

    /// Brings a device of the host's own for networks, in the place of a GPU: `device = 'auto'` and `'gpu'` mean it then,
    /// in every build. What it fails to score is scored on the processor, and counted. See [`inference`](crate::inference).
    pub fn with_device(mut self, device: Arc<dyn Device>) -> Self {
        self.device = Some(device);
        self
    }

    /// Adds a function of rows for use in SQL.
    ///
    /// ```
    /// use std::sync::Arc;
    /// use driftline::arrow::array::{ArrayRef, AsArray};
    /// use driftline::arrow::datatypes::{DataType, Int64Type};
    /// use driftline::{ArgumentTypes, BoxError, Engine, ScalarFunction};
    ///
    /// let double = ScalarFunction::new(
    ///     "double_it",
    ///     ArgumentTypes::Exact(vec![DataType::Int64]),
    ///     DataType::Int64,
    ///     |arguments: &[ArrayRef]| -> Result<ArrayRef, BoxError> {
    ///         Ok(Arc::new(arguments[0].as_primitive::<Int64Type>().unary::<_, Int64Type>(|n| n * 2)))
    ///     },
    /// );
    /// let engine = Engine::builder().with_function(double).build()?;
    /// engine.execute("CREATE SOURCE s (n BIGINT)")?;
    /// let mut results = engine.subscribe("SELECT double_it(n) AS n FROM s")?;
    /// engine.execute("INSERT INTO s VALUES (21)")?;
    /// let batch = results.next().transpose()?.expect("one batch");
    /// assert_eq!(batch.column(0).as_primitive::<Int64Type>().value(0), 42);
    /// # Ok::<(), driftline::Error>(())
    /// ```
    pub fn with_function(mut self, function: ScalarFunction) -> Self {
        self.scalars.push(function);
        self
    }

    /// Adds an aggregate for use in SQL.
    ///
    /// ```
    /// use std::sync::Arc;
    /// use driftline::arrow::array::{ArrayRef, AsArray, Int64Array};
    /// use driftline::arrow::datatypes::{DataType, Int64Type};
    /// use driftline::{Accumulator, AggregateFunction, ArgumentTypes, BoxError, Engine};
    ///
    /// #[derive(Debug, Default)]
    /// struct Product(Option<i64>);
    ///
    /// impl Accumulator for Product {
    ///     fn update(&mut self, values: &[ArrayRef]) -> Result<(), BoxError> {
    ///         for n in values[0].as_primitive::<Int64Type>().iter().flatten() {
    ///             self.0 = Some(self.0.unwrap_or(1) * n);
    ///         }
    ///         Ok(())
    ///     }
    ///     // A partial state is a product as well.
    ///     fn merge(&mut self, states: &[ArrayRef]) -> Result<(), BoxError> {
    ///         self.update(states)
    ///     }
    ///     fn state(&mut self) -> Result<Vec<ArrayRef>, BoxError> {
    ///         Ok(vec![self.finish()?])
    ///     }
    ///     fn finish(&mut self) -> Result<ArrayRef, BoxError> {
    ///         Ok(Arc::new(Int64Array::from(vec![self.0])))
    ///     }
    /// }
    ///
    /// let product = AggregateFunction::new(
    ///     "product",
    ///     ArgumentTypes::Exact(vec![DataType::Int64]),
    ///     DataType::Int64,
    ///     vec![DataType::Int64],
    ///     || Box::<Product>::default(),
    /// );
    /// let engine = Engine::builder().with_aggregate(product).build()?;
    /// engine.execute("CREATE SOURCE s (ts TIMESTAMP, n BIGINT, WATERMARK FOR ts AS ts)")?;
    /// let mut results = engine.subscribe(
    ///     "SELECT product(n) AS n FROM s GROUP BY tumble(interval '1 minute')",
    /// )?;
    /// engine.execute("INSERT INTO s VALUES ('2024-01-01 00:00:00', 6), ('2024-01-01 00:00:01', 7)")?;
    /// engine.shutdown()?;
    /// let batch = results.next().transpose()?.expect("one batch");
    /// assert_eq!(batch.column(0).as_primitive::<Int64Type>().value(0), 42);
    /// # Ok::<(), driftline::Error>(())
    /// ```
    pub fn with_aggregate(mut self, function: AggregateFunction) -> Self {
        self.aggregates.push(function);
        self
    }

    /// Takes checkpoints, and goes on from the newest if there is one: the host then creates the same objects and
    /// pushes rows from where [`Source::resume_at`](crate::Source::resume_at) says.
    ///
    /// ```
    /// use driftline::{Checkpoints, Engine};
    ///
    /// const SETUP: &str = "CREATE SOURCE load (host TEXT, ts TIMESTAMP, cpu DOUBLE, WATERMARK FOR ts AS ts)";
    /// const MEANS: &str = "SELECT host, avg(cpu) AS cpu FROM load GROUP BY host, tumble(interval '1 minute')";
    ///
    /// let folder = tempfile::tempdir()?;
    /// let start = || Engine::builder().checkpoints(Checkpoints::in_folder(folder.path())?).build();
    ///
    /// let engine = start()?;
    /// engine.execute(SETUP)?;
    /// let means = engine.subscribe(MEANS)?;
    /// engine.execute("INSERT INTO load VALUES ('a', '2024-01-01 00:00:00', 1)")?;
    /// engine.checkpoint()?;
    /// engine.execute("INSERT INTO load VALUES ('a', '2024-01-01 00:00:10', 8)")?;
    /// drop((means, engine)); // as if the process had died
    ///
    /// let engine = start()?;
    /// engine.execute(SETUP)?;
    /// let means = engine.subscribe(MEANS)?;
    /// // The second row was not in the checkpoint: it is pushed again.
    /// assert_eq!(engine.source("load")?.resume_at(), 1);
    /// engine.execute("INSERT INTO load VALUES ('a', '2024-01-01 00:00:10', 8)")?;
    /// engine.shutdown()?;
    /// let means: Vec<_> = means.collect::<driftline::Result<_>>()?;
    /// assert_eq!(driftline::arrow::util::pretty::pretty_format_batches(&means)?.to_string(),
    ///     "+------+-----+\n| host | cpu |\n+------+-----+\n| a    | 4.5 |\n+------+-----+");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn checkpoints(mut self, checkpoints: Checkpoints) -> Self {
        self.checkpoints = Some(checkpoints);
        self
    }

    /// Starts the engine.
    ///
    /// # Errors
    /// Of kind `Settings` if a number is out of range or a function or kind has a name that is taken, and
    /// `Unavailable` if a thread cannot be started.
    pub fn build(self) -> Result<Engine> {
        self.settings.validate()?;
        let mut functions = Functions::new();
        for function in self.scalars {
            functions.register_scalar(function)?;
        }
        for function in self.aggregates {
            functions.register_aggregate(function)?;
        }
        let mut kinds: BTreeMap<String, Arc<dyn DetectorKind>> = BTreeMap::new();
        for kind in builtin_kinds().into_iter().chain(self.kinds) {
            let name = kind.name().to_owned();
            if kinds.insert(name.clone(), kind).is_some() {
                let message = format!("detector kind \"{name}\" exists already");
                return Err(Error::new(ErrorKind::Settings, message).with_hint("rename it"));
            }
        }
        let clock = self.clock.or_else(simulation::clock);
        let clock = clock.unwrap_or_else(|| Arc::new(SystemClock::default()));
        let (device, checkpoints) = (self.device, self.checkpoints);
        let core = Core::start(&self.settings, clock, functions, kinds, device, checkpoints)?;
        let core = Arc::new(core);
        Core::start_checkpoints(&core)?;
        Ok(Engine { core })
    }
}
