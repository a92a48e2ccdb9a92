CREATE DETECTOR d USING robust_zscore PARTITION BY component WITH (threshold = 2.5, slot = INTERVAL '5 minutes') AS SELECT component, ts, cpu FROM metrics
