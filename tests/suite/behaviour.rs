//! What an engine promises its host: when results come, when they end, what waits, and what is freed.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use driftline::arrow::array::{
    ArrayRef, AsArray, Int64Array, RecordBatch, StringArray, TimestampNanosecondArray,
};
use driftline::arrow::datatypes::{DataType, Int64Type};
use driftline::{
    Accumulator, AggregateFunction, ArgumentTypes, BoxError, Engine, ErrorKind, EventTime,
    ManualClock, ScalarFunction, TryPush,
};

use super::support::{SECOND, collect, within_a_minute};

const CREATE: &str = "CREATE SOURCE s (ts TIMESTAMP, k TEXT, n BIGINT, WATERMARK FOR ts AS ts)";

fn rows(rows: &[(i64, &str, i64)]) -> RecordBatch {
    RecordBatch::try_from_iter_with_nullable([
        (
            "ts",
            Arc::new(TimestampNanosecondArray::from_iter_values(
                rows.iter().map(|row| row.0 * SECOND),
            )) as ArrayRef,
            true,
        ),
        ("k", Arc::new(StringArray::from_iter_values(rows.iter().map(|row| row.1))), true),
        ("n", Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.2))), true),
    ])
    .unwrap()
}

fn numbers(batch: &RecordBatch, column: &str) -> Vec<i64> {
    let column = batch.column_by_name(column).unwrap();
    let mut numbers = column.as_primitive::<Int64Type>().values().to_vec();
    numbers.sort_unstable();
    numbers
}

fn engine(workers: usize, ddl: &str) -> Engine {
    let engine = Engine::builder().workers(workers).build().unwrap();
    engine.execute(ddl).unwrap();
    engine
}

const COUNT: &str = "SELECT window_end, count(*) AS n FROM TUMBLE(s, ts, INTERVAL '10 seconds')
                     GROUP BY window_start, window_end";

#[test]
fn a_window_closes_when_the_watermark_passes_its_end_and_not_before() {
    for workers in [1, 2, 4] {
        let engine = engine(workers, CREATE);
        let mut results = engine.subscribe(COUNT).unwrap();
        let source = engine.source("s").unwrap();
        source.push(rows(&[(1, "a", 1), (9, "b", 1)])).unwrap();
        engine.drain().unwrap();
        assert!(results.try_next().unwrap().is_none());
        source.push(rows(&[(10, "a", 1)])).unwrap();
        assert_eq!(numbers(&results.next().unwrap().unwrap(), "n"), [2]);
        source.close().unwrap();
        assert_eq!(numbers(&results.next().unwrap().unwrap(), "n"), [1]);
        assert!(results.next().is_none());
    }
}

#[test]
fn several_queries_share_a_source_and_each_sees_what_comes_after_its_start() {
    let engine = engine(2, CREATE);
    let first = engine.subscribe("SELECT n FROM s WHERE n % 2 = 0").unwrap();
    let source = engine.source("s").unwrap();
    source.push(rows(&[(1, "a", 1), (2, "a", 2)])).unwrap();
    engine.drain().unwrap();
    let second = engine.subscribe("SELECT n FROM s").unwrap();
    source.push(rows(&[(3, "a", 3), (4, "a", 4)])).unwrap();
    source.close().unwrap();
    assert_eq!(numbers(&collect(first), "n"), [2, 4]);
    assert_eq!(numbers(&collect(second), "n"), [3, 4]);
}

#[test]
fn a_dropped_query_frees_its_state() {
    let engine = engine(2, CREATE);
    let results = engine.subscribe(COUNT).unwrap();
    let source = engine.source("s").unwrap();
    source.push(rows(&[(1, "a", 1), (30, "b", 1), (60, "b", 1)])).unwrap();
    engine.drain().unwrap();
    assert_eq!(engine.metrics().queries.len(), 1);
    drop(results);
    assert!(engine.metrics().queries.is_empty());
    // The name is free again only once no query reads it.
    engine.execute("DROP SOURCE s").unwrap();
    assert_eq!(source.push(rows(&[(1, "a", 1)])).unwrap_err().kind(), ErrorKind::Closed);
}

/// Adds up until it meets a negative number.
#[derive(Debug, Default)]
struct Picky(SquareSum);

impl Accumulator for Picky {
    fn update(&mut self, values: &[ArrayRef]) -> Result<(), BoxError> {
        match values[0].as_primitive::<Int64Type>().iter().flatten().find(|n| *n < 0) {
            Some(_) => Err("will not add".into()),
            None => self.0.update(values),
        }
    }

    fn merge(&mut self, states: &[ArrayRef]) -> Result<(), BoxError> {
        self.0.merge(states)
    }

    fn state(&mut self) -> Result<Vec<ArrayRef>, BoxError> {
        self.0.state()
    }

    fn finish(&mut self) -> Result<ArrayRef, BoxError> {
        self.0.finish()
    }
}

#[test]
fn a_query_that_has_ended_or_failed_holds_nothing() {
    let picky = AggregateFunction::new(
        "picky",
        ArgumentTypes::Exact(vec![DataType::Int64]),
        DataType::Int64,
        vec![DataType::Int64],
        || Box::<Picky>::default(),
    );
    for (workers, fails) in [(1, false), (1, true), (2, false), (2, true), (4, true)] {
        let picky = picky.clone();
        within_a_minute(move || {
            let engine = Engine::builder().workers(workers).with_aggregate(picky).build().unwrap();
            engine.execute(CREATE).unwrap();
            engine
                .execute(
                    "CREATE DETECTOR d USING ewma PARTITION BY k AS
                       SELECT k, window_end, picky(n) AS f FROM TUMBLE(s, ts, INTERVAL '1 second')
                       GROUP BY k, window_start, window_end",
                )
                .unwrap();
            let source = engine.source("s").unwrap();
            for t in 0..10 {
                source.push(rows(&[(t, "a", 1), (t, "b", 1), (t, "c", 1)])).unwrap();
                engine.drain().unwrap();
            }
            let metrics = engine.metrics();
            let held = metrics.detector("d").unwrap();
            assert!(held.models == 3 && held.state_bytes > 0, "{held:?}");
            match fails {
                true => source.push(rows(&[(10, "a", -1), (11, "a", 1)])).unwrap(),
                false => source.close().unwrap(),
            }
            // Workers let go of a query a little after its last result.
            loop {
                let metrics = engine.metrics();
                let held = metrics.detector("d").unwrap();
                if held.models == 0 && held.state_bytes == 0 {
                    break;
                }
                std::thread::yield_now();
            }
        });
    }
}

#[test]
fn a_reader_that_stops_reading_stops_the_pusher_and_memory_stays_flat() {
    for workers in [1, 2] {
        let settings = driftline::Settings {
            workers,
            ingress_bytes_max: 1 << 20,
            subscription_bytes_max: 1 << 18,
            epoch_bytes: 1 << 17,
            ..Default::default()
        };
        let engine = Engine::builder().settings(settings).build().unwrap();
        engine.execute(CREATE).unwrap();
        let mut results = engine.subscribe("s").unwrap();
        let source = engine.source("s").unwrap();
        let batch = rows(&[(1, "a", 1); 1000]);
        let (mut pushed, mut full) = (0, false);
        while pushed < 10_000 && !full {
            match source.try_push(batch.clone()).unwrap() {
                TryPush::Accepted => pushed += 1,
                TryPush::Full(back) => {
                    assert_eq!(back, batch);
                    // The workers may still be about to make room; once they are done, full is full.
                    let metrics = engine.metrics();
                    assert!(metrics.ingress_bytes <= 1 << 20, "{metrics:?}");
                    full = metrics.queries[0].waiting_bytes > 0;
                }
            }
        }
        assert!(full, "10,000 batches of 20 kB went into an engine that nobody reads");
        let metrics = engine.metrics();
        assert!(metrics.queries[0].waiting_bytes <= 1 << 18, "{metrics:?}");
        // Reading makes room again, and nothing has been lost.
        let mut seen = 0;
        while seen < pushed * 1000 {
            seen += results.next().unwrap().unwrap().num_rows();
        }
        assert_eq!(seen, pushed * 1000);
        source.push(batch).unwrap();
    }
}

#[test]
fn a_batch_larger_than_the_bound_is_let_in_alone() {
    let engine = Engine::builder().workers(1).ingress_bytes_max(1).build().unwrap();
    engine.execute(CREATE).unwrap();
    let results = engine.subscribe("SELECT n FROM s").unwrap();
    let source = engine.source("s").unwrap();
    for n in 0..10 {
        source.push(rows(&[(n, "a", n); 500])).unwrap();
    }
    source.close().unwrap();
    assert_eq!(collect(results).num_rows(), 5000);
}

#[test]
fn the_host_can_move_the_watermark() {
    let engine = engine(2, "CREATE SOURCE s (ts TIMESTAMP, k TEXT, n BIGINT, WATERMARK FOR ts)");
    let mut results = engine.subscribe(COUNT).unwrap();
    let source = engine.source("s").unwrap();
    source.push(rows(&[(1, "a", 1), (500, "a", 1)])).unwrap();
    engine.drain().unwrap();
    assert!(results.try_next().unwrap().is_none());
    source.watermark(EventTime(10 * SECOND)).unwrap();
    assert_eq!(numbers(&results.next().unwrap().unwrap(), "n"), [1]);
    source.watermark(EventTime(5 * SECOND)).unwrap();
    engine.drain().unwrap();
    assert_eq!(engine.metrics().source("s").unwrap().watermark, EventTime(10 * SECOND));
}

#[test]
fn an_idle_source_lets_its_windows_close_by_the_clock() {
    for workers in [1, 2, 4] {
        let clock = Arc::new(ManualClock::default());
        let engine = Engine::builder().workers(workers).clock(clock.clone()).build().unwrap();
        engine
            .execute(
                "CREATE SOURCE s (ts TIMESTAMP, k TEXT, n BIGINT,
                   WATERMARK FOR ts AS ts - INTERVAL '5 seconds' IDLE TIMEOUT INTERVAL '30 seconds')",
            )
            .unwrap();
        let mut results = engine.subscribe(COUNT).unwrap();
        let source = engine.source("s").unwrap();
        source.push(rows(&[(1, "a", 1)])).unwrap();
        engine.drain().unwrap();
        clock.advance(Duration::from_secs(29));
        engine.drain().unwrap();
        assert!(results.try_next().unwrap().is_none());
        clock.advance(Duration::from_secs(1));
        // Watermark 1 - 5 + 30 = 26 s: the window that ends at 10 s is complete.
        assert_eq!(numbers(&results.next().unwrap().unwrap(), "n"), [1]);
        // What arrives after, at later times, is not late.
        source.push(rows(&[(40, "a", 1), (70, "b", 1)])).unwrap();
        assert_eq!(numbers(&results.next().unwrap().unwrap(), "n"), [1]);
        assert_eq!(engine.metrics().source("s").unwrap().rows_late, 0);
    }
}

/// With the system's clock nobody but the engine itself wakes what waits for silence.
#[test]
fn silence_is_noticed_without_anybody_moving_the_clock() {
    for by_host in [false, true] {
        let engine = engine(
            1,
            "CREATE SOURCE s (ts TIMESTAMP(3), WATERMARK FOR ts AS ts IDLE TIMEOUT INTERVAL '20 milliseconds')",
        );
        let mut results = engine.subscribe(COUNT).unwrap();
        let source = engine.source("s").unwrap();
        let times: ArrayRef =
            Arc::new(driftline::arrow::array::TimestampMillisecondArray::from(vec![9_990]));
        source.push(RecordBatch::try_new(source.schema(), vec![times]).unwrap()).unwrap();
        if by_host {
            source.idle().unwrap();
        }
        assert_eq!(numbers(&results.next().unwrap().unwrap(), "n"), [1]);
    }
}

#[test]
fn drain_returns_although_others_go_on_pushing() {
    let engine = engine(2, CREATE);
    let seen = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&seen);
    let _callback = engine
        .subscribe_with("s", move |batch| {
            count.fetch_add(batch.num_rows(), Ordering::SeqCst);
        })
        .unwrap();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let source = engine.source("s").unwrap();
        source.push(rows(&[(1, "a", 1)])).unwrap();
        scope.spawn(|| {
            let source = source;
            while !stop.load(Ordering::SeqCst) {
                source.push(rows(&[(1, "a", 1)])).unwrap();
            }
        });
        for _ in 0..20 {
            engine.drain().unwrap();
        }
        stop.store(true, Ordering::SeqCst);
    });
    engine.shutdown().unwrap();
    assert!(seen.load(Ordering::SeqCst) > 0);
}

#[test]
fn nothing_follows_a_failure_and_others_go_on() {
    // An accumulator that fails ends its query, not the engine.
    #[derive(Debug, Default)]
    struct Failing;
    impl Accumulator for Failing {
        fn update(&mut self, _: &[ArrayRef]) -> Result<(), BoxError> {
            Err("will not add".into())
        }
        fn merge(&mut self, _: &[ArrayRef]) -> Result<(), BoxError> {
            Ok(())
        }
        fn state(&mut self) -> Result<Vec<ArrayRef>, BoxError> {
            Ok(vec![self.finish()?])
        }
        fn finish(&mut self) -> Result<ArrayRef, BoxError> {
            Ok(Arc::new(Int64Array::from(vec![0])))
        }
    }
    let failing = AggregateFunction::new(
        "failing",
        ArgumentTypes::Exact(vec![DataType::Int64]),
        DataType::Int64,
        vec![DataType::Int64],
        || Box::<Failing>::default(),
    );
    for workers in [1, 2, 4] {
        let engine =
            Engine::builder().workers(workers).with_aggregate(failing.clone()).build().unwrap();
        engine.execute(CREATE).unwrap();
        engine
            .execute(
                "CREATE DETECTOR d USING ewma AS SELECT window_end, failing(n) AS f
                   FROM TUMBLE(s, ts, INTERVAL '1 second') GROUP BY window_start, window_end",
            )
            .unwrap();
        let mut failed = engine.subscribe("d").unwrap();
        let bystander = engine.subscribe("SELECT n FROM s").unwrap();
        let source = engine.source("s").unwrap();
        for t in 0..50 {
            source.push(rows(&[(t, "a", t)])).unwrap();
        }
        let error = failed.find_map(Result::err).expect("the detector fails");
        assert!(error.to_string().contains("will not add"), "{error}");
        assert!(failed.next().is_none());
        let refused = engine.subscribe("SELECT f FROM d").unwrap_err();
        assert!(refused.to_string().contains("will not add"), "{refused}");
        source.close().unwrap();
        assert_eq!(collect(bystander).num_rows(), 50);
    }
}

#[test]
fn late_rows_are_counted_and_reach_the_side_relation() {
    for workers in [1, 2, 4] {
        let engine = engine(
            workers,
            "CREATE SOURCE s (ts TIMESTAMP, k TEXT, n BIGINT, WATERMARK FOR ts AS ts)
               WITH (allowed_lateness = INTERVAL '5 seconds')",
        );
        let counts = engine.subscribe(COUNT).unwrap();
        let late = engine.subscribe("SELECT n, reason FROM LATE(s)").unwrap();
        let source = engine.source("s").unwrap();
        source.push(rows(&[(1, "a", 1), (100, "a", 2)])).unwrap();
        engine.drain().unwrap();
        // 95 s is within the allowed lateness, 94 s is not.
        source.push(rows(&[(95, "a", 3), (94, "a", 4)])).unwrap();
        let mut no_time = rows(&[(0, "a", 5)]);
        let null: ArrayRef = Arc::new(TimestampNanosecondArray::from(vec![None]));
        no_time = RecordBatch::try_new(
            no_time.schema(),
            vec![null, no_time.column(1).clone(), no_time.column(2).clone()],
        )
        .unwrap();
        source.push(no_time).unwrap();
        source.close().unwrap();
        assert_eq!(numbers(&collect(counts), "n"), [1, 1, 1]);
        let late = collect(late);
        assert_eq!(numbers(&late, "n"), [4, 5]);
        let metrics = engine.metrics();
        let source = metrics.source("s").unwrap();
        assert_eq!((source.rows, source.rows_late, source.rows_malformed), (5, 1, 1));
    }
}

#[test]
fn shutdown_lets_everything_finish_even_if_nobody_reads_yet() {
    let settings =
        driftline::Settings { subscription_bytes_max: 1, workers: 2, ..Default::default() };
    let engine = Engine::builder().settings(settings).build().unwrap();
    engine.execute(CREATE).unwrap();
    let results = engine.subscribe("SELECT n FROM s").unwrap();
    let source = engine.source("s").unwrap();
    for n in 0..100 {
        source.push(rows(&[(n, "a", n)])).unwrap();
    }
    engine.shutdown().unwrap();
    assert_eq!(numbers(&collect(results), "n"), (0..100).collect::<Vec<_>>());
    assert_eq!(source.push(rows(&[(1, "a", 1)])).unwrap_err().kind(), ErrorKind::Closed);
}

#[test]
fn dropping_the_engine_ends_every_handle_with_an_error() {
    let engine = engine(2, CREATE);
    let mut results = engine.subscribe(COUNT).unwrap();
    let source = engine.source("s").unwrap();
    source.push(rows(&[(1, "a", 1)])).unwrap();
    let reader = std::thread::spawn(move || (results.next(), results.next().is_none()));
    drop(engine);
    let (last, ended) = reader.join().unwrap();
    assert_eq!(last.unwrap().unwrap_err().kind(), ErrorKind::Closed);
    assert!(ended, "the error comes once");
    assert_eq!(source.push(rows(&[(1, "a", 1)])).unwrap_err().kind(), ErrorKind::Closed);
}

fn panicking() -> ScalarFunction {
    ScalarFunction::new(
        "explode",
        ArgumentTypes::Exact(vec![DataType::Int64]),
        DataType::Int64,
        |_: &[ArrayRef]| -> Result<ArrayRef, BoxError> { panic!("as asked") },
    )
}

#[test]
fn a_panic_in_a_worker_is_an_error_on_every_handle_and_never_a_hang() {
    for workers in [1, 2, 4] {
        let engine = Engine::builder().workers(workers).with_function(panicking()).build().unwrap();
        engine.execute(CREATE).unwrap();
        let mut bystander = engine.subscribe("s").unwrap();
        let mut results = engine.subscribe("SELECT explode(n) AS n FROM s").unwrap();
        let source = engine.source("s").unwrap();
        source.push(rows(&[(1, "a", 1)])).unwrap();
        let error = results.find_map(Result::err).expect("the query fails");
        assert_eq!(error.kind(), ErrorKind::Internal);
        assert!(error.to_string().contains("as asked"), "{error}");
        assert_eq!(bystander.find_map(Result::err).unwrap().kind(), ErrorKind::Internal);
        assert_eq!(source.push(rows(&[(1, "a", 1)])).unwrap_err().kind(), ErrorKind::Internal);
        assert_eq!(engine.drain().unwrap_err().kind(), ErrorKind::Internal);
        assert_eq!(engine.shutdown().unwrap_err().kind(), ErrorKind::Internal);
    }
}

#[test]
fn a_callback_that_panics_ends_its_query_and_nothing_else() {
    let engine = engine(2, CREATE);
    let seen = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&seen);
    let bystander = engine
        .subscribe_with("s", move |batch| {
            count.fetch_add(batch.num_rows(), Ordering::SeqCst);
        })
        .unwrap();
    let broken = engine.subscribe_with("s", |_| panic!("no thanks")).unwrap();
    let source = engine.source("s").unwrap();
    source.push(rows(&[(1, "a", 1)])).unwrap();
    let error = broken.join().unwrap_err();
    assert!(error.to_string().contains("no thanks"), "{error}");
    source.push(rows(&[(2, "a", 1)])).unwrap();
    source.close().unwrap();
    bystander.join().unwrap();
    assert_eq!(seen.load(Ordering::SeqCst), 2);
    assert!(engine.shutdown().unwrap_err().to_string().contains("no thanks"));
}

#[test]
fn a_cancelled_callback_is_not_called_again() {
    let engine = engine(1, CREATE);
    let (send, receive) = mpsc::channel();
    let callback = engine.subscribe_with("s", move |batch| send.send(batch).unwrap()).unwrap();
    let source = engine.source("s").unwrap();
    source.push(rows(&[(1, "a", 1)])).unwrap();
    receive.recv().unwrap();
    callback.cancel();
    callback.join().unwrap();
    source.push(rows(&[(2, "a", 1)])).unwrap();
    engine.shutdown().unwrap();
    assert!(receive.recv().is_err());
}

#[test]
fn an_async_stream_wakes_its_task() {
    use driftline::futures_core::Stream;
    use std::task::{Context, Poll, Wake, Waker};

    struct Flag(AtomicBool, Mutex<Option<mpsc::Sender<()>>>);
    impl Wake for Flag {
        fn wake(self: Arc<Self>) {
            self.0.store(true, Ordering::SeqCst);
            if let Some(sender) = self.1.lock().unwrap().take() {
                sender.send(()).unwrap();
            }
        }
    }

    let engine = engine(1, CREATE);
    let mut stream = Box::pin(engine.subscribe("s").unwrap().into_stream());
    let (send, receive) = mpsc::channel();
    let flag = Arc::new(Flag(AtomicBool::new(false), Mutex::new(Some(send))));
    let waker = Waker::from(Arc::clone(&flag));
    let mut context = Context::from_waker(&waker);
    assert!(stream.as_mut().poll_next(&mut context).is_pending());
    engine.source("s").unwrap().push(rows(&[(1, "a", 1)])).unwrap();
    receive.recv().unwrap();
    assert!(matches!(stream.as_mut().poll_next(&mut context), Poll::Ready(Some(Ok(_)))));
}

/// Sums squares, as a host would write an aggregate.
#[derive(Debug, Default)]
struct SquareSum(i64);

impl Accumulator for SquareSum {
    fn update(&mut self, values: &[ArrayRef]) -> Result<(), BoxError> {
        self.0 +=
            values[0].as_primitive::<Int64Type>().iter().flatten().map(|n| n * n).sum::<i64>();
        Ok(())
    }

    fn merge(&mut self, states: &[ArrayRef]) -> Result<(), BoxError> {
        self.0 += states[0].as_primitive::<Int64Type>().iter().flatten().sum::<i64>();
        Ok(())
    }

    fn state(&mut self) -> Result<Vec<ArrayRef>, BoxError> {
        Ok(vec![self.finish()?])
    }

    fn finish(&mut self) -> Result<ArrayRef, BoxError> {
        Ok(Arc::new(Int64Array::from(vec![self.0])))
    }
}

#[test]
fn functions_of_the_host_work_in_sql() {
    let double = ScalarFunction::new(
        "double_it",
        ArgumentTypes::Exact(vec![DataType::Int64]),
        DataType::Int64,
        |arguments: &[ArrayRef]| -> Result<ArrayRef, BoxError> {
            let numbers = arguments[0].as_primitive::<Int64Type>();
            Ok(Arc::new(numbers.unary::<_, Int64Type>(|n| n * 2)))
        },
    );
    let squares = AggregateFunction::new(
        "square_sum",
        ArgumentTypes::Exact(vec![DataType::Int64]),
        DataType::Int64,
        vec![DataType::Int64],
        || Box::<SquareSum>::default(),
    );
    for workers in [1, 2, 4] {
        let engine = Engine::builder()
            .workers(workers)
            .with_function(double.clone())
            .with_aggregate(squares.clone())
            .build()
            .unwrap();
        engine.execute(CREATE).unwrap();
        let results = engine
            .subscribe(
                "SELECT k, square_sum(double_it(n)) AS n FROM HOP(s, ts, INTERVAL '5 seconds', INTERVAL '10 seconds')
                 GROUP BY k, window_start, window_end",
            )
            .unwrap();
        let source = engine.source("s").unwrap();
        source.push(rows(&[(1, "a", 1), (2, "b", 2), (3, "a", 3)])).unwrap();
        engine.shutdown().unwrap();
        assert_eq!(numbers(&collect(results), "n"), [16, 16, 40, 40]);
    }
}

#[test]
fn statements_show_explain_and_refuse() {
    let engine = engine(1, CREATE);
    engine
        .execute(
            "CREATE VIEW even AS SELECT * FROM s WHERE n % 2 = 0;
             CREATE DETECTOR d USING ewma PARTITION BY k AS SELECT ts, k, n FROM even",
        )
        .unwrap();
    let shown = engine.execute("SHOW SOURCES; SHOW VIEWS; SHOW DETECTORS; SHOW QUERIES").unwrap();
    assert_eq!(shown.iter().map(RecordBatch::num_rows).collect::<Vec<_>>(), [1, 1, 1, 1]);
    let kinds = engine.execute("SHOW KINDS").unwrap();
    assert!(kinds[0].num_rows() >= 4);
    let explained = engine.explain("EXPLAIN SELECT * FROM d WHERE is_anomaly").unwrap();
    assert!(explained.contains("d"), "{explained}");
    let refused = |sql: &str| engine.execute(sql).unwrap_err().to_string();
    assert!(refused("DROP SOURCE s").contains("is used by view \"even\""));
    assert!(refused("DROP VIEW even").contains("detector \"d\""));
    assert!(refused("DROP DETECTOR e").contains("does not exist"));
    assert!(refused(CREATE).contains("exists already"));
    assert!(refused("SELECT * FROM s").contains("subscribe"));
    assert!(refused("CREATE DETECTOR e USING ewmaa AS SELECT ts, n FROM s").contains("ewma"));
    let error = engine.subscribe("SELECT nn FROM s").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Query);
    assert_eq!(error.position().map(|p| (p.line, p.column)), Some((1, 8)), "{error}");
    engine.execute("DROP DETECTOR d; DROP VIEW even; DROP SOURCE s").unwrap();
    assert!(engine.metrics().queries.is_empty());
}

#[test]
fn a_detector_can_be_read_by_queries_and_by_detectors() {
    for workers in [1, 2, 4] {
        let engine = engine(
            workers,
            "CREATE SOURCE s (ts TIMESTAMP, k TEXT, n BIGINT, WATERMARK FOR ts AS ts - INTERVAL '3 seconds');
             CREATE DETECTOR first USING ewma PARTITION BY k AS SELECT ts, k, n FROM s;
             CREATE DETECTOR second USING ewma PARTITION BY k AS
               SELECT ts, k, score AS first_score FROM first WHERE score IS NOT NULL",
        );
        let firsts = engine.subscribe("SELECT n FROM first").unwrap();
        let seconds = engine.subscribe("SELECT score FROM second").unwrap();
        let windows = engine
            .subscribe(
                "SELECT k, count(*) AS n FROM TUMBLE(first, ts, INTERVAL '100 seconds')
                 GROUP BY k, window_start, window_end",
            )
            .unwrap();
        let source = engine.source("s").unwrap();
        for t in 0..200 {
            source.push(rows(&[(t, "a", t % 7), (t, "b", t % 5)])).unwrap();
        }
        engine.shutdown().unwrap();
        assert_eq!(collect(firsts).num_rows(), 400);
        let seconds = collect(seconds).num_rows();
        assert!(0 < seconds && seconds < 400, "{seconds}");
        assert_eq!(numbers(&collect(windows), "n"), [100, 100, 100, 100]);
    }
}

#[test]
fn many_threads_may_push_at_once() {
    let engine = engine(2, "CREATE SOURCE s (ts TIMESTAMP, k TEXT, n BIGINT, WATERMARK FOR ts)");
    let results = engine
        .subscribe(
            "SELECT k, sum(n) AS n FROM TUMBLE(s, ts, INTERVAL '1 hour')
        GROUP BY k, window_start, window_end",
        )
        .unwrap();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let source = engine.source("s").unwrap();
            scope.spawn(move || {
                for n in 0..200 {
                    source.push(rows(&[(n, ["a", "b", "c", "d"][thread], 1)])).unwrap();
                }
            });
        }
    });
    engine.shutdown().unwrap();
    assert_eq!(numbers(&collect(results), "n"), [200; 4]);
}
