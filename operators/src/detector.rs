//! The detector contract: what the engine asks of everything that may stand after USING.
//!
//! Three steps, each a trait. A [`DetectorKind`] is a name with options, known to a catalog. Given the columns and
//! options of one `CREATE DETECTOR` it makes a [`DetectorPlan`], the same on every worker. The plan makes one
//! [`Detector`] per worker, which owns the models of that worker's keys.
//!
//! The contract speaks of batches and watermarks, not of keys, so that it carries detectors with a model per key, with
//! one model for all keys, over rows or windows, and those that answer late (in [`Detector::advance`]). Detectors
//! with one small model per key implement only [`Model`](crate::model::Model) and leave the rest to
//! [`KeyedDetector`](crate::model::KeyedDetector).
//!
//! A detector does no I/O, reads no clock and owns its random seed: the same rows give the same answers.
//!
//! Rows come in steps: what one watermark completes. Most detectors answer within the step. One whose network is scored
//! elsewhere ([`crate::inference`]) may leave answers open, and gives them in [`Detector::poll`]; the next step comes when
//! they have all been given, so that a model never has to know two states at once.
//!
//! # Examples
//! What the engine does on each worker, done by hand:
//! ```
//! use std::sync::Arc;
//! use arrow::array::{Array, ArrayRef, Float64Array, RecordBatch, TimestampSecondArray};
//! use driftline_operators::detector::{
//!     Answers, Detector, DetectorKind, DetectorPlan, DetectorRequest, DetectorStatistics, OUTPUT_COLUMNS,
//! };
//! use driftline_operators::detectors::{DetectorSpec, EwmaKind};
//!
//! let times: ArrayRef = Arc::new(TimestampSecondArray::from_iter_values(0..100));
//! let loads: ArrayRef = Arc::new(Float64Array::from_iter_values((0..100).map(|i| f64::from(i % 7))));
//! let rows = RecordBatch::try_from_iter([("ts", times), ("load", loads)]).unwrap();
//!
//! let spec = DetectorSpec::new("ewma");
//! let request = DetectorRequest::from_spec("odd", &spec, rows.schema(), 0, 1_000)?;
//! let plan: Arc<dyn DetectorPlan> = EwmaKind.plan(&request)?;
//! let mut detector: Box<dyn Detector> = plan.detector();
//! let mut answers = Answers::default();
//! detector.process(&rows, &mut answers)?;
//!
//! assert_eq!(answers.rows[0].schema(), plan.output_schema());
//! let [score, ..] = OUTPUT_COLUMNS;
//! assert!(answers.rows[0][score].is_valid(99), "the last row has a score");
//! let DetectorStatistics { models, rows, .. } = detector.statistics();
//! assert_eq!((models, rows), (1, 100));
//!
//! // Another one takes up where this one is.
//! plan.detector().restore(&detector.snapshot()?)?;
//! # Ok::<(), driftline_operators::error::OperatorError>(())
//! ```

use std::fmt::Debug;
use std::sync::Arc;
use std::task::{Poll, Waker};

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use serde::{Deserialize, Serialize};

use crate::background::Executor;
use crate::error::{OperatorError, Result};
use crate::inference::{Inference, Placement};
use crate::key::KeyShare;
use crate::model::Upkeep;
use crate::options::{OptionSpec, Options};
use crate::time::EventTime;

/// Columns that every detector appends to its input, in this order; `detail` is a struct of the kind's own fields.
pub const OUTPUT_COLUMNS: [&str; 6] =
    ["score", "is_anomaly", "threshold", "phase", "model_version", "detail"];

/// A kind of detector, as SQL names it after USING.
pub trait DetectorKind: Debug + Send + Sync {
    /// The name after USING, in lower case.
    fn name(&self) -> &str;

    /// What it finds, in one sentence.
    fn summary(&self) -> &str;

    /// The options that it accepts, in the order in which docs list them.
    fn options(&self) -> Vec<OptionSpec>;

    /// Settles columns and options.
    ///
    /// # Errors
    /// If an option is unknown or out of range, or the columns do not fit.
    fn plan(&self, request: &DetectorRequest<'_>) -> Result<Arc<dyn DetectorPlan>>;
}

/// What one `CREATE DETECTOR` asks of a kind.
#[derive(Clone, Debug)]
pub struct DetectorRequest<'a> {
    /// The detector's own name.
    pub name: &'a str,
    /// Columns of the input relation.
    pub schema: SchemaRef,
    /// Index of the event-time column in `schema`.
    pub time: usize,
    /// Indexes of the PARTITION BY columns in `schema`, in the order written; empty for one model.
    pub partition_by: Vec<usize>,
    /// Indexes of columns that carry window bounds, which are never features.
    pub window_bounds: Vec<usize>,
    /// Options of the WITH clause.
    pub options: &'a Options,
    /// Most models that one worker keeps.
    pub models_max: usize,
    /// Where heavy work goes.
    pub executor: Arc<dyn Executor>,
    /// Where networks are scored.
    pub inference: Arc<dyn Inference>,
}

/// A detector whose columns and options are settled; the same on every worker.
pub trait DetectorPlan: Debug + Send + Sync {
    /// The input columns followed by [`OUTPUT_COLUMNS`].
    fn output_schema(&self) -> SchemaRef;

    /// Relations beside the main one, read as `detector.name`.
    fn relations(&self) -> Vec<SideRelation> {
        Vec::new()
    }

    /// The columns of feedback, by which rows of the detector are told apart: those that are not nullable must be given,
    /// and NULL in another stands for any value. `None` for a kind that takes no feedback.
    fn feedback_schema(&self) -> Option<SchemaRef> {
        None
    }

    /// Settled options and choices, for EXPLAIN: name and value. A checkpoint of others is not gone on from, but for the option
    /// `device` of one that has a placement: where a network is scored may change from one life of an engine to the next.
    fn describe(&self) -> Vec<(String, String)>;

    /// Where its network is scored, if it has one.
    fn placement(&self) -> Option<&Placement> {
        None
    }

    /// How far a model has come that is being trained now, by a detector of this plan. Asked from any thread.
    fn training(&self) -> Option<TrainingState> {
        None
    }

    /// A detector for one worker, without any models yet.
    fn detector(&self) -> Box<dyn Detector>;
}

/// How far the training of a model has come.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct TrainingState {
    /// Passes over what is learned from that are done. They begin anew when a model is trained once more, over all rows,
    /// after some were held out.
    pub epoch: u64,
    /// The most passes.
    pub epochs_max: u64,
    /// The loss of the latest pass.
    pub loss: f64,
}

/// The part of a detector that runs on one worker and owns the models of its keys.
pub trait Detector: Send {
    /// Scores rows, then learns from them, row by row in the order given.
    ///
    /// Rows come sorted by event time, and rows of equal time in order of arrival; no later call holds an earlier
    /// row. How rows are cut into batches must not matter to the answers.
    ///
    /// # Errors
    /// If a column is not of the planned type.
    fn process(&mut self, rows: &RecordBatch, out: &mut Answers) -> Result<()>;

    /// Tells that every row below `watermark` has been seen, so that late answers may be given.
    ///
    /// # Errors
    /// If an answer cannot be built.
    fn advance(&mut self, _watermark: EventTime, _out: &mut Answers) -> Result<()> {
        Ok(())
    }

    /// Gives, in their order, answers that calls of this step have left open, as far as they are there. It is called at
    /// the end of each step, and again after `waker` was woken, or without a reason, until it is ready. Before that no
    /// other call comes but [`Detector::statistics`].
    ///
    /// It must not wait. A detector that answers in the step itself leaves it as it is.
    ///
    /// # Errors
    /// If an answer cannot be had, or cannot be built.
    fn poll(&mut self, _waker: &Waker, _out: &mut Answers) -> Result<Poll<()>> {
        Ok(Poll::Ready(()))
    }

    /// Takes back anomalies that were none: each row of `rows`, whose columns are those of
    /// [`DetectorPlan::feedback_schema`], names some. The detector learns from them; what it said before stays said.
    ///
    /// Every worker is given all rows, between the same two calls of [`Detector::process`] wherever rows are the same,
    /// and answers for the anomalies that it remembers.
    ///
    /// # Errors
    /// If the kind takes no feedback, or learning fails. The detector is then as it was before.
    fn feedback(&mut self, _rows: &RecordBatch) -> Result<FeedbackTaken> {
        Err(OperatorError::Columns {
            owner: "this kind of detector".into(),
            problem: "takes no feedback".into(),
            hint: "give feedback to a kind that SHOW KINDS lists with feedback options".into(),
        })
    }

    /// Counts for metrics.
    fn statistics(&self) -> DetectorStatistics;

    /// Everything that must survive a restart, in a versioned form with exact floats.
    ///
    /// # Errors
    /// If a model cannot be written.
    fn snapshot(&self) -> Result<Vec<u8>>;

    /// Takes up the state of a snapshot: what follows is as if there had been no interruption.
    ///
    /// # Errors
    /// If the snapshot is cut short, or of another kind or version. The detector is then as it was before.
    fn restore(&mut self, snapshot: &[u8]) -> Result<()>;

    /// Takes up, in place of its own models, those of `snapshots` (one for each worker that wrote them, however many
    /// these were) whose keys fall to `share`; see [`KeyShare::owns`]. A checkpoint is gone on from on another number of
    /// workers by this; [`KeyedPlan`](crate::model::KeyedPlan) has it already.
    ///
    /// # Errors
    /// As for [`Detector::restore`]; and for a detector that cannot split its state, unless there is one snapshot and
    /// one worker.
    fn adopt(&mut self, snapshots: &[Vec<u8>], share: KeyShare) -> Result<()> {
        match snapshots {
            [one] if share == KeyShare::ALL => self.restore(one),
            _ => Err(OperatorError::Snapshot {
                owner: "this kind of detector".into(),
                problem: "cannot be split over workers".into(),
            }),
        }
    }

    /// As [`Detector::adopt`], for a detector that goes on from a checkpoint: whoever reads has been told all that was
    /// told before.
    ///
    /// # Errors
    /// As for [`Detector::adopt`].
    fn go_on(&mut self, snapshots: &[Vec<u8>], share: KeyShare) -> Result<()> {
        self.adopt(snapshots, share)
    }

    /// The same as a snapshot, in pieces: a checkpoint writes those again that have changed. By default all is in one.
    ///
    /// # Errors
    /// As for [`Detector::snapshot`].
    fn pieces(&self) -> Result<Pieces> {
        Ok(Pieces { rest: self.snapshot()?, of_keys: Vec::new() })
    }

    /// As [`Detector::go_on`], with what [`Detector::pieces`] gave: the rest of each worker that wrote one, and the rows of
    /// those keys that fall to `share`.
    ///
    /// # Errors
    /// As for [`Detector::adopt`].
    fn go_on_from(
        &mut self,
        rests: &[Vec<u8>],
        _of_keys: &[RecordBatch],
        share: KeyShare,
    ) -> Result<()> {
        self.go_on(rests, share)
    }
}

/// What a detector holds on one worker, in pieces.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Pieces {
    /// What belongs to no key.
    pub rest: Vec<u8>,
    /// A row for each key by which rows are split over workers. The first column is the key (Binary; null is the NULL of
    /// a single text key), the others are the detector's own affair. A row that says the same as before, bit by bit and among
    /// the others in the same order, is not written again.
    pub of_keys: Vec<RecordBatch>,
}

/// What a detector has to say.
#[derive(Clone, Debug, Default)]
pub struct Answers {
    /// Rows of the main relation.
    pub rows: Vec<RecordBatch>,
    /// Rows of side relations, each with its index in [`DetectorPlan::relations`]; of
    /// [`SideRelation::reported_schema`].
    pub side: Vec<(usize, RecordBatch)>,
}

/// What one worker's part of a detector made of feedback.
///
/// ```
/// use driftline_operators::detector::FeedbackTaken;
///
/// // Two rows of feedback; this worker remembers what the second names.
/// let taken = FeedbackTaken { found: vec![false, true], anomalies: 3, waiting: 1 };
/// assert_eq!(taken.found.iter().filter(|found| **found).count(), 1);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FeedbackTaken {
    /// For each row, whether it named an anomaly that is remembered.
    pub found: Vec<bool>,
    /// Anomalies that were taken back and learned from by this feedback.
    pub anomalies: u64,
    /// Anomalies that were taken back, now or before, but are not learned from yet, because most of those like them were
    /// not.
    pub waiting: u64,
}

/// A relation that a detector keeps beside its main one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SideRelation {
    /// Its name, after the detector's and a dot.
    pub name: String,
    /// Its columns, as they are read.
    pub schema: SchemaRef,
    /// Index of its event-time column, if it has one.
    pub time: Option<usize>,
    /// How many of its first columns are the detector's key.
    pub keys: usize,
    /// How reported rows become rows of the relation.
    pub upkeep: Upkeep,
}

/// What a detector holds and has done, on one worker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DetectorStatistics {
    /// Models held now.
    pub models: u64,
    /// Bytes held by them, estimated.
    pub bytes: u64,
    /// Models dropped because more keys came than the bound allows.
    pub evicted: u64,
    /// Models dropped because their key showed no row for too long.
    pub expired: u64,
    /// Rows given, warming-up rows among them.
    pub rows: u64,
    /// Rows that could not be scored because all their features were missing.
    pub missing: u64,
    /// Slots without a row that models were told of, by the option `slot`.
    pub filled: u64,
    /// Rows that were not scored because their key found no room.
    pub refused: u64,
    /// Rows whose values were not judged because there is no model of those of their log key: it had too few of them in
    /// training, or none that varies. A kind that has such models keeps the count in its own part of a snapshot.
    #[serde(skip)]
    pub unjudged: u64,
    /// Rows found anomalous.
    pub anomalies: u64,
    /// Models that score, out of those held now.
    pub ready: u64,
    /// Models built as a whole, again or for the first time.
    pub rebuilds: u64,
    /// Nanoseconds that these took; measured, so that it differs from run to run and is in no snapshot.
    pub rebuild_ns: u64,
}
