-- Question: How many requests has a service taken since midnight?
-- Signal: metrics of HTTP servers, as OpenTelemetry names them, one row per report.
-- Columns: attributes, _ for . (http.route); requests since the last report; http.server.active_requests.
-- Output: service_name, window_start, window_end, requests, routes
-- Window: cumulate of 1 day by the hour, in UTC: each hour tells the day so far.
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
  sum(requests) AS requests,
  count(DISTINCT http_route) AS routes
FROM CUMULATE(http_metrics, ts, INTERVAL '1 hour', INTERVAL '1 day')
GROUP BY service_name, window_start, window_end;
