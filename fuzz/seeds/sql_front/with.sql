WITH a AS (SELECT cpu + 1 AS x, ts FROM metrics) SELECT x, CASE WHEN x > 1 THEN 'a' ELSE 'b' END FROM a
