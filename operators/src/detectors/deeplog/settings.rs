//! The options of `deeplog`, and the columns that it reads.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef, TimeUnit};

use super::detector::ValueOptions;
use super::explain::{ExplainSettings, Method};
use super::key_model::{KeyModelKind, KeySettings};
use super::network::{Network, NetworkSettings};
use crate::background::Executor;
use crate::detector::{DetectorRequest, OUTPUT_COLUMNS, SideRelation, TrainingState};
use crate::detectors::anomaly::metadata;
use crate::error::{OperatorError, Result};
use crate::inference::{DeviceChoice, Inference, OnWorkers, Placement};
use crate::logs::workflow::workflow_fields;
use crate::model::Upkeep;
use crate::options::{OptionKind, OptionReader, OptionSpec};
use crate::time::SPAN_NS_MAX;

/// How the surprise of single keys becomes the verdict of a session (DL-05).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Any abnormal key (the paper).
    Any,
    /// The greatest surprise.
    SurpriseMax,
    /// The mean surprise.
    SurpriseMean,
    /// The number of abnormal keys.
    Count,
}

/// Everything that one `CREATE DETECTOR` settles.
#[derive(Debug)]
pub(super) struct Settings {
    pub(super) keys: KeySettings,
    /// Whether a key is tested by its surprise, not by its rank.
    pub(super) by_surprise: bool,
    pub(super) verdict: Verdict,
    /// The bound of the verdict; 0 for the one that training sets.
    pub(super) threshold: f64,
    pub(super) combined: bool,
    pub(super) expected: usize,
    pub(super) training: usize,
    pub(super) swap_after_ns: i64,
    pub(super) gap_ns: i64,
    pub(super) end_keys: BTreeSet<String>,
    pub(super) sessions_max: usize,
    pub(super) feedback_max: usize,
    pub(super) feedback_within_ns: i64,
    pub(super) feedback_steps: usize,
    /// What is judged beside keys.
    pub(super) values: Option<ValueOptions>,
    pub(super) columns: Columns,
    pub(super) schema: SchemaRef,
    /// Of sessions that have ended.
    pub(super) relation: SideRelation,
    pub(super) explain: ExplainSettings,
    pub(super) executor: Arc<dyn Executor>,
    /// Where the network is scored.
    pub(super) placement: Placement,
    /// How far a training that runs has come.
    pub(super) training_state: Arc<Mutex<Option<TrainingState>>>,
}

/// Indexes of the input's columns.
#[derive(Clone, Debug)]
pub(super) struct Columns {
    pub(super) input: SchemaRef,
    pub(super) time: usize,
    pub(super) unit: TimeUnit,
    pub(super) key: usize,
    pub(super) session: Option<usize>,
}

pub(super) fn options() -> Vec<OptionSpec> {
    let integer = |name, least, most, default: i64, doc| {
        OptionSpec::new(name, OptionKind::Integer(least, most), default, doc)
    };
    let number = |name, least: f64, most: f64, default: f64, doc| {
        OptionSpec::new(name, OptionKind::number(least..=most), default, doc)
    };
    let flag = |name, default: bool, doc| OptionSpec::new(name, OptionKind::Boolean, default, doc);
    let text = |name, default: &str, doc| OptionSpec::new(name, OptionKind::Text, default, doc);
    let choice = |name, words, default: &str, doc| {
        OptionSpec::new(name, OptionKind::Choice(words), default, doc)
    };
    let interval = |name, default_seconds: u64, doc| {
        let default = std::time::Duration::from_secs(default_seconds);
        OptionSpec::new(name, OptionKind::Interval(0, SPAN_NS_MAX), default, doc)
    };
    vec![
        text("key", "log_key", "The column of log keys: text or whole numbers."),
        text(
            "session",
            "",
            "The column that says which session an entry is of; by default all are of one.",
        ),
        interval("gap", 600, "A session without an entry for so long has ended; 0 for never."),
        text("end_keys", "", "Keys, separated by commas, that end their session."),
        choice("model", &["lstm", "ngram"], "lstm", "What predicts the next key."),
        integer("history", 1, 100, 10, "Keys that a prediction is made from."),
        integer(
            "top",
            0,
            100_000,
            0,
            "A key among so many of the most probable is normal; 0 to choose it by sessions of training held out.",
        ),
        flag(
            "begin",
            true,
            "Whether the first keys of a session are predicted as well, from begin markers.",
        ),
        flag("end", true, "Whether the end of a session is predicted like a key."),
        choice(
            "test",
            &["top", "surprise"],
            "top",
            "What makes an entry abnormal: its rank among what was expected, or its improbability.",
        ),
        choice(
            "verdict",
            &["any", "surprise_max", "surprise_mean", "count"],
            "any",
            "What makes a session abnormal: any abnormal entry, its greatest or mean surprise in nats, or the number of \
             abnormal entries.",
        ),
        number(
            "threshold",
            0.0,
            1e6,
            0.0,
            "The bound of the verdict; 0 for the greatest surprise of sessions held out, or no abnormal entry.",
        ),
        flag(
            "combined",
            false,
            "Whether unseen keys, odd lengths and odd counts of keys make a session abnormal as well; keys do then by one \
             that is a quarter more surprising than any of training.",
        ),
        text(
            "values",
            "",
            "Columns, separated by commas, of numbers, lists of numbers or parameters of LOG_KEYS, which make an entry \
             abnormal whose key is normal; none by default.",
        ),
        integer(
            "values_max",
            1,
            1_000_000,
            1_000,
            "Vectors of values of each key, the latest in training, that are learned from.",
        ),
        integer(
            "values_min",
            1,
            1_000_000,
            60,
            "Vectors of values in training from which a key has a model of them; at least three times values_history.",
        ),
        integer(
            "values_errors_min",
            2,
            100_000,
            20,
            "Errors of predictions, of the last vectors in training, that the bound of a key rests on at least; a key with less \
             than twice as many vectors is not judged by its values.",
        ),
        integer("values_history", 1, 100, 10, "Vectors of values that a prediction is made from."),
        number(
            "confidence",
            0.5,
            0.999_999_999,
            0.999,
            "Confidence with which the error of normal values is within its bound; .98, .99 and .999 in the paper.",
        ),
        integer("expected", 0, 100, 3, "Expected keys that are named beside an abnormal one."),
        choice(
            "workflow",
            &["sessions", "predictions", "co_occurrence", "none"],
            "sessions",
            "What the workflow is drawn from: sessions of training, what the model predicts, or keys that come near each \
             other where sessions mix tasks.",
        ),
        integer(
            "workflow_runs",
            1,
            100_000,
            1_000,
            "Sessions of training, the latest, that the workflow is drawn from.",
        ),
        integer(
            "diagnoses",
            0,
            512,
            3,
            "Odd transitions that are named for a session that has ended.",
        ),
        number(
            "deviations",
            0.0,
            1e6,
            3.0,
            "Standard deviations beyond its mean at which a transition is slow.",
        ),
        integer("training", 2, 1_000_000, 1_000, "Sessions that the model is trained from."),
        interval(
            "swap_after",
            600,
            "Event time from the end of the last session of training to the model's first row.",
        ),
        number(
            "held_out",
            0.0,
            0.5,
            0.1,
            "Share of the sessions of training, the last, that are held out for bounds.",
        ),
        number(
            "false_alarms",
            0.0,
            0.5,
            0.01,
            "Share of the sessions held out that bounds may raise.",
        ),
        integer("layers", 1, 8, 2, "LSTM layers of the network."),
        integer("hidden", 1, 1_024, 64, "Units of each layer."),
        OptionSpec::new(
            "learning_rate",
            OptionKind::number_above(0.0, 1.0),
            NetworkSettings::default().learning_rate,
            "The first step of the optimizer.",
        ),
        integer("epochs", 1, 10_000, 100, "The most passes of training."),
        integer(
            "patience",
            1,
            10_000,
            15,
            "Passes without a better result, after which training stops.",
        ),
        integer(
            "batch",
            1,
            1_000_000,
            NetworkSettings::default().batch as i64,
            "Distinct histories of a mini-batch.",
        ),
        number(
            "repeats_power",
            0.0,
            1.0,
            NetworkSettings::default().repeats_power,
            "What was seen n times in training counts as n to this power: below 1 what is rare but normal is learned too.",
        ),
        integer("seed", 0, i64::MAX, 1, "Seed of the weights and of the order of training."),
        integer(
            "sessions_max",
            1,
            10_000_000,
            100_000,
            "Open sessions; beyond, the one silent for longest is ended.",
        ),
        integer(
            "feedback_max",
            0,
            10_000_000,
            10_000,
            "Anomalies that are remembered for feedback; beyond, those of the session silent for longest are forgotten.",
        ),
        interval(
            "feedback_within",
            86_400,
            "Event time for which an anomaly is remembered for feedback.",
        ),
        integer("feedback_steps", 1, 1_000, 10, "The most steps of learning by one feedback."),
        integer(
            "cache_bytes",
            0,
            1 << 40,
            64 << 20,
            "Bytes for predictions that may be asked for again.",
        ),
        choice(
            "device",
            DeviceChoice::WORDS,
            DeviceChoice::WORDS[0],
            "Where the network of keys is scored: 'cpu' by the workers themselves, 'gpu' by the inference service, 'auto' on a \
             GPU of hardware if there is one; by default as the engine's setting says. Training is always on the CPU.",
        ),
    ]
}

impl Settings {
    /// Whether keys make a session abnormal only by a surprise beyond all of training, since invariants tell the rest.
    pub(super) fn is_beyond(&self) -> bool {
        self.combined && self.verdict == Verdict::Any && self.threshold == 0.0
    }

    pub(super) fn read(request: &DetectorRequest<'_>, reader: &OptionReader) -> Result<Self> {
        let owner = format!("detector \"{}\"", request.name);
        if !request.partition_by.is_empty() {
            return Err(OperatorError::Columns {
                owner,
                problem: "has one model for all sessions, and takes no PARTITION BY".into(),
                hint: "name the session's column in the option session; for several kinds of logs make several detectors"
                    .into(),
            });
        }
        let model = match reader.text("model") {
            "ngram" => KeyModelKind::Ngram,
            _ => {
                Network::available()?;
                KeyModelKind::Lstm
            }
        };
        let columns = Columns::settle(&owner, request, reader)?;
        let values = ValueOptions::read(&owner, &columns.input, reader)?;
        let keys = KeySettings {
            model,
            history: reader.count("history"),
            top: reader.count("top"),
            begin: reader.boolean("begin"),
            end: reader.boolean("end"),
            held_out: reader.number("held_out"),
            false_alarms: reader.number("false_alarms"),
            network: NetworkSettings {
                layers: reader.count("layers"),
                hidden: reader.count("hidden"),
                learning_rate: reader.number("learning_rate"),
                batch: reader.count("batch"),
                epochs: reader.count("epochs"),
                patience: reader.count("patience"),
                seed: reader.integer("seed") as u64,
                repeats_power: reader.number("repeats_power"),
            },
            cache_bytes: reader.count("cache_bytes"),
            ..KeySettings::default()
        };
        let explain = ExplainSettings {
            method: match reader.text("workflow") {
                "sessions" => Method::Sessions,
                "predictions" => Method::Predictions,
                "co_occurrence" => Method::CoOccurrence,
                _ => Method::Off,
            },
            runs_max: reader.count("workflow_runs"),
            diagnoses_max: reader.count("diagnoses"),
            deviations: reader.number("deviations"),
            history: keys.history,
        };
        if explain.method == Method::Predictions && !(keys.begin && keys.end) {
            return Err(reader.refuse(
                "workflow",
                "is 'predictions', which go from the begin of a session to its end".to_owned(),
                "leave begin and end TRUE, or set workflow = 'sessions'".to_owned(),
            ));
        }
        let end_keys =
            reader.text("end_keys").split(',').map(str::trim).filter(|key| !key.is_empty());
        Ok(Self {
            keys,
            by_surprise: reader.text("test") == "surprise",
            verdict: match reader.text("verdict") {
                "surprise_max" => Verdict::SurpriseMax,
                "surprise_mean" => Verdict::SurpriseMean,
                "count" => Verdict::Count,
                _ => Verdict::Any,
            },
            threshold: reader.number("threshold"),
            combined: reader.boolean("combined"),
            expected: reader.count("expected"),
            training: reader.count("training"),
            swap_after_ns: reader.interval_ns("swap_after"),
            gap_ns: reader.interval_ns("gap"),
            end_keys: end_keys.map(str::to_owned).collect(),
            sessions_max: reader.count("sessions_max"),
            feedback_max: reader.count("feedback_max"),
            feedback_within_ns: reader.interval_ns("feedback_within"),
            feedback_steps: reader.count("feedback_steps"),
            schema: columns.output(&owner, request.name, values.is_some())?,
            values,
            relation: columns.sessions(),
            explain,
            columns,
            executor: Arc::clone(&request.executor),
            placement: place(request, reader, model)?,
            training_state: Arc::default(),
        })
    }
}

/// Finds the network its place. Without one everything is counted where it comes.
fn place(
    request: &DetectorRequest<'_>,
    reader: &OptionReader,
    model: KeyModelKind,
) -> Result<Placement> {
    let owner = format!("detector kind \"{}\"", super::NAME);
    let choice = DeviceChoice::from_word(reader.text("device"));
    match (model, choice) {
        (KeyModelKind::Lstm, _) => request.inference.place(&owner, choice),
        (KeyModelKind::Ngram, Some(DeviceChoice::Gpu)) => Err(OperatorError::Option {
            owner,
            option: "device".into(),
            problem: "is 'gpu', but model = 'ngram' has no network".into(),
            hint: "leave device out, or set model = 'lstm'".into(),
        }),
        (KeyModelKind::Ngram, _) => OnWorkers.place(&owner, None),
    }
}

impl Settings {
    /// The side relations, in the order of their numbers.
    pub(super) fn relations(&self) -> Vec<SideRelation> {
        vec![self.relation.clone(), self.columns.workflow(), self.columns.diagnosis()]
    }
}

impl Columns {
    fn settle(owner: &str, request: &DetectorRequest<'_>, reader: &OptionReader) -> Result<Self> {
        let input = request.schema.clone();
        let refused = |problem: String, hint: &str| OperatorError::Columns {
            owner: owner.into(),
            problem,
            hint: hint.into(),
        };
        let DataType::Timestamp(unit, _) = *input.field(request.time).data_type() else {
            let name = input.field(request.time).name();
            let problem = format!("needs an event time, but \"{name}\" is none");
            return Err(refused(problem, "cast the column to TIMESTAMP"));
        };
        let find = |option: &str| -> Result<usize> {
            let name = reader.text(option);
            let is_key =
                |t: &DataType| t.is_integer() || matches!(t, DataType::Utf8 | DataType::LargeUtf8);
            match input.index_of(name) {
                Ok(place) if is_key(input.field(place).data_type()) => Ok(place),
                Ok(place) => {
                    let found = input.field(place).data_type();
                    let problem = format!("cannot read \"{name}\" as its {option}: it is {found}");
                    Err(refused(problem, "give a column of text or of whole numbers"))
                }
                Err(_) => {
                    let hint = format!("name it in the option {option}");
                    Err(refused(format!("has no column \"{name}\" for its {option}"), &hint))
                }
            }
        };
        let session = if reader.text("session").is_empty() { None } else { Some(find("session")?) };
        Ok(Self { time: request.time, unit, key: find("key")?, session, input })
    }

    fn output(&self, owner: &str, detector: &str, values: bool) -> Result<SchemaRef> {
        if let Some(name) = OUTPUT_COLUMNS.iter().find(|name| self.input.index_of(name).is_ok()) {
            return Err(OperatorError::Columns {
                owner: owner.into(),
                problem: format!("would write column \"{name}\", which its input already has"),
                hint: "select the column under another name".into(),
            });
        }
        let metadata = [
            (metadata::DETECTOR.to_owned(), detector.to_owned()),
            (metadata::TIME.to_owned(), self.input.field(self.time).name().clone()),
            (
                metadata::KEY.to_owned(),
                self.session.map_or(String::new(), |i| self.input.field(i).name().clone()),
            ),
        ];
        let detail = DataType::Struct(detail_fields(values).into());
        let types = [
            DataType::Float64,
            DataType::Boolean,
            DataType::Float64,
            DataType::Utf8,
            DataType::UInt64,
            detail,
        ];
        let own = OUTPUT_COLUMNS.iter().zip(types).map(|(name, data_type)| {
            let field = Field::new(*name, data_type, true);
            let is_detail = *name == "detail";
            Arc::new(if is_detail { field.with_metadata(metadata.clone().into()) } else { field })
        });
        let fields: Vec<FieldRef> = self.input.fields().iter().cloned().chain(own).collect();
        Ok(Arc::new(Schema::new_with_metadata(fields, self.input.metadata().clone())))
    }

    /// What tells anomalies apart in feedback: the session, and the time, which may be left out where there is a session.
    pub(super) fn feedback(&self) -> SchemaRef {
        let field =
            |place: usize, nullable: bool| self.input.field(place).clone().with_nullable(nullable);
        let session = self.session.map(|place| field(place, false));
        let time = field(self.time, self.session.is_some());
        Arc::new(Schema::new(session.into_iter().chain([time]).collect::<Vec<Field>>()))
    }

    /// The relation of ended sessions.
    fn sessions(&self) -> SideRelation {
        let time = self.input.field(self.time).data_type();
        let mut fields = vec![Field::new("session", DataType::Utf8, true)];
        fields.push(Field::new("session_end", time.clone(), false));
        fields.push(Field::new("session_start", time.clone(), true));
        let integer = |name| Field::new(name, DataType::Int64, true);
        let number = |name| Field::new(name, DataType::Float64, true);
        fields.extend(["entries", "abnormal", "unseen", "rank_max"].map(integer));
        fields.extend(
            ["surprise_max", "surprise_mean", "distance", "score", "threshold"].map(number),
        );
        fields.push(Field::new("is_anomaly", DataType::Boolean, true));
        fields.push(Field::new("reasons", DataType::Utf8, true));
        SideRelation {
            name: "sessions".into(),
            schema: Arc::new(Schema::new(fields)),
            time: Some(1),
            keys: 1,
            upkeep: Upkeep::Append,
        }
    }
}

impl Columns {
    /// The relation of workflows.
    pub(super) fn workflow(&self) -> SideRelation {
        let time = self.input.field(self.time).data_type();
        let mut fields = vec![Field::new("drawn_at", time.clone(), false)];
        fields.extend(workflow_fields());
        SideRelation {
            name: "workflow".into(),
            schema: Arc::new(Schema::new(fields)),
            time: Some(0),
            keys: 0,
            upkeep: Upkeep::Append,
        }
    }

    /// The relation of transitions at which sessions left the workflow.
    pub(super) fn diagnosis(&self) -> SideRelation {
        let time = self.input.field(self.time).data_type();
        let text = |name| Field::new(name, DataType::Utf8, true);
        let number = |name| Field::new(name, DataType::Float64, true);
        let fields = vec![
            text("session"),
            Field::new("session_end", time.clone(), false),
            Field::new("is_anomaly", DataType::Boolean, false),
            Field::new("task", DataType::Int64, false),
            Field::new("place", DataType::Int64, false),
            text("from_key"),
            text("to_key"),
            text("problem"),
            number("seconds"),
            number("usual"),
            number("deviation"),
            number("severity"),
            text("explanation"),
        ];
        SideRelation {
            name: "diagnosis".into(),
            schema: Arc::new(Schema::new(fields)),
            time: Some(1),
            keys: 1,
            upkeep: Upkeep::Append,
        }
    }
}

/// Fields of `detail`, those of values among them if they are judged.
pub(super) fn detail_fields(values: bool) -> Vec<Field> {
    let own = [
        ("severity", DataType::Float64),
        ("probability", DataType::Float64),
        ("surprise", DataType::Float64),
        ("rank", DataType::Int64),
        ("unseen", DataType::Boolean),
        ("expected", DataType::Utf8),
        ("place", DataType::Int64),
        ("explanation", DataType::Utf8),
    ];
    let of_values = [("value_error", DataType::Float64), ("value_bound", DataType::Float64)];
    let of_values = of_values.into_iter().filter(|_| values);
    own.into_iter().chain(of_values).map(|(name, kind)| Field::new(name, kind, true)).collect()
}
