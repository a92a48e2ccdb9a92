//! Rows that are judged together: one after the other, or key by key.

use arrow::record_batch::RecordBatch;

use super::super::columns::{BatchKeys, Columns};
use super::super::output::{Finding, Judged, OutputWriter};
use super::super::side::SideWriter;
use super::super::{Extra, FeatureJudgement, Judgement, Row};
use super::{KeyedDetector, Plan};
use crate::detector::Answers;
use crate::error::Result;
use crate::time::EventTime;

/// So many rows are judged together, and what is found out about them is held at the same time.
pub(super) const ROWS_TOGETHER: usize = 1 << 16;

/// Rows are judged key by key where a key has so many of them: a model that is brought into the cache serves them all, and
/// what they cost beside, to be grouped and to have findings put back into their order, is less than that.
const ROWS_PER_KEY_MIN: usize = 2;

/// So many rows, or keys, have their models looked up before the first of them is scored.
const AHEAD: usize = 32;

/// Rows as models see them.
struct Rows<'a> {
    keys: &'a BatchKeys,
    times: &'a [i64],
    /// Those of a row next to one another.
    features: &'a [f64],
    width: usize,
}

impl<'a> Rows<'a> {
    fn row(&self, i: usize) -> Row<'a> {
        let features = &self.features[i * self.width..(i + 1) * self.width];
        Row { time: EventTime(self.times[i]), features }
    }
}

/// What was found out about rows, by their places: they are judged in another order than they are written in.
#[derive(Default)]
pub(super) struct Findings {
    judged: Vec<Judged>,
    features: Vec<FeatureJudgement>,
    extras: Vec<Extra>,
}

impl Findings {
    /// For so many rows, each of which will be put.
    fn reset(&mut self, rows: usize, judgement: &Judgement) {
        self.judged.resize(rows, Judged::none());
        self.features.resize(rows * judgement.features.len(), FeatureJudgement::UNKNOWN);
        self.extras.resize(rows * judgement.extras.len(), Extra::Null);
    }

    fn put(&mut self, row: usize, judged: Judged, judgement: &mut Judgement) {
        self.judged[row] = judged;
        let (features, extras) = (judgement.features.len(), judgement.extras.len());
        self.features[row * features..][..features].copy_from_slice(&judgement.features);
        self.extras[row * extras..][..extras].swap_with_slice(&mut judgement.extras);
    }

    fn write(&self, rows: &Rows<'_>, extras: usize, writer: &mut OutputWriter<'_>) {
        for (i, judged) in self.judged.iter().enumerate() {
            let features = &self.features[i * rows.width..][..rows.width];
            let extras = &self.extras[i * extras..][..extras];
            writer.push(&Finding { row: rows.row(i), judged, features, extras });
        }
    }
}

impl KeyedDetector {
    /// Judges at most [`ROWS_TOGETHER`] rows.
    pub(super) fn judge_together(
        &mut self,
        plan: &Plan,
        batch: &RecordBatch,
        findings: &mut Findings,
        out: &mut Answers,
    ) -> Result<()> {
        let columns: &Columns = &plan.columns;
        let keys = columns.keys(batch, self.converter.as_ref())?;
        let mut times = std::mem::take(&mut self.times);
        let mut features = std::mem::take(&mut self.features);
        columns.times(batch, &mut times)?;
        columns.features(batch, &mut features)?;
        let width = columns.feature_names().len();
        let rows = Rows { keys: &keys, times: &times, features: &features, width };
        let mut writer = OutputWriter::new(columns, &plan.extras, batch.num_rows());
        let mut side = SideWriter::new(columns, &plan.relations);
        if self.group(plan, &rows) {
            findings.reset(times.len(), &self.judge.judgement);
            self.judge_by_key(plan, &rows, findings);
            findings.write(&rows, plan.extras.len(), &mut writer);
        } else {
            self.judge_in_turn(plan, &rows, &mut writer, &mut side);
        }
        (self.times, self.features) = (times, features);
        out.rows.push(writer.finish(batch, &plan.schema)?);
        let (keys, time) = (columns.key_columns(batch), batch.column(columns.time_column()));
        side.finish(&plan.relations, &keys, Some(time), out)
    }

    /// Groups the rows by their keys, where that pays and nobody could see it: reports of rows are in the order of rows, and
    /// which key makes room for which hangs on it.
    fn group(&mut self, plan: &Plan, rows: &Rows<'_>) -> bool {
        let count = rows.times.len();
        count > 1
            && plan.columns.is_keyed()
            && plan.relations.is_empty()
            && count >= ROWS_PER_KEY_MIN * self.table.len()
            && self.table.group(
                count,
                |row| rows.keys.get(row),
                plan.models_max,
                &mut self.grouped,
                |row| (EventTime(rows.times[row]), plan.keyed()),
            )
    }

    fn judge_by_key(&mut self, plan: &Plan, rows: &Rows<'_>, findings: &mut Findings) {
        let slots: Vec<u32> = self.grouped.slots().collect();
        for slots in slots.chunks(AHEAD) {
            let warm = |slot: &u32| self.table.in_slot(*slot).value.model.warm();
            std::hint::black_box(slots.iter().map(warm).sum::<f64>());
            for &slot in slots {
                let entry = self.table.in_slot_mut(slot);
                for &row in self.grouped.of(slot) {
                    let i = row as usize;
                    let row = rows.row(i);
                    if plan.is_expired(entry.time, row.time) {
                        self.judge.discount(&entry.value.counted);
                        self.judge.statistics.expired += 1;
                        entry.value = plan.keyed();
                    }
                    let last_time = std::mem::replace(&mut entry.time, row.time);
                    let judged = self.judge.judge(plan, &mut entry.value, last_time, row);
                    findings.put(i, judged, &mut self.judge.judgement);
                }
            }
        }
    }

    fn judge_in_turn(
        &mut self,
        plan: &Plan,
        rows: &Rows<'_>,
        writer: &mut OutputWriter<'_>,
        side: &mut SideWriter,
    ) {
        let count = rows.times.len();
        for i in 0..count {
            let ahead = i % AHEAD;
            if ahead == 0 {
                let next = (i..count.min(i + AHEAD)).map(|i| rows.keys.get(i));
                let mut sum = 0.0;
                self.table.find(next, &mut self.found, |keyed| sum += keyed.model.warm());
                std::hint::black_box(sum);
            }
            let row = rows.row(i);
            let has_room = self.make_room(ahead, rows.keys.get(i), row.time);
            let judged = match self.table.newest_mut().filter(|_| has_room) {
                Some(entry) => {
                    let last_time = std::mem::replace(&mut entry.time, row.time);
                    self.judge.judge(plan, &mut entry.value, last_time, row)
                }
                None => self.judge.refuse(),
            };
            let Judgement { features, extras, .. } = &self.judge.judgement;
            writer.push(&Finding { row, judged: &judged, features, extras });
            side.push(i, &mut self.judge.reports);
        }
    }
}
