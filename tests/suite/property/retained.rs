//! Generated queries without a window, over rows that are retained.

use proptest::prelude::*;
use proptest::sample::{select, subsequence};

use super::emission::interval;
use super::{AGGREGATES, CONDITIONS};

const KEYS: [&str; 3] = ["host", "service", "bytes % 3"];

/// What orders the rows of a key; the event time, of which there are no two alike, comes last.
const ORDERS: [&str; 8] = [
    "bytes",
    "bytes DESC NULLS LAST",
    "value DESC",
    "value NULLS FIRST",
    "host DESC NULLS LAST",
    "bytes % 5 DESC",
    "service",
    "ts DESC",
];

/// What is asked, with the rows that are left at the end as `samples`.
#[derive(Clone, Debug)]
enum Asked {
    Groups { aggregates: Vec<&'static str>, having: bool },
    Top { order: Vec<&'static str>, rows: usize },
    GroupsOfTop { order: Vec<&'static str>, rows: usize, aggregates: Vec<&'static str> },
    TopOfGroups { aggregate: &'static str, rows: usize },
    Pairs { kind: &'static str },
    TopOfPairs { rows: usize },
}

/// A query that retains rows.
#[derive(Clone, Debug)]
pub(super) struct Retained {
    asked: Asked,
    keys: Vec<&'static str>,
    condition: Option<&'static str>,
    /// For how long, and how often it answers, in quarters of a second.
    pub(super) retain: Option<i64>,
    every: Option<i64>,
}

/// Columns with names, each followed by a comma.
fn named(exprs: &[&str], prefix: &str) -> String {
    let named = exprs.iter().enumerate().map(|(i, expr)| format!("{expr} AS {prefix}{i}, "));
    named.collect()
}

impl Retained {
    /// The query without its clause.
    pub(super) fn sql(&self) -> String {
        let Self { asked, keys, condition, .. } = self;
        let filter = condition.map_or(String::new(), |condition| format!("WHERE {condition}"));
        let by = match keys.as_slice() {
            [] => String::new(),
            keys => format!("GROUP BY {}", keys.join(", ")),
        };
        // A key that is computed is a column of a subquery where rows are numbered by it.
        let numbers: Vec<String> = (0..keys.len()).map(|i| format!("k{i}")).collect();
        let partition = match numbers.as_slice() {
            [] => String::new(),
            numbers => format!("PARTITION BY {}", numbers.join(", ")),
        };
        let rows = format!(
            "(SELECT {}bytes % 5 AS fifth, ts, host, service, value, bytes FROM samples {filter})",
            named(keys, "k")
        );
        let top = |order: &[&str], most: usize| {
            let order = order.join(", ").replace("bytes % 5", "fifth");
            format!(
                "(SELECT * FROM (SELECT *, ROW_NUMBER() OVER ({partition} ORDER BY {order}, ts) AS place FROM {rows})
                  WHERE place <= {most})"
            )
        };
        match asked {
            Asked::Groups { aggregates, having } => {
                // Of no rows there is no group, also without keys.
                let having = format!("HAVING count(*) > {}", if *having { 2 } else { 0 });
                let columns = format!("{}{}", named(keys, "k"), named(aggregates, "a"));
                format!("SELECT {columns} count(*) AS n FROM samples {filter} {by} {having}")
            }
            Asked::Top { order, rows } => {
                format!("SELECT ts, host, bytes, place FROM {} WHERE place <> 2", top(order, *rows))
            }
            Asked::GroupsOfTop { order, rows, aggregates } => format!(
                "SELECT service, {} count(*) AS n FROM {} GROUP BY service",
                named(aggregates, "a"),
                top(order, *rows)
            ),
            // There are no two keys alike.
            Asked::TopOfGroups { aggregate, rows } => format!(
                "SELECT * FROM (SELECT *, ROW_NUMBER() OVER (ORDER BY a DESC, host, service) AS place FROM
                   (SELECT host, service, {aggregate} AS a FROM samples {filter} GROUP BY host, service))
                 WHERE place <= {rows}"
            ),
            Asked::Pairs { kind } => format!(
                "SELECT a.ts AS a_ts, b.ts AS b_ts, a.host, b.bytes FROM (SELECT * FROM samples {filter}) a
                 {kind} JOIN samples b ON a.service = b.service AND a.host = b.host"
            ),
            Asked::TopOfPairs { rows } => format!(
                "SELECT a_ts, bytes, place FROM
                   (SELECT a.ts AS a_ts, b.ts AS b_ts, b.bytes,
                      ROW_NUMBER() OVER (PARTITION BY a.ts ORDER BY b.bytes DESC NULLS LAST, b.ts) AS place
                    FROM (SELECT * FROM samples {filter}) a
                    JOIN samples b ON a.service = b.service AND b.value <= a.value)
                 WHERE place <= {rows}"
            ),
        }
    }

    /// What stands at the end of the query.
    pub(super) fn clause(&self) -> String {
        let every = self.every.map_or(String::new(), |every| format!("EVERY {}", interval(every)));
        let retain = self.retain.map_or("INTERVAL '1 hour'".to_owned(), interval);
        format!("EMIT ON UPDATE {every} RETAIN {retain}")
    }
}

fn asked() -> impl Strategy<Value = Asked> {
    let aggregates = || subsequence(AGGREGATES.to_vec(), 0..=3);
    let order = || subsequence(ORDERS.to_vec(), 1..=3).prop_shuffle();
    let kinds = select(vec!["INNER", "LEFT", "RIGHT", "FULL"]);
    prop_oneof![
        (aggregates(), any::<bool>())
            .prop_map(|(aggregates, having)| Asked::Groups { aggregates, having }),
        (order(), 1usize..6).prop_map(|(order, rows)| Asked::Top { order, rows }),
        (order(), 1usize..6, aggregates())
            .prop_map(|(order, rows, aggregates)| Asked::GroupsOfTop { order, rows, aggregates }),
        (select(vec!["count(*)", "max(bytes)", "min(value)"]), 1usize..6)
            .prop_map(|(aggregate, rows)| Asked::TopOfGroups { aggregate, rows }),
        kinds.prop_map(|kind| Asked::Pairs { kind }),
        (1usize..4).prop_map(|rows| Asked::TopOfPairs { rows }),
    ]
}

/// Any such query.
pub(super) fn retained() -> impl Strategy<Value = Retained> {
    let keys = subsequence(KEYS.to_vec(), 0..=2);
    let condition = prop::option::of(select(CONDITIONS));
    let lengths = (prop::option::of(1i64..200), prop::option::of(1i64..80));
    (asked(), keys, condition, lengths).prop_map(|(asked, keys, condition, (retain, every))| {
        Retained { asked, keys, condition, retain, every }
    })
}
