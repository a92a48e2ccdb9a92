-- Question: Which share of a service's requests fails?
-- Signal: traces, one row per server span.
-- Columns: attributes, _ for . (http.route); ts is the span's start; status_code is UNSET, OK or ERROR.
-- Output: service_name, window_start, window_end, requests, errors, error_rate
-- Window: tumble of 1 minute, which is short enough for a rollout to be stopped.
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
  count(*) FILTER (WHERE status_code = 'ERROR') AS errors,
  CAST(count(*) FILTER (WHERE status_code = 'ERROR') AS DOUBLE) / count(*) AS error_rate
FROM TUMBLE(spans, ts, INTERVAL '1 minute')
GROUP BY service_name, window_start, window_end;
