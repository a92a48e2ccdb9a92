SELECT component, sum(cpu) OVER (PARTITION BY component ORDER BY ts RANGE BETWEEN INTERVAL '1 minute' PRECEDING AND INTERVAL '5 seconds' FOLLOWING) AS total FROM metrics
