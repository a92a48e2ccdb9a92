//! Queries that come with the engine, by name; the files are in `queries/{metrics,logs,traces}`.

/// What a shipped query reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// Measurements of hosts and services.
    Metrics,
    /// Log records.
    Logs,
    /// Spans of requests.
    Traces,
}

/// A query that comes with the engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShippedQuery {
    /// Its name, such as `metrics/fleet_rollup`.
    pub name: &'static str,
    /// What it reads.
    pub signal: Signal,
    /// The file: a comment, a `CREATE SOURCE` and one SELECT, each ended by a semicolon.
    pub sql: &'static str,
    /// The question that it answers.
    pub question: &'static str,
}

impl ShippedQuery {
    /// The query of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<&'static Self> {
        shipped().iter().find(|query| query.name == name)
    }

    /// The `CREATE SOURCE` that the query is written for, with the comment above it.
    #[must_use]
    pub fn source_sql(&self) -> &'static str {
        self.parts().0
    }

    /// The SELECT alone.
    #[must_use]
    pub fn query_sql(&self) -> &'static str {
        self.parts().1
    }

    fn parts(&self) -> (&'static str, &'static str) {
        let (source, query) = self.sql.split_once(";\n").unwrap_or((self.sql, ""));
        (source.trim(), query.trim().trim_end_matches(';'))
    }
}

const SHIPPED: [ShippedQuery; 16] = [
    ShippedQuery {
        name: "logs/error_bursts",
        signal: Signal::Logs,
        sql: include_str!("../logs/error_bursts.sql"),
        question: "Which services log errors in bursts, and what share of their records is that?",
    },
    ShippedQuery {
        name: "logs/rate_by_severity",
        signal: Signal::Logs,
        sql: include_str!("../logs/rate_by_severity.sql"),
        question: "How many records of each severity does a service write?",
    },
    ShippedQuery {
        name: "logs/rate_by_template",
        signal: Signal::Logs,
        sql: include_str!("../logs/rate_by_template.sql"),
        question: "Which kinds of message does a service write, and how many of each?",
    },
    ShippedQuery {
        name: "metrics/cpu_by_host_5m",
        signal: Signal::Metrics,
        sql: include_str!("../metrics/cpu_by_host_5m.sql"),
        question: "Which hosts use how much processor time, and how evenly?",
    },
    ShippedQuery {
        name: "metrics/cpu_moving_average",
        signal: Signal::Metrics,
        sql: include_str!("../metrics/cpu_moving_average.sql"),
        question: "How busy has each host been over the last quarter of an hour, minute by minute?",
    },
    ShippedQuery {
        name: "metrics/fleet_rollup",
        signal: Signal::Metrics,
        sql: include_str!("../metrics/fleet_rollup.sql"),
        question: "How is the whole fleet doing, minute by minute?",
    },
    ShippedQuery {
        name: "metrics/memory_trend_by_service",
        signal: Signal::Metrics,
        sql: include_str!("../metrics/memory_trend_by_service.sql"),
        question: "Is the memory of a service growing within the last quarter of an hour?",
    },
    ShippedQuery {
        name: "metrics/node_and_cluster_rollup",
        signal: Signal::Metrics,
        sql: include_str!("../metrics/node_and_cluster_rollup.sql"),
        question: "How loaded is each cluster, and how unevenly are its nodes?",
    },
    ShippedQuery {
        name: "metrics/request_rate_and_saturation",
        signal: Signal::Metrics,
        sql: include_str!("../metrics/request_rate_and_saturation.sql"),
        question: "How many requests does a service take, and how close is it to its limit?",
    },
    ShippedQuery {
        name: "metrics/requests_of_the_day",
        signal: Signal::Metrics,
        sql: include_str!("../metrics/requests_of_the_day.sql"),
        question: "How many requests has a service taken since midnight?",
    },
    ShippedQuery {
        name: "traces/error_rate_by_service",
        signal: Signal::Traces,
        sql: include_str!("../traces/error_rate_by_service.sql"),
        question: "Which share of a service's requests fails?",
    },
    ShippedQuery {
        name: "traces/latency_by_endpoint",
        signal: Signal::Traces,
        sql: include_str!("../traces/latency_by_endpoint.sql"),
        question: "How long do the requests of an endpoint take?",
    },
    ShippedQuery {
        name: "traces/latency_quantiles_by_service",
        signal: Signal::Traces,
        sql: include_str!("../traces/latency_quantiles_by_service.sql"),
        question: "How long do the requests of a service take, for most and for the unlucky?",
    },
    ShippedQuery {
        name: "traces/requests_by_trace",
        signal: Signal::Traces,
        sql: include_str!("../traces/requests_by_trace.sql"),
        question: "What did each trace touch, how long did it take, and did any part fail?",
    },
    ShippedQuery {
        name: "traces/sessions_by_user",
        signal: Signal::Traces,
        sql: include_str!("../traces/sessions_by_user.sql"),
        question: "When is a user there, and how well does it go for them?",
    },
    ShippedQuery {
        name: "traces/slowest_spans_by_service",
        signal: Signal::Traces,
        sql: include_str!("../traces/slowest_spans_by_service.sql"),
        question: "Which were the three slowest spans of each service?",
    },
];

/// All shipped queries, sorted by name.
#[must_use]
pub fn shipped() -> &'static [ShippedQuery] {
    &SHIPPED
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::functions::Functions;
    use crate::planner::Planner;
    use crate::planner::tests::Shelf;
    use crate::statement::{Query, Statement};

    #[test]
    fn every_shipped_query_plans_over_its_own_source() {
        let planner = Planner::new(Functions::new());
        for query in shipped() {
            let statements = crate::parse_statements(query.sql).unwrap();
            assert!(
                matches!(statements.as_slice(), [Statement::CreateSource(_), Statement::Query(_)]),
                "{}",
                query.name
            );
            let plan = planner
                .plan_query(
                    &Query::parse(query.query_sql()).unwrap(),
                    &Shelf::of(query.source_sql()),
                )
                .unwrap_or_else(|error| panic!("{}: {error}", query.name));
            assert!(plan.time.is_some(), "{} loses its event time", query.name);
            let names: Vec<&str> = plan.schema.fields().iter().map(|f| f.name().as_str()).collect();
            assert_eq!(header(query, "Output"), names.join(", "), "{}", query.name);
        }
    }

    #[test]
    fn headers_say_what_the_table_says() {
        for query in shipped() {
            assert_eq!(header(query, "Question"), query.question);
            let folder = query.name.split('/').next().unwrap();
            assert_eq!(format!("{:?}", query.signal).to_lowercase(), folder);
            for entry in ["Signal", "Columns", "Window"] {
                assert!(!header(query, entry).is_empty());
            }
        }
        assert!(shipped().is_sorted_by_key(|query| query.name));
    }

    fn header(query: &ShippedQuery, entry: &str) -> &'static str {
        let start = format!("-- {entry}: ");
        let line = query.sql.lines().find_map(|line| line.strip_prefix(start.as_str()));
        line.unwrap_or_else(|| panic!("{} has no {entry}", query.name))
    }
}
