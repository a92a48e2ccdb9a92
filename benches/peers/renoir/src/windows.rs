//! Windows by renoir's own traits.
//!
//! Its `EventTimeWindow` begins at the first row that a key has, leaves out rows before that, and its `SessionWindow`
//! follows the clock on the wall. The queries ask for windows aligned to the clock of the rows, and for sessions in it.

use renoir::operator::window::{WindowAccumulator, WindowDescription, WindowManager, WindowResult};
use renoir::operator::{Data, StreamElement};

/// Windows of `size` every `slide`, which divides it, from 1970 on; in the unit of the timestamps.
#[derive(Clone)]
pub(crate) struct Aligned {
    size: i64,
    slide: i64,
}

impl Aligned {
    pub(crate) fn tumbling(size: i64) -> Aligned {
        Aligned { size, slide: size }
    }

    pub(crate) fn sliding(size: i64, slide: i64) -> Aligned {
        Aligned { size, slide }
    }
}

impl<T: Data> WindowDescription<T> for Aligned {
    type Manager<A: WindowAccumulator<In = T>> = AlignedManager<A>;

    fn build<A: WindowAccumulator<In = T>>(&self, accumulator: A) -> AlignedManager<A> {
        AlignedManager { init: accumulator, windows: self.clone(), open: Vec::new() }
    }
}

#[derive(Clone)]
pub(crate) struct AlignedManager<A> {
    init: A,
    windows: Aligned,
    /// With their starts; few.
    open: Vec<(i64, A)>,
}

impl<A: WindowAccumulator> WindowManager for AlignedManager<A> {
    type In = A::In;
    type Out = A::Out;
    type Output = Vec<WindowResult<A::Out>>;

    fn process(&mut self, element: StreamElement<A::In>) -> Self::Output {
        let Aligned { size, slide } = self.windows;
        let upto = match element {
            StreamElement::Timestamped(item, time) => {
                let mut start = time.div_euclid(slide) * slide;
                while start + size > time {
                    match self.open.iter_mut().find(|(open, _)| *open == start) {
                        Some((_, window)) => window.process(&item),
                        None => {
                            let mut window = self.init.clone();
                            window.process(&item);
                            self.open.push((start, window));
                        }
                    }
                    start -= slide;
                }
                return Vec::new();
            }
            StreamElement::Watermark(time) => time,
            StreamElement::FlushAndRestart | StreamElement::Terminate => i64::MAX,
            StreamElement::Item(_) => panic!("rows have timestamps"),
            StreamElement::FlushBatch => return Vec::new(),
        };
        let mut closed = Vec::new();
        let mut place = 0;
        while place < self.open.len() {
            if self.open[place].0.saturating_add(size) <= upto {
                let (start, window) = self.open.swap_remove(place);
                closed.push(WindowResult::Timestamped(window.output(), start + size));
            } else {
                place += 1;
            }
        }
        closed
    }

    fn recycle(&self) -> bool {
        self.open.is_empty()
    }
}

/// Sessions that end when a key has had no row for `gap`. Rows have to be in order, so it goes behind `reorder`.
#[derive(Clone)]
pub(crate) struct Sessions {
    pub(crate) gap: i64,
}

impl<T: Data> WindowDescription<T> for Sessions {
    type Manager<A: WindowAccumulator<In = T>> = SessionManager<A>;

    fn build<A: WindowAccumulator<In = T>>(&self, accumulator: A) -> SessionManager<A> {
        SessionManager { init: accumulator, gap: self.gap, open: None }
    }
}

#[derive(Clone)]
pub(crate) struct SessionManager<A> {
    init: A,
    gap: i64,
    /// With the time of its last row.
    open: Option<(i64, A)>,
}

impl<A: WindowAccumulator> WindowManager for SessionManager<A> {
    type In = A::In;
    type Out = A::Out;
    type Output = Option<WindowResult<A::Out>>;

    fn process(&mut self, element: StreamElement<A::In>) -> Self::Output {
        let (upto, row) = match element {
            StreamElement::Timestamped(item, time) => (time, Some(item)),
            StreamElement::Watermark(time) => (time, None),
            StreamElement::FlushAndRestart | StreamElement::Terminate => (i64::MAX, None),
            StreamElement::Item(_) => panic!("rows have timestamps"),
            StreamElement::FlushBatch => return None,
        };
        let gap = self.gap;
        let ended = self.open.take_if(|(last, _)| last.saturating_add(gap) <= upto);
        if let Some(item) = row {
            let (last, session) = self.open.get_or_insert_with(|| (upto, self.init.clone()));
            session.process(&item);
            *last = upto;
        }
        ended.map(|(last, session)| WindowResult::Timestamped(session.output(), last + gap))
    }

    fn recycle(&self) -> bool {
        self.open.is_none()
    }
}
