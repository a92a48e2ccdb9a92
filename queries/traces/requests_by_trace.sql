-- Question: What did each trace touch, how long did it take, and did any part fail?
-- Signal: traces, one row per server span.
-- Columns: attributes, _ for . (http.route); ts is the span's start; status_code is UNSET, OK or ERROR.
-- Output: trace_id, window_start, window_end, spans, services, duration_sum_ms, slowest_ms, errors
-- Window: session of 30 seconds by trace: a trace is over when none of its spans has begun for that long.
CREATE SOURCE spans (
  ts TIMESTAMP NOT NULL,
  service_name TEXT NOT NULL,
  span_name TEXT NOT NULL,
  http_route TEXT,
  trace_id TEXT NOT NULL,
  span_id TEXT NOT NULL,
  enduser_id TEXT,
  duration_ms DOUBLE NOT NULL,
  status_code TEXT,
  WATERMARK FOR ts AS ts - INTERVAL '30 seconds'
);

SELECT
  trace_id,
  window_start,
  window_end,
  count(*) AS spans,
  count(DISTINCT service_name) AS services,
  sum(duration_ms) AS duration_sum_ms,
  max(duration_ms) AS slowest_ms,
  count(*) FILTER (WHERE status_code = 'ERROR') AS errors
FROM SESSION(spans, ts, INTERVAL '30 seconds' PARTITION BY trace_id)
GROUP BY trace_id, window_start, window_end;
