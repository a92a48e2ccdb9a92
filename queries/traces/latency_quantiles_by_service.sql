-- Question: How long do the requests of a service take, for most and for the unlucky?
-- Signal: traces, one row per server span.
-- Columns: attributes, _ for . (http.route); ts is the span's start; status_code is UNSET, OK or ERROR.
-- Output: service_name, window_start, window_end, requests, latency_p50, latency_p90, latency_p99
-- Window: hop of 5 minutes every minute: a 99th percentile wants some hundred requests, and an alert a fresh value.
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
  window_start,
  window_end,
  count(*) AS requests,
  percentile_cont(0.5) WITHIN GROUP (ORDER BY duration_ms) AS latency_p50,
  percentile_cont(0.9) WITHIN GROUP (ORDER BY duration_ms) AS latency_p90,
  percentile_cont(0.99) WITHIN GROUP (ORDER BY duration_ms) AS latency_p99
FROM HOP(spans, ts, INTERVAL '1 minute', INTERVAL '5 minutes')
GROUP BY service_name, window_start, window_end;
