//! The detector: entries go into their sessions, sessions train one model, and the model judges entries and sessions.
//!
//! ```text
//!   warming_up --training sessions have ended--> training --swap_after--> detecting
//! ```
//!
//! Sessions end in the order of their ends, before any entry of that time or later, so that neither batches nor
//! watermarks matter. Windows move on first and are judged together: what a model predicts depends on keys alone. So
//! what a service is still to say of a network does not hold windows up, and is answered piece by piece, in order.

mod saved;
mod values;
mod verdict;

use std::collections::{BTreeMap, VecDeque};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::task::{Poll, Waker};

use arrow::array::{Array, AsArray, Int64Array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type, SchemaRef};
use arrow::record_batch::RecordBatch;

pub(super) use self::values::ValueOptions;
use self::values::{Learned, Values};
use self::verdict::{entry_bound, surprise_bound, verdict};
use super::NAME;
use super::counts::{self, CountVector};
use super::explain::{Explainer, SessionDiagnosis, Trace};
use super::feedback::{Raised, known};
use super::key_model::{KeyModel, Rank, SESSION_END, SessionJudgement};
use super::output::{
    RowAnswer, SessionAnswer, as_text, expected_text, unit_ns, write_diagnoses, write_rows,
    write_sessions, write_workflows,
};
use super::sessions::{KEPT_MAX, Session, Sessions};
use super::settings::Settings;
use super::vocabulary::{UNKNOWN, Vocabulary};
use super::windows::Window;
use crate::background::Task;
use crate::detector::{
    Answers, Detector, DetectorPlan, DetectorStatistics, FeedbackTaken, SideRelation, TrainingState,
};
use crate::error::{OperatorError, Result};
use crate::inference::{Asking, Placement};
use crate::key::KeyShare;
use crate::model::Phase;
use crate::sync::lock;
use crate::time::EventTime;

/// A settled `deeplog` detector.
#[derive(Debug)]
pub(super) struct DeepLogPlan {
    pub(super) settings: Arc<Settings>,
    pub(super) described: Vec<(String, String)>,
}

impl DetectorPlan for DeepLogPlan {
    fn output_schema(&self) -> SchemaRef {
        Arc::clone(&self.settings.schema)
    }

    fn relations(&self) -> Vec<SideRelation> {
        self.settings.relations()
    }

    fn feedback_schema(&self) -> Option<SchemaRef> {
        (self.settings.feedback_max > 0).then(|| self.settings.columns.feedback())
    }

    fn describe(&self) -> Vec<(String, String)> {
        self.described.clone()
    }

    fn placement(&self) -> Option<&Placement> {
        Some(&self.settings.placement)
    }

    fn training(&self) -> Option<TrainingState> {
        *lock(&self.settings.training_state)
    }

    fn detector(&self) -> Box<dyn Detector> {
        Box::new(DeepLogDetector::new(Arc::clone(&self.settings)))
    }
}

/// The detector on its worker.
pub(super) struct DeepLogDetector {
    settings: Arc<Settings>,
    sessions: Sessions,
    stage: Stage,
    statistics: DetectorStatistics,
    /// Predictions asked for, and sessions that ended, since the last were answered.
    asked: Asked,
    /// The service that scores the network, if one does.
    asking: Option<Asking>,
    /// What waits for its answer, the oldest first.
    open: VecDeque<Piece>,
    /// What was raised, for feedback.
    raised: Raised,
    /// How far event time has come.
    now: EventTime,
    explainer: Explainer,
    values: Values,
}

/// What training came to.
#[derive(Clone, Debug)]
pub(super) struct Trained {
    pub(super) keys: KeyModel,
    /// `None` if the detector reads no values.
    values: Option<Learned>,
}

/// One call whose answers wait for the service.
struct Piece {
    rows: Option<RecordBatch>,
    work: Work,
    asked: Asked,
}

/// Where the model is in its life.
enum Stage {
    Collecting { vocabulary: Vocabulary, ended: Vec<Vec<u32>> },
    Training { vocabulary: Vocabulary, task: Task<Result<Trained, String>>, from: EventTime },
    Ready(Box<KeyModel>),
}

#[derive(Default)]
struct Asked {
    histories: Vec<u32>,
    /// The session's place, what came, and the row of the batch; `None` for the end of the session.
    questions: Vec<(u32, u32, Option<usize>)>,
    /// When each question came up.
    times: Vec<EventTime>,
    /// Histories that hold keys which training never saw, by question, with these keys told apart.
    told_apart: BTreeMap<usize, Vec<u32>>,
    /// Values of what came, by question.
    vectors: BTreeMap<usize, Vec<f64>>,
    closed: Vec<(u32, EventTime)>,
    places: Vec<u32>,
    /// Questions that have been answered.
    done: usize,
}

impl Asked {
    fn ask(
        &mut self,
        history: &[u32],
        place: u32,
        symbol: u32,
        row: Option<usize>,
        time: EventTime,
    ) {
        if history.iter().any(|symbol| known(*symbol) != *symbol) {
            self.told_apart.insert(self.questions.len(), history.to_vec());
        }
        self.histories.extend(history.iter().map(|symbol| known(*symbol)));
        self.questions.push((place, symbol, row));
        self.times.push(time);
    }
}

impl DeepLogDetector {
    fn new(settings: Arc<Settings>) -> Self {
        Self {
            asking: settings.placement.service.clone().map(Asking::new),
            open: VecDeque::new(),
            raised: Raised::new(settings.feedback_max, settings.feedback_within_ns),
            now: EventTime::MIN,
            explainer: Explainer::new(settings.explain),
            values: Values::new(settings.values.as_ref()),
            settings,
            sessions: Sessions::default(),
            stage: Stage::Collecting { vocabulary: Vocabulary::default(), ended: Vec::new() },
            statistics: DetectorStatistics::default(),
            asked: Asked::default(),
        }
    }

    fn phase(&self) -> Phase {
        match &self.stage {
            Stage::Collecting { .. } => Phase::WarmingUp,
            Stage::Training { .. } => Phase::Training,
            Stage::Ready(_) => Phase::Detecting,
        }
    }

    /// Ends sessions that have been silent until `now`, and takes the model up when its time has come.
    fn pass_time(&mut self, now: EventTime, work: &mut Work) -> Result<()> {
        let gap = self.settings.gap_ns;
        self.now = self.now.max(now);
        loop {
            let due = match gap {
                0 => None,
                _ => self.sessions.silent_since(EventTime(now.0.saturating_sub(gap))),
            };
            let due = due.map(|(name, last)| (name, EventTime(last.0.saturating_add(gap))));
            if let Stage::Training { from, .. } = &self.stage
                && *from <= now
                && due.as_ref().is_none_or(|(_, end)| from <= end)
            {
                self.swap()?;
                continue;
            }
            match due {
                Some((name, end)) => self.close(&name, end, work),
                None => return Ok(()),
            }
        }
    }

    /// Takes the trained model up.
    fn swap(&mut self) -> Result<()> {
        let Stage::Training { vocabulary, task, from } = &self.stage else { return Ok(()) };
        let finished = task.wait();
        let Trained { keys: model, values } = match &finished.value {
            Ok(trained) => trained.clone(),
            Err(problem) => {
                return Err(OperatorError::evaluation("training of deeplog", problem.clone()));
            }
        };
        self.statistics.rebuilds += 1;
        self.statistics.rebuild_ns += u64::try_from(finished.took.as_nanos()).unwrap_or(u64::MAX);
        // Open sessions go on under the symbols of the model.
        let known: Vec<u32> = (0..vocabulary.symbols() as u32)
            .map(|symbol| {
                if symbol <= SESSION_END {
                    symbol
                } else {
                    model.vocabulary.symbol(vocabulary.name(symbol))
                }
            })
            .collect();
        let translate = |symbol: u32| known.get(symbol as usize).copied().unwrap_or(UNKNOWN);
        self.sessions.each(|session| {
            session.window.iter_mut().for_each(|symbol| *symbol = translate(*symbol));
            let mut counts = CountVector::new();
            for (symbol, count) in &session.counts {
                (0..*count).for_each(|_| counts::count(&mut counts, translate(*symbol)));
            }
            session.counts = counts;
            session.kept = Vec::new();
            session.trace.translate(vocabulary, translate);
        });
        self.explainer.take_up(&model.vocabulary, *from);
        self.values.take_up(values.as_ref());
        self.stage = Stage::Ready(Box::new(model));
        Ok(())
    }

    /// Ends a session.
    fn close(&mut self, name: &str, end: EventTime, work: &mut Work) {
        let Some(place) = self.sessions.close(name) else { return };
        let framing = self.settings.keys.framing();
        let Some(session) = self.sessions.get(place) else { return };
        if let Stage::Ready(_) = &self.stage {
            let window = Window::of(std::mem::take(&mut session.window));
            if let Some(history) = window.history(framing).filter(|_| framing.end) {
                self.asked.ask(history, place, SESSION_END, None, end);
            }
            self.asked.closed.push((place, end));
            return;
        }
        let Some(session) = self.sessions.free(place) else { return };
        let judgement = SessionJudgement {
            entries: counts::entries(&session.counts),
            ..SessionJudgement::default()
        };
        work.ended.push(SessionAnswer {
            name: session.name,
            start: session.start,
            end,
            judgement,
            verdict: None,
            reasons: Vec::new(),
        });
        self.explainer.ended(session.trace);
        if let Stage::Collecting { .. } = &self.stage {
            self.values.ended(name);
        }
        if let Stage::Collecting { vocabulary, ended } = &mut self.stage {
            ended.push(session.kept);
            if ended.len() >= self.settings.training {
                let (vocabulary, ended) = (std::mem::take(vocabulary), std::mem::take(ended));
                let from = EventTime(end.0.saturating_add(self.settings.swap_after_ns));
                let task = self.train(&vocabulary, ended);
                self.explainer.draw(&self.settings.executor, &vocabulary, &task);
                self.stage = Stage::Training { vocabulary, task, from };
            }
        }
    }

    fn train(
        &mut self,
        vocabulary: &Vocabulary,
        ended: Vec<Vec<u32>>,
    ) -> Task<Result<Trained, String>> {
        let keys = self.settings.keys;
        let names = vocabulary.names().to_vec();
        let lesson = self.values.lesson();
        let state = Arc::clone(&self.settings.training_state);
        Task::start(&self.settings.executor, move || {
            // Keys that no ended session holds are unknown to the model.
            let (all, mut known) = (Vocabulary::new(names), Vocabulary::default());
            let session = |session: Vec<u32>, known: &mut Vocabulary| -> Vec<u32> {
                session.into_iter().map(|symbol| known.add(all.name(symbol))).collect()
            };
            let sessions: Vec<Vec<u32>> =
                ended.into_iter().map(|s| session(s, &mut known)).collect();
            let tell = |now| *lock(&state) = now;
            let mut go = |progress: &super::TrainingProgress| {
                tell(Some(TrainingState {
                    epoch: progress.epoch as u64,
                    epochs_max: progress.epochs_max as u64,
                    loss: progress.loss,
                }));
                ControlFlow::Continue(())
            };
            let trained = KeyModel::train_symbols(known, &sessions, &keys, &mut go)
                .and_then(|keys| Ok(Trained { keys, values: lesson.learn()? }));
            tell(None);
            trained.map_err(|error| error_text(&error))
        })
    }

    /// Takes one entry in.
    fn enter(
        &mut self,
        row: usize,
        name: &str,
        key: &str,
        time: EventTime,
        vector: Option<Vec<f64>>,
        work: &mut Work,
    ) -> Result<()> {
        self.pass_time(time, work)?;
        let framing = self.settings.keys.framing();
        let symbol = match &mut self.stage {
            Stage::Collecting { vocabulary, .. } => vocabulary.add(key),
            Stage::Training { vocabulary, .. } => vocabulary.symbol(key),
            Stage::Ready(model) => match model.vocabulary.symbol(key) {
                UNKNOWN => self.raised.number(key),
                symbol => symbol,
            },
        };
        let place = match self.sessions.place(name) {
            Some(place) => place,
            None => {
                if self.sessions.len() >= self.settings.sessions_max
                    && let Some((oldest, _)) = self.sessions.silent_since(EventTime::MAX)
                {
                    self.statistics.evicted += 1;
                    self.close(&oldest, time, work);
                }
                self.sessions.open(Session {
                    name: name.to_owned(),
                    start: time,
                    last: time,
                    window: Window::new(framing).into_symbols(),
                    counts: CountVector::new(),
                    kept: Vec::new(),
                    judgement: SessionJudgement::default(),
                    trace: Trace::default(),
                })
            }
        };
        let Some(session) = self.sessions.get(place) else { return Ok(()) };
        let answer = &mut work.rows[row];
        answer.place = counts::entries(&session.counts);
        let mut window = Window::of(std::mem::take(&mut session.window));
        match &self.stage {
            Stage::Ready(_) => match window.history(framing) {
                Some(history) => {
                    if let Some(vector) = vector {
                        self.asked.vectors.insert(self.asked.questions.len(), vector);
                    }
                    self.asked.ask(history, place, symbol, Some(row), time);
                }
                None => {
                    let unseen = u32::from(known(symbol) == UNKNOWN);
                    session.judgement.unseen += unseen;
                    session.judgement.abnormal += unseen;
                }
            },
            Stage::Collecting { .. } if session.kept.len() < KEPT_MAX => {
                session.kept.push(symbol);
                if let Some(vector) = vector.filter(|_| window.history(framing).is_some()) {
                    self.values.gather(name, key, (time, self.statistics.rows), vector);
                }
            }
            Stage::Collecting { .. } => {}
            Stage::Training { .. } => {
                if let Some(vector) =
                    vector.filter(|_| symbol != UNKNOWN && window.history(framing).is_some())
                {
                    self.values.late(key, (time, self.statistics.rows), vector);
                }
            }
        }
        self.explainer.note(&mut session.trace, known(symbol), key, time);
        window.push(framing, symbol);
        session.window = window.into_symbols();
        session.last = time;
        counts::count(&mut session.counts, symbol);
        answer.phase = Some(self.phase());
        if self.settings.end_keys.contains(key) {
            self.close(name, time, work);
        }
        Ok(())
    }

    /// Answers what was asked, as far as the network has said what it expects.
    fn answer(
        &mut self,
        asked: &mut Asked,
        work: &mut Work,
        waker: Option<&Waker>,
    ) -> Result<Poll<()>> {
        let Stage::Ready(model) = &mut self.stage else { return Ok(Poll::Ready(())) };
        let settings = &self.settings;
        let Asked { histories, questions, times, told_apart, vectors, closed, places, done } =
            asked;
        let bounds = model.bounds;
        let raising = surprise_bound(settings, model);
        let mut together = model.predictor.together_max();
        if let Some(asking) = &self.asking {
            together = together.min(asking.service().settings().launch_rows_max).max(1);
        }
        let width = settings.keys.framing().history;
        let outputs = model.vocabulary.outputs();
        while *done < questions.len() {
            let first = *done;
            let part = &questions[first..questions.len().min(first + together)];
            let histories = &histories[first * width..(first + part.len()) * width];
            match (&mut self.asking, waker) {
                (Some(asking), Some(waker)) => {
                    match model.predictor.poll_places(histories, places, asking, waker) {
                        Poll::Pending => return Ok(Poll::Pending),
                        Poll::Ready(found) => found?,
                    }
                }
                _ => model.predictor.places(histories, outputs, places),
            }
            *done += part.len();
            for (index, ((session, symbol, row), place)) in
                part.iter().zip(places.iter()).enumerate()
            {
                let entry = model.entry(*place, known(*symbol));
                let history = told_apart
                    .get(&(first + index))
                    .map_or(&histories[index * width..(index + 1) * width], Vec::as_slice);
                let time = times[first + index];
                if let Some(session) = self.sessions.get(*session) {
                    session.judgement.see(entry, bounds);
                    if entry.is_abnormal(bounds) || entry.nll() > raising {
                        self.raised.entry(&session.name, time, row.is_none(), history, *symbol);
                    }
                }
                let Some(row) = row else { continue };
                let answer = &mut work.rows[*row];
                (answer.score, answer.threshold) = match settings.by_surprise {
                    true => (entry.nll(), entry_bound(settings, model)),
                    false => match entry.rank {
                        Rank::Key(rank) => (f64::from(rank), bounds.top as f64),
                        // Behind every key.
                        Rank::Unseen | Rank::End => {
                            ((outputs.max(bounds.top) + 1) as f64, bounds.top as f64)
                        }
                    },
                };
                answer.is_anomaly = entry.rank == Rank::Unseen || answer.score > answer.threshold;
                answer.entry = Some(entry);
                if answer.is_anomaly {
                    self.statistics.anomalies += 1;
                    answer.expected = expected_text(&model.expected(*place, settings.expected));
                    answer.explanation = match entry.rank {
                        Rank::Key(rank) => format!(
                            "probability {:.2e}, rank {rank} of {}; expected {}",
                            entry.probability,
                            outputs - 1,
                            answer.expected
                        ),
                        Rank::Unseen | Rank::End => {
                            format!("a key that training never saw; expected {}", answer.expected)
                        }
                    };
                    continue;
                }
                // Values are asked where the key has nothing to say (DL-12).
                let Some(vector) = vectors.get(&(first + index)) else { continue };
                let key = model.vocabulary.name(*symbol);
                let Some(found) = self.values.judge(key, vector) else { continue };
                answer.values = Some((found.error, found.bound));
                if found.is_anomaly {
                    self.statistics.anomalies += 1;
                    (answer.score, answer.threshold) = (found.error, found.bound);
                    answer.is_anomaly = true;
                    (answer.expected, answer.explanation) = (found.expected, found.explanation);
                    if let Some(session) = self.sessions.get(*session) {
                        session.judgement.values = session.judgement.values.saturating_add(1);
                        let run = self.values.run(key);
                        self.raised.values(&session.name, time, history, *symbol, run);
                    }
                }
            }
        }
        histories.clear();
        questions.clear();
        *done = 0;
        times.clear();
        told_apart.clear();
        vectors.clear();
        for (place, end) in closed.drain(..) {
            let Some(mut session) = self.sessions.free(place) else { continue };
            model.close(&counts::known(&session.counts), &mut session.judgement);
            let (verdict, reasons) = verdict(settings, model, &session.judgement);
            if verdict.2 {
                self.raised.verdict(&session.name, end, &session.counts);
            }
            let how = (end, verdict.2);
            let vocabulary = &model.vocabulary;
            let odd = self.explainer.diagnose(&session.name, &session.trace, how, vocabulary);
            work.diagnosed.extend(odd);
            work.ended.push(SessionAnswer {
                name: session.name,
                start: session.start,
                end,
                judgement: session.judgement,
                verdict: Some(verdict),
                reasons,
            });
        }
        Ok(Poll::Ready(()))
    }

    /// Answers some work, or leaves it open where a service is to be asked.
    fn finish(
        &mut self,
        rows: Option<&RecordBatch>,
        mut work: Work,
        out: &mut Answers,
    ) -> Result<()> {
        let mut asked = std::mem::take(&mut self.asked);
        if self.asking.is_some() && matches!(self.stage, Stage::Ready(_)) {
            self.open.push_back(Piece { rows: rows.cloned(), work, asked });
            return Ok(());
        }
        let answered = self.answer(&mut asked, &mut work, None);
        self.asked = asked;
        // Without a service it is ready.
        let Poll::Ready(()) = answered? else { return Ok(()) };
        self.write(rows, &work, out)
    }

    /// Writes the answers of some work.
    fn write(&mut self, rows: Option<&RecordBatch>, work: &Work, out: &mut Answers) -> Result<()> {
        if let Some(rows) = rows.filter(|rows| rows.num_rows() > 0) {
            write_rows(&self.settings, rows, &work.rows, 1, out)?;
        }
        write_sessions(&self.settings, &work.ended, out)?;
        if let Some((at, workflows)) = self.explainer.news() {
            write_workflows(&self.settings, at, workflows, out)?;
        }
        write_diagnoses(&self.settings, &work.diagnosed, out)
    }
}

/// Answers to the rows of one batch, and to sessions that ended meanwhile.
#[derive(Default)]
struct Work {
    rows: Vec<RowAnswer>,
    ended: Vec<SessionAnswer>,
    diagnosed: Vec<SessionDiagnosis>,
}

impl Detector for DeepLogDetector {
    fn process(&mut self, rows: &RecordBatch, out: &mut Answers) -> Result<()> {
        let settings = Arc::clone(&self.settings);
        let columns = &settings.columns;
        let same = rows.num_columns() == columns.input.fields().len()
            && rows
                .schema_ref()
                .fields()
                .iter()
                .zip(columns.input.fields())
                .all(|(a, b)| a.data_type() == b.data_type());
        if !same {
            return Err(OperatorError::Columns {
                owner: format!("detector kind \"{NAME}\""),
                problem: "was given a batch of other columns than planned".into(),
                hint: "give it the columns that it was planned over".into(),
            });
        }
        let times = cast(rows.column(columns.time), &DataType::Int64)?;
        let times: &Int64Array = times.as_primitive::<Int64Type>();
        if times.null_count() > 0 {
            return Err(OperatorError::Columns {
                owner: format!("detector kind \"{NAME}\""),
                problem: "was given NULL as an event time".into(),
                hint: "leave rows without event time out".into(),
            });
        }
        let keys = as_text(rows.column(columns.key))?;
        let keys = keys.as_string::<i32>();
        let names = columns.session.map(|session| as_text(rows.column(session))).transpose()?;
        let unit = unit_ns(columns.unit);
        let vectors = settings.values.as_ref().map(|values| values.of(rows)).transpose()?;
        let mut work =
            Work { rows: vec![RowAnswer::default(); rows.num_rows()], ..Work::default() };
        for row in 0..rows.num_rows() {
            let time = EventTime(times.value(row).saturating_mul(unit));
            self.statistics.rows += 1;
            let name = names.as_ref().map(AsArray::as_string::<i32>);
            let is_missing = keys.is_null(row) || name.is_some_and(|names| names.is_null(row));
            if is_missing {
                self.statistics.missing += 1;
                self.pass_time(time, &mut work)?;
                work.rows[row].phase = Some(self.phase());
                continue;
            }
            let name = name.map_or("", |names| names.value(row));
            let vector = vectors.as_ref().and_then(|vectors| vectors.vector(row));
            self.enter(row, name, keys.value(row), time, vector, &mut work)?;
        }
        self.finish(Some(rows), work, out)
    }

    fn advance(&mut self, watermark: EventTime, out: &mut Answers) -> Result<()> {
        let mut work = Work::default();
        if watermark > EventTime::MIN {
            self.pass_time(watermark, &mut work)?;
        }
        self.finish(None, work, out)
    }

    fn poll(&mut self, waker: &Waker, out: &mut Answers) -> Result<Poll<()>> {
        while let Some(mut piece) = self.open.pop_front() {
            if self.answer(&mut piece.asked, &mut piece.work, Some(waker))?.is_pending() {
                self.open.push_front(piece);
                return Ok(Poll::Pending);
            }
            self.write(piece.rows.as_ref(), &piece.work, out)?;
        }
        Ok(Poll::Ready(()))
    }

    fn feedback(&mut self, rows: &RecordBatch) -> Result<FeedbackTaken> {
        let settings = Arc::clone(&self.settings);
        let mut taken = FeedbackTaken { found: vec![false; rows.num_rows()], ..Default::default() };
        let Stage::Ready(model) = &self.stage else { return Ok(taken) };
        // All of it is tried on copies, so that nothing has changed if learning fails.
        let (mut raised, mut excused) = (self.raised.clone(), Vec::new());
        let asked = named(&settings, rows)?;
        for ((session, time), found) in asked.into_iter().zip(&mut taken.found) {
            if let Some(entries) = raised.take_back(&session, time, self.now) {
                *found = true;
                excused.extend(entries.into_iter().map(|entry| (entry, time.is_none())));
            }
        }
        let mut model = (**model).clone();
        model.admit(&raised.confirmed())?;
        let lesson = raised.lesson(&|key| model.vocabulary.symbol(key));
        let bound = surprise_bound(&settings, &model);
        model.learn_pairs(lesson.pairs, bound, settings.feedback_steps)?;
        lesson.vectors.iter().for_each(|vector| model.learn_counts(vector));
        let mut values = self.values.clone();
        for (symbol, run) in &lesson.runs {
            values.learn(model.vocabulary.name(*symbol), run)?;
        }
        (taken.anomalies, taken.waiting) = (lesson.learned, lesson.waiting);
        // Open sessions go on under the symbols that there are now, and without what was taken back.
        let symbol = |key: &str| model.vocabulary.symbol(key);
        self.sessions.each(|session| {
            session.window.iter_mut().for_each(|number| {
                let now = raised.resolved(*number, &symbol);
                *number = if now == UNKNOWN { *number } else { now };
            });
            for (number, _) in &mut session.counts {
                let now = raised.resolved(*number, &symbol);
                *number = if now == UNKNOWN { *number } else { now };
            }
            session.counts.sort_unstable();
        });
        for (entry, is_whole) in excused {
            let Some(place) = self.sessions.place(&entry.session) else { continue };
            let Some(session) = self.sessions.get(place) else { continue };
            if entry.time >= session.start && entry.by_values {
                session.judgement.values = session.judgement.values.saturating_sub(1);
            } else if entry.time >= session.start {
                session.judgement.excuse(entry.is_unseen, is_whole);
            }
        }
        (self.raised, self.stage) = (raised, Stage::Ready(Box::new(model)));
        self.values = values;
        Ok(taken)
    }

    fn statistics(&self) -> DetectorStatistics {
        let (models, bytes) = match &self.stage {
            Stage::Ready(model) => (1, model.heap_bytes()),
            Stage::Collecting { vocabulary, ended } => (
                0,
                vocabulary.heap_bytes()
                    + ended.iter().map(|s| s.capacity() * 4 + 24).sum::<usize>(),
            ),
            Stage::Training { vocabulary, .. } => (0, vocabulary.heap_bytes()),
        };
        let bytes = (bytes + self.sessions.heap_bytes() + self.raised.heap_bytes()) as u64
            + self.values.heap_bytes() as u64;
        let unjudged = self.values.unjudged();
        DetectorStatistics { models, ready: models, bytes, unjudged, ..self.statistics }
    }

    fn snapshot(&self) -> Result<Vec<u8>> {
        self.written()
    }

    fn restore(&mut self, snapshot: &[u8]) -> Result<()> {
        self.take_up(snapshot)
    }

    fn adopt(&mut self, snapshots: &[Vec<u8>], share: KeyShare) -> Result<()> {
        self.go_on(snapshots, share)?;
        self.explainer.tell_again();
        Ok(())
    }

    fn go_on(&mut self, snapshots: &[Vec<u8>], share: KeyShare) -> Result<()> {
        self.take_share(snapshots, share)
    }
}

/// What rows of feedback name: a session, and the time of an entry or all that was raised.
fn named(settings: &Settings, rows: &RecordBatch) -> Result<Vec<(String, Option<EventTime>)>> {
    let columns = &settings.columns;
    let column = |place: usize| {
        rows.column_by_name(columns.input.field(place).name()).ok_or_else(|| {
            OperatorError::Columns {
                owner: format!("detector kind \"{NAME}\""),
                problem: "was given feedback of other columns than it asked for".into(),
                hint: "give the columns of its feedback schema".into(),
            }
        })
    };
    let sessions = columns.session.map(|place| as_text(column(place)?)).transpose()?;
    let times = cast(column(columns.time)?, &DataType::Int64)?;
    let times: &Int64Array = times.as_primitive::<Int64Type>();
    let unit = unit_ns(columns.unit);
    let name =
        |row: usize| sessions.as_ref().map_or("", |names| names.as_string::<i32>().value(row));
    let time = |row| times.is_valid(row).then(|| EventTime(times.value(row).saturating_mul(unit)));
    Ok((0..rows.num_rows()).map(|row| (name(row).to_owned(), time(row))).collect())
}

/// An error with its causes, in one line.
fn error_text(error: &OperatorError) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        cause = inner.source();
    }
    text
}
