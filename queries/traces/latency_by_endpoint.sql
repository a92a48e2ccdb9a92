-- Question: How long do the requests of an endpoint take?
-- Signal: traces, one row per server span.
-- Output: service, endpoint, window_start, window_end, requests, latency_avg, latency_stddev, latency_min, latency_max, latency_p95
-- Window: tumble of 1 minute, so that an endpoint with a request per second still has 60 in a window.
CREATE SOURCE spans (
  ts TIMESTAMP NOT NULL,
  service TEXT NOT NULL,
  endpoint TEXT,
  trace_id TEXT,
  span_id TEXT,
  duration_ms DOUBLE NOT NULL,
  status_code TEXT,
  WATERMARK FOR ts AS ts - INTERVAL '30 seconds'
);

SELECT
  service,
  endpoint,
  window_start,
  window_end,
  count(*) AS requests,
  avg(duration_ms) AS latency_avg,
  stddev(duration_ms) AS latency_stddev,
  min(duration_ms) AS latency_min,
  max(duration_ms) AS latency_max,
  percentile_cont(0.95) WITHIN GROUP (ORDER BY duration_ms) AS latency_p95
FROM TUMBLE(spans, ts, INTERVAL '1 minute')
WHERE endpoint IS NOT NULL
GROUP BY service, endpoint, window_start, window_end;
