//! Text to plans: whatever the text, the answer is a plan or an error.

use std::sync::{Arc, LazyLock};

use arrow::datatypes::{DataType, Field, Schema};
use driftline_queries::{
    Catalog, Functions, Planner, Relation, RelationKind, Statement, TimeColumn, parse_statements,
};

const SETUP: &str = "
CREATE SOURCE metrics (ts TIMESTAMP(3) NOT NULL, component TEXT NOT NULL, cpu DOUBLE, memory DOUBLE, requests BIGINT,
  WATERMARK FOR ts AS ts - INTERVAL '10 seconds');
CREATE SOURCE traces (ts TIMESTAMP, component TEXT, span TEXT, duration DOUBLE, tags BIGINT,
  WATERMARK FOR ts AS ts - INTERVAL '30 seconds');
CREATE SOURCE untimed (component TEXT, ts TIMESTAMP, cpu DOUBLE);
CREATE SOURCE zoned (k TEXT, ts TIMESTAMP(0) WITH TIME ZONE, x DOUBLE, WATERMARK FOR ts);
CREATE VIEW busy AS SELECT component, ts, cpu FROM metrics WHERE cpu > 0.9;
CREATE VIEW minutes AS SELECT component, window_end, count(*) AS n
  FROM TUMBLE(metrics, ts, INTERVAL '1 minute') GROUP BY component, window_start, window_end;
CREATE VIEW broken AS SELECT nothing FROM metrics;
CREATE VIEW ring AS SELECT * FROM ring";

static FIXED: LazyLock<(Planner, Shelf)> =
    LazyLock::new(|| (Planner::new(Functions::new()), Shelf::new()));

/// Parses and plans; the number of plans that were made.
pub fn run(data: &[u8]) -> usize {
    let Ok(text) = std::str::from_utf8(data) else { return 0 };
    let (planner, shelf) = &*FIXED;
    let mut plans = 0;
    for statement in parse_statements(text).unwrap_or_default() {
        let statement = match statement {
            Statement::Explain(explain) => *explain.statement,
            statement => statement,
        };
        let query = match statement {
            Statement::Query(query) => query,
            Statement::CreateView(view) => view.query,
            Statement::CreateDetector(detector) => detector.query,
            Statement::InsertSelect(insert) => insert.query,
            Statement::InsertValues(insert) => {
                if let Some(relation) = shelf.relation(&insert.target.text) {
                    let _ = planner.evaluate_rows(&insert, relation.schema);
                }
                continue;
            }
            _ => continue,
        };
        if let Ok(plan) = planner.plan_query(&query, shelf) {
            assert!(!plan.explain().is_empty());
            plans += 1;
        }
    }
    plans
}

/// The catalog.
struct Shelf(Vec<(String, Relation)>);

impl Shelf {
    fn new() -> Self {
        let mut relations = Vec::new();
        for statement in parse_statements(SETUP).expect("the setup is right") {
            let empty = |kind| Relation {
                kind,
                schema: Arc::new(Schema::empty()),
                time: None,
                window_bounds: Vec::new(),
            };
            relations.push(match statement {
                Statement::CreateSource(source) => {
                    let schema = Arc::new(Schema::new(source.columns));
                    let time = source.watermark.and_then(|watermark| {
                        let index = schema.index_of(&watermark.column.text).ok()?;
                        Some(TimeColumn { index, lag_ns: 0 })
                    });
                    (source.name.text, Relation { schema, time, ..empty(RelationKind::Source) })
                }
                Statement::CreateView(view) => {
                    let text = view.query.text().to_owned();
                    (view.name.text, empty(RelationKind::View(text)))
                }
                other => unreachable!("{other:?} is not in the setup"),
            });
        }
        let scored = Schema::new(vec![
            Field::new("component", DataType::Utf8, true),
            Field::new(
                "window_end",
                DataType::Timestamp(arrow::datatypes::TimeUnit::Millisecond, None),
                false,
            ),
            Field::new("score", DataType::Float64, true),
            Field::new("is_anomaly", DataType::Boolean, true),
        ]);
        relations.push((
            "drift".to_owned(),
            Relation {
                kind: RelationKind::Detector,
                schema: Arc::new(scored),
                time: Some(TimeColumn { index: 1, lag_ns: 0 }),
                window_bounds: vec![1],
            },
        ));
        Self(relations)
    }
}

impl Catalog for Shelf {
    fn relation(&self, name: &str) -> Option<Relation> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, relation)| relation.clone())
    }

    fn relation_names(&self) -> Vec<String> {
        self.0.iter().map(|(name, _)| name.clone()).collect()
    }
}
