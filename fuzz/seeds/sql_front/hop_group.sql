SELECT hop(ts, INTERVAL '1 minute', INTERVAL '1 hour') AS w, w.start, stddev(cpu) / avg(memory) AS cv FROM metrics GROUP BY w, component
