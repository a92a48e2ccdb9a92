//! What was raised, remembered for a while so that feedback can take it back (DL-13).
//!
//! Feedback that an entry was no anomaly is a lesson: its key is normal after its history. A key that training never saw
//! is another matter, since what is normal once may be a sign of trouble everywhere else: it becomes known (DL-14) once
//! at least half of the sessions that were raised for it, of those remembered, have been called normal. Until then such
//! an entry waits.
//!
//! Sessions with the oldest anomalies are forgotten first.

use std::collections::{BTreeMap, BTreeSet};

use hashbrown::HashMap;
use serde::{Deserialize, Serialize};

use super::counts::{self, CountVector};
use super::network::Fresh;
use super::vocabulary::UNKNOWN;
use crate::time::EventTime;

/// Marks the number of a key that training never saw; the rest is its place among such keys.
const UNSEEN: u32 = 1 << 31;

/// A symbol as models know it.
pub(super) fn known(symbol: u32) -> u32 {
    if symbol & UNSEEN == 0 { symbol } else { UNKNOWN }
}

/// What has become of an anomaly.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Fate {
    /// Nobody has said anything.
    Raised,
    /// It was called normal, and is not learned yet.
    Waiting,
    /// It was called normal and learned.
    Learned,
}

/// An entry that was raised; of a session's end the time is that of the end.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct RaisedEntry {
    time: EventTime,
    /// Whether it is the end of a session.
    is_end: bool,
    history: Vec<u32>,
    symbol: u32,
    /// Values of its key, the last its own, if it was raised for them; else none.
    run: Vec<f32>,
    fate: Fate,
}

/// What was raised of one session: entries, and counts of its keys if it was raised as a whole.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct RaisedSession {
    latest: EventTime,
    entries: Vec<RaisedEntry>,
    verdicts: Vec<(EventTime, CountVector, Fate)>,
}

impl RaisedSession {
    fn held(&self) -> usize {
        self.entries.len() + self.verdicts.len()
    }

    /// Numbers of the values of its entries.
    fn numbers(&self) -> usize {
        self.entries.iter().map(|entry| entry.run.len()).sum()
    }
}

/// All that is remembered.
#[derive(Clone, Debug)]
pub(super) struct Raised {
    sessions: BTreeMap<String, RaisedSession>,
    /// Sessions in the order of their latest anomalies.
    order: BTreeSet<(EventTime, String)>,
    /// Keys that training never saw, in the order in which they came.
    unseen: Vec<String>,
    numbers: HashMap<String, u32>,
    held: usize,
    /// Numbers of values among them.
    numbers_held: usize,
    held_max: usize,
    within_ns: i64,
}

/// What is remembered, as it is saved.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct SavedRaised {
    sessions: Vec<(String, RaisedSession)>,
    unseen: Vec<String>,
}

/// What feedback says of open sessions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Excused {
    pub(super) session: String,
    pub(super) time: EventTime,
    pub(super) is_unseen: bool,
    /// Whether it was raised for its values.
    pub(super) by_values: bool,
}

/// What there is to learn.
#[derive(Clone, Debug, Default)]
pub(super) struct Lesson {
    pub(super) pairs: Fresh,
    /// Symbols with the values of their keys, the last of which is normal.
    pub(super) runs: Vec<(u32, Vec<f32>)>,
    pub(super) vectors: Vec<CountVector>,
    /// Anomalies that these are.
    pub(super) learned: u64,
    /// Anomalies that still wait.
    pub(super) waiting: u64,
}

impl Raised {
    /// Remembers so many anomalies, each for so long.
    pub(super) fn new(held_max: usize, within_ns: i64) -> Self {
        Self {
            sessions: BTreeMap::new(),
            order: BTreeSet::new(),
            unseen: Vec::new(),
            numbers: HashMap::new(),
            held: 0,
            numbers_held: 0,
            held_max,
            within_ns,
        }
    }

    /// The number of a key that the model does not know. As many keys as anomalies get one.
    pub(super) fn number(&mut self, key: &str) -> u32 {
        if let Some(number) = self.numbers.get(key) {
            return *number;
        }
        if self.unseen.len() >= self.held_max {
            return UNKNOWN;
        }
        let number = UNSEEN | self.unseen.len() as u32;
        self.unseen.push(key.to_owned());
        self.numbers.insert(key.to_owned(), number);
        number
    }

    fn key(&self, symbol: u32) -> Option<&String> {
        if symbol & UNSEEN == 0 { None } else { self.unseen.get((symbol & !UNSEEN) as usize) }
    }

    /// The symbol under which the model knows a key by now.
    pub(super) fn resolved(&self, symbol: u32, of: &impl Fn(&str) -> u32) -> u32 {
        self.key(symbol).map_or(known(symbol), |key| of(key))
    }

    /// The same for counts.
    pub(super) fn resolved_counts(
        &self,
        vector: &CountVector,
        of: &impl Fn(&str) -> u32,
    ) -> CountVector {
        let mut resolved = CountVector::new();
        for (symbol, count) in vector {
            let symbol = self.resolved(*symbol, of);
            (0..*count).for_each(|_| counts::count(&mut resolved, symbol));
        }
        resolved
    }

    /// Remembers an entry that was raised, or the end of its session.
    pub(super) fn entry(
        &mut self,
        session: &str,
        time: EventTime,
        is_end: bool,
        history: &[u32],
        symbol: u32,
    ) {
        let (history, run) = (history.to_vec(), Vec::new());
        let entry = RaisedEntry { time, is_end, history, symbol, run, fate: Fate::Raised };
        self.add(session, time, |raised| raised.entries.push(entry));
    }

    /// Remembers an entry that was raised for its values: `run` are those of its key, the last its own.
    pub(super) fn values(
        &mut self,
        session: &str,
        time: EventTime,
        history: &[u32],
        symbol: u32,
        run: Vec<f32>,
    ) {
        let (history, numbers) = (history.to_vec(), run.len());
        let entry = RaisedEntry { time, is_end: false, history, symbol, run, fate: Fate::Raised };
        if self.held_max > 0 {
            self.numbers_held += numbers;
            self.add(session, time, |raised| raised.entries.push(entry));
        }
    }

    /// Remembers a session that was raised as a whole.
    pub(super) fn verdict(&mut self, session: &str, end: EventTime, counts: &CountVector) {
        let verdict = (end, counts.clone(), Fate::Raised);
        self.add(session, end, |raised| raised.verdicts.push(verdict));
    }

    fn add(&mut self, session: &str, time: EventTime, add: impl FnOnce(&mut RaisedSession)) {
        if self.held_max == 0 {
            return;
        }
        let raised = self.sessions.entry(session.to_owned()).or_insert_with(|| RaisedSession {
            latest: time,
            entries: Vec::new(),
            verdicts: Vec::new(),
        });
        self.order.remove(&(raised.latest, session.to_owned()));
        raised.latest = raised.latest.max(time);
        add(raised);
        self.held += 1;
        self.order.insert((raised.latest, session.to_owned()));
        while self.held > self.held_max
            || self.order.first().is_some_and(|(t, _)| self.is_past(*t, time))
        {
            let Some((_, oldest)) = self.order.pop_first() else { break };
            let Some(raised) = self.sessions.remove(&oldest) else { continue };
            self.held -= raised.held();
            self.numbers_held -= raised.numbers();
        }
    }

    fn is_past(&self, time: EventTime, now: EventTime) -> bool {
        time.0.saturating_add(self.within_ns) < now.0
    }

    /// Takes back the anomalies of a session, all of them or those of one time. Gives entries that nobody had called
    /// normal before, or `None` if nothing is remembered that this could mean.
    pub(super) fn take_back(
        &mut self,
        session: &str,
        time: Option<EventTime>,
        now: EventTime,
    ) -> Option<Vec<Excused>> {
        let within_ns = self.within_ns;
        let raised = self.sessions.get_mut(session)?;
        let is_meant = |of: EventTime, is_entry: bool| {
            of.0.saturating_add(within_ns) >= now.0
                && time.is_none_or(|time| is_entry && time == of)
        };
        let (mut found, mut excused) = (false, Vec::new());
        for entry in raised.entries.iter_mut().filter(|e| is_meant(e.time, !e.is_end)) {
            found = true;
            if entry.fate == Fate::Raised {
                entry.fate = Fate::Waiting;
                excused.push(Excused {
                    session: session.to_owned(),
                    time: entry.time,
                    is_unseen: known(entry.symbol) == UNKNOWN,
                    by_values: !entry.run.is_empty(),
                });
            }
        }
        for (_, _, fate) in raised.verdicts.iter_mut().filter(|(end, ..)| is_meant(*end, false)) {
            found = true;
            if *fate == Fate::Raised {
                *fate = Fate::Waiting;
            }
        }
        found.then_some(excused)
    }

    /// Keys that training never saw, and of whose sessions at least half have been called normal.
    pub(super) fn confirmed(&self) -> Vec<String> {
        let mut sessions: BTreeMap<u32, (u64, u64)> = BTreeMap::new();
        for raised in self.sessions.values() {
            let mut of_session: BTreeMap<u32, bool> = BTreeMap::new();
            for entry in raised.entries.iter().filter(|entry| entry.symbol & UNSEEN != 0) {
                let is_normal = of_session.entry(entry.symbol).or_insert(true);
                *is_normal &= entry.fate != Fate::Raised;
            }
            for (symbol, is_normal) in of_session {
                let (normal, all) = sessions.entry(symbol).or_default();
                *normal += u64::from(is_normal);
                *all += 1;
            }
        }
        let most = sessions.into_iter().filter(|(_, (normal, all))| 2 * normal >= *all);
        most.filter_map(|(symbol, _)| self.key(symbol).cloned()).collect()
    }

    /// What waits to be learned, now that keys have the symbols that `of` gives; what cannot be learned yet waits on.
    pub(super) fn lesson(&mut self, of: &impl Fn(&str) -> u32) -> Lesson {
        let mut lesson = Lesson::default();
        let mut sessions = std::mem::take(&mut self.sessions);
        for raised in sessions.values_mut() {
            for entry in raised.entries.iter_mut().filter(|e| e.fate == Fate::Waiting) {
                let symbol = self.resolved(entry.symbol, of);
                if symbol == UNKNOWN {
                    lesson.waiting += 1;
                    continue;
                }
                if entry.run.is_empty() {
                    let history = entry.history.iter().map(|symbol| self.resolved(*symbol, of));
                    lesson.pairs.push((history.collect(), symbol));
                } else {
                    lesson.runs.push((symbol, std::mem::take(&mut entry.run)));
                    self.numbers_held -= lesson.runs.last().map_or(0, |(_, run)| run.len());
                }
                lesson.learned += 1;
                entry.fate = Fate::Learned;
            }
            for (_, vector, fate) in raised.verdicts.iter_mut().filter(|v| v.2 == Fate::Waiting) {
                let vector = self.resolved_counts(vector, of);
                if vector.iter().any(|(symbol, _)| *symbol == UNKNOWN) {
                    lesson.waiting += 1;
                    continue;
                }
                lesson.vectors.push(vector);
                lesson.learned += 1;
                *fate = Fate::Learned;
            }
        }
        self.sessions = sessions;
        lesson
    }

    pub(super) fn save(&self) -> SavedRaised {
        let sessions = self.sessions.iter().map(|(name, raised)| (name.clone(), raised.clone()));
        SavedRaised { sessions: sessions.collect(), unseen: self.unseen.clone() }
    }

    /// Takes up what was saved; `None` if histories are not of so many symbols.
    pub(super) fn restore(mut self, saved: SavedRaised, history: usize) -> Option<Self> {
        let entries = saved.sessions.iter().flat_map(|(_, raised)| &raised.entries);
        if !entries.into_iter().all(|entry| entry.history.len() == history) {
            return None;
        }
        self.order = saved.sessions.iter().map(|(name, r)| (r.latest, name.clone())).collect();
        self.held = saved.sessions.iter().map(|(_, raised)| raised.held()).sum();
        self.numbers_held = saved.sessions.iter().map(|(_, raised)| raised.numbers()).sum();
        self.sessions = saved.sessions.into_iter().collect();
        let numbers = (0..).zip(&saved.unseen).map(|(place, key)| (key.clone(), UNSEEN | place));
        self.numbers = numbers.collect();
        self.unseen = saved.unseen;
        Some(self)
    }

    pub(super) fn heap_bytes(&self) -> usize {
        let entry = size_of::<RaisedEntry>() + 64;
        self.held * entry
            + self.numbers_held * 4
            + self.sessions.len() * 192
            + self.unseen.len() * 96
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000_000;

    fn at(seconds: i64) -> EventTime {
        EventTime(seconds * SECOND)
    }

    fn no_key(_: &str) -> u32 {
        UNKNOWN
    }

    #[test]
    fn the_oldest_is_forgotten_and_what_is_past_is_not_found() {
        let mut raised = Raised::new(3, 100 * SECOND);
        for (i, name) in ["a", "b", "a", "c"].into_iter().enumerate() {
            raised.entry(name, at(i as i64), false, &[3, 4], 5);
        }
        assert_eq!(raised.take_back("b", None, at(3)), None, "b was oldest, since a went on");
        assert_eq!(raised.take_back("a", None, at(103)), None, "both of a are past");
        let excused = raised.take_back("a", None, at(101)).unwrap();
        assert_eq!(excused.len(), 1, "one of them is not");
        assert_eq!(raised.take_back("c", Some(at(2)), at(3)), None, "nothing was raised then");
        assert_eq!(raised.take_back("c", Some(at(3)), at(3)).unwrap().len(), 1);
        assert_eq!(raised.take_back("c", None, at(3)), Some(Vec::new()), "it was taken back");
        let lesson = raised.lesson(&no_key);
        assert_eq!((lesson.learned, lesson.waiting, lesson.pairs.len()), (2, 0, 2));
        assert_eq!(raised.lesson(&no_key).learned, 0, "a lesson is given once");
        let mut none = Raised::new(0, SECOND);
        none.entry("a", at(0), false, &[3], 5);
        assert_eq!((none.take_back("a", None, at(0)), none.number("k")), (None, UNKNOWN));
    }

    /// DL-14: one session that was fine does not make the key fine that a hundred others were raised for.
    #[test]
    fn keys_become_known_by_most_of_their_sessions() {
        let mut raised = Raised::new(100, 100 * SECOND);
        let key = raised.number("retry");
        for name in ["a", "b", "c"] {
            raised.entry(name, at(1), false, &[3, key], key);
            raised.verdict(name, at(2), &vec![(3, 1), (key, 2)]);
        }
        raised.take_back("a", None, at(2));
        assert_eq!(raised.confirmed(), Vec::<String>::new(), "one of three");
        let lesson = raised.lesson(&no_key);
        assert_eq!((lesson.learned, lesson.waiting), (0, 2));
        raised.take_back("b", None, at(2));
        assert_eq!(raised.confirmed(), ["retry"], "two of three");
        let as_seven = |name: &str| if name == "retry" { 7 } else { UNKNOWN };
        let lesson = raised.lesson(&as_seven);
        assert_eq!((lesson.learned, lesson.waiting), (4, 0));
        assert_eq!(lesson.pairs, vec![(vec![3, 7], 7); 2]);
        assert_eq!(lesson.vectors, vec![vec![(3, 1), (7, 2)]; 2]);
    }

    #[test]
    fn what_is_remembered_comes_back() {
        let mut raised = Raised::new(4, SECOND);
        let key = raised.number("retry");
        raised.entry("a", at(1), false, &[3, 4], key);
        raised.verdict("b", at(2), &vec![(3, 1)]);
        let saved = || raised.save();
        let back = Raised::new(4, SECOND).restore(saved(), 2).unwrap();
        assert_eq!(back.sessions, raised.sessions);
        assert_eq!((back.order, back.held), (raised.order.clone(), raised.held));
        assert_eq!((back.unseen, back.numbers), (raised.unseen.clone(), raised.numbers.clone()));
        assert!(Raised::new(4, SECOND).restore(saved(), 3).is_none());
    }
}
