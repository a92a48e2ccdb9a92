-- Question: Which were the three slowest spans of each service?
-- Signal: traces, one row per server span.
-- Columns: attributes, _ for . (http.route); ts is the span's start; status_code is UNSET, OK or ERROR.
-- Output: service_name, window_end, place, trace_id, span_id, duration_ms
-- Window: tumble of 1 minute, and the first three places in it.
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

SELECT service_name, window_end, place, trace_id, span_id, duration_ms
FROM (
  SELECT
    service_name,
    window_end,
    trace_id,
    span_id,
    duration_ms,
    ROW_NUMBER() OVER (
      PARTITION BY window_end, service_name
      ORDER BY duration_ms DESC, trace_id, span_id
    ) AS place
  FROM (
    SELECT service_name, window_end, trace_id, span_id, max(duration_ms) AS duration_ms
    FROM TUMBLE(spans, ts, INTERVAL '1 minute')
    GROUP BY service_name, trace_id, span_id, window_start, window_end
  )
)
WHERE place <= 3;
