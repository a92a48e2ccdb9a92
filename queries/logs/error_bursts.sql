-- Question: Which services log errors in bursts, and what share of their records is that?
-- Signal: logs, as the OpenTelemetry log data model names them.
-- Columns: ts, severity_text, body and trace_id of the log data model; attributes, _ for . (service.name).
-- Output: service_name, window_start, window_end, errors, records, error_share
-- Window: hop of 5 minutes every minute, so that a burst is seen within a minute and not cut at a window's edge.
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
  window_start,
  window_end,
  count(*) FILTER (WHERE upper(severity_text) IN ('ERROR', 'FATAL')) AS errors,
  count(*) AS records,
  CAST(count(*) FILTER (WHERE upper(severity_text) IN ('ERROR', 'FATAL')) AS DOUBLE) / count(*) AS error_share
FROM HOP(log_records, ts, INTERVAL '1 minute', INTERVAL '5 minutes')
GROUP BY service_name, window_start, window_end
HAVING count(*) FILTER (WHERE upper(severity_text) IN ('ERROR', 'FATAL')) > 0;
