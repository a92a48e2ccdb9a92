SELECT m.cpu, t.span FROM metrics m JOIN traces t ON m.component = t.component AND m.ts BETWEEN t.ts - INTERVAL '1 minute' AND t.ts + INTERVAL '5 seconds'
