SELECT DISTINCT ts, component FROM metrics
