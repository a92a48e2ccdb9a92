SELECT component, window_end, count(*) AS n FROM TUMBLE(metrics, ts, INTERVAL '1 minute') GROUP BY component, window_start, window_end EMIT ON WINDOW CLOSE WITH CORRECTIONS FOR INTERVAL '1 hour'
