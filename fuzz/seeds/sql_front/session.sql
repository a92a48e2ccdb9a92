SELECT component, sum(cpu) FROM SESSION(TABLE metrics PARTITION BY (component), DESCRIPTOR(ts), INTERVAL '5' MINUTE) GROUP BY component, window_start, window_end
