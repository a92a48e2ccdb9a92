SELECT component, window_start, sum(requests) FILTER (WHERE cpu > 1) FROM TABLE(TUMBLE(TABLE metrics, DESCRIPTOR(ts), INTERVAL '10' MINUTES)) GROUP BY component, window_start, window_end
