-- Question: When is a user there, and how well does it go for them?
-- Signal: traces, one row per server span.
-- Columns: attributes, _ for . (http.route); ts is the span's start; status_code is UNSET, OK or ERROR.
-- Output: enduser_id, window_start, window_end, requests, routes, errors, latency_avg
-- Window: session of 15 minutes by user: who does nothing for that long has left.
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
  enduser_id,
  window_start,
  window_end,
  count(*) AS requests,
  count(DISTINCT http_route) AS routes,
  count(*) FILTER (WHERE status_code = 'ERROR') AS errors,
  avg(duration_ms) AS latency_avg
FROM SESSION((SELECT * FROM spans WHERE enduser_id IS NOT NULL), ts, INTERVAL '15 minutes' PARTITION BY enduser_id)
GROUP BY enduser_id, window_start, window_end;
