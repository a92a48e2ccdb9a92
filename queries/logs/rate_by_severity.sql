-- Question: How many records of each severity does a service write?
-- Signal: logs, as the OpenTelemetry log data model names them.
-- Columns: ts, severity_text, body and trace_id of the log data model; attributes, _ for . (service.name).
-- Output: service_name, severity_text, window_start, window_end, records, traces
-- Window: tumble of 1 minute, the rate that most log alerts are written in.
CREATE SOURCE log_records (
  ts TIMESTAMP NOT NULL,
  service_name TEXT NOT NULL,
  severity_text TEXT NOT NULL,
  body TEXT,
  trace_id TEXT,
  WATERMARK FOR ts AS ts - INTERVAL '10 seconds'
);

SELECT
  service_name,
  upper(severity_text) AS severity_text,
  window_start,
  window_end,
  count(*) AS records,
  approx_distinct(trace_id) AS traces
FROM TUMBLE(log_records, ts, INTERVAL '1 minute')
GROUP BY service_name, upper(severity_text), window_start, window_end;
