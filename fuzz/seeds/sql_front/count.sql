SELECT max(cpu), component FROM COUNT_WINDOW(metrics, 10, EVERY 5 PARTITION BY component) GROUP BY component, window_start, window_end
