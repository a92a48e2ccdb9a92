-- Question: How is the whole fleet doing, minute by minute?
-- Signal: metrics of hosts, as the OpenTelemetry host receiver reports them.
-- Columns: attributes, _ for . (host.name); system.cpu.utilization and its kin as shares from 0 to 1.
-- Output: window_start, window_end, hosts, samples, cpu_avg, cpu_p95, memory_avg, filesystem_max
-- Window: tumble of 1 minute, since hosts report every 10 to 60 seconds and each should be in every window.
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
  window_start,
  window_end,
  approx_distinct(host_name) AS hosts,
  count(*) AS samples,
  avg(cpu_utilization) AS cpu_avg,
  approx_percentile_cont(0.95) WITHIN GROUP (ORDER BY cpu_utilization) AS cpu_p95,
  avg(memory_utilization) AS memory_avg,
  max(filesystem_utilization) AS filesystem_max
FROM TUMBLE(host_metrics, ts, INTERVAL '1 minute')
GROUP BY window_start, window_end;
