-- Question: Which hosts use how much processor time, and how evenly?
-- Signal: metrics of hosts, as the OpenTelemetry host receiver reports them.
-- Columns: attributes, _ for . (host.name); system.cpu.utilization and its kin as shares from 0 to 1.
-- Output: host_name, window_start, window_end, samples, cpu_avg, cpu_min, cpu_max, cpu_stddev
-- Window: tumble of 5 minutes, long enough to average out single jobs and short enough to page on.
CREATE SOURCE host_metrics (
  ts TIMESTAMP NOT NULL,
  host_name TEXT NOT NULL,
  service_name TEXT,
  k8s_node_name TEXT,
  k8s_cluster_name TEXT,
  cpu_utilization DOUBLE,
  memory_utilization DOUBLE,
  filesystem_utilization DOUBLE,
  WATERMARK FOR ts AS ts - INTERVAL '10 seconds'
);

SELECT
  host_name,
  window_start,
  window_end,
  count(cpu_utilization) AS samples,
  avg(cpu_utilization) AS cpu_avg,
  min(cpu_utilization) AS cpu_min,
  max(cpu_utilization) AS cpu_max,
  stddev(cpu_utilization) AS cpu_stddev
FROM TUMBLE(host_metrics, ts, INTERVAL '5 minutes')
WHERE cpu_utilization IS NOT NULL
GROUP BY host_name, window_start, window_end;
