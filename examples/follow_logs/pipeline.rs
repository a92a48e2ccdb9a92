//! All the SQL: from lines to log keys, sessions, a model, and what it has to say.

use crate::options::Options;

/// What a query is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Topic {
    /// Every line with its judgement.
    Lines,
    /// Sessions that have ended.
    Sessions,
    /// The workflow, once it is drawn.
    Workflow,
    /// Where sessions left it.
    Diagnosis,
}

/// A source of lines, their keys, and a detector over them.
pub fn statements(options: &Options) -> Vec<String> {
    let Options { gap_seconds, training, model, .. } = options;
    let quoted = |text: &str| format!("'{}'", text.replace('\'', "''"));
    let (session, of_session) = match options.session.as_str() {
        "" => ("'' AS session".to_owned(), String::new()),
        pattern => {
            let found = format!("regexp_match(line, {})[1]", quoted(pattern));
            (format!("{found} AS session"), format!("\n  WHERE {found} IS NOT NULL"))
        }
    };
    vec![
        "CREATE SOURCE log (
  ts TIMESTAMP NOT NULL, number BIGINT NOT NULL, line TEXT NOT NULL,
  WATERMARK FOR ts AS ts - INTERVAL '1 second' IDLE TIMEOUT INTERVAL '5 seconds'
)"
        .to_owned(),
        format!(
            "CREATE VIEW entries AS
  SELECT ts, number, line, {session}
  FROM log{of_session}"
        ),
        format!(
            "CREATE VIEW keyed AS
  SELECT * FROM LOG_KEYS(entries, line, session => session, format => {})",
            quoted(&options.format)
        ),
        format!(
            "CREATE DETECTOR odd USING deeplog
WITH (session = 'session', gap = INTERVAL '{gap_seconds} seconds', training = {training}, model = {},
      history = 6, combined = TRUE, swap_after = INTERVAL '1 second') AS
  SELECT ts, number, line, session, log_key, template, elapsed FROM keyed",
            quoted(model)
        ),
    ]
}

/// Queries over what [`statements`] made.
pub fn queries() -> [(Topic, &'static str); 4] {
    [
        (
            Topic::Lines,
            "SELECT number, line, session, log_key, template, is_anomaly, phase, detail['rank'] AS rank,
                    detail['unseen'] AS unseen, detail['expected'] AS expected
             FROM odd",
        ),
        (Topic::Sessions, "SELECT session, is_anomaly, reasons, abnormal FROM odd.sessions"),
        (Topic::Workflow, "SELECT * FROM odd.workflow"),
        (
            Topic::Diagnosis,
            "SELECT session, from_key, to_key, explanation FROM odd.diagnosis WHERE is_anomaly",
        ),
    ]
}
