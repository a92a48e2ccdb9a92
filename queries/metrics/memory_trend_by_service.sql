-- Question: Is the memory of a service growing within the last quarter of an hour?
-- Signal: metrics of hosts, as the OpenTelemetry host receiver reports them.
-- Output: service, window_start, window_end, memory_avg, memory_growth
-- Window: hop of 15 minutes every 5 minutes, so that a slow leak shows in three windows in a row.
CREATE SOURCE host_metrics (
  host TEXT NOT NULL,
  service TEXT,
  ts TIMESTAMP NOT NULL,
  cpu DOUBLE,
  memory DOUBLE,
  disk DOUBLE,
  WATERMARK FOR ts AS ts - INTERVAL '10 seconds'
);

SELECT
  service,
  window_start,
  window_end,
  avg(memory) AS memory_avg,
  last_value(memory ORDER BY ts) - first_value(memory ORDER BY ts) AS memory_growth
FROM HOP(host_metrics, ts, INTERVAL '5 minutes', INTERVAL '15 minutes')
WHERE memory IS NOT NULL
GROUP BY service, window_start, window_end;
