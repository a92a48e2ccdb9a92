-- Question: Is the memory of a service growing within the last quarter of an hour?
-- Signal: metrics of hosts, as the OpenTelemetry host receiver reports them.
-- Columns: attributes, _ for . (host.name); system.cpu.utilization and its kin as shares from 0 to 1.
-- Output: service_name, window_start, window_end, memory_avg, memory_growth
-- Window: hop of 15 minutes every 5 minutes, so that a slow leak shows in three windows in a row.
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
  service_name,
  window_start,
  window_end,
  avg(memory_utilization) AS memory_avg,
  last_value(memory_utilization ORDER BY ts) - first_value(memory_utilization ORDER BY ts) AS memory_growth
FROM HOP(host_metrics, ts, INTERVAL '5 minutes', INTERVAL '15 minutes')
WHERE memory_utilization IS NOT NULL
GROUP BY service_name, window_start, window_end;
