//! Relations beside a detector's main one, with a kind of the test's own: read under dotted names, and counted the same
//! whatever the workers and batches.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use driftline::arrow::array::{
    Array, ArrayRef, AsArray, Float64Array, RecordBatch, StringArray, TimestampNanosecondArray,
    new_null_array,
};
use driftline::arrow::compute::{self, concat_batches};
use driftline::arrow::datatypes::{DataType, FieldRef, Float64Type, Int64Type};
use driftline::detector::{
    DetectorKind, DetectorPlan, DetectorRequest, Executor, Extra, Judgement, KeyedPlan, Model,
    ModelFactory, ModelRelation, OperatorError, OptionReader, OptionSpec, Phase, Rebuilds, Reports,
    Row, Task, Upkeep,
};
use driftline::detectors::DetectorSpec;
use driftline::{Engine, ErrorKind, EventTime, Settings, Subscription};

use super::support::{
    CREATE_SAMPLES, SECOND, assert_same, collect, feeds, push_all, samples, shuffled,
};

const HISTORY: usize = 8;

/// Tells which third of the values each row lies in, and keeps the latest eight of them per key.
#[derive(Debug)]
struct Thirds;

#[derive(Debug)]
struct Factory(Arc<dyn Executor>);

#[derive(Debug)]
struct State {
    executor: Arc<dyn Executor>,
    history: VecDeque<i64>,
    waiting: Vec<(usize, Vec<Extra>, i64)>,
    sum: Option<Task<i64>>,
    rows: u64,
    rebuilds: Rebuilds,
}

impl DetectorKind for Thirds {
    fn name(&self) -> &str {
        "thirds"
    }

    fn summary(&self) -> &str {
        "thirds of values, for tests"
    }

    fn options(&self) -> Vec<OptionSpec> {
        KeyedPlan::options(3.0)
    }

    fn plan(&self, request: &DetectorRequest<'_>) -> Result<Arc<dyn DetectorPlan>, OperatorError> {
        let reader = OptionReader::new("kind \"thirds\"", request.options, &self.options())?;
        let executor = Arc::clone(&request.executor);
        let plan = KeyedPlan::new("thirds", request, &reader, |_| Arc::new(Factory(executor)))?;
        Ok(Arc::new(plan))
    }
}

impl ModelFactory for Factory {
    fn model(&self) -> Box<dyn Model> {
        Box::new(State {
            executor: Arc::clone(&self.0),
            history: VecDeque::new(),
            waiting: Vec::new(),
            sum: None,
            rows: 0,
            rebuilds: Rebuilds::default(),
        })
    }

    fn restore(&self, _snapshot: &[u8]) -> Result<Box<dyn Model>, OperatorError> {
        Err(OperatorError::Snapshot { owner: "thirds".into(), problem: "is never taken".into() })
    }

    fn relations(&self) -> Vec<ModelRelation> {
        let third = ("third", DataType::Int64);
        let relation = |name, fields, upkeep| ModelRelation { name, fields, upkeep };
        vec![
            relation("rows", vec![third.clone(), ("sum", DataType::Int64)], Upkeep::Append),
            relation("occupancy", vec![third.clone()], Upkeep::Counts),
            relation("high", vec![], Upkeep::Keys),
            relation("fleet", vec![third], Upkeep::Running),
        ]
    }
}

impl State {
    fn third(row: &Row<'_>) -> i64 {
        row.features[0].clamp(0.0, 29.0) as i64 / 10
    }

    /// Moves a point in or out of the counted relations.
    fn change(&mut self, third: i64, change: i64) {
        self.waiting.push((1, vec![Extra::Integer(third)], change));
        self.waiting.push((3, vec![Extra::Integer(third)], change));
        if third == 2 {
            self.waiting.push((2, vec![], change));
        }
    }
}

impl Model for State {
    fn score(&self, row: &Row<'_>, judgement: &mut Judgement) {
        judgement.score = Self::third(row) as f64;
    }

    fn learn(&mut self, row: &Row<'_>) {
        self.rows += 1;
        let third = Self::third(row);
        // The sum as of the row before, from the background.
        let sum = self.sum.take().map(|task| {
            let finished = task.wait();
            self.rebuilds.count += 1;
            self.rebuilds.ns += finished.took.as_nanos() as u64;
            finished.value
        });
        self.waiting.push((
            0,
            vec![Extra::Integer(third), sum.map_or(Extra::Null, Extra::Integer)],
            1,
        ));
        if self.history.len() == HISTORY {
            let oldest = self.history.pop_front().unwrap();
            self.change(oldest, -1);
        }
        self.history.push_back(third);
        self.change(third, 1);
        let frozen = self.history.clone();
        self.sum = Some(Task::start(&self.executor, move || frozen.iter().sum()));
    }

    fn report(&mut self, reports: &mut Reports) {
        for (relation, values, change) in self.waiting.drain(..) {
            reports.change(relation, values, change);
        }
    }

    fn report_standing(&self, change: i64, reports: &mut Reports) {
        for &third in &self.history {
            reports.change(1, vec![Extra::Integer(third)], change);
            reports.change(3, vec![Extra::Integer(third)], change);
            if third == 2 {
                reports.change(2, vec![], change);
            }
        }
    }

    fn rebuilds(&self) -> Rebuilds {
        self.rebuilds
    }

    fn phase(&self) -> Phase {
        Phase::Detecting
    }

    fn samples(&self) -> u64 {
        self.rows
    }

    fn bytes(&self) -> usize {
        0
    }

    fn snapshot(&self, _out: &mut Vec<u8>) -> Result<(), OperatorError> {
        Ok(())
    }
}

fn engine(workers: usize) -> Engine {
    engine_with(Settings { workers, ..Settings::default() })
}

fn engine_with(settings: Settings) -> Engine {
    engine_of(settings, DetectorSpec::new("thirds"))
}

fn engine_of(settings: Settings, spec: DetectorSpec) -> Engine {
    let builder = Engine::builder().settings(settings);
    let engine = builder.with_detector_kind(Arc::new(Thirds)).build().unwrap();
    engine.execute(CREATE_SAMPLES).unwrap();
    let read = "SELECT ts, service, value FROM samples WHERE value > 0 AND NOT isnan(value)";
    let spec = DetectorSpec { partition_by: vec!["service".into()], ..spec };
    engine.create_detector("d", spec, read).unwrap();
    engine
}

/// The rows that hold when all changes are added up: text columns and count columns, and how often.
fn standing(changes: &RecordBatch) -> BTreeMap<Vec<String>, i64> {
    let diff = changes.column_by_name("_diff").unwrap().as_primitive::<Int64Type>();
    let mut standing = BTreeMap::new();
    for row in 0..changes.num_rows() {
        let columns = &changes.columns()[..changes.num_columns() - 1];
        let text = |column| driftline::arrow::util::display::array_value_to_string(column, row);
        let cells = columns.iter().map(|column| text(column).unwrap()).collect();
        *standing.entry(cells).or_insert(0) += diff.value(row);
    }
    standing.retain(|_, count| *count != 0);
    standing
}

#[test]
fn counted_relations_equal_a_recount_however_they_are_fed() {
    let rows = samples(31, 3000, 3000);
    let disordered = shuffled(&rows, 10 * SECOND, 3);
    // What stands in the end, from the rows in order of time.
    let mut histories: BTreeMap<String, VecDeque<i64>> = BTreeMap::new();
    let (services, values) =
        (rows.column(2).as_string::<i32>(), rows.column(3).as_primitive::<Float64Type>());
    for row in 0..rows.num_rows() {
        let value = values.is_valid(row).then(|| values.value(row)).filter(|value| *value > 0.0);
        let Some(value) = value else { continue };
        let history = histories.entry(services.value(row).to_owned()).or_default();
        history.push_back(value.clamp(0.0, 29.0) as i64 / 10);
        if history.len() > HISTORY {
            history.pop_front();
        }
    }
    let (mut occupancy, mut fleet, mut high) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
    for (service, history) in &histories {
        let mut counts = BTreeMap::new();
        history.iter().for_each(|third| *counts.entry(*third).or_insert(0_usize) += 1);
        for (third, count) in counts {
            let share = count as f64 / history.len() as f64;
            let cells = [service.clone(), third.to_string(), count.to_string(), share.to_string()];
            occupancy.insert(cells.to_vec(), 1);
            *fleet.entry(third).or_insert(0_usize) += count;
            if third == 2 {
                high.insert(vec![service.clone()], 1);
            }
        }
    }
    let mut running = 0;
    let fleet: BTreeMap<Vec<String>, i64> = fleet
        .into_iter()
        .map(|(third, count)| {
            running += count;
            (vec![third.to_string(), count.to_string(), running.to_string()], 1)
        })
        .collect();
    assert!(occupancy.len() > 6 && high.len() == 3 && fleet.len() == 3, "the fixture tells");

    for feed in feeds(rows.num_rows()) {
        for rows in [&rows, &disordered] {
            let engine = engine(feed.workers);
            let read =
                |relation: &str| engine.subscribe(&format!("SELECT * FROM d.{relation}")).unwrap();
            let [counts, keys, all] = ["occupancy", "high", "fleet"].map(read);
            push_all(&engine, "samples", rows, feed.batch_rows).unwrap();
            engine.shutdown().unwrap();
            assert_eq!(standing(&collect(counts)), occupancy, "{feed:?}");
            assert_eq!(standing(&collect(keys)), high, "{feed:?}");
            assert_eq!(standing(&collect(all)), fleet, "{feed:?}");
        }
    }
}

#[test]
fn appended_relations_follow_the_rows_and_can_be_windowed() {
    let rows = samples(32, 2000, 2000);
    let mut reference: Option<Vec<RecordBatch>> = None;
    for feed in feeds(rows.num_rows()) {
        let engine = engine(feed.workers);
        let main = engine.subscribe("SELECT service, ts, score FROM d").unwrap();
        let side = engine.subscribe("SELECT service, ts, third, sum FROM d.rows").unwrap();
        let windowed = engine
            .subscribe(
                "SELECT service, window_end, count(*) AS n, sum(third) AS thirds, min(sum) AS least
                 FROM TUMBLE(d.rows, ts, INTERVAL '1 minute') GROUP BY service, window_start, window_end",
            )
            .unwrap();
        push_all(&engine, "samples", &rows, feed.batch_rows).unwrap();
        engine.drain().unwrap();
        let metrics = engine.metrics();
        let detector = metrics.detector("d").unwrap();
        assert_eq!((detector.models, detector.models_ready), (3, 3));
        let judged = detector.rows_out;
        assert!(detector.rebuilds > 0 && detector.rebuilds <= judged - 3, "{detector:?}");
        engine.shutdown().unwrap();
        let (main, side) = (collect(main), collect(side));
        assert_eq!(main.num_rows(), side.num_rows());
        let found = vec![side];
        let windows = vec![collect(windowed)];
        let n = windows[0].column_by_name("n").unwrap().as_primitive::<Int64Type>();
        assert_eq!(n.values().iter().sum::<i64>() as usize, main.num_rows());
        match &reference {
            None => reference = Some([found, windows].concat()),
            Some(expected) => {
                assert_same(&found, &expected[..1], &format!("{feed:?}"));
                assert_same(&windows, &expected[1..], &format!("{feed:?}, windowed"));
            }
        }
    }
    let side = reference.unwrap().remove(0);
    let sums = concat_batches(&side.schema(), [&side]).unwrap();
    assert_eq!(sums.column_by_name("sum").unwrap().null_count(), 3, "one first row per key");
}

#[test]
fn side_relations_are_found_by_name_and_keep_their_detector() {
    let engine = engine(1);
    let error = engine.subscribe("SELECT * FROM d.ocupancy").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Query);
    assert_eq!(error.message(), "relation \"d.ocupancy\" not found");
    assert_eq!(error.hint(), Some("did you mean \"d.occupancy\"?"));
    assert!(engine.subscribe("SELECT * FROM samples.occupancy").is_err());
    assert!(engine.subscribe("SELECT * FROM a.b.c").is_err());
    let windowed = "SELECT count(*) FROM TUMBLE(d.occupancy, INTERVAL '1 minute') GROUP BY window_start, window_end";
    let error = engine.subscribe(windowed).unwrap_err();
    assert!(error.to_string().contains("event time"), "{error}");
    let reader = engine.subscribe("SELECT * FROM d.rows").unwrap();
    let error = engine.execute("DROP DETECTOR d").unwrap_err();
    assert!(error.to_string().contains("is used by"), "{error}");
    drop(reader);
    engine.execute("DROP DETECTOR d").unwrap();
    let plan = engine.explain("SELECT ts FROM samples").unwrap();
    assert!(plan.contains("Scan samples"));
}

/// Keys come and go: what a model had in the relations leaves them when it makes room for another, or has been silent.
#[test]
fn what_a_model_has_reported_leaves_with_it() {
    let few = Settings { workers: 1, models_max: 2, ..Settings::default() };
    let engine = engine_with(few);
    keys_come_and_go(&engine);
    assert_eq!(engine.metrics().detector("d").unwrap().models_evicted, 18);

    for workers in [1, 2] {
        let mut silent = DetectorSpec::new("thirds");
        silent.options.set("expire_after", Duration::from_secs(80));
        let engine = engine_of(Settings { workers, ..Settings::default() }, silent);
        keys_come_and_go(&engine);
        let metrics = engine.metrics();
        let metrics = metrics.detector("d").unwrap();
        assert_eq!((metrics.models, metrics.models_evicted), (2, 0));
    }
}

/// Each key has three rows in a minute of its own, and one of them comes back in the last. Those of the latest two minutes
/// are what is left.
fn keys_come_and_go(engine: &Engine) {
    let read = |relation: &str| engine.subscribe(&format!("SELECT * FROM d.{relation}")).unwrap();
    let [counts, keys, all] = ["occupancy", "high", "fleet"].map(read);
    let source = engine.source("samples").unwrap();
    let schema = source.schema();
    for minute in 0..20_i64 {
        let service = if minute == 19 { 5 } else { minute };
        let column = |field: &FieldRef| -> ArrayRef {
            let text = |text: String| Arc::new(StringArray::from(vec![text; 3])) as ArrayRef;
            match field.name().as_str() {
                "ts" => {
                    let times = (0..3).map(|row| (60 * minute + row) * SECOND);
                    let times = TimestampNanosecondArray::from_iter_values(times);
                    compute::cast(&times, field.data_type()).unwrap()
                }
                "service" => text(format!("s{service}")),
                "value" => Arc::new(Float64Array::from(vec![25.0, 5.0, 25.0])),
                _ => new_null_array(field.data_type(), 3),
            }
        };
        let columns = schema.fields().iter().map(column).collect();
        source.push(RecordBatch::try_new(schema.clone(), columns).unwrap()).unwrap();
    }
    source.watermark(EventTime(1_150 * SECOND)).unwrap();
    engine.drain().unwrap();
    let of = |cells: &[&str]| cells.iter().map(|cell| (*cell).to_owned()).collect::<Vec<_>>();
    let row = |service: &str, third: &str, count: &str, share: f64| {
        (of(&[service, third, count, &share.to_string()]), 1)
    };
    let (one, two) = (1.0 / 3.0, 2.0 / 3.0);
    let expected = [
        row("s5", "0", "1", one),
        row("s5", "2", "2", two),
        row("s18", "0", "1", one),
        row("s18", "2", "2", two),
    ];
    assert_eq!(standing(&taken(counts)), BTreeMap::from(expected));
    let expected = [(of(&["s5"]), 1), (of(&["s18"]), 1)];
    assert_eq!(standing(&taken(keys)), BTreeMap::from(expected));
    let expected = [(of(&["0", "2", "2"]), 1), (of(&["2", "4", "6"]), 1)];
    assert_eq!(standing(&taken(all)), BTreeMap::from(expected));
}

/// What has come until now.
fn taken(mut results: Subscription) -> RecordBatch {
    let mut batches = Vec::new();
    while let Some(batch) = results.try_next().unwrap() {
        batches.push(batch);
    }
    concat_batches(&results.schema(), &batches).unwrap()
}
