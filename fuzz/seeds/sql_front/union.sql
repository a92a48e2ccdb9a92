SELECT ts, component FROM metrics UNION ALL SELECT ts, upper(component) FROM traces WHERE duration BETWEEN 1 AND 2
