"""The queries as SQL over all rows at once: what the reference and the batch engines run."""


def queries(bucket, touching=False):
    """SQL by name. `bucket(size, column)` spells the start of a window; `touching` joins sessions a gap apart."""
    ten, two = bucket("10 seconds", "date_time"), bucket("2 seconds", "date_time")
    hops = ", ".join(f"(INTERVAL '{seconds} seconds')" for seconds in (2, 4, 6, 8, 10))
    longer = ">=" if touching else ">"
    tumble = f"""
        SELECT host, {bucket('10 seconds', 'ts')} AS window_start, count(*) AS n, avg(value) AS mean,
          stddev(value) AS deviation, min(value) AS least, max(value) AS most
        FROM load GROUP BY 1, 2"""
    return {
        "q0": "SELECT auction, bidder, price, date_time, extra FROM bid",
        "q1": "SELECT auction, bidder, CAST(0.908 AS DOUBLE) * price AS price, date_time, extra FROM bid",
        "q2": "SELECT auction, price FROM bid WHERE auction % 123 = 0",
        # Panes of two seconds first, each of which is in five windows.
        "q5": f"""
            WITH panes AS (SELECT auction, {two} AS pane, count(*) AS n FROM bid GROUP BY 1, 2),
            hops AS (SELECT auction, pane + past AS window_end, CAST(sum(n) AS BIGINT) AS num
                     FROM panes CROSS JOIN (VALUES {hops}) AS v(past) GROUP BY 1, 2),
            best AS (SELECT window_end, max(num) AS most FROM hops GROUP BY 1)
            SELECT h.auction, h.num, h.window_end
            FROM hops h JOIN best m ON h.window_end = m.window_end AND h.num = m.most""",
        "q7": f"""
            SELECT b.auction, b.price, b.bidder, b.date_time, b.extra
            FROM (SELECT *, {ten} AS window_start FROM bid) b
            JOIN (SELECT {ten} AS window_start, max(price) AS most FROM bid GROUP BY 1) m
            ON b.window_start = m.window_start AND b.price = m.most""",
        "q8": f"""
            SELECT p.id, p.name, p.window_start
            FROM (SELECT id, name, {ten} AS window_start FROM person GROUP BY 1, 2, 3) p
            JOIN (SELECT seller, {ten} AS window_start FROM auction GROUP BY 1, 2) a
            ON p.id = a.seller AND p.window_start = a.window_start""",
        "q11": f"""
            WITH marked AS (
              SELECT bidder, date_time, CASE WHEN lag(date_time) OVER (PARTITION BY bidder ORDER BY date_time)
                {longer} date_time - INTERVAL '10 seconds' THEN 0 ELSE 1 END AS begins FROM bid),
            numbered AS (
              SELECT bidder, date_time, sum(begins) OVER (PARTITION BY bidder ORDER BY date_time
                ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS number FROM marked)
            SELECT bidder, count(*) AS bid_count, min(date_time) AS window_start,
              max(date_time) + INTERVAL '10 seconds' AS window_end
            FROM numbered GROUP BY bidder, number""",
        "q12": f"""
            SELECT bidder, bid_count, window_start, window_start + INTERVAL '10 seconds' AS window_end
            FROM (SELECT bidder, count(*) AS bid_count, {ten} AS window_start FROM bid GROUP BY 1, 3)""",
        "tumble_1e3": tumble,
        "tumble_1e5": tumble,
        "tumble_1e6": tumble,
    }


def duckdb_bucket(size, column):
    return f"time_bucket(INTERVAL '{size}', {column}::TIMESTAMP)"


def datafusion_bucket(size, column):
    return f"date_bin(INTERVAL '{size}', {column})"
