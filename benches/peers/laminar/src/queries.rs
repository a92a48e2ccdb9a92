//! The queries as LaminarDB spells them: streams over streams, of which the last is called `result`.

pub(crate) const SOURCES: [(&str, &str); 4] = [
    (
        "bid",
        "CREATE SOURCE bid (auction BIGINT, bidder BIGINT, price BIGINT, channel VARCHAR, url VARCHAR,
         date_time TIMESTAMP NOT NULL, extra VARCHAR, WATERMARK FOR date_time AS date_time - INTERVAL '4' SECOND)",
    ),
    (
        "person",
        "CREATE SOURCE person (id BIGINT, name VARCHAR, email_address VARCHAR, credit_card VARCHAR, city VARCHAR,
         state VARCHAR, date_time TIMESTAMP NOT NULL, extra VARCHAR,
         WATERMARK FOR date_time AS date_time - INTERVAL '4' SECOND)",
    ),
    (
        "auction",
        "CREATE SOURCE auction (id BIGINT, item_name VARCHAR, description VARCHAR, initial_bid BIGINT, reserve BIGINT,
         date_time TIMESTAMP NOT NULL, expires TIMESTAMP, seller BIGINT, category BIGINT, extra VARCHAR,
         WATERMARK FOR date_time AS date_time - INTERVAL '4' SECOND)",
    ),
    (
        "load",
        "CREATE SOURCE load (ts TIMESTAMP NOT NULL, host VARCHAR, value DOUBLE,
         WATERMARK FOR ts AS ts - INTERVAL '2' SECOND)",
    ),
];

/// What a query reads, its streams, and the column that `window_end` lies ten seconds after, where it has none itself.
pub(crate) struct Query {
    pub(crate) sources: &'static [&'static str],
    pub(crate) streams: &'static [&'static str],
    pub(crate) ends_after: Option<usize>,
    /// Whether there is a result for each row. Subscriptions hold 16 MiB and fail those that fall behind, so that rows are
    /// pushed no further ahead of results than that allows.
    pub(crate) paced: bool,
    /// Whether the column above stands for the end, or stays beside it.
    pub(crate) replaced: bool,
}

pub(crate) fn query(name: &str) -> Option<Query> {
    let plain = |stream| Query {
        sources: &["bid"],
        streams: stream,
        ends_after: None,
        replaced: false,
        paced: false,
    };
    Some(match name {
        "q0" => Query {
            paced: true,
            ..plain(&["CREATE STREAM result AS SELECT auction, bidder, price, date_time, extra FROM bid"])
        },
        "q1" => Query {
            paced: true,
            ..plain(&[
                "CREATE STREAM result AS
                 SELECT auction, bidder, CAST(0.908 AS DOUBLE) * price AS price, date_time, extra FROM bid",
            ])
        },
        "q2" => plain(&["CREATE STREAM result AS SELECT auction, price FROM bid WHERE auction % 123 = 0"]),
        "q5" => Query {
            sources: &["bid"],
            streams: &[
                "CREATE STREAM counts AS
                 SELECT auction, HOP(date_time, INTERVAL '2' SECOND, INTERVAL '10' SECOND) AS bucket, COUNT(*) AS num
                 FROM bid GROUP BY auction, HOP(date_time, INTERVAL '2' SECOND, INTERVAL '10' SECOND) EMIT ON WINDOW CLOSE",
                "CREATE STREAM best AS SELECT bucket, MAX(num) AS most FROM counts GROUP BY bucket",
                "CREATE STREAM result AS SELECT c.auction AS auction, c.num AS num, c.bucket AS bucket
                 FROM best b JOIN counts c ON b.most = c.num
                   AND c.bucket BETWEEN b.bucket AND b.bucket + INTERVAL '1' SECOND",
            ],
            ends_after: Some(2),
            replaced: true,
            paced: false,
        },
        "q7" => plain(&[
            "CREATE STREAM best AS SELECT TUMBLE(date_time, INTERVAL '10' SECOND) AS bucket, MAX(price) AS most
             FROM bid GROUP BY TUMBLE(date_time, INTERVAL '10' SECOND) EMIT ON WINDOW CLOSE",
            "CREATE STREAM result AS SELECT b.auction AS auction, b.price AS price, b.bidder AS bidder,
               b.date_time AS date_time, b.extra AS extra
             FROM best m JOIN bid b ON m.most = b.price
               AND b.date_time BETWEEN m.bucket AND m.bucket + INTERVAL '9999' MILLISECOND",
        ]),
        "q8" => Query {
            sources: &["person", "auction"],
            streams: &[
                "CREATE STREAM people AS
                 SELECT id, name, TUMBLE(date_time, INTERVAL '10' SECOND) AS bucket, COUNT(*) AS n
                 FROM person GROUP BY id, name, TUMBLE(date_time, INTERVAL '10' SECOND) EMIT ON WINDOW CLOSE",
                "CREATE STREAM sellers AS
                 SELECT seller, TUMBLE(date_time, INTERVAL '10' SECOND) AS bucket, COUNT(*) AS n
                 FROM auction GROUP BY seller, TUMBLE(date_time, INTERVAL '10' SECOND) EMIT ON WINDOW CLOSE",
                "CREATE STREAM result AS SELECT p.id AS id, p.name AS name, p.bucket AS bucket
                 FROM people p JOIN sellers s ON p.id = s.seller
                   AND s.bucket BETWEEN p.bucket AND p.bucket + INTERVAL '1' SECOND",
            ],
            ends_after: None,
            replaced: false,
            paced: false,
        },
        // A session's end is ten seconds after its last row.
        "q11" => Query {
            sources: &["bid"],
            streams: &["CREATE STREAM result AS
                 SELECT bidder, COUNT(*) AS bid_count, SESSION(date_time, INTERVAL '10' SECOND) AS bucket, MAX(date_time) AS last
                 FROM bid GROUP BY bidder, SESSION(date_time, INTERVAL '10' SECOND) EMIT ON WINDOW CLOSE"],
            ends_after: Some(3),
            replaced: true,
            paced: false,
        },
        "q12" => Query {
            sources: &["bid"],
            streams: &["CREATE STREAM result AS
                 SELECT bidder, COUNT(*) AS bid_count, TUMBLE(date_time, INTERVAL '10' SECOND) AS bucket
                 FROM bid GROUP BY bidder, TUMBLE(date_time, INTERVAL '10' SECOND) EMIT ON WINDOW CLOSE"],
            ends_after: Some(2),
            replaced: false,
            paced: false,
        },
        tumble if tumble.starts_with("tumble_") => Query {
            sources: &["load"],
            // There is no deviation. The sum of squares stands in, and it is worked out when results are written.
            streams: &["CREATE STREAM result AS
                 SELECT host, TUMBLE(ts, INTERVAL '10' SECOND) AS bucket, COUNT(*) AS n, AVG(value) AS mean,
                   SUM(value * value) AS squares, MIN(value) AS least, MAX(value) AS most
                 FROM load GROUP BY host, TUMBLE(ts, INTERVAL '10' SECOND) EMIT ON WINDOW CLOSE"],
            ends_after: None,
            replaced: false,
            paced: false,
        },
        _ => return None,
    })
}
