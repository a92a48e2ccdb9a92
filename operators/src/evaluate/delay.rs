//! How late an anomaly is found, and how early a failure is foretold.

use super::segments;

/// Rows from the begin of each labelled run to its first alarm; None for a run that is missed.
///
/// 0 means "in its first row". An alarm before the run does not count, even if it lasts until the run begins and is
/// silent after: for foretelling see [`lead_rows`].
///
/// # Examples
/// ```
/// use driftline_operators::evaluate::detection_delays;
///
/// let labels = [true, true, false, true];
/// let alarms = [false, true, true, false];
/// assert_eq!(detection_delays(&labels, &alarms), [Some(1), None]);
/// ```
///
/// # Panics
/// If both slices differ in length.
#[must_use]
pub fn detection_delays(labels: &[bool], alarms: &[bool]) -> Vec<Option<usize>> {
    assert_eq!(labels.len(), alarms.len(), "one alarm per label");
    let first_alarm = |rows: &[bool]| rows.iter().position(|&alarm| alarm);
    segments(labels).iter().map(|run| first_alarm(&alarms[run.first..=run.last])).collect()
}

/// Rows by which the first alarm among the `horizon_rows` before a failure precedes it; None without such an alarm.
///
/// At least 1 and at most `horizon_rows`. A longer horizon finds more by chance: report it beside the result, and
/// compare with a random detector that raises as often.
///
/// # Examples
/// ```
/// use driftline_operators::evaluate::lead_rows;
///
/// let alarms = [true, false, true, false, false];
/// assert_eq!(lead_rows(&alarms, 4, 3), Some(2));
/// assert_eq!(lead_rows(&alarms, 4, 1), None);
/// ```
///
/// # Panics
/// If the failure lies behind the end of `alarms`.
#[must_use]
pub fn lead_rows(alarms: &[bool], failure_row: usize, horizon_rows: usize) -> Option<usize> {
    let first = failure_row.saturating_sub(horizon_rows);
    let alarm = alarms[first..failure_row].iter().position(|&alarm| alarm)?;
    Some(failure_row - first - alarm)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alarm_outside_a_run_does_not_find_it() {
        let labels = [false, true, true, false, true];
        let alarms = [true, false, false, true, true];
        assert_eq!(detection_delays(&labels, &alarms), [None, Some(0)]);
        assert_eq!(detection_delays(&[], &[]), []);
    }

    #[test]
    fn an_alarm_in_the_row_of_the_failure_foretells_nothing() {
        let alarms = [false, false, true];
        assert_eq!(lead_rows(&alarms, 2, 5), None);
        assert_eq!(lead_rows(&alarms, 3, 5), Some(1));
        assert_eq!(lead_rows(&alarms, 0, 5), None);
    }
}
