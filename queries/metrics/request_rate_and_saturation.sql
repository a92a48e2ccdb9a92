-- Question: How many requests does a service take, and how close is it to its limit?
-- Signal: metrics of HTTP servers, as OpenTelemetry names them, one row per report.
-- Columns: attributes, _ for . (http.route); requests since the last report; http.server.active_requests.
-- Output: service_name, window_start, window_end, requests_per_second, active_max, saturation_max
-- Window: tumble of 1 minute: rates per second over less jump with every report.
CREATE SOURCE http_metrics (
  ts TIMESTAMP NOT NULL,
  service_name TEXT NOT NULL,
  http_route TEXT,
  requests BIGINT,
  active_requests BIGINT,
  active_requests_limit BIGINT,
  WATERMARK FOR ts AS ts - INTERVAL '10 seconds'
);

SELECT
  service_name,
  window_start,
  window_end,
  sum(requests) / 60.0 AS requests_per_second,
  max(active_requests) AS active_max,
  max(CAST(active_requests AS DOUBLE) / NULLIF(active_requests_limit, 0)) AS saturation_max
FROM TUMBLE(http_metrics, ts, INTERVAL '1 minute')
GROUP BY service_name, window_start, window_end;
