SELECT m.ts, t.duration FROM metrics m ASOF LEFT JOIN traces t MATCH_CONDITION (m.ts >= t.ts) ON m.component = t.component
