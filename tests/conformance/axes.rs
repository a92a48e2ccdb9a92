//! The axes of the matrix, and the names of its cells.

use std::fmt;

use super::case::Condition;
use crate::support::SECOND;

/// How rows that come late are mixed in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Late {
    None,
    /// After rows that they lie behind, by no more than the disorder: they count.
    Within,
    /// Below the watermark: they must be left out, and be found in `LATE(source)`.
    Beyond,
}

/// In which order rows come, never further apart than the source's disorder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    Sorted,
    Shuffled,
    Reversed,
}

/// Whether the engine ends on the way, and others go on from its checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Restored {
    Never,
    /// Once, on as many workers.
    Middle,
    /// Twice: from one worker to four, then to two.
    Rescaled,
}

impl Restored {
    fn name(self) -> &'static str {
        match self {
            Self::Never => "never",
            Self::Middle => "middle",
            Self::Rescaled => "1-4-2",
        }
    }
}

/// When a query answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Emit {
    Close,
    Delay,
    Corrections,
    CorrectionsFor,
    Update,
    Every,
    /// On update, with rows that stay to the end. This and the next ones are for queries without a window.
    Retain,
    RetainEvery,
    /// On update, with rows that go when they are old.
    Forget,
}

impl Emit {
    pub(crate) const ALL: [Self; 9] = [
        Self::Close,
        Self::Delay,
        Self::Corrections,
        Self::CorrectionsFor,
        Self::Update,
        Self::Every,
        Self::Retain,
        Self::RetainEvery,
        Self::Forget,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Close => "close",
            Self::Delay => "delay",
            Self::Corrections => "corrections",
            Self::CorrectionsFor => "corrections_for",
            Self::Update => "update",
            Self::Every => "every",
            Self::Retain => "retain",
            Self::RetainEvery => "retain_every",
            Self::Forget => "forget",
        }
    }

    /// What stands at the end of the query.
    pub(crate) fn clause(self) -> &'static str {
        match self {
            Self::Close => "",
            Self::Delay => "EMIT ON WINDOW CLOSE WITH DELAY INTERVAL '5 seconds'",
            Self::Corrections => "EMIT ON WINDOW CLOSE WITH CORRECTIONS",
            Self::CorrectionsFor => {
                "EMIT ON WINDOW CLOSE WITH CORRECTIONS FOR INTERVAL '7 seconds'"
            }
            Self::Update => "EMIT ON UPDATE",
            Self::Every => "EMIT EVERY INTERVAL '3 seconds'",
            Self::Retain => "EMIT ON UPDATE RETAIN INTERVAL '1 hour'",
            Self::RetainEvery => "EMIT EVERY INTERVAL '3 seconds' RETAIN INTERVAL '1 hour'",
            Self::Forget => "EMIT ON UPDATE RETAIN INTERVAL '25 seconds'",
        }
    }

    /// How far below the watermark rows still count, beyond what their source allows.
    pub(crate) fn takes_late_ns(self, allowed_lateness_ns: i64) -> i64 {
        match self {
            Self::Delay => 5 * SECOND,
            Self::CorrectionsFor => (7 * SECOND - allowed_lateness_ns).max(0),
            Self::Close | Self::Corrections | Self::Update | Self::Every => 0,
            Self::Retain | Self::RetainEvery | Self::Forget => 0,
        }
    }

    /// Whether rows without a window are retained.
    pub(crate) fn retains(self) -> bool {
        matches!(self, Self::Retain | Self::RetainEvery | Self::Forget)
    }

    /// Whether results are changes, to be summed up by their last column.
    pub(crate) fn is_changelog(self) -> bool {
        !matches!(self, Self::Close | Self::Delay)
    }
}

/// Offsets of windows, in milliseconds, that stand for `$offset`.
pub(crate) const OFFSETS: [i64; 3] = [0, 1500, -2250];

/// One way of feeding an engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Feed {
    pub(crate) late: Late,
    pub(crate) batch_rows: usize,
    pub(crate) workers: usize,
    pub(crate) order: Order,
    pub(crate) restored: Restored,
}

impl Feed {
    /// All feeds of engines that are never restored, a ninth as many of each way of restoring.
    pub(crate) fn all() -> Vec<Self> {
        let mut feeds = Vec::new();
        for late in [Late::None, Late::Within, Late::Beyond] {
            for batch_rows in [1, 7, 8192] {
                for workers in [1, 2, 4] {
                    for order in [Order::Sorted, Order::Shuffled, Order::Reversed] {
                        for restored in [Restored::Never, Restored::Middle, Restored::Rescaled] {
                            let feed = Self { late, batch_rows, workers, order, restored };
                            feeds.extend(Some(feed).filter(|feed| feed.is_chosen()));
                        }
                    }
                }
            }
        }
        feeds
    }

    /// Where each value of an axis stands, as a remainder by three: late rows, batch size, workers, order.
    fn remainders(&self) -> [usize; 4] {
        let batch = [1, 7, 8192].iter().position(|rows| *rows == self.batch_rows).unwrap_or(0);
        // One, two and four workers have remainders of their own: 1, 2 and, by halving, 0.
        let workers = if self.workers == 4 { 0 } else { self.workers };
        [self.late as usize, batch, workers, self.order as usize]
    }

    /// Whether an engine is fed so. Of those that are restored, any values of any two axes meet.
    fn is_chosen(&self) -> bool {
        let [late, batch, workers, order] = self.remainders();
        match self.restored {
            Restored::Never => true,
            Restored::Middle => {
                (late + batch + workers).is_multiple_of(3)
                    && (late + 2 * batch + order).is_multiple_of(3)
            }
            Restored::Rescaled => self.workers == 1 && (late + batch + order).is_multiple_of(3),
        }
    }
}

/// Which rows an answer is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Counted {
    InTime,
    /// And late ones within the disorder.
    Within,
    /// And those below the watermark that an emission takes.
    Late(Emit),
    /// Those, with or without late ones within the disorder, that are not older than [`FORGET_NS`] at the end.
    Left {
        within: bool,
    },
}

/// For how long [`Emit::Forget`] retains rows.
pub(crate) const FORGET_NS: i64 = 25 * SECOND;

/// A case under one choice from each axis.
#[derive(Clone, Debug)]
pub(crate) struct Cell {
    /// The file and the case.
    pub(crate) case: String,
    /// A place in [`OFFSETS`]; none if the query has no offset.
    pub(crate) offset: Option<usize>,
    pub(crate) emit: Emit,
    pub(crate) feed: Feed,
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { case, offset, emit, feed } = self;
        let Feed { late, batch_rows, workers, order, restored } = feed;
        let (late, order) =
            (format!("{late:?}").to_lowercase(), format!("{order:?}").to_lowercase());
        write!(f, "{case}")?;
        if let Some(offset) = offset {
            write!(f, " offset={}ms", OFFSETS[*offset])?;
        }
        write!(
            f,
            " late={late} batch={batch_rows} workers={workers} order={order} emit={} restored={}",
            emit.name(),
            restored.name()
        )
    }
}

impl Cell {
    pub(crate) fn counted(&self) -> Counted {
        match self.feed.late {
            late if self.emit == Emit::Forget => Counted::Left { within: late == Late::Within },
            Late::Within => Counted::Within,
            Late::Beyond if self.emit.takes_late_ns(0) > 0 => Counted::Late(self.emit),
            Late::Beyond | Late::None => Counted::InTime,
        }
    }

    /// Whether this cell is one of the third in which a case runs that is not the first of its file. An equation in
    /// remainders by three chooses them so that any values of all axes but one meet in some cell; `shift` lets other cases
    /// run in other cells.
    pub(crate) fn is_sampled(&self, shift: usize) -> bool {
        let [late, batch, workers, order] = self.feed.remainders();
        let emit = self.emit as usize;
        let offset = self.offset.unwrap_or(shift / 3);
        let sum = late + 2 * batch + workers + order + 2 * offset + emit + shift;
        sum.is_multiple_of(3)
    }

    /// Whether a case runs in this cell: `skipif late=beyond` leaves one value out, `skipif emit` all but the first of an
    /// axis, `onlyif emit=close` all but one value, `skipif changelog` all emissions that are changes, `onlyif
    /// retain` all but those that retain rows.
    pub(crate) fn meets(&self, conditions: &[Condition]) -> bool {
        let name = self.to_string();
        let has = |label: &str| match label.contains('=') {
            _ if label == "changelog" => self.emit.is_changelog(),
            _ if label == "retain" => self.emit.retains(),
            true => name.split(' ').any(|word| word == label),
            false => name.split(' ').any(|word| match word.split_once('=') {
                Some((axis, value)) => {
                    let first = ["0ms", "none", "sorted", "close", "1", "never"].contains(&value);
                    axis == label && !first
                }
                None => false,
            }),
        };
        conditions.iter().all(|condition| match condition {
            Condition::OnlyIf(label) => has(label),
            Condition::SkipIf(label) => !has(label),
        })
    }
}

/// Which cells to run, from the command line.
#[derive(Debug, Default)]
pub(crate) struct Filter {
    words: Vec<String>,
    /// The caller wants a list of tests, as libtest gives one.
    pub(crate) lists: bool,
    /// Every case runs in every cell.
    pub(crate) all_cells: bool,
}

impl Filter {
    /// Words; what libtest alone understands is passed over, because `cargo test` gives it to every binary.
    pub(crate) fn from_arguments(arguments: impl Iterator<Item = String>) -> Self {
        let mut filter = Self::default();
        let mut arguments = arguments;
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--list" => filter.lists = true,
                "--all-cells" => filter.all_cells = true,
                "--test-threads" | "--skip" | "--format" | "--color" | "-Z" => {
                    arguments.next();
                }
                flag if flag.starts_with('-') => {}
                words => filter.words.extend(words.split_whitespace().map(str::to_owned)),
            }
        }
        filter
    }

    pub(crate) fn takes(&self, cell: &Cell) -> bool {
        if self.words.is_empty() {
            return true;
        }
        let name = cell.to_string();
        self.words.iter().all(|word| match word.contains('=') {
            true => name.split(' ').any(|own| own == word),
            false => name.contains(word.as_str()),
        })
    }
}
