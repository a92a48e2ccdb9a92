-- Question: Which share of a service's requests fails?
-- Signal: traces, one row per server span.
-- Output: service, window_start, window_end, requests, errors, error_rate
-- Window: tumble of 1 minute, which is short enough for a rollout to be stopped.
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
  window_start,
  window_end,
  count(*) AS requests,
  count(*) FILTER (WHERE status_code = 'ERROR') AS errors,
  CAST(count(*) FILTER (WHERE status_code = 'ERROR') AS DOUBLE) / count(*) AS error_rate
FROM TUMBLE(spans, ts, INTERVAL '1 minute')
GROUP BY service, window_start, window_end;
