//! Nexmark's queries, after Flink's definitions.
//!
//! The stream has one clock, event time. Where the original groups by the text of a day, these group by a window of a day;
//! where it windows by the clock on the wall (q12), by event time. Where it never forgets a row (q3, q4, q6, q9, q18, q19,
//! q20), these retain rows for a day and give changes; where it leaves open which of two rows that tie comes first, these
//! order by more columns.

/// A query; in a batch it is the same text with its windows spelled out, unless it says otherwise.
#[derive(Debug)]
pub(crate) struct Query {
    pub(crate) name: &'static str,
    /// What it asks, and where it differs from the original.
    pub(crate) what: &'static str,
    pub(crate) sql: &'static str,
    pub(crate) batch: Option<&'static str>,
}

impl Query {
    /// What a batch is asked: it has all rows at once.
    pub(crate) fn in_a_batch(&self) -> &'static str {
        let sql = self.batch.unwrap_or(self.sql);
        sql.split("EMIT ").next().unwrap_or(sql)
    }

    /// Whether results are changes, to be summed up.
    pub(crate) fn is_changelog(&self) -> bool {
        self.sql.contains("EMIT ON UPDATE")
    }
}

const fn query(name: &'static str, what: &'static str, sql: &'static str) -> Query {
    Query { name, what, sql, batch: None }
}

/// Those that run, in order.
pub(crate) const QUERIES: &[Query] = &[
    query("q0", "pass through", "SELECT auction, bidder, price, date_time, extra FROM bid"),
    query(
        "q1",
        "dollars to euros",
        "SELECT auction, bidder, 0.908 * price AS price, date_time, extra FROM bid",
    ),
    query("q2", "bids on some auctions", "SELECT auction, price FROM bid WHERE auction % 123 = 0"),
    query(
        "q3",
        "who sells in some states and one category; the generator writes states in small letters; rows are retained for a day",
        "SELECT p.name, p.city, p.state, a.id
         FROM (SELECT id, seller, category, date_time FROM auction) a
         JOIN (SELECT id, name, city, state, date_time FROM person) p ON a.seller = p.id
         WHERE a.category = 10 AND (p.state = 'or' OR p.state = 'id' OR p.state = 'ca')
         EMIT ON UPDATE RETAIN INTERVAL '1 day'",
    ),
    query(
        "q4",
        "the mean of the highest bids of each category, by now; rows are retained for a day",
        "SELECT category, avg(final) AS mean FROM
           (SELECT max(b.price) AS final, a.category FROM
              (SELECT id, category, date_time, expires FROM auction) a
            JOIN (SELECT auction, price, date_time FROM bid) b
            ON a.id = b.auction AND b.date_time BETWEEN a.date_time AND a.expires
            GROUP BY a.id, a.category)
         GROUP BY category EMIT ON UPDATE RETAIN INTERVAL '1 day'",
    ),
    query(
        "q5",
        "the auctions with the most bids of the last ten seconds, every two seconds",
        "SELECT a.auction, a.num, a.window_end FROM
           (SELECT auction, count(*) AS num, window_start, window_end
            FROM HOP(bid, date_time, INTERVAL '2 seconds', INTERVAL '10 seconds')
            GROUP BY auction, window_start, window_end) a
         JOIN
           (SELECT max(num) AS most, window_start, window_end FROM
              (SELECT auction, count(*) AS num, window_start, window_end
               FROM HOP(bid, date_time, INTERVAL '2 seconds', INTERVAL '10 seconds')
               GROUP BY auction, window_start, window_end)
            GROUP BY window_start, window_end) m
         ON a.window_start = m.window_start AND a.window_end = m.window_end AND a.num >= m.most",
    ),
    query(
        "q6",
        "the mean of the winning bids of each seller's last ten auctions, with the best bids by now where one is open; rows \
         are retained for a day",
        "SELECT seller, avg(price) AS mean FROM
           (SELECT seller, price, ROW_NUMBER() OVER (PARTITION BY seller ORDER BY expires DESC, id) AS place FROM
              (SELECT id, seller, expires, price, ROW_NUMBER() OVER (PARTITION BY id ORDER BY price DESC, bid_at) AS place FROM
                 (SELECT a.id, a.seller, a.expires, b.price, b.date_time AS bid_at FROM
                    (SELECT id, seller, date_time, expires FROM auction) a
                  JOIN (SELECT auction, price, date_time FROM bid) b
                  ON a.id = b.auction AND b.date_time BETWEEN a.date_time AND a.expires))
            WHERE place = 1)
         WHERE place <= 10 GROUP BY seller EMIT ON UPDATE RETAIN INTERVAL '1 day'",
    ),
    query(
        "q7",
        "the highest bids of each ten seconds",
        "SELECT b.auction, b.price, b.bidder, b.date_time, b.extra FROM bid b
         JOIN (SELECT max(price) AS most, window_end FROM TUMBLE(bid, date_time, INTERVAL '10 seconds')
               GROUP BY window_start, window_end) m
         ON b.price = m.most AND b.date_time >= m.window_end - INTERVAL '10 seconds' AND b.date_time < m.window_end",
    ),
    query(
        "q8",
        "people who have opened an auction within the ten seconds in which they came",
        "SELECT p.id, p.name, p.window_start FROM
           (SELECT id, name, window_start, window_end FROM TUMBLE(person, date_time, INTERVAL '10 seconds')
            GROUP BY id, name, window_start, window_end) p
         JOIN
           (SELECT seller, window_start, window_end FROM TUMBLE(auction, date_time, INTERVAL '10 seconds')
            GROUP BY seller, window_start, window_end) a
         ON p.id = a.seller AND p.window_start = a.window_start AND p.window_end = a.window_end",
    ),
    query(
        "q9",
        "the winning bid of each auction, by now; rows are retained for a day",
        "SELECT id, item_name, description, initial_bid, reserve, date_time, expires, seller, category, extra, auction, bidder,
           price, bid_at, bid_extra FROM
           (SELECT a.*, b.auction, b.bidder, b.price, b.date_time AS bid_at, b.extra AS bid_extra,
              ROW_NUMBER() OVER (PARTITION BY a.id ORDER BY b.price DESC, b.date_time, b.bidder, b.extra) AS place
            FROM auction a JOIN bid b ON a.id = b.auction AND b.date_time BETWEEN a.date_time AND a.expires)
         WHERE place = 1 EMIT ON UPDATE RETAIN INTERVAL '1 day'",
    ),
    query(
        "q10",
        "what a log of bids holds; the original writes it to files by hour",
        "SELECT auction, bidder, price, date_time, extra, to_char(date_time, '%Y-%m-%d') AS dt,
           to_char(date_time, '%H:%M') AS hm
         FROM bid",
    ),
    query(
        "q11",
        "bids of each bidder while active",
        "SELECT bidder, count(*) AS bid_count, window_start, window_end
         FROM SESSION(bid, date_time, INTERVAL '10 seconds' PARTITION BY bidder)
         GROUP BY bidder, window_start, window_end",
    ),
    query(
        "q12",
        "bids of each bidder every ten seconds, of event time",
        "SELECT bidder, count(*) AS bid_count, window_start, window_end
         FROM TUMBLE(bid, date_time, INTERVAL '10 seconds') GROUP BY bidder, window_start, window_end",
    ),
    query(
        "q13",
        "looks up each auction's number in a table",
        "SELECT b.auction, b.bidder, b.price, b.date_time, s.value FROM bid b JOIN side_input s ON b.auction % 10000 = s.key",
    ),
    query(
        "q14",
        "a calculation with a condition; characters are counted by replacing them",
        "SELECT auction, bidder, 0.908 * price AS price,
           CASE WHEN date_part('hour', date_time) >= 8 AND date_part('hour', date_time) <= 18 THEN 'dayTime'
                WHEN date_part('hour', date_time) <= 6 OR date_part('hour', date_time) >= 20 THEN 'nightTime'
                ELSE 'otherTime' END AS bid_time_type,
           date_time, extra, character_length(extra) - character_length(replace(extra, 'c', '')) AS c_counts
         FROM bid WHERE 0.908 * price > 1000000 AND 0.908 * price < 50000000",
    ),
    query(
        "q15",
        "bidding of the day; a day is a window",
        "SELECT to_char(window_start, '%Y-%m-%d') AS day, count(*) AS total_bids,
           count(*) FILTER (WHERE price < 10000) AS rank1_bids,
           count(*) FILTER (WHERE price >= 10000 AND price < 1000000) AS rank2_bids,
           count(*) FILTER (WHERE price >= 1000000) AS rank3_bids,
           count(DISTINCT bidder) AS total_bidders,
           count(DISTINCT bidder) FILTER (WHERE price < 10000) AS rank1_bidders,
           count(DISTINCT bidder) FILTER (WHERE price >= 10000 AND price < 1000000) AS rank2_bidders,
           count(DISTINCT bidder) FILTER (WHERE price >= 1000000) AS rank3_bidders,
           count(DISTINCT auction) AS total_auctions,
           count(DISTINCT auction) FILTER (WHERE price < 10000) AS rank1_auctions,
           count(DISTINCT auction) FILTER (WHERE price >= 10000 AND price < 1000000) AS rank2_auctions,
           count(DISTINCT auction) FILTER (WHERE price >= 1000000) AS rank3_auctions
         FROM TUMBLE(bid, date_time, INTERVAL '1 day') GROUP BY window_start, window_end",
    ),
    query(
        "q16",
        "bidding of the day by channel; a day is a window",
        "SELECT channel, to_char(window_start, '%Y-%m-%d') AS day, max(to_char(date_time, '%H:%M')) AS minute,
           count(*) AS total_bids,
           count(*) FILTER (WHERE price < 10000) AS rank1_bids,
           count(*) FILTER (WHERE price >= 10000 AND price < 1000000) AS rank2_bids,
           count(*) FILTER (WHERE price >= 1000000) AS rank3_bids,
           count(DISTINCT bidder) AS total_bidders,
           count(DISTINCT bidder) FILTER (WHERE price < 10000) AS rank1_bidders,
           count(DISTINCT bidder) FILTER (WHERE price >= 10000 AND price < 1000000) AS rank2_bidders,
           count(DISTINCT bidder) FILTER (WHERE price >= 1000000) AS rank3_bidders,
           count(DISTINCT auction) AS total_auctions,
           count(DISTINCT auction) FILTER (WHERE price < 10000) AS rank1_auctions,
           count(DISTINCT auction) FILTER (WHERE price >= 10000 AND price < 1000000) AS rank2_auctions,
           count(DISTINCT auction) FILTER (WHERE price >= 1000000) AS rank3_auctions
         FROM TUMBLE(bid, date_time, INTERVAL '1 day') GROUP BY channel, window_start, window_end",
    ),
    query(
        "q17",
        "bids of the day by auction; a day is a window",
        "SELECT auction, to_char(window_start, '%Y-%m-%d') AS day, count(*) AS total_bids,
           count(*) FILTER (WHERE price < 10000) AS rank1_bids,
           count(*) FILTER (WHERE price >= 10000 AND price < 1000000) AS rank2_bids,
           count(*) FILTER (WHERE price >= 1000000) AS rank3_bids,
           min(price) AS min_price, max(price) AS max_price, avg(price) AS avg_price, sum(price) AS sum_price
         FROM TUMBLE(bid, date_time, INTERVAL '1 day') GROUP BY auction, window_start, window_end",
    ),
    query(
        "q18",
        "the last bid of each bidder for each auction, by now; rows are retained for a day",
        "SELECT auction, bidder, price, channel, url, date_time, extra FROM
           (SELECT *, ROW_NUMBER() OVER (PARTITION BY bidder, auction ORDER BY date_time DESC, price DESC, channel, url, extra)
              AS place
            FROM bid)
         WHERE place <= 1 EMIT ON UPDATE RETAIN INTERVAL '1 day'",
    ),
    query(
        "q19",
        "the ten highest bids for each auction, by now; rows are retained for a day",
        "SELECT auction, bidder, price, channel, url, date_time, extra, place FROM
           (SELECT *, ROW_NUMBER() OVER (PARTITION BY auction ORDER BY price DESC, date_time, bidder, channel, url, extra)
              AS place
            FROM bid)
         WHERE place <= 10 EMIT ON UPDATE RETAIN INTERVAL '1 day'",
    ),
    query(
        "q20",
        "bids with what they are for, of one category; rows are retained for a day",
        "SELECT b.auction, b.bidder, b.price, b.channel, b.url, b.date_time AS bid_at, b.extra AS bid_extra, a.item_name,
           a.description, a.initial_bid, a.reserve, a.date_time, a.expires, a.seller, a.category, a.extra
         FROM bid b JOIN auction a ON b.auction = a.id WHERE a.category = 10
         EMIT ON UPDATE RETAIN INTERVAL '1 day'",
    ),
    query(
        "q21",
        "the channel's number, from its name or from the address",
        "SELECT auction, bidder, price, channel,
           CASE WHEN lower(channel) = 'apple' THEN '0' WHEN lower(channel) = 'google' THEN '1'
                WHEN lower(channel) = 'facebook' THEN '2' WHEN lower(channel) = 'baidu' THEN '3'
                ELSE (regexp_match(url, '(&|^)channel_id=([^&]*)'))[2] END AS channel_id
         FROM bid WHERE (regexp_match(url, '(&|^)channel_id=([^&]*)'))[2] IS NOT NULL
           OR lower(channel) IN ('apple', 'google', 'facebook', 'baidu')",
    ),
    query(
        "q22",
        "the folders of the address",
        "SELECT auction, bidder, price, channel, split_part(url, '/', 4) AS dir1, split_part(url, '/', 5) AS dir2,
           split_part(url, '/', 6) AS dir3
         FROM bid",
    ),
];
