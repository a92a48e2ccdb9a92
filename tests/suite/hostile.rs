//! What comes in from outside may be anything: it is refused, counted or worked through, and never a panic or a hang.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use driftline::arrow::array::{
    ArrayRef, AsArray, Float64Array, Int64Array, RecordBatch, StringArray,
    TimestampNanosecondArray, new_null_array,
};
use driftline::arrow::compute::{can_cast_types, cast};
use driftline::arrow::datatypes::{
    DataType, Field, Fields, Int64Type, IntervalUnit, Schema, TimeUnit,
};
use driftline::inference::DeviceChoice;
use driftline::{Engine, ErrorKind, EventTime, ManualClock, Settings, SourceDefinition};

use super::support::{SECOND, collect, within_minutes};

fn dictionary(key: DataType, value: DataType) -> DataType {
    DataType::Dictionary(Box::new(key), Box::new(value))
}

/// Types of columns that a host may come with.
fn types() -> Vec<DataType> {
    use DataType as T;
    let item = |kind: T| Arc::new(Field::new("item", kind, true));
    let entries = Fields::from(vec![
        Field::new("keys", T::Utf8, false),
        Field::new("values", T::Float64, true),
    ]);
    vec![
        T::Utf8,
        T::LargeUtf8,
        T::Utf8View,
        T::Binary,
        T::LargeBinary,
        T::BinaryView,
        T::FixedSizeBinary(3),
        dictionary(T::Int8, T::Utf8),
        dictionary(T::UInt32, T::LargeUtf8),
        dictionary(T::Int32, T::Float64),
        T::Boolean,
        T::Int8,
        T::Int64,
        T::UInt64,
        T::Float16,
        T::Float32,
        T::Float64,
        T::Decimal32(9, 2),
        T::Decimal64(18, 2),
        T::Decimal128(38, 10),
        T::Decimal256(76, 20),
        T::Date32,
        T::Date64,
        T::Time32(TimeUnit::Second),
        T::Time64(TimeUnit::Nanosecond),
        T::Timestamp(TimeUnit::Second, Some("Europe/Berlin".into())),
        T::Timestamp(TimeUnit::Nanosecond, None),
        T::Duration(TimeUnit::Millisecond),
        T::Interval(IntervalUnit::YearMonth),
        T::Interval(IntervalUnit::MonthDayNano),
        T::Null,
        T::List(item(T::Utf8)),
        T::LargeList(item(T::Int64)),
        T::FixedSizeList(item(T::Float64), 2),
        T::ListView(item(T::Int64)),
        T::Struct(Fields::from(vec![Field::new("a", T::Int64, true)])),
        T::Map(Arc::new(Field::new("entries", T::Struct(entries), false)), false),
        T::RunEndEncoded(
            Arc::new(Field::new("run_ends", T::Int32, false)),
            Arc::new(Field::new("values", T::Utf8, true)),
        ),
    ]
}

/// Four values of a type, nulls among them, or nulls alone where numbers and text do not become the type.
fn values(kind: &DataType) -> ArrayRef {
    let numbers: ArrayRef = Arc::new(Int64Array::from(vec![Some(3), None, Some(-1), Some(3)]));
    let texts: ArrayRef =
        Arc::new(StringArray::from(vec![Some("abc"), None, Some(""), Some("abc")]));
    for from in [texts, numbers] {
        if can_cast_types(from.data_type(), kind)
            && let Ok(values) = cast(&from, kind)
            && values.null_count() < 4
        {
            return values;
        }
    }
    new_null_array(kind, 4)
}

#[test]
fn a_column_of_another_layout_is_refused_and_the_source_lives_on() {
    let engine = Engine::builder().workers(2).build().unwrap();
    engine.execute("CREATE SOURCE s (k TEXT)").unwrap();
    let results = engine.subscribe("s").unwrap();
    let source = engine.source("s").unwrap();
    let wanted = source.schema().field(0).data_type().clone();
    for kind in types().into_iter().filter(|kind| *kind != wanted) {
        let batch = RecordBatch::try_from_iter_with_nullable([("k", values(&kind), true)]).unwrap();
        let error = source.push(batch.clone()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Data, "{kind}");
        assert!(error.hint().unwrap().contains("k Utf8"), "{error}");
        assert_eq!(source.try_push(batch).unwrap_err().kind(), ErrorKind::Data, "{kind}");
    }
    let good = RecordBatch::try_from_iter_with_nullable([("k", values(&wanted), true)]).unwrap();
    source.push(good).unwrap();
    engine.shutdown().unwrap();
    assert_eq!(collect(results).num_rows(), 4);
}

/// Queries of every kind over a column `v` of any type: each is refused with a reason, or runs.
#[test]
fn columns_of_every_type_are_refused_with_a_reason_or_worked_through() {
    const WINDOW: &str = "FROM TUMBLE(s, ts, INTERVAL '1 second') GROUP BY";
    let queries = [
        "s".to_owned(),
        "SELECT v, v IS NULL AS missing FROM s WHERE v IS NOT NULL".to_owned(),
        "SELECT v = v AS same, CAST(v AS TEXT) AS text FROM s".to_owned(),
        "SELECT v, reason FROM LATE(s)".to_owned(),
        format!("SELECT v, count(*) AS n {WINDOW} v, window_start, window_end"),
        format!("SELECT v, x, count(*) AS n {WINDOW} v, x, window_start, window_end"),
        format!("SELECT min(v) AS low, max(v) AS high {WINDOW} window_start, window_end"),
        format!("SELECT count(DISTINCT v) AS n, count(v) AS m {WINDOW} window_start, window_end"),
        format!("SELECT sum(v) AS n, avg(v) AS m {WINDOW} window_start, window_end"),
        format!("SELECT median(v) AS n, stddev(v) AS m {WINDOW} window_start, window_end"),
        format!("SELECT bool_or(v) AS n {WINDOW} window_start, window_end"),
        format!("SELECT approx_distinct(v) AS n {WINDOW} window_start, window_end"),
        "SELECT ts, v, window_start FROM HOP(s, ts, INTERVAL '1 second', INTERVAL '3 seconds')"
            .to_owned(),
    ];
    let detectors = [
        "USING ewma PARTITION BY v AS SELECT ts, v, x FROM s",
        "USING ewma PARTITION BY v, x AS SELECT ts, v, x, 1.0 AS y FROM s",
        "USING robust_zscore WITH (features = 'v') AS SELECT ts, v FROM s",
        "USING half_space_trees AS SELECT ts, v, x FROM s",
    ];
    let mut broken = Vec::new();
    for workers in [1, 2] {
        for kind in types() {
            let mut ran = 0;
            let schema = Arc::new(Schema::new(vec![
                Field::new("ts", DataType::Timestamp(TimeUnit::Nanosecond, None), true),
                Field::new("x", DataType::Float64, true),
                Field::new("v", kind.clone(), true),
            ]));
            let engine = Engine::builder().workers(workers).build().unwrap();
            let definition = SourceDefinition::new("s", Arc::clone(&schema))
                .event_time("ts")
                .disorder(Duration::ZERO);
            let source = engine.create_source(definition).unwrap();
            let mut running = Vec::new();
            for query in &queries {
                match engine.subscribe(query) {
                    Ok(results) => running.push((query.clone(), results)),
                    Err(error) if error.kind() == ErrorKind::Internal => {
                        broken.push(format!("{kind}: {query}: {error}"));
                    }
                    Err(_) => {}
                }
            }
            for (index, detector) in detectors.iter().enumerate() {
                match engine.execute(&format!("CREATE DETECTOR d{index} {detector}")) {
                    Ok(_) => running.push((
                        (*detector).to_owned(),
                        engine.subscribe(&format!("SELECT * FROM d{index}")).unwrap(),
                    )),
                    Err(error) if error.kind() == ErrorKind::Internal => {
                        broken.push(format!("{kind}: {detector}: {error}"));
                    }
                    Err(_) => {}
                }
            }
            for second in [0, 1, 0, 5] {
                let columns: Vec<ArrayRef> = vec![
                    Arc::new(TimestampNanosecondArray::from(vec![
                        Some(second * SECOND),
                        Some(second * SECOND),
                        None,
                        Some(second * SECOND + 1),
                    ])),
                    Arc::new(Float64Array::from(vec![Some(1.0), Some(f64::NAN), None, Some(-0.0)])),
                    values(&kind),
                ];
                let batch = RecordBatch::try_new(Arc::clone(&schema), columns).unwrap();
                for rows in [batch.slice(0, 0), batch.slice(1, 3), batch] {
                    // A panic in a worker comes out of the drain below.
                    let _ = source.push(rows);
                }
                if let Err(error) = engine.drain() {
                    broken.push(format!("{kind}: {error}"));
                    break;
                }
            }
            let failed = engine.metrics().queries;
            for query in failed.iter().filter(|query| query.rows_failed > 0) {
                broken.push(format!("{kind}: {}: {:?}", query.name, query.first_row_error));
            }
            let ended = within_minutes(move || engine.shutdown());
            if let Err(error) = ended {
                broken.push(format!("{kind}: shutdown: {error}"));
            }
            for (query, results) in running {
                for batch in results {
                    match batch {
                        Ok(batch) => ran += batch.num_rows(),
                        Err(error) => broken.push(format!("{kind}: {query}: {error}")),
                    }
                }
            }
            if ran == 0 {
                broken.push(format!("{kind}: nothing ran"));
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn names_may_be_anything() {
    within_minutes(|| {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("in.csv");
        std::fs::write(&path, "ts,n\n2024-01-01 00:00:00,1\n").unwrap();
        for name in
            [" ", "a\0b", "a\"\"b", "select", "späte, Zeilen", "\u{1f30a}", "late(s)", "a.b"]
        {
            let engine = Engine::builder().workers(2).build().unwrap();
            engine
                .execute(&format!(
                    "CREATE SOURCE \"{name}\" (ts TIMESTAMP, n BIGINT, WATERMARK FOR ts AS ts) WITH (path = '{}');
                     CREATE DETECTOR \"{name}!\" USING ewma AS SELECT ts, n FROM \"{name}\"",
                    path.display()
                ))
                .unwrap();
            let rows = engine.subscribe(&format!("SELECT * FROM \"{name}\"")).unwrap();
            let scored = engine.subscribe(&format!("SELECT * FROM \"{name}!\"")).unwrap();
            engine.start().unwrap();
            engine.shutdown().unwrap();
            assert_eq!((collect(rows).num_rows(), collect(scored).num_rows()), (1, 1), "{name:?}");
        }
    });
}

#[test]
fn columns_of_the_same_name_and_no_columns_are_refused() {
    let engine = Engine::builder().workers(1).build().unwrap();
    let number = |name: &str| Field::new(name, DataType::Int64, true);
    for fields in [vec![], vec![number("n"), number("n")], vec![number(""), number("")]] {
        let definition = SourceDefinition::new("s", Arc::new(Schema::new(fields)));
        assert_eq!(engine.create_source(definition).unwrap_err().kind(), ErrorKind::Settings);
    }
    assert!(engine.execute("CREATE SOURCE s ()").is_err());
    assert!(engine.execute("CREATE SOURCE s (n BIGINT, n TEXT)").is_err());
    engine.execute("CREATE SOURCE s (ts TIMESTAMP, n BIGINT, WATERMARK FOR ts AS ts)").unwrap();
    let source = engine.source("s").unwrap();
    // Rows without columns.
    let options = driftline::arrow::array::RecordBatchOptions::new().with_row_count(Some(3));
    let hollow =
        RecordBatch::try_new_with_options(Arc::new(Schema::empty()), vec![], &options).unwrap();
    assert_eq!(source.push(hollow).unwrap_err().kind(), ErrorKind::Data);
    for query in [
        "SELECT n, n FROM s",
        "SELECT n AS a, ts AS a FROM s",
        "SELECT *, n FROM s",
        "SELECT window_end, window_end FROM TUMBLE(s, ts, INTERVAL '1 second') GROUP BY window_start, window_end",
    ] {
        if let Err(error) = engine.subscribe(query) {
            assert_eq!(error.kind(), ErrorKind::Query, "{query}: {error}");
        }
        let detector = engine.execute(&format!("CREATE DETECTOR d USING ewma AS {query}"));
        assert!(detector.is_err_and(|error| error.kind() == ErrorKind::Query), "{query}");
    }
    engine.shutdown().unwrap();
}

#[test]
fn a_huge_batch_is_shared_out_and_comes_back_whole() {
    within_minutes(|| {
        const ROWS: i64 = 3_000_000;
        let settings = Settings {
            workers: 4,
            ingress_bytes_max: 1 << 20,
            epoch_bytes: 1 << 16,
            ..Settings::default()
        };
        let engine = Engine::builder().settings(settings).build().unwrap();
        engine.execute("CREATE SOURCE s (n BIGINT)").unwrap();
        let results = engine.subscribe("SELECT n FROM s WHERE n % 3 = 0").unwrap();
        let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(0..ROWS));
        let batch = RecordBatch::try_from_iter_with_nullable([("n", numbers, true)]).unwrap();
        engine.source("s").unwrap().push(batch).unwrap();
        engine.shutdown().unwrap();
        let sum = |batch: RecordBatch| {
            batch.column(0).as_primitive::<Int64Type>().values().iter().sum::<i64>()
        };
        let found: i64 = results.map(|batch| sum(batch.unwrap())).sum();
        assert_eq!(found, (0..ROWS).step_by(3).sum::<i64>());
    });
}

/// A host's thread may have little stack, and a statement may come from anywhere.
#[test]
fn statements_that_nest_deep_are_refused() {
    let nested = |open: &str, inner: &str, close: &str, depth: usize| {
        format!("SELECT {}{inner}{} AS n FROM s", open.repeat(depth), close.repeat(depth))
    };
    let mut statements = Vec::new();
    for depth in [10, 1_000, 100_000] {
        statements.extend([
            nested("(", "n", ")", depth),
            nested("abs(", "n", ")", depth),
            nested("- ", "n", "", depth),
            nested("NOT ", "true", "", depth),
            nested("CASE WHEN true THEN ", "n", " END", depth),
            nested("CAST(", "n", " AS BIGINT)", depth),
            nested("[", "n", "]", depth),
            nested("n + ", "n", "", depth),
            nested("n || ", "n", "", depth),
            nested("n = n AND ", "true", "", depth),
            nested("", "n", "::BIGINT", depth),
            nested("", "n", ".a", depth),
            nested("n IN (", "1", ")", depth),
            nested("(SELECT ", "n", ")", depth),
            format!("{}s{}", "SELECT * FROM (".repeat(depth), ")".repeat(depth)),
            format!("SELECT n IN ({}1) AS n FROM s", "1, ".repeat(depth)),
            format!("SELECT {}n FROM s", "n AS a, ".repeat(depth)),
            format!("SELECT '{}' AS n FROM s", "''".repeat(depth)),
            format!("SELECT \"{}\" FROM s", "x".repeat(depth)),
            format!("SELECT n FROM s{}", " UNION ALL SELECT n FROM s".repeat(depth)),
            format!("CREATE SOURCE x (a {}BIGINT{})", "ARRAY<".repeat(depth), ">".repeat(depth)),
            format!("{}SELECT n FROM s", "EXPLAIN ".repeat(depth)),
            format!("INSERT INTO s VALUES {}(1)", "(1), ".repeat(depth)),
            "/*".repeat(depth),
            "(".repeat(depth),
            ";".repeat(depth),
        ]);
    }
    let thread = std::thread::Builder::new().stack_size(512 << 10).spawn(move || {
        let engine = Engine::builder().workers(1).build().unwrap();
        engine.execute("CREATE SOURCE s (n BIGINT)").unwrap();
        for statement in statements {
            let shown: String = statement.chars().take(40).collect();
            for result in [
                engine.execute(&statement).map(|_| ()),
                engine.explain(&statement).map(|_| ()),
                engine.subscribe(&statement).map(|_| ()),
            ] {
                if let Err(error) = result {
                    assert_ne!(error.kind(), ErrorKind::Internal, "{shown}: {error}");
                }
            }
        }
    });
    within_minutes(move || thread.unwrap().join().unwrap());
}

/// Constants are worked out while a statement is planned, on the host's thread.
#[test]
fn expressions_that_cannot_be_worked_out_do_not_panic_while_planning_or_running() {
    let engine = Engine::builder().workers(1).build().unwrap();
    engine
        .execute(
            "CREATE SOURCE s (ts TIMESTAMP, n BIGINT, x DOUBLE, t TEXT, WATERMARK FOR ts AS ts)",
        )
        .unwrap();
    let constants = [
        "1 / 0",
        "1 % 0",
        "abs(-9223372036854775808)",
        "-(-9223372036854775807 - 1)",
        "(-9223372036854775807 - 1) / -1",
        "(-9223372036854775807 - 1) % -1",
        "9223372036854775807 + 1",
        "9223372036854775807 * 9223372036854775807",
        "power(10, 400)",
        "factorial(100)",
        "gcd(-9223372036854775808, -9223372036854775808)",
        "lcm(9223372036854775807, 9223372036854775806)",
        "CAST('abc' AS BIGINT)",
        "CAST(1e300 AS INT)",
        "CAST('NaN' AS DOUBLE)",
        "CAST(CAST('NaN' AS DOUBLE) AS BIGINT)",
        "substr('abc', -9223372036854775808)",
        "substr('abc', 1, 9223372036854775807)",
        "substr('abc', 1, -1)",
        "left('abc', -9223372036854775808)",
        "right('abc', -9223372036854775808)",
        "split_part('a,b', ',', -9223372036854775808)",
        "chr(-1)",
        "chr(1114112)",
        "round(1.5, 2147483647)",
        "round(1.5, -2147483648)",
        "trunc(1.5, 400)",
        "to_timestamp(9223372036854775807)",
        "to_timestamp_seconds('junk')",
        "to_timestamp_nanos(-9223372036854775808)",
        "date_trunc('second', to_timestamp_nanos(-9223372036854775808))",
        "date_trunc('year', to_timestamp_nanos(-9223372036854775808))",
        "date_bin(INTERVAL '0 seconds', ts)",
        "date_bin(INTERVAL '1 second', to_timestamp_nanos(9223372036854775807), to_timestamp_nanos(-9223372036854775808))",
        "date_part('year', to_timestamp_nanos(-9223372036854775808))",
        "to_timestamp_nanos(9223372036854775807) + INTERVAL '1 year'",
        "to_timestamp_nanos(-9223372036854775808) - INTERVAL '300 years'",
        "INTERVAL '9223372036854775807 days'",
        "INTERVAL '1 second' * 9223372036854775807",
        "from_unixtime(9223372036854775807)",
        "make_date(2147483647, 13, 99)",
        "to_char(to_timestamp_nanos(0), '%Q%%%')",
        "to_date('9999999-99-99')",
        "regexp_like('a', '(')",
        "regexp_replace('a', '(a+)+$', '$9')",
        "t LIKE '%\\'",
        "translate('', '', '')",
        "levenshtein('', '')",
        "find_in_set('', '')",
        "array_element([1,2], -9223372036854775808)",
        "array_slice([1,2], -9223372036854775808, 9223372036854775807)",
        "[1,2][0]",
        "[][1]",
        "array_to_string([], NULL)",
        "array_resize([1], -1)",
        "nullif(NULL, NULL)",
        "coalesce(NULL)",
        "n << 64",
        "n >> -1",
        "1 << 9223372036854775807",
        "NULL + NULL",
        "CASE WHEN NULL THEN 1 END",
        "decode('zz', 'hex')",
        "encode('a', 'nope')",
        "overlay('abc' PLACING 'x' FROM -5 FOR 100)",
        "strpos('', '')",
        "reverse('\u{1f30a}')",
        "lpad('a', -1)",
        "substr_index('a.b', '.', -9223372036854775808)",
        "CAST(99999999999999999999999999999999999999 AS DECIMAL(38, 0)) * 10",
        "CAST('0001-01-01' AS TIMESTAMP)",
        "CAST('9999-12-31' AS TIMESTAMP)",
        "arrow_cast(n, 'Int8')",
        "arrow_cast(n, 'Nope')",
    ];
    for expression in constants {
        let query = format!("SELECT {expression} AS v FROM s");
        let planned = catch_unwind(AssertUnwindSafe(|| engine.subscribe(&query)));
        let planned = planned.unwrap_or_else(|_| panic!("{expression} panicked while planning"));
        let insert = format!("INSERT INTO s (n) VALUES ({expression})");
        let inserted = catch_unwind(AssertUnwindSafe(|| engine.execute(&insert)));
        drop(inserted.unwrap_or_else(|_| panic!("{expression} panicked in VALUES")));
        let alive = engine.drain();
        assert!(alive.is_ok(), "{expression}: {alive:?}");
        drop(planned);
    }
}

#[test]
fn the_last_moments_of_time_go_through_windows_over_windows() {
    for workers in [1, 2] {
        within_minutes(move || {
            let engine = Engine::builder().workers(workers).build().unwrap();
            engine.execute("CREATE SOURCE s (ts TIMESTAMP, n BIGINT, WATERMARK FOR ts)").unwrap();
            let window = |from: &str, time: &str| {
                format!(
                    "SELECT window_end AS t, count(*) AS n FROM TUMBLE({from}, {time}, INTERVAL '400 days')
                     GROUP BY window_start, window_end"
                )
            };
            let mut running = vec![engine.subscribe(&window("s", "ts")).unwrap()];
            engine.execute(&format!("CREATE VIEW v0 AS {}", window("s", "ts"))).unwrap();
            for depth in 1..5 {
                let query = window(&format!("v{}", depth - 1), "t");
                if engine.execute(&format!("CREATE VIEW v{depth} AS {query}")).is_err() {
                    break;
                }
                running.push(engine.subscribe(&format!("v{depth}")).unwrap());
            }
            engine.execute("CREATE DETECTOR d USING ewma AS SELECT t, n FROM v0").unwrap();
            running.push(engine.subscribe("SELECT t, n FROM d").unwrap());
            let source = engine.source("s").unwrap();
            let times = vec![EventTime::EARLIEST.0, 0, EventTime::LATEST.0];
            let columns: Vec<ArrayRef> = vec![
                Arc::new(TimestampNanosecondArray::from(times)),
                Arc::new(Int64Array::from(vec![1, 2, 3])),
            ];
            source.push(RecordBatch::try_new(source.schema(), columns).unwrap()).unwrap();
            source.watermark(EventTime(0)).unwrap();
            source.watermark(EventTime(i64::MAX - 1)).unwrap();
            engine.drain().unwrap();
            engine.shutdown().unwrap();
            for results in running {
                assert!(collect(results).num_rows() >= 1);
            }
        });
    }
}

#[test]
fn settings_at_their_ends_run() {
    let least = Settings {
        workers: 1,
        ingress_bytes_max: 1,
        // With less no row would come in at all.
        memory_bytes_max: 1 << 20,
        epoch_millis: 1,
        epoch_bytes: 1,
        epochs_in_flight_max: 1,
        subscription_bytes_max: 1,
        window_groups_max: 1,
        window_panes_max: 1,
        reorder_rows_max: 1,
        join_rows_max: 1,
        frame_rows_max: 1,
        keyed_state_max: 1,
        keyed_state_policy: driftline::KeyedStatePolicy::Refuse,
        table_bytes_max: 1,
        models_max: 1,
        objects_max: 100,
        background_threads: 0,
        background_tasks_max: 1,
        device: DeviceChoice::Cpu,
        inference_queue_rows_max: 1,
        inference_batch_rows_max: 1,
        inference_latency_micros: 0,
        inference_failures_max: 1,
    };
    let u32_max = u32::MAX as usize;
    let most = Settings {
        workers: 3,
        ingress_bytes_max: usize::MAX,
        memory_bytes_max: usize::MAX,
        epoch_millis: 60_000,
        epoch_bytes: usize::MAX,
        epochs_in_flight_max: 1024,
        subscription_bytes_max: usize::MAX,
        window_groups_max: u32_max,
        window_panes_max: u32_max,
        reorder_rows_max: u32_max,
        join_rows_max: u32_max - 1,
        frame_rows_max: u32_max,
        keyed_state_max: u32_max,
        keyed_state_policy: driftline::KeyedStatePolicy::EvictOldest,
        table_bytes_max: usize::MAX,
        models_max: u32_max,
        objects_max: u32_max,
        background_threads: 8,
        background_tasks_max: 10_000_000,
        device: DeviceChoice::Auto,
        inference_queue_rows_max: 1 << 40,
        inference_batch_rows_max: 1 << 30,
        inference_latency_micros: 60_000_000,
        inference_failures_max: 1_000_000,
    };
    // With room for one row that waits, most are refused, and counted.
    for (settings, scored_least) in [(least, 1), (most, 300)] {
        within_minutes(move || {
            let engine = Engine::builder().settings(settings).build().unwrap();
            engine
                .execute(
                    "CREATE SOURCE s (ts TIMESTAMP, k TEXT, n BIGINT, WATERMARK FOR ts AS ts);
                     CREATE DETECTOR d USING robust_zscore PARTITION BY k AS SELECT ts, k, n FROM s",
                )
                .unwrap();
            let counts = engine
                .subscribe("SELECT k, count(*) AS n FROM HOP(s, ts, INTERVAL '1 second', INTERVAL '10 seconds') GROUP BY k, window_start, window_end")
                .unwrap();
            let scored = engine.subscribe("SELECT k FROM d").unwrap();
            // Each has a reader of its own: one that waits for the other would hold everything up.
            let counts = std::thread::spawn(move || collect(counts).num_rows());
            let scored = std::thread::spawn(move || collect(scored).num_rows());
            let source = engine.source("s").unwrap();
            for second in 0..100i64 {
                let columns: Vec<ArrayRef> = vec![
                    Arc::new(TimestampNanosecondArray::from(vec![second * SECOND; 3])),
                    Arc::new(StringArray::from(vec!["a", "b", "c"])),
                    Arc::new(Int64Array::from(vec![second; 3])),
                ];
                source.push(RecordBatch::try_new(source.schema(), columns).unwrap()).unwrap();
            }
            engine.shutdown().unwrap();
            let (counted, scored) = (counts.join().unwrap(), scored.join().unwrap());
            assert!(counted >= 1 && scored >= scored_least, "{counted} windows, {scored} rows");
        });
    }
}

#[test]
fn a_clock_at_the_end_of_time_goes_on() {
    within_minutes(|| {
        let clock = Arc::new(ManualClock::default());
        let engine = Engine::builder().workers(1).clock(clock.clone()).build().unwrap();
        engine
            .execute(
                "CREATE SOURCE s (ts TIMESTAMP, WATERMARK FOR ts AS ts - INTERVAL '1 second' IDLE TIMEOUT INTERVAL '1 second')",
            )
            .unwrap();
        let results = engine.subscribe("s").unwrap();
        let source = engine.source("s").unwrap();
        for _ in 0..3 {
            clock.advance(Duration::MAX);
            let times: ArrayRef = Arc::new(TimestampNanosecondArray::from(vec![i64::MAX / 2]));
            source.push(RecordBatch::try_new(source.schema(), vec![times]).unwrap()).unwrap();
            engine.drain().unwrap();
        }
        engine.shutdown().unwrap();
        assert_eq!(collect(results).num_rows(), 3);
    });
}
