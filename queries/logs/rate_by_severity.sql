-- Question: How many records of each severity does a service write?
-- Signal: logs, as the OpenTelemetry log data model names them.
-- Output: service, severity, window_start, window_end, records, traces
-- Window: tumble of 1 minute, the rate that most log alerts are written in.
CREATE SOURCE log_records (
  ts TIMESTAMP NOT NULL,
  service TEXT NOT NULL,
  severity TEXT NOT NULL,
  body TEXT,
  trace_id TEXT,
  WATERMARK FOR ts AS ts - INTERVAL '10 seconds'
);

SELECT
  service,
  upper(severity) AS severity,
  window_start,
  window_end,
  count(*) AS records,
  approx_distinct(trace_id) AS traces
FROM TUMBLE(log_records, ts, INTERVAL '1 minute')
GROUP BY service, upper(severity), window_start, window_end;
