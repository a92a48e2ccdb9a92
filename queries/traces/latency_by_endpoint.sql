-- Question: How long do the requests of an endpoint take?
-- Signal: traces, one row per server span.
-- Columns: attributes, _ for . (http.route); ts is the span's start; status_code is UNSET, OK or ERROR.
-- Output: service_name, http_route, window_start, window_end, requests, latency_avg, latency_stddev, latency_min, latency_max, latency_p95
-- Window: tumble of 1 minute, so that an endpoint with a request per second still has 60 in a window.
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
  service_name,
  http_route,
  window_start,
  window_end,
  count(*) AS requests,
  avg(duration_ms) AS latency_avg,
  stddev(duration_ms) AS latency_stddev,
  min(duration_ms) AS latency_min,
  max(duration_ms) AS latency_max,
  percentile_cont(0.95) WITHIN GROUP (ORDER BY duration_ms) AS latency_p95
FROM TUMBLE(spans, ts, INTERVAL '1 minute')
WHERE http_route IS NOT NULL
GROUP BY service_name, http_route, window_start, window_end;
