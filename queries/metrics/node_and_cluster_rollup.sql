-- Question: How loaded is each cluster, and how unevenly are its nodes?
-- Signal: metrics of hosts, as the OpenTelemetry host receiver reports them.
-- Columns: attributes, _ for . (host.name); system.cpu.utilization and its kin as shares from 0 to 1.
-- Output: k8s_cluster_name, window_start, window_end, nodes, node_minutes, cpu_avg, cpu_of_hottest_node, cpu_of_coolest_node
-- Window: tumble of 5 minutes over a tumble of 1 minute by node, so that a node counts alike however often it reports.
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
  k8s_cluster_name,
  window_start,
  window_end,
  count(DISTINCT k8s_node_name) AS nodes,
  count(*) AS node_minutes,
  avg(node_cpu) AS cpu_avg,
  max(node_cpu) AS cpu_of_hottest_node,
  min(node_cpu) AS cpu_of_coolest_node
FROM TUMBLE((
  SELECT
    k8s_cluster_name,
    k8s_node_name,
    window_start AS minute,
    avg(cpu_utilization) AS node_cpu
  FROM TUMBLE(host_metrics, ts, INTERVAL '1 minute')
  WHERE k8s_node_name IS NOT NULL AND cpu_utilization IS NOT NULL
  GROUP BY k8s_cluster_name, k8s_node_name, window_start, window_end
), minute, INTERVAL '5 minutes')
GROUP BY k8s_cluster_name, window_start, window_end;
