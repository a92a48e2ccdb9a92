-- Question: Which kinds of message does a service write, and how many of each?
-- Signal: logs, as the OpenTelemetry log data model names them.
-- Columns: ts, severity_text, body and trace_id of the log data model; attributes, _ for . (service.name).
-- Output: service_name, template, window_start, window_end, records, worst_severity_records
-- Window: tumble of 5 minutes, so that a kind of message that is rare still has a count to compare.
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
  regexp_replace(body, '0x[0-9a-fA-F]+|[0-9]+', '#', 'g') AS template,
  window_start,
  window_end,
  count(*) AS records,
  count(*) FILTER (WHERE upper(severity_text) IN ('ERROR', 'FATAL')) AS worst_severity_records
FROM TUMBLE(log_records, ts, INTERVAL '5 minutes')
WHERE body IS NOT NULL
GROUP BY service_name, regexp_replace(body, '0x[0-9a-fA-F]+|[0-9]+', '#', 'g'), window_start, window_end;
