-- Question: How busy has each host been over the last quarter of an hour, minute by minute?
-- Signal: metrics of hosts, as the OpenTelemetry host receiver reports them.
-- Columns: attributes, _ for . (host.name); system.cpu.utilization and its kin as shares from 0 to 1.
-- Output: host_name, window_start, window_end, samples, cpu_moving_avg
-- Window: hop of 15 minutes every minute: a moving average that weighs every sample of the quarter of an hour alike.
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
  avg(cpu_utilization) AS cpu_moving_avg
FROM HOP(host_metrics, ts, INTERVAL '1 minute', INTERVAL '15 minutes')
WHERE cpu_utilization IS NOT NULL
GROUP BY host_name, window_start, window_end;
