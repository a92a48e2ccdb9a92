//! Open sessions: what came in each, and when each will have ended.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use hashbrown::HashMap;
use serde::{Deserialize, Serialize};

use super::counts::CountVector;
use super::explain::Trace;
use super::key_model::SessionJudgement;
use crate::time::EventTime;

/// Keys of a session that are kept to learn from.
pub(super) const KEPT_MAX: usize = 4_096;

/// An open session.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Session {
    pub(super) name: String,
    pub(super) start: EventTime,
    pub(super) last: EventTime,
    /// The latest symbols.
    pub(super) window: Vec<u32>,
    pub(super) counts: CountVector,
    /// All symbols, up to a bound, while sessions are collected for training.
    pub(super) kept: Vec<u32>,
    pub(super) judgement: SessionJudgement,
    /// What it is explained by.
    pub(super) trace: Trace,
}

/// Sessions by name. A session keeps its place until it is freed.
#[derive(Clone, Debug, Default)]
pub(super) struct Sessions {
    places: HashMap<String, u32>,
    slots: Vec<Option<Session>>,
    free: Vec<u32>,
    /// Ends that were foreseen; a session that went on since is put back with its new end when its turn comes.
    ends: BinaryHeap<Reverse<(EventTime, String)>>,
}

impl Sessions {
    pub(super) fn len(&self) -> usize {
        self.places.len()
    }

    pub(super) fn place(&self, name: &str) -> Option<u32> {
        self.places.get(name).copied()
    }

    pub(super) fn get(&mut self, place: u32) -> Option<&mut Session> {
        self.slots.get_mut(place as usize).and_then(Option::as_mut)
    }

    pub(super) fn open(&mut self, session: Session) -> u32 {
        let place = self.free.pop().unwrap_or(self.slots.len() as u32);
        if place as usize == self.slots.len() {
            self.slots.push(None);
        }
        self.places.insert(session.name.clone(), place);
        self.ends.push(Reverse((session.last, session.name.clone())));
        self.slots[place as usize] = Some(session);
        if self.ends.len() > 2 * self.places.len() + 1_024 {
            // Left behind by sessions that were ended by other means.
            let open = self.slots.iter().flatten().filter(|s| self.places.contains_key(&s.name));
            self.ends = open.map(|s| Reverse((s.last, s.name.clone()))).collect();
        }
        place
    }

    /// Takes a session out of the names; it keeps its place until [`Sessions::free`].
    pub(super) fn close(&mut self, name: &str) -> Option<u32> {
        self.places.remove(name)
    }

    pub(super) fn free(&mut self, place: u32) -> Option<Session> {
        let session = self.slots.get_mut(place as usize)?.take();
        self.free.push(place);
        session
    }

    /// The session silent for longest and its latest entry, if that was at or before `until`.
    pub(super) fn silent_since(&mut self, until: EventTime) -> Option<(String, EventTime)> {
        while let Some(Reverse((last, name))) = self.ends.peek() {
            if *last > until {
                return None;
            }
            let now = self
                .place(name)
                .and_then(|place| self.slots[place as usize].as_ref())
                .map(|s| s.last);
            if now == Some(*last) {
                return Some((name.clone(), *last));
            }
            let Reverse((_, name)) = self.ends.pop()?;
            if let Some(now) = now {
                self.ends.push(Reverse((now, name)));
            }
        }
        None
    }

    /// Open sessions, ordered by name.
    pub(super) fn sorted(&self) -> Vec<&Session> {
        let mut all: Vec<&Session> =
            self.places.values().filter_map(|place| self.slots[*place as usize].as_ref()).collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }

    pub(super) fn each(&mut self, mut change: impl FnMut(&mut Session)) {
        self.slots.iter_mut().flatten().for_each(&mut change);
    }

    pub(super) fn heap_bytes(&self) -> usize {
        self.slots.capacity() * size_of::<Option<Session>>()
            + self.places.len() * 160
            + self.ends.len() * 64
    }
}
