//! Driftline is an embedded stream-processing engine that finds anomalies in cloud telemetry: a host program adds the
//! crate, pushes Arrow batches, writes SQL that says which rows belong together, names a detector, and receives
//! anomalies. It scales over worker threads in the process. It is a library: it installs no signal handler, prints
//! nothing, keeps no global, and owns no runtime of the host's.
//!
//! # From rows to anomalies
//!
//! ```
//! use std::sync::Arc;
//! use driftline::arrow::array::{Float64Array, RecordBatch, StringArray, TimestampNanosecondArray};
//! use driftline::detectors::Anomaly;
//! use driftline::Engine;
//!
//! let engine = Engine::builder().workers(2).build()?;
//! engine.execute(
//!     "CREATE SOURCE metrics (host TEXT, ts TIMESTAMP, cpu DOUBLE,
//!        WATERMARK FOR ts AS ts - INTERVAL '5 seconds');
//!      CREATE DETECTOR drift USING robust_zscore PARTITION BY host AS
//!        SELECT host, window_end, avg(cpu) AS cpu
//!        FROM HOP(metrics, ts, INTERVAL '10 seconds', INTERVAL '30 seconds')
//!        GROUP BY host, window_start, window_end",
//! )?;
//! let anomalies = engine.subscribe("SELECT * FROM drift WHERE is_anomaly")?;
//!
//! let source = engine.source("metrics")?;
//! for second in 0..2000 {
//!     let cpu = if second == 1500 { 9.0 } else { 0.2 + 0.01 * (second % 7) as f64 };
//!     source.push(RecordBatch::try_new(
//!         source.schema(),
//!         vec![
//!             Arc::new(StringArray::from(vec!["web-1"])),
//!             Arc::new(TimestampNanosecondArray::from(vec![second * 1_000_000_000])),
//!             Arc::new(Float64Array::from(vec![cpu])),
//!         ],
//!     )?)?;
//! }
//! engine.shutdown()?;
//! let mut found = Vec::new();
//! for batch in anomalies {
//!     found.extend(Anomaly::from_batch(&batch?)?);
//! }
//! // The second of load is in three overlapping windows.
//! assert_eq!(found.len(), 3);
//! assert_eq!(found[0].key, [("host".to_owned(), "web-1".to_owned())]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Sources
//!
//! `CREATE SOURCE name (columns, WATERMARK FOR ts AS ts - INTERVAL '..') [WITH (..)]`, or
//! [`Engine::create_source`]. The watermark clause names the event-time column and says how far out of order rows may
//! come: when a row with time `t` has been seen, no row earlier than `t` less the interval is expected. Without `AS`
//! only the host moves the watermark, with [`Source::watermark`].
//!
//! * `WITH (allowed_lateness = INTERVAL '..')` keeps windows open for longer by as much.
//! * `IDLE TIMEOUT INTERVAL '..'` after the watermark: a source that is silent for so long lets its windows close, its
//!   watermark going on with the clock.
//! * Rows below the watermark, and rows whose event time is null or outside the years 1679 to 2260, are never dropped
//!   in silence: they are counted in [`SourceMetrics`] and can be read from the relation `LATE(name)`, with a `reason`.
//! * Rows pushed before any query reads the source go nowhere.
//!
//! A source may read files instead: `WITH (path = 'dir/*.csv', format = 'csv', order = 'event_time', pace = 60)`;
//! [`Engine::start`] sets all of them off. Formats are CSV, NDJSON, Parquet (feature `parquet`) and Arrow IPC, gzip for
//! the text ones; see [`FileReadOptions`].
//!
//! ```
//! # let folder = std::env::temp_dir().join(format!("driftline-doc-{}", std::process::id()));
//! # std::fs::create_dir_all(&folder)?;
//! # std::fs::write(folder.join("load.csv"), "time,value\n2024-01-01 00:00:00,1\n2024-01-01 00:00:01,2\n")?;
//! # let path = folder.join("load.csv").display().to_string();
//! let engine = driftline::Engine::builder().build()?;
//! engine.execute(&format!(
//!     "CREATE SOURCE load (ts TIMESTAMP, value DOUBLE, WATERMARK FOR ts AS ts)
//!        WITH (path = '{path}', columns = 'ts=time')"
//! ))?;
//! let total = engine.subscribe("SELECT value FROM load")?;
//! engine.start()?;
//! assert_eq!(total.map(|batch| batch.map_or(0, |batch| batch.num_rows())).sum::<usize>(), 2);
//! # std::fs::remove_dir_all(folder)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Windows
//!
//! | In FROM | In GROUP BY | A row is in |
//! |---|---|---|
//! | `TUMBLE(t, ts, size [, offset])` | `tumble(size)` | the one window of this size that holds it |
//! | `HOP(t, ts, slide, size [, offset])` | `hop(slide, size)` | each window of this size that holds it; one begins every slide |
//! | `CUMULATE(t, ts, step, size [, offset])` | `cumulate(step, size)` | each window that holds it; they begin every size and grow by the step: the day so far, every hour |
//! | `SESSION(t, ts, gap [PARTITION BY k])` | `k, session(gap)` | one window with the rows of its key that come less than the gap apart |
//! | `COUNT_WINDOW(t, n [, m] [PARTITION BY k])` | `k, count_window(n [, m])` | windows of n rows of its key, in order of event time; one begins every m rows, by default every n |
//!
//! Three spellings of the same window:
//!
//! ```
//! # let engine = driftline::Engine::builder().build()?;
//! # engine.execute("CREATE SOURCE metrics (host TEXT, ts TIMESTAMP, cpu DOUBLE, WATERMARK FOR ts AS ts)")?;
//! let from = "SELECT host, avg(cpu) AS cpu, window_end FROM TUMBLE(metrics, ts, INTERVAL '5 minutes')
//!             GROUP BY host, window_start, window_end";
//! let flink = "SELECT host, avg(cpu) AS cpu, window_end
//!              FROM TABLE(TUMBLE(TABLE metrics, DESCRIPTOR(ts), INTERVAL '5' MINUTE))
//!              GROUP BY host, window_start, window_end";
//! let group = "SELECT host, avg(cpu) AS cpu, window_end FROM metrics
//!              GROUP BY host, tumble(interval '5 minutes')";
//! assert_eq!(engine.explain(from)?, engine.explain(flink)?);
//! assert_eq!(engine.explain(from)?, engine.explain(group)?);
//! # Ok::<(), driftline::Error>(())
//! ```
//!
//! A window covers `[window_start, window_end)` and gives its rows once, when the watermark has passed its end, or as
//! its EMIT clause says. Windows may stand on windows, through views and subqueries, by `window_end` or `window_start`.
//!
//! * TUMBLE, HOP and CUMULATE are aligned to 1970-01-01T00:00:00 UTC plus the offset, also where the column has a time
//!   zone: days in Berlin's summer are `TUMBLE(t, ts, INTERVAL '1 day', INTERVAL '-2 hours')`. A CUMULATE is grouped by
//!   `window_end`, with or without `window_start`, which several of its windows share.
//! * A SESSION covers its first row's time to its last row's time plus the gap. A row exactly at that end begins the
//!   next session. A row that comes out of order, within the lateness, between two sessions makes them one.
//! * A COUNT_WINDOW has its first row's time as `window_start` and its last row's as `window_end`, and counts rows of
//!   equal time in order of arrival. Rows at the end that do not fill a window are not given. It is grouped by both
//!   bounds; where rows tie, windows with equal bounds are still windows of their own.
//! * SESSION and COUNT_WINDOW are grouped by just their PARTITION BY columns and the bounds. In the GROUP BY form the
//!   other keys are what keeps rows apart, and WHERE comes before the window.
//! * The results of a window can be numbered, `ROW_NUMBER() OVER (PARTITION BY window_end [, k] ORDER BY n DESC) AS place`,
//!   and the top ones kept by an outer `WHERE place <= 3`. Rows that tie are ordered by all their columns.
//!
//! ```
//! use std::sync::Arc;
//! use driftline::Engine;
//! use driftline::arrow::array::{AsArray, RecordBatch, StringArray, TimestampNanosecondArray};
//! use driftline::arrow::datatypes::Int64Type;
//!
//! let engine = Engine::builder().build()?;
//! engine.execute("CREATE SOURCE clicks (visitor TEXT, ts TIMESTAMP, WATERMARK FOR ts AS ts - INTERVAL '1 minute')")?;
//! let visits = engine.subscribe(
//!     "SELECT visitor, window_start, window_end, count(*) AS clicks
//!      FROM SESSION(clicks, ts, INTERVAL '30 seconds' PARTITION BY visitor)
//!      GROUP BY visitor, window_start, window_end",
//! )?;
//! let source = engine.source("clicks")?;
//! let seconds = [0, 40, 20, 70]; // the third click bridges the first two
//! source.push(RecordBatch::try_new(
//!     source.schema(),
//!     vec![
//!         Arc::new(StringArray::from(vec!["ann"; 4])),
//!         Arc::new(TimestampNanosecondArray::from_iter_values(seconds.map(|s| s * 1_000_000_000))),
//!     ],
//! )?)?;
//! engine.shutdown()?;
//! let mut clicks = Vec::new();
//! for batch in visits {
//!     clicks.extend_from_slice(batch?.column(3).as_primitive::<Int64Type>().values());
//! }
//! // The last click came exactly 30 seconds after the one before it.
//! assert_eq!(clicks, [3, 1]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # When a query answers
//!
//! The EMIT clause at the end of a query that is subscribed to or flows into a sink. Views and detectors have none.
//!
//! | Clause | A window answers |
//! |---|---|
//! | `EMIT ON WINDOW CLOSE` | once, when the watermark has passed its end; the default |
//! | `EMIT ON WINDOW CLOSE WITH DELAY INTERVAL '..'` | once, so much later; the query takes in rows that come so much later |
//! | `EMIT ON WINDOW CLOSE WITH CORRECTIONS [FOR INTERVAL '..']` | at the watermark, without waiting for allowed lateness, and again for each late row that changes the answer, within the source's allowed lateness or the interval |
//! | `EMIT ON UPDATE` | whenever its result has changed, at most once an epoch |
//! | `EMIT ON UPDATE EVERY INTERVAL '..'`, or `EMIT EVERY INTERVAL '..'` | when its result has changed, once for each interval of event time and at its end |
//!
//! With any but the first two the result is a changelog. Its last column is `_diff`, a BIGINT: 1 for a row that now
//! holds, -1 for one that no longer does. Sums of `_diff` over equal rows give the result; at every point between two
//! batches each is 0 or more, and what is taken back comes before what takes its place. The changes of one epoch are
//! netted by key; which rows share an epoch depends on timing, so that only the sums are the same in every run.
//!
//! * The clause is about the outermost windows: windows below them close as usual. Filters and projections above them,
//!   HAVING and UNION ALL apply to both kinds of rows. COUNT_WINDOW, and ROW_NUMBER over a window's results, give final
//!   results only.
//! * A session that grows or joins another takes its earlier answer back; with EVERY, when the interval is over.
//! * A query without an aggregate gives `_diff` 1 with `ON UPDATE`.
//! * `LATE(source)` lists what the source takes for late, also where a query takes it in.
//!
//! `EMIT ON UPDATE [EVERY INTERVAL '..'] RETAIN INTERVAL '..'` aggregates without a window, `GROUP BY k` or
//! `SELECT DISTINCT`, over the rows of the last so long: a row leaves when the watermark has come that far beyond its
//! time. A group without rows is gone, also that of an aggregate without keys. At the end of the input nothing more
//! leaves. Rows that one worker retains are bounded by [`Settings::reorder_rows_max`]. A join without a bound in time
//! retains the rows of both its sides, see [Joins](#joins); aggregates, DISTINCT and first rows may stand on it.
//!
//! With the same clause `ROW_NUMBER() OVER (PARTITION BY k ORDER BY x DESC) AS place` in a subquery, and `WHERE place <= n`
//! around it, give the first n rows of each key among those of the last so long, in any order and up to 10,000: the last
//! row of each key, the ten largest, the best offer. Rows that tie are ordered by all their columns. They may be the rows
//! of a source, of a join, of an aggregate that changes, or first rows of another key. When a row comes between the others
//! those behind it change their numbers, which shows only where the number is selected. Rows are kept for as long as they
//! are retained, also those that are not among the first, because these may go.
//!
//! ```
//! use std::sync::Arc;
//! use driftline::Engine;
//! use driftline::arrow::array::{AsArray, RecordBatch, StringArray, TimestampNanosecondArray};
//! use driftline::arrow::datatypes::Int64Type;
//!
//! let engine = Engine::builder().build()?;
//! engine.execute("CREATE SOURCE clicks (visitor TEXT, ts TIMESTAMP, WATERMARK FOR ts AS ts)")?;
//! let busy = engine.subscribe(
//!     "SELECT visitor, count(*) AS clicks FROM clicks GROUP BY visitor
//!      EMIT ON UPDATE RETAIN INTERVAL '1 minute'",
//! )?;
//! let source = engine.source("clicks")?;
//! for second in [0, 10, 65] {
//!     source.push(RecordBatch::try_new(
//!         source.schema(),
//!         vec![
//!             Arc::new(StringArray::from(vec!["ann"])),
//!             Arc::new(TimestampNanosecondArray::from(vec![second * 1_000_000_000])),
//!         ],
//!     )?)?;
//!     engine.drain()?;
//! }
//! engine.shutdown()?;
//! let mut changes = Vec::new();
//! for batch in busy {
//!     let batch = batch?;
//!     let [clicks, diffs] = [1, 2].map(|column| batch.column(column).as_primitive::<Int64Type>());
//!     changes.extend(clicks.values().iter().copied().zip(diffs.values().iter().copied()));
//! }
//! // At second 65 a click comes and the first one leaves: there are two still.
//! assert_eq!(changes, [(1, 1), (1, -1), (2, 1)]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! The best bid for each item, by now:
//!
//! ```
//! use driftline::Engine;
//! use driftline::arrow::array::AsArray;
//! use driftline::arrow::datatypes::Int64Type;
//!
//! let engine = Engine::builder().build()?;
//! engine.execute("CREATE SOURCE bids (ts TIMESTAMP, item TEXT, price BIGINT, WATERMARK FOR ts AS ts)")?;
//! let best = engine.subscribe(
//!     "SELECT item, price FROM
//!        (SELECT *, ROW_NUMBER() OVER (PARTITION BY item ORDER BY price DESC, ts) AS place FROM bids)
//!      WHERE place = 1 EMIT ON UPDATE RETAIN INTERVAL '1 day'",
//! )?;
//! for (second, price) in [(1, 20), (2, 10), (3, 30)] {
//!     engine.execute(&format!("INSERT INTO bids VALUES ('2024-01-01 00:00:0{second}', 'vase', {price})"))?;
//!     engine.drain()?;
//! }
//! engine.shutdown()?;
//! let mut changes = Vec::new();
//! for batch in best {
//!     let batch = batch?;
//!     let [prices, diffs] = [1, 2].map(|column| batch.column(column).as_primitive::<Int64Type>());
//!     changes.extend(prices.values().iter().copied().zip(diffs.values().iter().copied()));
//! }
//! assert_eq!(changes, [(20, 1), (20, -1), (30, 1)]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Joins
//!
//! `a [INNER | LEFT | RIGHT | FULL] JOIN b ON ..` or `USING (..)` takes relations, views, queries, windows and detectors,
//! several in a row. ON, or WHERE above an inner join, must say how far event times lie apart: compare the bounds of
//! windows, or event times with intervals of days or finer. A row is held no longer than a partner can come for it.
//! Matches leave at once, rows without a partner when the other side is complete. Equal keys make a join fast; one without
//! any runs on one worker. [`Settings::join_rows_max`] bounds what is held.
//!
//! * `a ASOF [LEFT] JOIN b MATCH_CONDITION (a.ts >= b.ts) ON a.k = b.k`, or `a ASOF [LEFT] JOIN b ON a.k = b.k AND
//!   a.ts >= b.ts`, gives for each left row the latest right row at or before it (with `>`, before it). Without LEFT, rows
//!   that have none are left out, also in the first spelling. `AND a.ts <= b.ts + INTERVAL '1 hour'` bounds how far it looks
//!   back. The latest row of every key is kept.
//! * `a JOIN b ON a.k = b.k`, inner or outer, without a bound in time joins the rows of the last so long where the query
//!   ends with `EMIT ON UPDATE RETAIN INTERVAL '..'`, and gives a changelog. A row of either side leaves when the watermark
//!   of both has come that far beyond its time, and takes its pairs with it; a row of an outer join is without a partner
//!   until one comes, and again when the last one has left. ON has an equality; in an outer join nothing else but
//!   conditions on the side that may be missing. Such a join is over rows or results that are final, not over another one.
//! * `SELECT DISTINCT` and UNION are bounded by an event time or a window's bound among the columns. The first of equal rows
//!   leaves at once.
//! * `GROUP BY ts, k` is complete when the watermark has passed the event time `ts`, and so is `GROUP BY window_start,
//!   window_end` over the results of a window or of a join of them.
//!
//! ```
//! use std::sync::Arc;
//! use driftline::Engine;
//! use driftline::arrow::array::{Array, Int64Array, RecordBatch, TimestampNanosecondArray};
//!
//! let engine = Engine::builder().build()?;
//! engine.execute(
//!     "CREATE SOURCE requests (id BIGINT, ts TIMESTAMP, WATERMARK FOR ts AS ts - INTERVAL '1 second');
//!      CREATE SOURCE replies (id BIGINT, ts TIMESTAMP, WATERMARK FOR ts AS ts - INTERVAL '1 second')",
//! )?;
//! let unanswered = engine.subscribe(
//!     "SELECT q.id FROM requests q LEFT JOIN replies r
//!      ON q.id = r.id AND r.ts BETWEEN q.ts AND q.ts + INTERVAL '30 seconds' WHERE r.id IS NULL",
//! )?;
//! for (name, seconds) in [("requests", [0, 1, 2]), ("replies", [5, 40, 3])] {
//!     let source = engine.source(name)?;
//!     let times = TimestampNanosecondArray::from_iter_values(seconds.map(|s| s * 1_000_000_000));
//!     let columns: Vec<Arc<dyn Array>> = vec![Arc::new(Int64Array::from(vec![1, 2, 3])), Arc::new(times)];
//!     source.push(RecordBatch::try_new(source.schema(), columns)?)?;
//! }
//! engine.shutdown()?;
//! let mut rows = 0;
//! for batch in unanswered {
//!     rows += batch?.num_rows();
//! }
//! assert_eq!(rows, 1, "the reply to the second request came after 39 seconds");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Frames
//!
//! `f(x) OVER (PARTITION BY k ORDER BY ts [ROWS | RANGE BETWEEN .. AND ..])` looks, for each row, at the rows of its key
//! around it. Rows come out in order of event time, with one more column for each call.
//!
//! | call | gives |
//! |---|---|
//! | any aggregate, with FILTER or DISTINCT | what it comes to over the frame |
//! | `lag(x [, n [, default]])`, `lead(..)` | x in the row n rows before or after, by default 1 |
//! | `first_value(x)`, `last_value(x)`, `nth_value(x, n)` | x in that row of the frame |
//! | `row_number()`, `rank()`, `dense_rank()` | the row's number in its partition |
//!
//! * `ROWS` counts rows, `RANGE` event time, as in `RANGE INTERVAL '5 minutes' PRECEDING`. Rows of equal time are in a RANGE
//!   together, as the standard has it; so they are in the default frame, `RANGE UNBOUNDED PRECEDING`.
//! * Rows come in order of event time; those of equal time in order of arrival, where the query does not say more
//!   (`ORDER BY ts, sequence`). Rows that a window or a detector made have no order of arrival: their values order them.
//! * A frame up to `INTERVAL '5 seconds' FOLLOWING` holds its row back until the watermark is so much further. One with
//!   `n FOLLOWING` rows, and LEAD, holds it back until its key has shown those rows, however long that takes; so what it
//!   gives has no event time for windows over it. At the end of the input rows leave with what is there.
//! * State: the rows of each key's frame ([`Settings::frame_rows_max`]), or a few partial sums where a frame has no start.
//!   Aggregates that keep every row, such as `median` and those with DISTINCT, need a start. Keys are bounded by
//!   [`Settings::keyed_state_max`]; what becomes of one more is said by [`Settings::keyed_state_policy`].
//! * Several calls may have frames and keys of their own; `WINDOW w AS (..)` names what they share, and QUALIFY filters by
//!   what they give.
//! * `QUALIFY row_number() OVER (PARTITION BY k ORDER BY ts) = 1`, or the same as a subquery with WHERE, keeps the first row
//!   of each key and nothing of a key but a number. The last row of a key is never known: take the last of each window, or
//!   the last by now with [`EMIT ON UPDATE RETAIN`](#when-a-query-answers).
//!
//! ```
//! use driftline::arrow::array::AsArray;
//! use driftline::arrow::datatypes::Float64Type;
//! use driftline::{Engine, KeyedStatePolicy, Settings};
//!
//! let settings = Settings { keyed_state_max: 10_000, keyed_state_policy: KeyedStatePolicy::Refuse, ..Settings::default() };
//! let engine = Engine::builder().settings(settings).build()?;
//! engine.execute("CREATE SOURCE counters (host TEXT, ts TIMESTAMP, requests DOUBLE, WATERMARK FOR ts AS ts)")?;
//! // The rate of a counter per second, and its mean over the last minute.
//! let rates = engine.subscribe(
//!     "SELECT host, ts, rate, avg(rate) OVER (PARTITION BY host ORDER BY ts RANGE INTERVAL '1 minute' PRECEDING) AS mean
//!      FROM (SELECT host, ts, (requests - lag(requests) OVER w) / (date_part('epoch', ts) - lag(date_part('epoch', ts)) OVER w)
//!                   AS rate
//!            FROM counters WINDOW w AS (PARTITION BY host ORDER BY ts))",
//! )?;
//! engine.execute(
//!     "INSERT INTO counters VALUES ('a', '1970-01-01 00:00:00', 100), ('a', '1970-01-01 00:00:10', 140),
//!                                  ('a', '1970-01-01 00:00:20', 200)",
//! )?;
//! engine.shutdown()?;
//! let (mut rate, mut mean) = (Vec::new(), Vec::new());
//! for batch in rates {
//!     let batch = batch?;
//!     rate.extend(batch.column(2).as_primitive::<Float64Type>());
//!     mean.extend(batch.column(3).as_primitive::<Float64Type>());
//! }
//! assert_eq!(rate, [None, Some(4.0), Some(6.0)]);
//! assert_eq!(mean, [None, Some(4.0), Some(5.0)]);
//! # Ok::<(), driftline::Error>(())
//! ```
//!
//! # Functions
//!
//! Scalar functions and aggregates are DataFusion's, with
//! FILTER, DISTINCT and HAVING, and those of the host ([`ScalarFunction`], [`AggregateFunction`]). The approximate ones
//! (`approx_percentile_cont` and its kin) agree with a batch only within their own error. What would need
//! state without bound, or would depend on the order of arrival, is refused with the place, the reason and a hint.
//! [`shipped`] lists queries that come with the crate:
//!
//! ```
//! use driftline::{ShippedQuery, Signal, shipped};
//!
//! let engine = driftline::Engine::builder().build()?;
//! assert!(shipped().iter().filter(|query| query.signal == Signal::Traces).count() > 3);
//! let query = ShippedQuery::named("traces/latency_by_endpoint").expect("it is shipped");
//! engine.execute(query.source_sql())?;
//! let latencies = engine.subscribe(query.query_sql())?;
//! assert!(latencies.schema().field_with_name("latency_p95").is_ok());
//! # Ok::<(), driftline::Error>(())
//! ```
//!
//! # Tables
//!
//! What a stream is joined with to learn more of a row: the region of a host, the limit of a service. A table is read
//! from a file of any format that a source reads, with the columns that are declared or else those that the file
//! suggests; or it is declared with columns alone and filled with `INSERT INTO name VALUES`; or the host hands it over
//! ([`Engine::create_table`]). `SHOW TABLES` lists them. Its rows are bounded by [`Settings::table_bytes_max`].
//!
//! ```
//! # let folder = std::env::temp_dir().join(format!("driftline-doc-table-{}", std::process::id()));
//! # std::fs::create_dir_all(&folder)?;
//! # std::fs::write(folder.join("hosts.csv"), "host,region\nweb-1,eu\nweb-2,us\n")?;
//! # let path = folder.join("hosts.csv").display().to_string();
//! let engine = driftline::Engine::builder().build()?;
//! engine.execute("CREATE SOURCE load (host TEXT, ts TIMESTAMP, cpu DOUBLE, WATERMARK FOR ts AS ts)")?;
//! engine.execute(&format!("CREATE TABLE hosts WITH (path = '{path}')"))?;
//! let by_region = engine.subscribe(
//!     "SELECT h.region, window_end, avg(l.cpu) AS cpu
//!      FROM TUMBLE(load, ts, INTERVAL '1 minute') AS l LEFT JOIN hosts AS h ON l.host = h.host
//!      GROUP BY h.region, window_start, window_end",
//! )?;
//! # std::fs::remove_dir_all(folder)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! * A query takes the table as it stands when the query starts. What is inserted later, or put in its place with
//!   `CREATE OR REPLACE TABLE`, is for later queries.
//! * The condition compares at least one column of the stream with one of the table, by `=`, which null never satisfies;
//!   it may go on with anything else. A row that matches several rows of the table comes several times.
//! * `LEFT JOIN` keeps rows without a match. What would keep the table's rows without one is refused: a stream has no end
//!   at which to tell. The table's side may be a subquery or view that filters and computes; it is worked out once.
//! * A table is not a stream: `SELECT * FROM hosts` is refused.
//! * Join before SESSION and COUNT_WINDOW, in a subquery: what rows there are decides what their windows are.
//!
//! # EXPLAIN
//!
//! `EXPLAIN SELECT ..`, or [`Engine::explain`], shows the plan and the dataflow that it becomes: which operators, where
//! rows move to the worker that owns their key, and what each operator keeps, for how long, and which setting caps it.
//! `EXPLAIN ANALYZE DETECTOR name` and `EXPLAIN ANALYZE QUERY 'subscription 1'`, or [`Engine::analyze`], show what runs:
//! for each operator and worker rows and batches in and out, the time that it was busy, its watermark, how far that is
//! behind the latest row, and bytes of state. `EXPLAIN (FORMAT MERMAID) ..` and `(FORMAT DOT)` draw either.
//!
//! # Detectors
//!
//! `CREATE DETECTOR name USING kind [PARTITION BY columns] [WITH (options)] AS SELECT ..`, or
//! [`Engine::create_detector`] with a builder from [`detectors`]. A detector is a relation: query it, window it again,
//! put another detector on it. Its columns are those of its SELECT, then `score` (high is anomalous, null while warming
//! up), `is_anomaly`, `threshold`, `phase`, `model_version`, and `detail`, a struct with expected value, bounds,
//! attribution and more; [`detectors::Anomaly`] reads them into a record. It learns from its creation on. `SHOW KINDS`
//! lists the kinds and their options.
//!
//! Samples that are lost leave gaps in a series that comes in step. `WITH (slot = INTERVAL '5 minutes', missing = 'hold')`
//! tells the model of each slot without a row, when the next row comes: as missing (`mark`, the default), as the last
//! values again (`hold`), or as values between the last and the next (`interpolate`). `detail['confidence']` falls with
//! each.
//!
//! Some kinds keep relations beside their main one, read as `detector.relation`. Those with a `_diff` column change: add
//! it up per row, and what is above 0 holds. A query sees the changes from its creation on, so create it before rows
//! come.
//!
//! ```
//! # let engine = driftline::Engine::builder().build()?;
//! # engine.execute("CREATE SOURCE metrics (component TEXT, ts TIMESTAMP, cpu DOUBLE, WATERMARK FOR ts AS ts)")?;
//! engine.execute("CREATE DETECTOR drift USING drift_insight PARTITION BY component AS SELECT * FROM metrics")?;
//! let steady = engine.subscribe("SELECT component, _diff FROM drift.steady")?;
//! let moves = engine.subscribe("SELECT component, from_state, to_state, share, _diff FROM drift.transitions")?;
//! let busy = engine.subscribe(
//!     "SELECT component, window_end, count(*) AS slots_in_state_1
//!      FROM TUMBLE(drift.state_series, ts, INTERVAL '1 day')
//!      WHERE state = 1 GROUP BY component, window_start, window_end",
//! )?;
//! # Ok::<(), driftline::Error>(())
//! ```
//!
//! `deeplog` reads log keys, in sessions: it learns which key follows which, by a network (feature `neural`, on the device
//! that [`Settings::device`] or its option `device` says) or by n-grams.
//!
//! ```
//! # let engine = driftline::Engine::builder().build()?;
//! engine.execute(
//!     "CREATE SOURCE logs (ts TIMESTAMP, block TEXT, line TEXT, WATERMARK FOR ts);
//!      CREATE DETECTOR odd USING deeplog WITH (session = 'block', model = 'ngram', training = 500) AS
//!        SELECT ts, block, log_key FROM LOG_KEYS(logs, line)",
//! )?;
//! let sessions = engine.subscribe("SELECT session, abnormal, reasons FROM odd.sessions WHERE is_anomaly")?;
//! # Ok::<(), driftline::Error>(())
//! ```
//!
//! What a detector has learned can be kept as a file, and taken up on another host and another number of workers:
//! `EXPORT DETECTOR drift TO 'drift.models'`, `IMPORT DETECTOR drift FROM 'drift.models'`, or
//! [`Engine::export_models`] and [`Engine::import_models`]. Where its query reads `LOG_KEYS`, through views as well, the
//! templates go with it: the same line has the same key there.
//!
//! Kinds that learn from feedback are told which anomalies were none: `ALTER DETECTOR odd FEEDBACK (session, ts) VALUES
//! ('blk_7', NULL), ('blk_9', TIMESTAMP '2008-11-09 20:36:15')`, or [`Engine::feedback`] with rows of the detector.
//!
//! # Results
//!
//! [`Engine::subscribe`] gives an iterator, [`Subscription::into_stream`] an async stream, and
//! [`Engine::subscribe_with`] calls back. `CREATE SINK name WITH (path = 'out.parquet')` and
//! `INSERT INTO name SELECT ..` write files, with `publish = 'checkpoint'` each row once over all crashes: see
//! [`Checkpoints`]; [`FileSink`] and [`FileReader`] do the same without an engine:
//!
//! ```
//! use std::sync::Arc;
//! use driftline::arrow::array::{ArrayRef, Int64Array, RecordBatch};
//! use driftline::{FileReadOptions, FileReader, FileSink, FileWriteOptions};
//!
//! # let folder = std::env::temp_dir().join(format!("driftline-doc-sink-{}", std::process::id()));
//! # std::fs::create_dir_all(&folder)?;
//! # let path = folder.join("out.ndjson");
//! let rows = RecordBatch::try_from_iter([("n", Arc::new(Int64Array::from(vec![1, 2])) as ArrayRef)])?;
//! let mut sink = FileSink::create(&path, rows.schema(), &FileWriteOptions::default())?;
//! sink.write(&rows)?;
//! sink.finish()?;
//! let mut reader = FileReader::open(&path, rows.schema(), FileReadOptions::default())?;
//! assert_eq!(reader.next().transpose()?, Some(rows));
//! # std::fs::remove_dir_all(folder)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Rows of one key come in order; batches of different keys may interleave.
//!
//! The same rows give the same anomalies with any number of workers, any size of batches and any order of arrival
//! within the disorder, as long as no bound is hit; floating-point results agree within 1e-9.
//!
//! # Bounds
//!
//! Every queue, map and buffer has a bound in [`Settings`]. A reader that stops reading stops the engine, and in the
//! end [`Source::push`] waits: memory stays flat. Rows that a bound on keys or panes refuses are counted in
//! [`QueryMetrics`].
//!
//! # Errors
//!
//! One type, [`Error`], whose [`ErrorKind`] says what to do. A panic in a worker, or in a function that the host
//! registered, ends the engine with an error on every handle; it never hangs.

mod analysis;
mod checkpoint;
mod engine;
mod error;
mod graph;
mod metrics;
mod runtime;
mod settings;
mod simulation;
mod sink;
mod source;
mod subscription;
mod table;

pub use analysis::{Analysis, OperatorAnalysis, WorkerAnalysis};
pub use arrow;
#[cfg(feature = "object_store")]
pub use checkpoint::BucketStore;
pub use checkpoint::{Checkpoint, CheckpointStore, Checkpoints, FolderStore, MemoryStore};
pub use driftline_operators::keyed::KeyedStatePolicy;
pub use driftline_operators::{detectors, evaluate};
pub use driftline_queries::{
    Accumulator, AggregateFunction, ArgumentTypes, BoxError, ScalarFunction, ShippedQuery, Signal,
    shipped,
};
pub use engine::{Engine, EngineBuilder, FeedbackReport};
pub use error::{Error, ErrorKind, Position, Result};
pub use futures_core;
pub use metrics::{
    CheckpointMetrics, InferenceMetrics, Metrics, QueryMetrics, SourceMetrics, TrafficMetrics,
};
#[cfg(feature = "object_store")]
pub use object_store;
pub use runtime::clock::{Alarm, Clock, ManualClock, SystemClock};
pub use settings::Settings;
pub use simulation::{History, Simulation};
pub use sink::{FileSink, FileWriteOptions, WriteMode};
pub use source::{
    CsvOptions, EventTime, FileFormat, FileReadOptions, FileReader, MalformedPolicy, MalformedRow,
    Pace, PacedBatch, ReadOrder, Source, SourceDefinition, TryPush, infer_schema,
};
pub use subscription::{Callback, ResultStream, Subscription};

/// What a host needs to bring its own kind of detector; see
/// [`EngineBuilder::with_detector_kind`].
///
/// A kind may keep relations beside its main one ([`ModelRelation`](detector::ModelRelation)), read as
/// `detector.relation`, and give heavy work to the engine's background threads ([`Task`](detector::Task)): what comes
/// back counts from a row that the model declares, so that answers do not depend on how fast it was.
///
/// ```
/// use std::sync::Arc;
/// use driftline::arrow::datatypes::DataType;
/// use driftline::detector::{
///     Executor, Extra, Finished, Lazy, ModelRelation, Rebuilds, Report, Reports, Task, Upkeep,
/// };
///
/// // How often each state is in the history: rows enter, and leave again.
/// let occupancy = ModelRelation {
///     name: "occupancy",
///     fields: vec![("state", DataType::Int64)],
///     upkeep: Upkeep::Counts,
/// };
/// assert_eq!(occupancy.name, "occupancy");
/// let mut reports = Reports::default();
/// reports.change(0, [Extra::Integer(3)], 1);
/// reports.change(0, [Extra::Integer(3)], -1);
/// let left: Vec<Report> = reports.drain().collect();
/// assert_eq!((left[1].relation, left[1].change), (0, -1));
///
/// // Heavy work on frozen data. This executor does it when the result is asked for; the engine's does it before.
/// let executor: Arc<dyn Executor> = Arc::new(Lazy);
/// let history = vec![1.0, 2.0, 6.0];
/// let mean = Task::start(&executor, move || history.iter().sum::<f64>() / history.len() as f64);
/// let finished: Arc<Finished<f64>> = mean.wait();
/// assert_eq!(finished.value, 3.0);
/// let spent = Rebuilds { count: 1, ns: finished.took.as_nanos() as u64 };
/// assert_eq!(spent.count, 1);
/// ```
pub mod detector {
    pub use driftline_operators::background::{Executor, Finished, Lazy, Task};
    pub use driftline_operators::detector::*;
    pub use driftline_operators::error::OperatorError;
    pub use driftline_operators::key::KeyShare;
    pub use driftline_operators::model::{
        Extra, FeatureJudgement, Judgement, KeyedPlan, Model, ModelFactory, ModelRelation, Phase,
        Rebuilds, Report, Reports, Row, Upkeep,
    };
    pub use driftline_operators::options::{
        OptionKind, OptionReader, OptionSpec, OptionValue, Options,
    };
}

/// Log lines to log keys: the typed form of `LOG_KEYS`, and how the lines of well-known systems are made up.
///
/// ```
/// use driftline::Engine;
/// use driftline::logs::{HeaderFormat, LOGHUB_FORMATS, LogKeyParser, LogKeys, LoghubFormat};
///
/// let engine = Engine::builder().workers(2).build()?;
/// engine.execute("CREATE SOURCE logs (ts TIMESTAMP, host TEXT, line TEXT, WATERMARK FOR ts)")?;
/// let keys = LogKeys::of("logs", "line").parser(LogKeyParser::Spell).format("HDFS").session(["host"]);
/// let keyed = engine.subscribe(&format!("SELECT ts, host, log_key, template, parameters, elapsed FROM {keys}"))?;
/// let changes = engine.subscribe(&format!("SELECT * FROM {}", keys.templates()))?;
///
/// let known: Vec<&str> = LOGHUB_FORMATS.iter().map(|format: &LoghubFormat| format.name).collect();
/// assert!(known.contains(&"HDFS"));
/// assert!(HeaderFormat::new("<Date> <Level> <Content>").is_ok());
/// # engine.shutdown()?;
/// # Ok::<(), driftline::Error>(())
/// ```
///
/// A `deeplog` detector over log keys keeps the [`workflow`](logs::workflow) of its sessions as a relation:
///
/// ```
/// use driftline::Engine;
/// use driftline::logs::workflow::Workflow;
///
/// let engine = Engine::builder().build()?;
/// engine.execute(
///     "CREATE SOURCE logs (ts TIMESTAMP, vm TEXT, line TEXT, WATERMARK FOR ts AS ts);
///      CREATE DETECTOR odd USING deeplog
///        WITH (session = 'vm', model = 'ngram', training = 20, swap_after = INTERVAL '0 seconds',
///              gap = INTERVAL '1 minute') AS
///        SELECT ts, vm, log_key FROM LOG_KEYS(logs, line, session => vm)",
/// )?;
/// let drawn = engine.subscribe("SELECT * FROM odd.workflow")?;
/// let why = engine.subscribe("SELECT session, explanation FROM odd.diagnosis WHERE problem = 'slow'")?;
/// for vm in 0..30 {
///     let (boot, ready) = (vm * 60, vm * 60 + if vm == 25 { 45 } else { 5 });
///     engine.execute(&format!(
///         "INSERT INTO logs VALUES (to_timestamp({boot}), 'vm-{vm}', 'booting'), (to_timestamp({ready}), 'vm-{vm}', 'ready')"
///     ))?;
/// }
/// engine.shutdown()?;
/// let rows = drawn.collect::<driftline::Result<Vec<_>>>()?;
/// let workflow = &Workflow::from_batch(&rows[0]).unwrap()[0];
/// assert!(workflow.to_mermaid(|key| format!("key {key}")).starts_with("flowchart TD"));
/// assert_eq!(workflow.edge(workflow.node("1"), workflow.node("2")).map(|edge| edge.seconds), Some(5.0));
/// let slow = why.collect::<driftline::Result<Vec<_>>>()?;
/// assert_eq!(slow.iter().map(|rows| rows.num_rows()).sum::<usize>(), 1);
/// # Ok::<(), driftline::Error>(())
/// ```
pub mod logs {
    pub use driftline_operators::logs::{
        HeaderFormat, LOGHUB_FORMATS, LogKeyParser, LogKeys, LoghubFormat, workflow,
    };
}

/// Networks of detectors on a device that all workers share, and what a host needs to bring a device or a network.
///
/// [`Settings::device`], or the option `device` of a detector, says where a network is scored. On the processor workers
/// score themselves. On a GPU, or on a device of the host's ([`EngineBuilder::with_device`]), a thread of the engine does,
/// for all workers together: rows are handed to it, their epoch stays open, and the worker goes on with other work until
/// it is woken. Answers and their order do not depend on how fast the device is. When it fails the processor makes up for
/// it, which [`InferenceMetrics`] count.
///
/// A detector of the host's own asks [`DetectorRequest::inference`](detector::DetectorRequest::inference) for its place,
/// and deals with the service by an [`Asking`](inference::Asking) in [`Detector::poll`](detector::Detector::poll):
///
/// ```
/// use std::sync::Arc;
/// use std::task::{Poll, Waker};
/// use std::time::Duration;
/// use driftline::detector::OperatorError;
/// use driftline::inference::{
///     Asking, Compute, Device, DeviceChoice, Inference, InferenceService, Network, Placement, ServiceError,
///     ServiceSettings, ServiceStatistics, Ticket,
/// };
/// use driftline::{Engine, InferenceMetrics, Settings};
///
/// /// A network of one weight.
/// #[derive(Debug)]
/// struct Halve;
///
/// impl Network for Halve {
///     fn inputs(&self) -> usize {
///         1
///     }
///     fn outputs(&self) -> usize {
///         1
///     }
///     fn score(&self, _on: Compute, rows: &[f32], out: &mut Vec<f32>) -> Result<(), String> {
///         out.extend(rows.iter().map(|x| x / 2.0));
///         Ok(())
///     }
/// }
///
/// /// A device that works on a processor somewhere.
/// #[derive(Debug)]
/// struct Remote;
///
/// impl Device for Remote {
///     fn score(&self, network: &dyn Network, rows: &[f32], out: &mut Vec<f32>) -> Result<(), String> {
///         network.score(Compute::Cpu, rows, out)
///     }
/// }
///
/// // What an engine does with it: the service, a thread for it, and detectors that are placed on it.
/// fn placed(by: &dyn Inference) -> Result<Placement, OperatorError> {
///     by.place("detector kind \"half\"", Some(DeviceChoice::Auto))
/// }
/// let service = Arc::new(InferenceService::new(ServiceSettings::default()));
/// let network: Arc<dyn Network> = Arc::new(Halve);
/// let ticket: Ticket = service.submit(&network, vec![4.0], Waker::noop()).expect("there is room");
/// let mut asking = Asking::new(Arc::clone(&service));
/// asking.start(&network, vec![5.0, 7.0]);
/// assert!(asking.poll(Waker::noop()).is_pending());
/// service.close();
/// service.run(&Remote, &|| Duration::ZERO);
/// assert_eq!(ticket.take(), Some(Ok(vec![2.0])));
/// assert_eq!(asking.poll(Waker::noop()), Poll::Ready(Ok(vec![2.5, 3.5])));
/// let statistics: ServiceStatistics = service.statistics();
/// assert_eq!((statistics.launches, statistics.rows), (1, 3), "both requests shared a launch");
/// let (error, _) = service.submit(&network, vec![1.0], Waker::noop()).unwrap_err();
/// assert_eq!(error, ServiceError::Closed);
///
/// // The same device in an engine.
/// let settings = Settings { device: DeviceChoice::Gpu, ..Settings::default() };
/// let engine = Engine::builder().settings(settings).with_device(Arc::new(Remote)).build()?;
/// let inference: Option<InferenceMetrics> = engine.metrics().inference;
/// assert!(inference.is_none(), "it starts with the first detector that is placed on it");
/// # Ok::<(), driftline::Error>(())
/// ```
pub mod inference {
    pub use driftline_operators::inference::{
        Asking, Compute, Device, DeviceChoice, Inference, InferenceService, Network, Placement,
        ServiceError, ServiceSettings, ServiceStatistics, Ticket,
    };
}

/// The README's code, so that it is compiled and run.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
pub struct ReadmeDoctests;
