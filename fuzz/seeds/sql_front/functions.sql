SELECT date_trunc('hour', ts), substring(component FROM 1 FOR 2), [cpu, memory][1], extract(minute FROM ts), coalesce(cpu, 0) FROM busy
