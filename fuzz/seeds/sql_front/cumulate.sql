SELECT window_end, count(DISTINCT component), approx_percentile_cont(0.9) WITHIN GROUP (ORDER BY cpu) FROM CUMULATE(metrics, ts, INTERVAL '1 minute', INTERVAL '1 hour') GROUP BY window_end
