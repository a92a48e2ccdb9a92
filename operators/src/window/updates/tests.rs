//! Changes, summed, against windows and sessions that are computed at the end from all rows.

use std::collections::BTreeMap;

use arrow::array::AsArray;
use arrow::datatypes::{Int64Type, TimestampNanosecondType};
use proptest::prelude::*;

use super::*;
use crate::expression::AggregateProgram;
use crate::window::fixture::{Row, SumByName, aggregate, batch};
use crate::window::{Panes, SessionFold, SessionSpec, WindowSpec};

/// Start, end, name and sum of the rows that hold.
type Rows = BTreeMap<(i64, i64, String, i64), i64>;

/// Sums changes up. A row that no longer holds must have held.
fn add(into: &mut Rows, update: &Update) {
    let Some(changes) = &update.changes else { return };
    let [starts, ends] =
        [0, 1].map(|i| changes.column(i).as_primitive::<TimestampNanosecondType>());
    let names = changes.column(2).as_string::<i32>();
    let [sums, diffs] = [3, 4].map(|i| changes.column(i).as_primitive::<Int64Type>());
    for row in 0..changes.num_rows() {
        let key =
            (starts.value(row), ends.value(row), names.value(row).to_owned(), sums.value(row));
        let held = into.entry(key.clone()).or_default();
        *held += diffs.value(row);
        assert!((0..=1).contains(held), "{key:?} holds {held} times");
        if *held == 0 {
            into.remove(&key);
        }
    }
}

fn expected(window: Window, rows: &[Row]) -> Rows {
    let mut sums: BTreeMap<(i64, i64, String), i64> = BTreeMap::new();
    match window {
        Window::Aligned(window) => {
            for (time, name, value) in rows {
                for start in window.starts(EventTime(*time)) {
                    for end in window.ends(start, EventTime(*time)) {
                        *sums.entry((start, end, name.to_string())).or_default() += value;
                    }
                }
            }
        }
        Window::Session(session) => {
            let gap = session.gap_ns();
            let mut by_name: BTreeMap<String, Vec<(i64, i64)>> = BTreeMap::new();
            for (time, name, value) in rows {
                by_name.entry(name.to_string()).or_default().push((*time, *value));
            }
            for (name, mut rows) in by_name {
                rows.sort_unstable();
                for session in rows.chunk_by(|a, b| b.0 - a.0 < gap) {
                    let (first, last) = (session[0].0, session[session.len() - 1].0);
                    let sum = session.iter().map(|row| row.1).sum();
                    sums.insert((first, last + gap, name.clone()), sum);
                }
            }
        }
        Window::Count(_) => unreachable!("has no changes"),
    }
    sums.into_iter().map(|((start, end, name), sum)| ((start, end, name, sum), 1)).collect()
}

fn partials(window: Window, rows: &[Row]) -> Vec<RecordBatch> {
    let (aggregate, rows) = (aggregate(), batch(rows));
    let input = SumByName.prepare(&rows).unwrap();
    match window {
        Window::Session(session) => {
            let mut fold = SessionFold::new(session, aggregate).unwrap();
            fold.update(&rows, &input).unwrap();
            fold.take().unwrap().into_iter().collect()
        }
        Window::Aligned(window) => {
            let schema = aggregate.partial_schema(&crate::window::PANE_COLUMNS);
            let mut panes = Panes::new(window, aggregate).unwrap();
            panes.update(&rows, &input).unwrap();
            let partials = panes.take_partials(EventTime::MAX, &schema).unwrap();
            partials.into_iter().map(|part| part.states).collect()
        }
        Window::Count(_) => unreachable!("has no changes"),
    }
}

fn updating(window: Window, answering: Answering) -> UpdatingWindows {
    UpdatingWindows::new(window, aggregate(), answering).unwrap()
}

/// Feeds one epoch.
fn epoch(groups: &mut UpdatingWindows, rows: &[Row], complete: i64) -> Update {
    for partials in partials(groups.window, rows) {
        groups.merge(&partials).unwrap();
    }
    groups.advance(EventTime(complete)).unwrap()
}

fn any_window() -> impl Strategy<Value = Window> {
    prop_oneof![
        (1i64..8).prop_map(|size| Window::Aligned(WindowSpec::tumble(size, 1).unwrap())),
        (1i64..6, 1i64..9).prop_map(|(slide, size)| {
            Window::Aligned(WindowSpec::hop(slide, size, 0).unwrap())
        }),
        (1i64..4, 2i64..4).prop_map(|(step, steps)| {
            Window::Aligned(WindowSpec::cumulate(step, step * steps, 0).unwrap())
        }),
        (1i64..6).prop_map(|gap| Window::Session(SessionSpec::new(gap).unwrap())),
    ]
}

fn any_answering() -> impl Strategy<Value = Answering> {
    prop_oneof![
        Just(Answering::OnUpdate),
        (1i64..9).prop_map(Answering::Every),
        (0i64..9).prop_map(Answering::Ahead),
    ]
}

proptest! {
    #[test]
    fn changes_sum_up_to_the_windows_of_all_rows(
        window in any_window(),
        answering in any_answering(),
        epochs in prop::collection::vec(
            (prop::collection::vec((0i64..12, 0u8..3, -5i64..5), 0..8), 0i64..8), 1..12),
    ) {
        let mut groups = updating(window, answering);
        let (mut held, mut all, mut watermark) = (Rows::new(), Vec::new(), 0);
        for (rows, step) in epochs {
            // In-time rows: none below the watermark of the epochs before.
            let rows: Vec<Row> =
                rows.into_iter().map(|(ahead, name, value)| (watermark + ahead, name, value)).collect();
            watermark += step;
            add(&mut held, &epoch(&mut groups, &rows, watermark));
            all.extend(rows);
            // A session that has grown keeps its earlier answer until the interval is over.
            let is_behind =
                matches!((window, answering), (Window::Session(_), Answering::Every(_)));
            let at_end: Vec<&(i64, i64, String, i64)> =
                held.keys().filter(|row| row.1 <= watermark && !is_behind).collect();
            let right = expected(window, &all);
            for row in &at_end {
                prop_assert!(right.contains_key(*row), "{row:?} was closed with the wrong sum");
            }
            if answering == Answering::OnUpdate {
                prop_assert_eq!(&held, &right);
            }
        }
        add(&mut held, &epoch(&mut groups, &[], i64::MAX));
        prop_assert_eq!(held, expected(window, &all));
        prop_assert_eq!(groups.groups(), 0);
        prop_assert_eq!(groups.given_bytes, 0);
        prop_assert_eq!(groups.cells.len(), 0);
    }
}

#[test]
fn a_result_that_stays_as_it_is_is_not_said_again() {
    let tumble = Window::Aligned(WindowSpec::tumble(10, 0).unwrap());
    let mut groups = updating(tumble, Answering::OnUpdate);
    assert!(epoch(&mut groups, &[(1, 1, 5)], 0).changes.is_some());
    assert!(epoch(&mut groups, &[(2, 1, 3), (2, 1, -3)], 0).changes.is_none());
    assert!(epoch(&mut groups, &[], 5).changes.is_none());
    let last = epoch(&mut groups, &[], 10);
    assert!(last.changes.is_none());
    assert_eq!(last.closed, 1);
}

#[test]
fn every_interval_answers_once_and_at_the_end() {
    let tumble = Window::Aligned(WindowSpec::tumble(100, 0).unwrap());
    let mut groups = updating(tumble, Answering::Every(40));
    let mut said = Vec::new();
    for time in 0..12 {
        let update = epoch(&mut groups, &[(time * 10, 1, 1)], time * 10);
        if let Some(changes) = update.changes {
            said.push((time * 10, changes.num_rows()));
        }
    }
    // The first watermark of all, the multiples of 40, and the window's end.
    assert_eq!(said, [(0, 1), (40, 2), (80, 2), (100, 2)]);
}

#[test]
fn corrections_come_after_the_first_answer() {
    let tumble = Window::Aligned(WindowSpec::tumble(10, 0).unwrap());
    let mut groups = updating(tumble, Answering::Ahead(5));
    let mut held = Rows::new();
    assert!(epoch(&mut groups, &[(1, 1, 1)], 4).changes.is_none());
    add(&mut held, &epoch(&mut groups, &[], 5));
    assert_eq!(held.keys().map(|row| row.3).collect::<Vec<_>>(), [1]);
    let late = epoch(&mut groups, &[(9, 1, 1)], 7);
    assert_eq!(late.changes.as_ref().map(RecordBatch::num_rows), Some(2));
    add(&mut held, &late);
    assert_eq!(held.keys().map(|row| row.3).collect::<Vec<_>>(), [2]);
    assert_eq!(epoch(&mut groups, &[], 10).closed, 1);
    assert_eq!(groups.groups(), 0);
}

#[test]
fn a_session_that_goes_on_takes_its_answer_back() {
    let session = Window::Session(SessionSpec::new(10).unwrap());
    let mut groups = updating(session, Answering::Ahead(20));
    let mut held = Rows::new();
    add(&mut held, &epoch(&mut groups, &[(0, 1, 1), (25, 1, 1)], 0));
    assert_eq!(held.keys().map(|row| (row.0, row.1)).collect::<Vec<_>>(), [(0, 10)]);
    // Two late rows make one session of both, which is not over.
    add(&mut held, &epoch(&mut groups, &[(9, 1, 1), (17, 1, 1)], 2));
    assert!(held.is_empty(), "{held:?}");
    add(&mut held, &epoch(&mut groups, &[], 15));
    assert_eq!(held.keys().map(|row| (row.0, row.1, row.3)).collect::<Vec<_>>(), [(0, 35, 4)]);
}

#[test]
fn groups_beyond_the_bound_are_refused_and_counted() {
    let tumble = Window::Aligned(WindowSpec::tumble(10, 0).unwrap());
    let mut groups = UpdatingWindows::new(
        tumble,
        WindowedAggregate { groups_max: 2, ..aggregate() },
        Answering::OnUpdate,
    )
    .unwrap();
    let update = epoch(&mut groups, &[(1, 1, 1), (1, 2, 1), (1, 3, 1)], 0);
    assert_eq!(update.changes.map(|changes| changes.num_rows()), Some(2));
    assert_eq!((groups.take_rows_refused(), groups.take_rows_refused()), (1, 0));
}
