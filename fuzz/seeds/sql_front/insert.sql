INSERT INTO metrics (ts, component) VALUES ('2026-01-01', 'a'), (TIMESTAMP '2026-01-01', upper('x')), (NULL, NULL)
