-- Question: Which hosts use how much processor time, and how evenly?
-- Signal: metrics of hosts, as the OpenTelemetry host receiver reports them.
-- Output: host, window_start, window_end, samples, cpu_avg, cpu_min, cpu_max, cpu_stddev
-- Window: tumble of 5 minutes, long enough to average out single jobs and short enough to page on.
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
  host,
  window_start,
  window_end,
  count(cpu) AS samples,
  avg(cpu) AS cpu_avg,
  min(cpu) AS cpu_min,
  max(cpu) AS cpu_max,
  stddev(cpu) AS cpu_stddev
FROM TUMBLE(host_metrics, ts, INTERVAL '5 minutes')
WHERE cpu IS NOT NULL
GROUP BY host, window_start, window_end;
