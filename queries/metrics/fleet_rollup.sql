-- Question: How is the whole fleet doing, minute by minute?
-- Signal: metrics of hosts, as the OpenTelemetry host receiver reports them.
-- Output: window_start, window_end, hosts, samples, cpu_avg, cpu_p95, memory_avg, disk_max
-- Window: tumble of 1 minute, since hosts report every 10 to 60 seconds and each should be in every window.
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
  window_start,
  window_end,
  approx_distinct(host) AS hosts,
  count(*) AS samples,
  avg(cpu) AS cpu_avg,
  approx_percentile_cont(0.95) WITHIN GROUP (ORDER BY cpu) AS cpu_p95,
  avg(memory) AS memory_avg,
  max(disk) AS disk_max
FROM TUMBLE(host_metrics, ts, INTERVAL '1 minute')
GROUP BY window_start, window_end;
