SELECT component, count(*) AS n FROM metrics GROUP BY component EMIT ON UPDATE EVERY INTERVAL '10 seconds' RETAIN INTERVAL '1 day'
